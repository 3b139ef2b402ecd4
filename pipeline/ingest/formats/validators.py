"""
Columns as they came → validated columns; a row that cannot be is set aside with its reason.

Each check looks at a whole column. A row is set aside for the first reason found, in the order of the checks; the
wording is fixed, names the column and says what would do, so that equal reasons can be counted.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import InputError
from pipeline.ingest.formats import columns
from pipeline.ingest.formats.columns import Arrow, Bools
from storage.frames import DAY, HOUR, MONEY, Floats, Ints, Strings

ID_MAX = 200  # characters, as the database has it
TEXT_MAX = 500  # characters: an entity is indexed, and Postgres indexes no more than 2,704 bytes
AMOUNT_MAX = (
    1e11  # of any currency: in 1/10,000 still exact as a float, and sums of thousands still fit int64
)
AHEAD_MAX = HOUR  # clocks differ; an event a day ahead has a wrong date
LAST = (
    8_000 * 366 * DAY
)  # µs; beyond it Python and Postgres have no dates, and "ahead of now" is the wrong reason
FRAUD = ("1", "true", "fraud", "yes", "t", "y")
GENUINE = ("0", "false", "genuine", "no", "f", "n")


class Reasons:
    """Why rows are set aside, one reason each."""

    def __init__(self, size: int) -> None:
        self._code = np.zeros(size, dtype=np.int16)  # 0: good
        self._said = [""]

    def add(self, wrong: Bools, reason: str) -> None:
        """Give a reason to the rows that are wrong and have none yet."""
        if wrong.any():
            self._said.append(reason)
            self._code[wrong & (self._code == 0)] = len(self._said) - 1

    @property
    def good(self) -> Bools:
        """Rows without a reason."""
        return np.asarray(self._code == 0)

    def of(self, place: int) -> str:
        """The reason of a row, "" for a good one."""
        return self._said[int(self._code[place])]


def ids(column: Arrow, name: str, reasons: Reasons) -> Arrow:
    """Ids as text, without blanks around them."""
    text = texts(column, name, reasons, ID_MAX)
    reasons.add(columns.as_bools(text.is_null()), f"{name} is missing: every row needs an id")
    return text


def texts(column: Arrow, name: str, reasons: Reasons, length_max: int = TEXT_MAX) -> Arrow:
    """A field of text; it may be missing."""
    _need(column, name, lambda kind: not pa.types.is_nested(kind), "text")
    text = columns.texts(column)
    long = pc.greater(pc.utf8_length(text), length_max)
    reasons.add(columns.as_bools(long), f"{name} is longer than {length_max} characters: shorten it")
    nul = pc.match_substring(text, "\0")
    reasons.add(columns.as_bools(nul), f"{name} holds a NUL character, which no database stores: remove it")
    return text


def numbers(column: Arrow, name: str, reasons: Reasons) -> Floats:
    """A numeric field; missing is NaN."""
    found = _numbers(column, name)
    reasons.add(found.wrong, f"{name} is not a number: write 1234.5, without separators or units")
    reasons.add(np.isinf(found.values), f"{name} is infinite: write a finite number or leave it empty")
    return found.values


def amounts(column: Arrow, name: str, reasons: Reasons) -> Floats:
    """Amounts of money, rounded to four decimals; 0 where there is none."""
    found = _numbers(column, name)
    reasons.add(found.missing, f"{name} is missing: every transaction needs one, 0 is allowed")
    reasons.add(found.wrong, f"{name} is not a number: write 1234.56, without separators or currency")
    reasons.add(~np.isfinite(found.values), f"{name} is not finite: write 1234.56")
    finite = np.where(np.isfinite(found.values), found.values, 0.0)
    reasons.add(np.abs(finite) >= AMOUNT_MAX, f"{name} is 100,000,000,000 or more: check its unit")
    bounded: Floats = np.where(np.abs(finite) < AMOUNT_MAX, finite, 0.0)
    return np.asarray(np.rint(bounded * MONEY) / MONEY)


def in_base(given: Floats, rate: Floats, name: str, reasons: Reasons) -> Ints:
    """Amounts × rates in 1/10,000 of the base currency."""
    base = given * np.nan_to_num(rate)
    too_large = np.abs(base) >= AMOUNT_MAX
    reasons.add(too_large, f"{name} is 100,000,000,000 or more in the base currency: check its unit and rate")
    return np.asarray(np.rint(np.where(too_large, 0.0, base) * MONEY), dtype=np.int64)


def currencies(column: Arrow, name: str, reasons: Reasons) -> Strings:
    """Currency codes in capitals."""
    text = texts(column, name, reasons)
    reasons.add(columns.as_bools(text.is_null()), f"{name} is missing: write its code, such as EUR")
    return columns.objects(pc.utf8_upper(text))


def instants(column: Arrow, name: str, zone: str, now: int, reasons: Reasons) -> tuple[Ints, Bools]:
    """
    Times → µs since 1970-01-01 UTC, and which are missing; saying why is left to the caller for those.

    Text is ISO 8601. A time without an offset belongs to `zone`, and is refused without one or where the clocks of
    the zone skip or repeat it. More than an hour after `now` nothing can have happened yet.
    """
    _need(column, name, _is_time, "ISO 8601 text or timestamps (a number does not say its unit)")
    found = columns.instants(column, zone)
    reasons.add(found.unreadable, f"{name} is not an ISO 8601 time: write 2026-03-01T06:00:00+00:00")
    reasons.add(found.naive, f"{name} has no offset from UTC: add it, or set schema.timezone to its zone")
    skipped = f"{name} is a local time that does not exist, the clocks of {zone} skipped it: add its offset"
    reasons.add(found.skipped, skipped)
    repeated = f"{name} is a local time that occurs twice in {zone}, when clocks go back: add its offset"
    reasons.add(found.repeated, repeated)
    there = ~found.missing & reasons.good
    reasons.add(
        there & ((found.micros < 0) | (found.micros > LAST)), f"{name} is out of range: check its year"
    )
    reasons.add(there & (found.micros > now + AHEAD_MAX), f"{name} is more than an hour ahead of now")
    return np.clip(found.micros, 0, LAST), found.missing


def answers(column: Arrow, name: str, reasons: Reasons) -> tuple[Bools, Bools]:
    """Whether each row is fraud, and for which rows nothing is said."""
    _need(column, name, lambda kind: not pa.types.is_nested(kind), "0 and 1")
    words = pc.utf8_lower(columns.texts(column))
    fraud = pc.is_in(words, pa.array(FRAUD))
    readable = pc.or_(fraud, pc.is_in(words, pa.array(GENUINE)))
    missing = columns.as_bools(words.is_null())
    wrong = ~columns.as_bools(readable) & ~missing
    reasons.add(wrong, f"{name} is neither fraud nor genuine: write 1 or 0, true or false, fraud or genuine")
    return columns.as_bools(fraud), missing


def _numbers(column: Arrow, name: str) -> columns.Numbers:
    _need(column, name, _is_number, "numbers or text")
    return columns.numbers(column)


def _need(column: Arrow, name: str, test: Callable[[Any], bool], what: str) -> None:
    """Refuse a whole column whose type cannot be meant."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not pa.types.is_null(kind) and not test(kind):
        raise InputError(f"column {name} holds {kind}; it must hold {what}, so convert it first")


def _is_time(kind: Any) -> bool:
    return columns.is_text(kind) or pa.types.is_timestamp(kind) or pa.types.is_date(kind)


def _is_number(kind: Any) -> bool:
    tests: Sequence[Callable[[Any], bool]] = (
        columns.is_text, pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean
    )  # fmt: skip
    return any(test(kind) for test in tests)
