"""
What a rule says, as a tree of typed tests; each tells for many rows at once where it holds.

Something that is missing is neither more nor less nor equal nor unequal: such a test is unknown, as in SQL, and a rule
flags only where it holds. So `not country = "FR"` does not flag a payment without a country; `country is missing` does.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from storage.frames import Coded, Floats

Bools = NDArray[np.bool_]
COMPARE: dict[str, Callable[[Floats, Floats | float], Bools]] = {
    "=": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}
FEW = 5  # values of a list that a reason repeats; a watch-list is counted
ALL = 2**62


class Rows(Protocol):
    """Columns of the rows that a rule looks at, (n,) each."""

    def numbers(self, name: str) -> Floats:
        """A field or feature of numbers, NaN where it is missing."""
        ...

    def texts(self, name: str) -> Coded:
        """A field of text, code −1 where it is missing."""
        ...


@dataclass(frozen=True)
class Answer:
    """Where a test holds and where it does not, (n,) each; where neither, it is unknown."""

    yes: Bools
    no: Bools


class Test(Protocol):
    """A node of the tree."""

    def ask(self, rows: Rows) -> Answer:
        """Where it holds."""
        ...

    def columns(self) -> Iterator[str]:
        """The fields and features it looks at."""
        ...

    def said(self, most: int = ALL) -> str:
        """The text that is understood as this test; a list of more than `most` values is only counted."""
        ...


@dataclass(frozen=True)
class Number:
    """A number against a number, or against a multiple of another: `amount > 5 * customer_id_amount_mean_7d`."""

    column: str
    op: str
    value: float  # the factor, where there is another column
    other: str | None = None

    def ask(self, rows: Rows) -> Answer:
        """Unknown where either side is missing."""
        left = rows.numbers(self.column)
        right = self.value if self.other is None else self.value * rows.numbers(self.other)
        holds, known = COMPARE[self.op](left, right), ~np.isnan(left) & ~np.isnan(right)
        return Answer(holds & known, ~holds & known)

    def columns(self) -> Iterator[str]:
        """One or two."""
        yield self.column
        if self.other is not None:
            yield self.other

    def said(self, most: int = ALL) -> str:  # noqa: ARG002 (it has no list)
        """As it is understood."""
        factor = "" if self.other is not None and self.value == 1 else f"{self.value!r}".removesuffix(".0")
        sides = [part for part in (factor, self.other) if part]
        return f"{self.column} {self.op} {' * '.join(sides)}"


@dataclass(frozen=True)
class Among:
    """A text that is one of some, or a number that is."""

    column: str
    values: tuple[str, ...] | tuple[float, ...]

    def ask(self, rows: Rows) -> Answer:
        """Unknown where the value is missing."""
        if isinstance(self.values[0], str):
            column = rows.texts(self.column)
            among = (
                np.isin(column.values.astype(str), self.values) if len(column.values) else np.zeros(0, bool)
            )
            holds, known = np.append(among, False)[column.codes], column.codes >= 0
        else:
            numbers = rows.numbers(self.column)
            holds, known = np.isin(numbers, self.values), ~np.isnan(numbers)
        return Answer(holds & known, ~holds & known)

    def columns(self) -> Iterator[str]:
        """One."""
        yield self.column

    def said(self, most: int = ALL) -> str:
        """As it is understood, or with its values counted."""
        written = [_written(value) for value in self.values[: most + 1]]
        if len(written) == 1:
            return f"{self.column} = {written[0]}"
        listed = ", ".join(written) if len(self.values) <= most else f"{len(self.values):,} values"
        return f"{self.column} in ({listed})"


@dataclass(frozen=True)
class Missing:
    """Nothing is there; never unknown."""

    column: str
    is_text: bool

    def ask(self, rows: Rows) -> Answer:
        """Known everywhere."""
        if self.is_text:
            gone: Bools = rows.texts(self.column).codes < 0
        else:
            gone = np.isnan(rows.numbers(self.column))
        return Answer(gone, ~gone)

    def columns(self) -> Iterator[str]:
        """One."""
        yield self.column

    def said(self, most: int = ALL) -> str:  # noqa: ARG002 (it has no list)
        """As it is understood."""
        return f"{self.column} is missing"


@dataclass(frozen=True)
class Not:
    """The opposite; what is unknown stays so."""

    test: Test

    def ask(self, rows: Rows) -> Answer:
        """Yes and no change places."""
        answer = self.test.ask(rows)
        return Answer(answer.no, answer.yes)

    def columns(self) -> Iterator[str]:
        """Those of the test."""
        yield from self.test.columns()

    def said(self, most: int = ALL) -> str:
        """As it is understood."""
        return f"not {_inside(self.test, most)}"


@dataclass(frozen=True)
class Both:
    """Every one holds."""

    tests: tuple[Test, ...]

    def ask(self, rows: Rows) -> Answer:
        """No as soon as one says no."""
        answers = [test.ask(rows) for test in self.tests]
        return Answer(
            np.logical_and.reduce([answer.yes for answer in answers]),
            np.logical_or.reduce([answer.no for answer in answers]),
        )

    def columns(self) -> Iterator[str]:
        """Those of all."""
        for test in self.tests:
            yield from test.columns()

    def said(self, most: int = ALL) -> str:
        """As it is understood."""
        return " and ".join(_inside(test, most) for test in self.tests)


@dataclass(frozen=True)
class Either:
    """At least one holds."""

    tests: tuple[Test, ...]

    def ask(self, rows: Rows) -> Answer:
        """Yes as soon as one says yes."""
        answers = [test.ask(rows) for test in self.tests]
        return Answer(
            np.logical_or.reduce([answer.yes for answer in answers]),
            np.logical_and.reduce([answer.no for answer in answers]),
        )

    def columns(self) -> Iterator[str]:
        """Those of all."""
        for test in self.tests:
            yield from test.columns()

    def said(self, most: int = ALL) -> str:
        """As it is understood."""
        return " or ".join(_inside(test, most) for test in self.tests)


def joined(kind: type[Both] | type[Either], tests: Sequence[Test]) -> Test:
    """One test stands for itself."""
    return tests[0] if len(tests) == 1 else kind(tuple(tests))


def _inside(test: Test, most: int) -> str:
    return f"({test.said(most)})" if isinstance(test, (Both, Either)) else test.said(most)


def _written(value: str | float) -> str:
    return (
        json.dumps(value, ensure_ascii=False) if isinstance(value, str) else f"{value!r}".removesuffix(".0")
    )
