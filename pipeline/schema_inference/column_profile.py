"""
Profiles of the columns of a file's first rows.

Files are read, and values typed and validated, by the code of ingest, so what is recognised here is accepted there.
"""

import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from stdnum import iban, luhn

from pipeline.errors import InputError
from pipeline.ingest.formats import columns, validators
from pipeline.ingest.formats.arrow_arrays import Arrow, as_objects
from pipeline.ingest.formats.reader import open_path
from pipeline.ingest.formats.row_batch import EVERY_COLUMN, RowBatch
from pipeline.ingest.formats.validators import Reasons
from storage.frames import Ints

ROWS_MAX = 50_000  # enough for customers to recur; read in a second or two
ENOUGH = 0.99  # of the rows of a column: a few may be damaged
_LEADING_ZERO = re.compile(r"[+-]?0\d")  # 007 is a name, not a number
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[A-Za-z]{2,}")

Check = Callable[[Arrow, str, Reasons], Any]  # of `pipeline.ingest.formats.validators`


@dataclass(frozen=True)
class ColumnProfile:
    """A column of a sample and its properties."""

    name: str
    column: Arrow
    now: int  # µs; later times are refused by ingest

    @cached_property
    def values(self) -> tuple[str, ...]:
        """The values as text; "" means missing."""
        if pa.types.is_nested(self.column.type):
            return tuple("" if value is None else repr(value) for value in self.column.to_pylist())
        return tuple(value or "" for value in as_objects(columns.texts(self.column)).tolist())

    @cached_property
    def present(self) -> int:
        """How many values are not missing."""
        return sum(1 for value in self.values if value)

    @cached_property
    def distinct(self) -> frozenset[str]:
        """The different values, without the missing one."""
        return frozenset(self.values) - {""}

    @cached_property
    def repeats(self) -> float:
        """How often a value occurs on average."""
        return self.present / len(self.distinct) if self.distinct else 0.0

    @cached_property
    def unique(self) -> bool:
        """Whether no value is missing or occurs twice."""
        return len(self.distinct) == len(self.values)

    @cached_property
    def number(self) -> bool:
        """Whether all values are numbers without leading zeros."""
        if any(map(_LEADING_ZERO.match, self.distinct)) or self.refusal(validators.numbers):
            return False
        parsed = columns.numbers(pa.array(self.values, pa.string()))
        return not parsed.wrong.any() and bool(np.isfinite(parsed.values).any())

    @cached_property
    def whole(self) -> bool:
        """Whether all values are whole numbers, written without a point."""
        return self.number and all(value.lstrip("+-").isdecimal() for value in self.distinct)

    @cached_property
    def binary(self) -> bool:
        """Whether all values say yes or no."""
        return bool(self.distinct) and not self.refusal(validators.fraud_labels)

    @cached_property
    def instants(self) -> Ints:
        """The values as instants (µs) if nearly all of them are times that ingest accepts, else empty."""

        def check(column: Arrow, name: str, reasons: Reasons) -> None:
            validators.instants(column, name, "UTC", self.now, reasons)

        if self.refusal(check, ENOUGH):
            return np.empty(0, np.int64)
        parsed = columns.instants(self.column, "UTC")
        return parsed.micros[~parsed.missing & ~parsed.unreadable]

    @cached_property
    def naive(self) -> bool:
        """Whether any of the instants lacks its offset from UTC."""
        return bool(columns.instants(self.column, "").naive.any())

    def refusal(self, check: Check, enough: float = 1.0) -> str:
        """Why ingest would reject the column, or a row although `enough` (a share) must be good; "" if it would not."""
        reasons = Reasons(len(self.column))
        try:
            check(self.column, self.name, reasons)
        except InputError as error:
            return error.message
        return "" if reasons.good.mean() >= enough else reasons.of(int(np.argmin(reasons.good)))

    def looks_like(self, test: "PersonalDataTest") -> bool:
        """Whether 95 % of the values, and at least five, pass a test."""
        passed = sum(1 for value in self.distinct if test(value))
        return passed >= 5 and passed >= 0.95 * len(self.distinct)


class PersonalDataTest:
    """Tests whether a value is personal data of one kind."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __call__(self, value: str) -> bool:
        """Whether the value is personal data of this kind."""
        if self.kind == "e-mail addresses":
            return _EMAIL.fullmatch(value) is not None
        if self.kind == "card numbers":
            compact = value.replace(" ", "").replace("-", "")
            return 13 <= len(compact) <= 19 and bool(luhn.is_valid(compact))
        return bool(iban.is_valid(value))


PERSONAL_DATA_TESTS = tuple(
    PersonalDataTest(finds) for finds in ("card numbers", "e-mail addresses", "account numbers (IBAN)")
)


def read_sample(path: Path, now: int) -> list[ColumnProfile]:
    """
    Read the first rows of a file; rows that cannot be split into columns are left out.

    Raises
    ------
    InputError
        If the file is missing, of another format, damaged or empty, or two columns share a name.
    """
    batches = list[RowBatch]()
    unreadable = ""
    with closing(open_path(path, None, str(path))) as reader:
        for batch in reader.rows(EVERY_COLUMN):
            unreadable = unreadable or next((row.reason for row in batch.unreadable), "")
            batches += [batch] if len(batch) else []
            if sum(map(len, batches)) >= ROWS_MAX:
                break
    if not batches:
        found = f"holds no row that can be read ({unreadable})" if unreadable else "holds no rows"
        raise InputError(
            f"{path} {found}", remedy="give a sample with a header and some rows", code="empty_file"
        )
    together = {
        name: pa.chunked_array([batch.columns[name] for batch in batches]) for name in batches[0].columns
    }
    return [
        ColumnProfile(name, column.combine_chunks().slice(0, ROWS_MAX), now)
        for name, column in together.items()
    ]
