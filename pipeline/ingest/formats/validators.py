"""
Validates columns and collects the reasons for rejecting rows.

Each check looks at a whole column. A row is rejected for the first reason found, in the order of the checks. The text
of a reason is fixed, so that equal reasons can be counted, and names the column and the remedy.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import InputError
from pipeline.ingest.formats import columns
from pipeline.ingest.formats.arrow_arrays import Arrow, Bools, as_bools, as_objects
from storage.frames import DAY, HOUR, MONEY, Floats, Ints, Strings

ID_MAX = 200  # characters, as in the database
TEXT_MAX = 500  # characters: entities are indexed, and Postgres indexes at most 2,704 bytes
AMOUNT_MAX = 1e15  # in its own currency: a float still tells two whole numbers apart
BASE_MAX = 9e11  # in the base currency: still exact in 1/10,000 as a float, and sums of a thousand fit int64
MISSING_WORDS = (
    "\\N", "NULL", "Null", "null", "NONE", "None", "none", "NAN", "NaN", "Nan", "nan", "<NA>", "#N/A",
)  # fmt: skip  # of ids; NA is Namibia
# A number as spreadsheets and programs write one that is too long for them: 4.11E+15, 1e+20, 4.1E7.
EXPONENT = r"^[+-]?(\d(\.\d+)?[eE]\+\d+|\d\.\d+[eE]([7-9]|\d\d+))$"
FUTURE_MAX = HOUR  # clocks differ; an event further ahead has a wrong date
TIME_MAX = 8_000 * 366 * DAY  # µs; Python and Postgres have no dates beyond it
FRAUD_WORDS = ("1", "true", "fraud", "yes", "t", "y")
GENUINE_WORDS = ("0", "false", "genuine", "no", "f", "n")


class Reasons:
    """The reasons for rejecting rows, one per row."""

    def __init__(self, size: int) -> None:
        self._code = np.zeros(size, dtype=np.int16)  # 0: good
        self._texts = [""]

    def add(self, wrong: Bools, reason: str) -> None:
        """Give a reason to the wrong rows that have none yet."""
        if wrong.any():
            self._texts.append(reason)
            self._code[wrong & (self._code == 0)] = len(self._texts) - 1

    @property
    def good(self) -> Bools:
        """Rows without a reason."""
        return np.asarray(self._code == 0)

    def of(self, place: int) -> str:
        """Return the reason of a row, "" for a good one."""
        return self._texts[int(self._code[place])]


def ids(column: Arrow, name: str, reasons: Reasons) -> Arrow:
    """Return ids of rows as stripped text."""
    text = identifiers(column, name, reasons, ID_MAX)
    reasons.add(as_bools(text.is_null()), f"{name} is missing: every row needs an id")
    return text


def identifiers(column: Arrow, name: str, reasons: Reasons, length_max: int = TEXT_MAX) -> Arrow:
    """Return the ids of things that rows share; values may be missing, also as one of `MISSING_WORDS`."""
    text = texts(column, name, reasons, length_max)
    word = pc.is_in(text, pa.array(MISSING_WORDS))
    if pc.any(word).as_py():
        text = pc.if_else(word, None, text)
    data = text.buffers()[2]
    characters = data.to_pybytes() if data else b""
    if b"+" in characters or b"." in characters:  # rare in ids, and found much faster than the expression
        lost = as_bools(pc.match_substring_regex(text, EXPONENT))
        reasons.add(lost, f"{name} has lost digits, like 4.11E+15: export it as text")
    return text


def texts(column: Arrow, name: str, reasons: Reasons, length_max: int = TEXT_MAX) -> Arrow:
    """Return a text field; values may be missing."""
    _require_type(column, name, lambda kind: not pa.types.is_nested(kind), "text")
    text = columns.texts(column)
    long = pc.greater(pc.utf8_length(text), length_max)
    reasons.add(as_bools(long), f"{name} is longer than {length_max} characters: shorten it")
    nul = pc.match_substring(text, "\0")
    reasons.add(as_bools(nul), f"{name} holds a NUL character, which no database stores: remove it")
    return text


def numbers(column: Arrow, name: str, reasons: Reasons) -> Floats:
    """Return a numeric field; missing is NaN."""
    parsed = _numbers(column, name)
    reasons.add(parsed.wrong, f"{name} is not a number: write 1234.5, without separators or units")
    reasons.add(np.isinf(parsed.values), f"{name} is infinite: write a finite number or leave it empty")
    return parsed.values


def amounts(column: Arrow, name: str, reasons: Reasons) -> Floats:
    """Return amounts of money as they are, unrounded; 0 for rejected rows."""
    parsed = _numbers(column, name)
    reasons.add(parsed.missing, f"{name} is missing: every transaction needs one, 0 is allowed")
    reasons.add(parsed.wrong, f"{name} is not a number: write 1234.56, without separators or currency")
    reasons.add(~np.isfinite(parsed.values), f"{name} is not finite: write 1234.56")
    finite = np.where(np.isfinite(parsed.values), parsed.values, 0.0)
    reasons.add(np.abs(finite) >= AMOUNT_MAX, f"{name} is 1,000,000,000,000,000 or more: check its unit")
    return np.where(np.abs(finite) < AMOUNT_MAX, finite, 0.0)


def in_base(amount: Floats, rate: Floats, name: str, reasons: Reasons) -> Ints:
    """Return amounts × rates in 1/10,000 of the base currency."""
    base = amount * np.nan_to_num(rate)
    too_large = np.abs(base) >= BASE_MAX
    reasons.add(too_large, f"{name} is 900,000,000,000 or more in the base currency: check its unit and rate")
    return np.asarray(np.rint(np.where(too_large, 0.0, base) * MONEY), dtype=np.int64)


def currencies(column: Arrow, name: str, reasons: Reasons) -> Strings:
    """Return currency codes in capitals."""
    text = texts(column, name, reasons)
    reasons.add(as_bools(text.is_null()), f"{name} is missing: write its code, such as EUR")
    return as_objects(pc.utf8_upper(text))


def instants(column: Arrow, name: str, zone: str, now: int, reasons: Reasons) -> tuple[Ints, Bools]:
    """
    Return times as µs since 1970-01-01 UTC and a mask of missing ones, for which the caller adds the reason.

    Text is ISO 8601. A time without an offset is local to `zone`; it is rejected if there is no zone or the clocks of
    the zone skip or repeat it. Times more than an hour after `now` are rejected.
    """
    _require_type(column, name, _is_time, "ISO 8601 text or timestamps (a number does not say its unit)")
    parsed = columns.instants(column, zone)
    reasons.add(parsed.unreadable, f"{name} is not an ISO 8601 time: write 2026-03-01T06:00:00+00:00")
    reasons.add(parsed.naive, f"{name} has no offset from UTC: add it, or set schema.timezone to its zone")
    skipped = f"{name} is a local time that does not exist, the clocks of {zone} skipped it: add its offset"
    reasons.add(parsed.skipped, skipped)
    repeated = f"{name} is a local time that occurs twice in {zone}, when clocks go back: add its offset"
    reasons.add(parsed.repeated, repeated)
    usable = ~parsed.missing & reasons.good
    reasons.add(
        usable & ((parsed.micros < 0) | (parsed.micros > TIME_MAX)), f"{name} is out of range: check its year"
    )
    reasons.add(usable & (parsed.micros > now + FUTURE_MAX), f"{name} is more than an hour ahead of now")
    return np.clip(parsed.micros, 0, TIME_MAX), parsed.missing


def fraud_labels(column: Arrow, name: str, reasons: Reasons) -> tuple[Bools, Bools]:
    """Return whether each row is fraud, and a mask of missing labels."""
    _require_type(column, name, lambda kind: not pa.types.is_nested(kind), "0 and 1")
    words = pc.utf8_lower(columns.texts(column))
    fraud = pc.is_in(words, pa.array(FRAUD_WORDS))
    readable = pc.or_(fraud, pc.is_in(words, pa.array(GENUINE_WORDS)))
    missing = as_bools(words.is_null())
    wrong = ~as_bools(readable) & ~missing
    reasons.add(wrong, f"{name} is neither fraud nor genuine: write 1 or 0, true or false, fraud or genuine")
    return as_bools(fraud), missing


def _numbers(column: Arrow, name: str) -> columns.Numbers:
    _require_type(column, name, _is_number, "numbers or text")
    return columns.numbers(column)


def _require_type(column: Arrow, name: str, test: Callable[[Any], bool], expected: str) -> None:
    """Raise InputError if the type of a column does not fit."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not pa.types.is_null(kind) and not test(kind):
        message = f"column {name} holds {kind}; it must hold {expected}"
        raise InputError(message, remedy="convert it first", code="column_type")


def _is_time(kind: Any) -> bool:
    return columns.is_text(kind) or pa.types.is_timestamp(kind) or pa.types.is_date(kind)


def _is_number(kind: Any) -> bool:
    tests: Sequence[Callable[[Any], bool]] = (
        columns.is_text, pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean
    )  # fmt: skip
    return any(test(kind) for test in tests)
