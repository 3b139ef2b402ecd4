"""A model that somebody crafted, under a seal that fits, is refused with one sentence or works; it never ends the process."""

import io
import json
import random
import re
import zipfile
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from detectors.algorithms.boosting import BoostedTrees, Boosting
from detectors.algorithms.inne import INNE, Spheres
from detectors.algorithms.isolation_forest import IsolationForest
from detectors.algorithms.loda import LODA, Projections
from detectors.algorithms.tree_kernel import Forest
from detectors.base import ArtifactError, DetectorError, Strategy, require_fitted
from detectors.drift.reference import AlarmTerms
from detectors.drift.reference_fit import ReferenceSample, ScoredRows, fit_drift_reference
from detectors.drift.reference_windows import ReferenceWindows
from detectors.inputs.encoding import EncodingPlan
from detectors.inputs.sample import FeatureGroup, Layout, Sample
from detectors.model.artifact import Seal, seal, unseal
from detectors.model.model import Model, ModelSettings, fit_model

OWN = Seal("cards", 1)
COLUMNS = ("amount", "frauds", "known", "channel")
PLAN = EncodingPlan((("amount", 0),), (("rate", 1, 2),), (("channel", 3),))
ROWS = np.random.default_rng(5).normal(size=(40, 4)) * 10
EXTREME: tuple[Any, ...] = (
    -1, 0, 1, 2**31, 2**32 - 1, 2**63 - 1, 10**400, 0.5, -0.5, 1e308, float("nan"), float("inf"), None, True, "", "outlier",
    "isolation_forest", "inne", "focal", [], [[]], [1], {}, {"fields": {}}, "x" * 1000,
)  # fmt: skip


def model(strategy: Strategy, outlier: str) -> Model:
    rng = np.random.default_rng(3)
    raw = np.column_stack(
        [rng.exponential(50, 400), rng.integers(0, 2, 400), rng.integers(1, 9, 400), rng.integers(0, 3, 400)]
    )
    y = (np.arange(400) % 13 == 0).astype(float)
    raw[y == 1, 0] += 100
    sample = Sample(raw.astype(float), y, np.ones(400), np.ones(400))
    fitted = fit_model(
        ModelSettings(strategy, outlier), Layout(PLAN, (FeatureGroup("amount", (0, 1)),)), sample, sample, sample.take(slice(300, 400)),
        days=2.0, notes={"trained_at": 1}, columns=COLUMNS,
    )  # fmt: skip
    scored = fitted.score(sample.raw, np.ones(400))
    rows = ScoredRows(scored.score, np.where(scored.flagged, 0, -1), np.array([0, 1]), np.array([0, 1]))
    reference = ReferenceSample(
        fitted.drift_features,
        ("channel",),
        fitted.drift_values(sample.raw),
        rows,
        rows,
        4,
        [strategy, "novelty"],
        ["A", "B"],
        (0,),
        {},
    )
    grid = ReferenceWindows(np.arange(400) // 20, [""] * 20, np.zeros(20, bool), 1, 1, 7.0)
    return replace(fitted, drift_reference=fit_drift_reference(reference, grid, [], ["psi", "ks"], 20, 0.05))


def members_of(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(members: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return content.getvalue()


def npy(array: np.ndarray[Any, Any]) -> bytes:
    content = io.BytesIO()
    np.lib.format.write_array(content, array, allow_pickle=False)
    return content.getvalue()


def nodes(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    return [path, *(place for key in keys for place in nodes(tree[key], (*path, key)))]


def put(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    parent = tree
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    return tree


def other_array(member: bytes, rng: random.Random) -> bytes:
    """An array with other values, another shape or another dtype."""
    array = np.lib.format.read_array(io.BytesIO(member), allow_pickle=False).copy()
    change = rng.randrange(6)
    if change == 0:
        return npy(array.reshape(-1)[: rng.randrange(array.size + 1)])
    if change == 1:
        return npy(array.reshape((1, *array.shape)))
    if change == 2:
        return npy(array.astype(rng.choice(["<f4", "<i8", "<u4", "|b1", "<U3"])))
    flat = array.reshape(-1)
    for _ in range(rng.randrange(1, 4)):
        if flat.size:
            value = rng.choice([0, 1, -1, 2**31, 2**32 - 1, np.nan, np.inf, 1e300, rng.randrange(flat.size)])
            with np.errstate(all="ignore"):
                flat[rng.randrange(flat.size)] = np.array(value).astype(array.dtype)
    return npy(array)


def other_text(text: str, rng: random.Random) -> str:
    """LightGBM's text with another number, line or block."""
    change = rng.randrange(6)
    lines = text.split("\n")
    end = next(place for place, line in enumerate(lines) if line == "end of trees")
    at = rng.randrange(end)
    if change == 0:
        lines[at] = ""
    elif change == 1:
        lines.insert(at, lines[rng.randrange(end)])
    elif change == 2:
        return (
            text[: rng.randrange(len(text))]
            + rng.choice(["", "\0", "é", "9", "-"])
            + text[rng.randrange(len(text)) :]
        )
    else:
        numbers = list(re.finditer(r"-?\d+(\.\d+)?", lines[at]))
        if numbers:
            found = rng.choice(numbers)
            value = rng.choice(
                ["-1", "0", "1", "2", "3", "99", "2147483647", "-2147483648", "1e999", "nan", "9" * 40, ""]
            )
            lines[at] = lines[at][: found.start()] + value + lines[at][found.end() :]
        if change == 3:
            lines = resized(lines)
    return "\n".join(lines)


def resized(lines: list[str]) -> list[str]:
    """The lines with the sizes of their trees, as one who knows the format would write them."""
    _, *blocks = re.split(r"^(?=Tree=)", "\n".join(lines).partition("end of trees\n")[0], flags=re.MULTILINE)
    sizes = "tree_sizes=" + " ".join(str(len(block)) for block in blocks)
    return [sizes if line.startswith("tree_sizes=") else line for line in lines]


def forged(members: dict[str, bytes], rng: random.Random) -> bytes:
    """The content of a model with one thing changed by somebody who knows the format."""
    crafted = dict(members)
    manifest = json.loads(crafted["manifest.json"])
    texts = [path for path in nodes(manifest) if path and path[-1] == "text"]
    change = rng.randrange(10)
    if change == 0:
        content = bytearray(zipped(crafted))
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        return bytes(content[: rng.choice([len(content), rng.randrange(len(content))])])
    if change < 4 and texts:
        path = rng.choice(texts)
        value: Any = manifest
        for key in path:
            value = value[key]
        manifest = put(manifest, path, other_text(value, rng))
    elif change < 7:
        manifest = put(manifest, rng.choice(nodes(manifest)), rng.choice(EXTREME))
    else:
        name = rng.choice([name for name in crafted if name.endswith(".npy")])
        crafted[name] = other_array(crafted[name], rng)
    return zipped(crafted | {"manifest.json": json.dumps(manifest).encode()})


def attack(members: dict[str, bytes], rng: random.Random) -> bool:
    """Whether a forged model loads; one that does scores and explains."""
    crafted = seal(forged(members, rng), OWN)
    try:
        loaded = Model.from_bytes(unseal(crafted, OWN))
    except ArtifactError:
        return False
    rows = np.zeros((40, len(loaded.columns)))
    rows[:, :4] = ROWS[:, : len(loaded.columns)]
    scores = loaded.score(rows, np.ones(40))
    assert scores.score.shape == (40,)
    assert np.isfinite(loaded.detector.explain(rows)).all()
    if not loaded.drift_reference.is_empty:
        window = loaded.drift_reference.bin_window(
            loaded.drift_values(rows), scores.score, np.full(40, -1), np.empty(0, np.int64)
        )
        list(loaded.drift_reference.compare_window(window, AlarmTerms(1.0)))
    return True


def without_samples(fitted: Model) -> dict[str, bytes]:
    """Without sample rows, whose scores a forger would compute anew."""
    return members_of(replace(fitted, samples=np.empty((0, 4))).to_bytes())


KINDS: list[tuple[Strategy, str]] = [
    ("outlier", "isolation_forest"), ("outlier", "hbos"), ("outlier", "loda"), ("blend", "isolation_forest"), ("classification", "hbos"),
]  # fmt: skip


@pytest.mark.parametrize(("strategy", "outlier"), KINDS)
def test_a_forged_model_is_refused_or_works(strategy: Strategy, outlier: str) -> None:
    members = without_samples(model(strategy, outlier))
    Model.from_bytes(zipped(members))
    rng = random.Random(f"{strategy} {outlier}")
    with np.errstate(all="ignore"):
        loaded = sum(attack(members, rng) for _ in range(45))
    assert loaded < 40  # some changes are harmless


X = np.random.default_rng(1).normal(size=(60, 2))
FOREST = require_fitted(IsolationForest(n_trees=2).fit(X).fitted, "forest").forest
LAST = len(FOREST.feature) - 1


def changed(array: np.ndarray[Any, Any], place: int, value: int) -> np.ndarray[Any, Any]:
    other = array.copy()
    other[place] = value
    return other


@pytest.mark.parametrize(
    "change",
    [
        {"child": changed(FOREST.child, 0, 2**32 - 1)},  # outside
        {"child": changed(FOREST.child, 0, LAST + 1)},
        {"child": changed(FOREST.child, 2 * LAST, 0)},  # a cycle
        {"child": changed(FOREST.child, 0, 0)},  # half a leaf
        {"child": FOREST.child[:-1]},
        {"roots": changed(FOREST.roots, 0, LAST + 1)},
        {"roots": FOREST.roots[:0], "depth": FOREST.depth[:0]},
        {"depth": changed(FOREST.depth, 0, 2**32 - 1)},  # never ends
        {"depth": changed(FOREST.depth, 0, 0)},
        {"feature": FOREST.feature[:-1]},
        {"value": FOREST.value * np.nan},
    ],
)
def test_a_forest_that_would_be_walked_out_of_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(DetectorError):
        Forest(**vars(FOREST) | change)
    with pytest.raises(DetectorError, match="splits on column 1 of 1"):
        FOREST.require_columns(1)


@pytest.mark.parametrize(
    ("kind", "detector", "name"),
    [(Projections, LODA(n_cuts=3), name) for name in ("cuts", "limits", "surprise", "usual")]
    + [(Spheres, INNE(n_samples=3), name) for name in ("centres", "radii", "isolation", "usual")],
)
def test_arrays_that_compiled_code_indexes_by_have_the_shapes_it_expects(
    kind: Any, detector: Any, name: str
) -> None:
    fitted = vars(detector.fit(X).fitted)
    kind(**fitted)
    for part in (fitted[name][:-1], fitted[name][None], fitted[name] * np.nan, fitted[name] + 1e200):
        with pytest.raises(DetectorError):
            kind(**fitted | {name: part})


TEXT = require_fitted(
    Boosting(overrides={"num_iterations": 3}).fit(X, (X[:, 0] > 1).astype(float)).fitted, "boosting"
).text


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [
        (r"left_child=(\S+)", "left_child=99"),
        (r"left_child=-?\d+", "left_child=0"),  # a cycle
        (r"right_child=-?\d+", "right_child=-99"),
        (r"split_feature=\d+", "split_feature=7"),
        (r"split_feature=\d+", "split_feature=-1"),
        (r"decision_type=2", "decision_type=1"),  # categorical, without categories
        (r"num_cat=0", "num_cat=1"),
        (r"is_linear=0", "is_linear=1"),
        (r"num_leaves=\d+", "num_leaves=2000000000"),
        (r"num_class=1", "num_class=5"),
        (r"max_feature_idx=1", "max_feature_idx=99999999"),
        (r"tree_sizes=\d+", "tree_sizes=999999"),
        (r"tree_sizes=.*\n", ""),
        (r"leaf_value=\S+", "leaf_value=inf"),
        (r"leaf_value=.*\n", ""),
        (r"Tree=1", "Tree=1\nTree=1"),
        (r"version=v4", "version=v4\nlinear_tree=1"),
        (r"end of trees", "the end"),
        (r"feature_infos=\S+", "feature_infos=1:2:3"),
    ],
)
def test_text_that_would_lead_lightgbm_astray_does_not_reach_it(pattern: str, replacement: str) -> None:
    crafted = re.sub(pattern, replacement, TEXT, count=1)
    assert crafted != TEXT
    for text in (crafted, "\n".join(resized(crafted.split("\n")))):
        if text != TEXT:
            with pytest.raises(DetectorError, match="cannot be trusted"):
                BoostedTrees(text)


def test_what_follows_the_trees_is_not_handed_over() -> None:
    trees = BoostedTrees(TEXT.replace("[num_threads: 1]", "[num_threads: 99999]\n[machines: example.org]"))
    assert (trees.predict(X, 1) == BoostedTrees(TEXT).predict(X, 1)).all()
    assert "machines" not in trees.booster.model_to_string()
