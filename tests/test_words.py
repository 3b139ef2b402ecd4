"""Names are nouns for values, verbs for actions, and one word for one thing; the words below are neither."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from pipeline.config.key_names import known_keys
from storage.database.tables import metadata

ROOT = Path(__file__).parents[1]
PACKAGES = ("pipeline", "detectors", "storage")
# A verb for a value, an invented noun, or a word that this field has another one for.
BANNED = frozenset({
    "told", "untold", "said", "say", "tell", "held", "made", "found", "wanted", "given", "asked", "ask",
    "seen", "shown", "drawn", "taught", "lived", "parted", "tried", "judged", "kept", "insist", "door",
    "shelf", "hush", "news", "vitals", "spell", "spells", "sketch", "sketches", "bridge", "artefact",
    "artefacts", "twin",
})  # fmt: skip
# Words that say nothing when they stand alone.
BARE = frozenset({"this", "one", "who", "whom", "what", "known", "work", "words"})
# Whole names in which such a word is the usual term, or that a library calls.
ALLOWED = frozenset({"last_seen", "first_seen", "seen_at", "if_seen", "connection_made"})


def words(name: str) -> list[str]:
    """`WindowHistogram` and `window_histogram` → ["window", "histogram"]."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]


def names_of(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every class, function, parameter, field, attribute and constant; locals are for readers."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = node.args
            for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
                yield argument.lineno, argument.arg
        if isinstance(node, ast.ClassDef):
            for statement in node.body:
                if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                    yield statement.lineno, statement.target.id
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr
    for statement in tree.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        for target in targets:
            if isinstance(target, ast.Name):
                yield statement.lineno, target.id


def modules() -> Iterator[Path]:
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


def odd(name: str) -> bool:
    return name not in ALLOWED and (bool(BANNED.intersection(words(name))) or name.lower().strip("_") in BARE)


def test_no_name_in_the_code_is_an_odd_word() -> None:
    wrong = []
    for path in modules():
        if odd(path.stem):
            wrong.append(f"{path.relative_to(ROOT)}: the module's name")
        for line, name in names_of(ast.parse(path.read_text(encoding="utf-8"))):
            if odd(name):
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {name}")
    assert not wrong, "\n".join(wrong)


def test_no_table_column_or_config_key_is_an_odd_word() -> None:
    columns = {f"{table.name}.{column.name}" for table in metadata.sorted_tables for column in table.columns}
    tables = {table.name for table in metadata.sorted_tables}
    assert not {name for name in columns | tables | set(known_keys()) if odd(name.replace(".", "_"))}


def test_no_sentence_uses_a_name_that_was_given_up() -> None:
    wrong = [
        path.name
        for path in modules()
        if re.search(r"(?i)artefact|\bbridge\b|\bsketch", path.read_text(encoding="utf-8"))
    ]
    assert not wrong


def test_no_two_classes_share_a_name() -> None:
    places = defaultdict(list)
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name.lstrip("_")].append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not {name: where for name, where in places.items() if len(where) > 1}


def test_the_check_sees_what_it_is_for() -> None:
    tree = ast.parse("class Door:\n    said: str\n    def insist(self, told): self.held = told\nFOUND = 1\n")
    assert {name for _, name in names_of(tree) if odd(name)} == {
        "Door",
        "FOUND",
        "insist",
        "told",
        "said",
        "held",
    }
    assert odd("untold_flags")
    assert not odd("known_at")
