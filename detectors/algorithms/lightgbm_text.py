"""
Checks of LightGBM's text of a model before its native parser and predictor get it.

They trust the text: a child that lies outside a tree, a size that is not that of its block or a split on a column that does not
exist is a read outside of memory there, and a cycle never ends. Only what this package trains passes: one output, numeric
splits, constant leaves. What comes after the trees does not change predictions and is not handed over.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from detectors.base import DetectorError, Ints

TREES_MAX = 10_000
LEAVES_MAX = 1_024  # of a tree; TreeSHAP takes memory with the square of the depth
COLUMNS_MAX = 100_000
END = "end of trees\n"
_NUMBER = r"-?(?:\d+(?:\.\d*)?(?:e[+-]?\d+)?|inf|nan)"
_LINE_OF_NUMBERS = re.compile(rf"(?:{_NUMBER}(?: {_NUMBER})*)?")
_HEADER = frozenset(
    ("version", "num_class", "num_tree_per_iteration", "label_index", "max_feature_idx", "objective", "feature_names",
     "feature_infos", "tree_sizes")
)  # fmt: skip
_OBJECTIVES = ("binary sigmoid:1", "custom", None)
_INNER = ("split_feature", "split_gain", "threshold", "decision_type", "left_child", "right_child",
          "internal_value", "internal_weight", "internal_count")  # fmt: skip
_LEAF = ("leaf_value", "leaf_weight", "leaf_count")
_TREE = frozenset(("num_leaves", "num_cat", "is_linear", "shrinkage", *_INNER, *_LEAF))
_CATEGORICAL = 1  # bit of a decision type


def checked_trees(text: str) -> str:
    """
    The part of a model's text up to the end of its trees.

    Raises
    ------
    DetectorError
        It is not such a model, or its trees are none.
    """
    trees, end, _ = text.partition(END)
    head, *blocks = re.split(r"^(?=Tree=)", trees, flags=re.MULTILINE)
    header = _entries(head.removeprefix("tree\n"), _HEADER)
    n_columns = _number(header, "max_feature_idx", COLUMNS_MAX) + 1
    names = [header.get(name, "").split(" ") for name in ("feature_names", "feature_infos")]
    infos = all(re.fullmatch(rf"none|\[{_NUMBER}:{_NUMBER}\]", info) for info in names[1])
    sizes = [str(len(block)) for block in blocks]
    expected = (
        text.isascii() and head.startswith("tree\n") and bool(end),
        header.get("version") == "v4",
        header.get("num_class") == header.get("num_tree_per_iteration") == "1",
        header.get("objective") in _OBJECTIVES,
        all(len(each) == n_columns and all(each) for each in names),
        header.get("tree_sizes", "").split() == sizes,
        infos,
        0 < len(blocks) <= TREES_MAX,
    )
    if not all(expected):
        raise _broken("its header is not that of its trees")
    for nth, block in enumerate(blocks):
        _check_tree(nth, block, n_columns)
    return trees + end


def _check_tree(nth: int, block: str, n_columns: int) -> None:
    first, _, rest = block.partition("\n")
    tree = _entries(rest, _TREE)
    leaves = _number(tree, "num_leaves", LEAVES_MAX)
    lengths = {**dict.fromkeys(_INNER, leaves - 1), **dict.fromkeys(_LEAF, leaves)}
    plain = first == f"Tree={nth}" and tree.get("num_cat") == "0" and tree.get("is_linear") == "0"
    if not plain or leaves < 1 or not rest.endswith("\n\n\n"):
        raise _broken(f"tree {nth} is not plain")
    for name, line in tree.items():
        length = lengths.get(name, 1)
        # a tree of one leaf may lack the lines of splits, and the weight and the count of its leaf
        if not _LINE_OF_NUMBERS.fullmatch(line) or len(line.split()) not in (
            {length} | {0} if leaves == 1 else {length}
        ):
            raise _broken(f"{name} of tree {nth} has not {length} numbers")
    if not np.isfinite(np.array(tree.get("leaf_value", "").split(), dtype=np.float64)).all():
        raise _broken(f"a leaf of tree {nth} has no finite value")
    needed = _TREE - {"shrinkage"} if leaves > 1 else {"leaf_value"}
    if needed - set(tree) or len(tree["leaf_value"].split()) != leaves:
        raise _broken(f"tree {nth} lacks lines")
    if leaves > 1:
        _check_splits(nth, tree, leaves, n_columns)


def _check_splits(nth: int, tree: Mapping[str, str], leaves: int, n_columns: int) -> None:
    """Every split is on a column, and every split and leaf has one parent before it: no cycle, and nothing outside."""
    split, kind = _whole(tree, "split_feature"), _whole(tree, "decision_type")
    children = np.concatenate([_whole(tree, "left_child"), _whole(tree, "right_child")])
    parents = np.tile(np.arange(leaves - 1), 2)
    inner = children >= 0
    proper = (
        np.array_equal(np.sort(children[inner]), np.arange(1, leaves - 1))
        and np.array_equal(np.sort(~children[~inner]), np.arange(leaves))
        and bool((children[inner] > parents[inner]).all())
    )
    on_columns = bool(((split >= 0) & (split < n_columns)).all())
    if not (proper and on_columns and bool(((kind >= 0) & (kind < 16) & (kind & _CATEGORICAL == 0)).all())):
        raise _broken(f"tree {nth} is no tree over its columns")


def _entries(block: str, known: frozenset[str]) -> dict[str, str]:
    """The lines name=value of a block, each of them once."""
    lines = [line.partition("=") for line in block.split("\n") if line]
    entries = {name: value for name, _, value in lines}
    if len(entries) != len(lines) or not set(entries) <= known:
        raise _broken("it has lines that no such model has")
    return entries


def _number(entries: Mapping[str, str], name: str, at_most: int) -> int:
    text = entries.get(name, "")
    if not re.fullmatch(r"\d{1,9}", text) or int(text) > at_most:
        raise _broken(f"{name} is {text!r:.20}")
    return int(text)


def _whole(entries: Mapping[str, str], name: str) -> Ints:
    words: Sequence[str] = entries[name].split()
    if not all(re.fullmatch(r"-?\d{1,9}", word) for word in words):
        raise _broken(f"{name} has numbers that are not whole")
    return np.array([int(word) for word in words], dtype=np.int64)


def _broken(what: str) -> DetectorError:
    return DetectorError(f"the text of boosted trees cannot be trusted: {what}")
