"""
Whether any payment could match a rule, so that one that never could is refused instead of watching for nothing.

Between two neighbouring constants that a rule compares a number with, its truth does not change. So it is enough to try every
constant, a value on either side of each, a missing one, and for texts every value of the rule and one that is none of them,
in all combinations. A rule that compares two columns, or has too many combinations, is taken to be possible.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import product

import numpy as np

from pipeline.rules.expression import And, Condition, In, IsMissing, Not, NumberComparison, Or
from storage.frames import Coded, Floats

COMBINATIONS_MAX = 100_000
OTHER = "\x01"  # a text that no rule contains


def may_match(condition: Condition) -> bool:
    """Whether some payment could make a condition true; also True if that is not cheap to tell."""
    numbers: dict[str, set[float]] = defaultdict(set)
    texts: dict[str, set[str]] = defaultdict(set)
    for leaf in _leaves(condition):
        if isinstance(leaf, NumberComparison):
            if leaf.other is not None:
                return True
            numbers[leaf.column].add(leaf.value)
        elif isinstance(leaf, In):
            for value in leaf.values:
                texts[leaf.column].add(value) if isinstance(value, str) else numbers[leaf.column].add(value)
        elif isinstance(leaf, IsMissing):
            (texts if leaf.is_text else numbers)[leaf.column].update(())
    columns: dict[str, Sequence[float | str]] = {name: _around(values) for name, values in numbers.items()}
    columns |= {name: ["", OTHER, *sorted(values)] for name, values in texts.items()}
    if np.prod([len(values) for values in columns.values()], dtype=float) > COMBINATIONS_MAX:
        return True
    rows = list(product(*columns.values()))
    tried = {name: [row[place] for row in rows] for place, name in enumerate(columns)}
    return bool(condition.evaluate(_ValueCombinations(tried)).true.any())


def _around(values: set[float]) -> list[float]:
    """Every value, the next number on either side of it, and a missing one."""
    beside = {float(np.nextafter(value, side)) for value in values for side in (-np.inf, np.inf)}
    return [np.nan, *sorted(values | beside or {0.0})]


def _leaves(condition: Condition) -> Iterator[Condition]:
    if isinstance(condition, Not):
        yield from _leaves(condition.condition)
    elif isinstance(condition, And | Or):
        for part in condition.conditions:
            yield from _leaves(part)
    else:
        yield condition


class _ValueCombinations:
    """Combinations of values as the columns that a condition reads; "" is a missing text, as in every file."""

    def __init__(self, columns: Mapping[str, Sequence[float | str]]) -> None:
        self._columns = columns

    def numbers(self, name: str) -> Floats:
        return np.asarray(self._columns[name], dtype=np.float64)

    def texts(self, name: str) -> Coded:
        values = dict.fromkeys(value for value in self._columns[name] if value != "")
        places = {value: place for place, value in enumerate(values)}
        codes = [places.get(value, -1) for value in self._columns[name]]
        return Coded(np.asarray(codes), np.asarray(list(values), dtype=object))
