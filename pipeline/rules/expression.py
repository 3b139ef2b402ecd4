"""
A rule's expression tree: typed conditions that are evaluated for many rows at once.

As in SQL, a comparison with a missing value is unknown, and a rule flags only rows for which its condition is true. So
`not country = "FR"` does not flag a payment without a country; `country is missing` does.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from storage.frames import Coded, Floats

Bools = NDArray[np.bool_]
OPERATORS: dict[str, Callable[[Floats, Floats | float], Bools]] = {
    "=": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}
REASON_VALUES_MAX = 5  # longer lists are only counted in the reason
NO_LIMIT = 2**62


class RuleColumns(Protocol):
    """Columns that a rule uses, (n,) each."""

    def numbers(self, name: str) -> Floats:
        """A numeric field or feature, NaN if missing."""
        ...

    def texts(self, name: str) -> Coded:
        """A text field, code −1 if missing."""
        ...


@dataclass(frozen=True)
class Truth:
    """For which rows a condition is true and for which false, (n,) each; for the others it is unknown."""

    true: Bools
    false: Bools


class Condition(Protocol):
    """A node of the tree."""

    def evaluate(self, columns: RuleColumns) -> Truth:
        """Evaluate the condition for all rows."""
        ...

    def column_names(self) -> Iterator[str]:
        """The fields and features that the condition uses."""
        ...

    def to_text(self, max_values: int = NO_LIMIT) -> str:
        """The text that parses to this condition; a list of more than `max_values` values is only counted."""
        ...


@dataclass(frozen=True)
class NumberComparison:
    """Compares a number with a constant or with a multiple of another column: `amount > 5 * customer_id_amount_mean_7d`."""

    column: str
    op: str
    value: float  # the factor, if there is another column
    other: str | None = None

    def evaluate(self, columns: RuleColumns) -> Truth:
        """Unknown for rows in which either side is missing."""
        left = columns.numbers(self.column)
        with np.errstate(over="ignore", invalid="ignore"):  # a factor may take a number out of range
            right = self.value if self.other is None else self.value * columns.numbers(self.other)
        true, known = OPERATORS[self.op](left, right), ~np.isnan(left) & ~np.isnan(right)
        return Truth(true & known, ~true & known)

    def column_names(self) -> Iterator[str]:
        """One column, or two."""
        yield self.column
        if self.other is not None:
            yield self.other

    def to_text(self, max_values: int = NO_LIMIT) -> str:  # noqa: ARG002 (it has no list)
        """The text that parses to this condition."""
        factor = "" if self.other is not None and self.value == 1 else _literal(self.value)
        sides = [part for part in (factor, self.other) if part]
        return f"{self.column} {self.op} {' * '.join(sides)}"


@dataclass(frozen=True)
class In:
    """A text or a number is one of a list of values."""

    column: str
    values: tuple[str, ...] | tuple[float, ...]

    def evaluate(self, columns: RuleColumns) -> Truth:
        """Unknown for rows in which the value is missing."""
        if isinstance(self.values[0], str):
            column = columns.texts(self.column)
            among = (
                np.isin(column.values.astype(str), self.values) if len(column.values) else np.zeros(0, bool)
            )
            true, known = np.append(among, False)[column.codes], column.codes >= 0
        else:
            numbers = columns.numbers(self.column)
            true, known = np.isin(numbers, self.values), ~np.isnan(numbers)
        return Truth(true & known, ~true & known)

    def column_names(self) -> Iterator[str]:
        """One column."""
        yield self.column

    def to_text(self, max_values: int = NO_LIMIT) -> str:
        """The text that parses to this condition, or with its values counted."""
        literals = [_literal(value) for value in self.values[: max_values + 1]]
        if len(literals) == 1:
            return f"{self.column} = {literals[0]}"
        listing = ", ".join(literals) if len(self.values) <= max_values else f"{len(self.values):,} values"
        return f"{self.column} in ({listing})"


@dataclass(frozen=True)
class IsMissing:
    """The value is missing; never unknown."""

    column: str
    is_text: bool

    def evaluate(self, columns: RuleColumns) -> Truth:
        """True or false for every row."""
        if self.is_text:
            missing: Bools = columns.texts(self.column).codes < 0
        else:
            missing = np.isnan(columns.numbers(self.column))
        return Truth(missing, ~missing)

    def column_names(self) -> Iterator[str]:
        """One column."""
        yield self.column

    def to_text(self, max_values: int = NO_LIMIT) -> str:  # noqa: ARG002 (it has no list)
        """The text that parses to this condition."""
        return f"{self.column} is missing"


@dataclass(frozen=True)
class Not:
    """Negates a condition; unknown stays unknown."""

    condition: Condition

    def evaluate(self, columns: RuleColumns) -> Truth:
        """Swap true and false."""
        answer = self.condition.evaluate(columns)
        return Truth(answer.false, answer.true)

    def column_names(self) -> Iterator[str]:
        """The columns of the condition."""
        yield from self.condition.column_names()

    def to_text(self, max_values: int = NO_LIMIT) -> str:
        """The text that parses to this condition."""
        return f"not {_bracketed(self.condition, max_values)}"


@dataclass(frozen=True)
class And:
    """All conditions are true."""

    conditions: tuple[Condition, ...]

    def evaluate(self, columns: RuleColumns) -> Truth:
        """False if one condition is false."""
        answers = [condition.evaluate(columns) for condition in self.conditions]
        return Truth(
            np.logical_and.reduce([answer.true for answer in answers]),
            np.logical_or.reduce([answer.false for answer in answers]),
        )

    def column_names(self) -> Iterator[str]:
        """The columns of all conditions."""
        for condition in self.conditions:
            yield from condition.column_names()

    def to_text(self, max_values: int = NO_LIMIT) -> str:
        """The text that parses to this condition."""
        return " and ".join(_bracketed(condition, max_values) for condition in self.conditions)


@dataclass(frozen=True)
class Or:
    """At least one condition is true."""

    conditions: tuple[Condition, ...]

    def evaluate(self, columns: RuleColumns) -> Truth:
        """True if one condition is true."""
        answers = [condition.evaluate(columns) for condition in self.conditions]
        return Truth(
            np.logical_or.reduce([answer.true for answer in answers]),
            np.logical_and.reduce([answer.false for answer in answers]),
        )

    def column_names(self) -> Iterator[str]:
        """The columns of all conditions."""
        for condition in self.conditions:
            yield from condition.column_names()

    def to_text(self, max_values: int = NO_LIMIT) -> str:
        """The text that parses to this condition."""
        return " or ".join(_bracketed(condition, max_values) for condition in self.conditions)


def combine(kind: type[And] | type[Or], conditions: Sequence[Condition]) -> Condition:
    """Join conditions by and / or; a single condition is returned as it is."""
    return conditions[0] if len(conditions) == 1 else kind(tuple(conditions))


def _bracketed(condition: Condition, max_values: int) -> str:
    return (
        f"({condition.to_text(max_values)})"
        if isinstance(condition, (And, Or))
        else condition.to_text(max_values)
    )


def _literal(value: str | float) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return f"{Decimal(repr(value)):f}".removesuffix(".0")
