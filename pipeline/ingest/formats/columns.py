"""
Parses Arrow columns of files and databases into text, numbers and instants.

Every function parses a whole column and returns masks of the rows with each kind of error, so that the caller can give
reasons; what a value means never depends on the other values of its column. Text is stripped; empty text is missing.
"""

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.ingest.formats.arrow_arrays import Arrow, Bools, as_bools, as_ints
from pipeline.ingest.formats.instants import Instants, parse_instants, resolve
from storage.frames import SECOND, Floats, Ints

FAR = 2**62  # µs; instants are clipped to ± this, 146,000 years
WHOLE_MAX = 2.0**53  # floats are exact integers up to here
NUMBER = r"(?i)^[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|inf|infinity)$"  # Arrow's grammar, but for nan(…)


def texts(column: Arrow) -> Arrow:
    """Return any column as text; whole numbers are written without a point, whatever their type."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return texts(column.dictionary).take(column.indices)
    if pa.types.is_floating(kind):
        column = _float_texts(column)
    elif pa.types.is_decimal(kind):
        column = pa.array(
            [None if value is None else decimal_text(value) for value in column.to_pylist()], pa.string()
        )
    elif pa.types.is_timestamp(kind):
        moments = column.cast(pa.timestamp("us", kind.tz), safe=False).to_pylist()
        column = pa.array([value and moment_text(value) for value in moments], pa.string())
    stripped = pc.utf8_trim_whitespace(column.cast(pa.string()))
    empty = pc.equal(stripped, "")
    return pc.if_else(empty, None, stripped) if pc.any(empty).as_py() else stripped


@dataclass(frozen=True)
class Numbers:
    """Numbers, and masks of the values that are none; arrays (n,)."""

    values: Floats  # NaN where missing or not a number, ±inf where the text says so
    missing: Bools
    wrong: Bools  # present but not a number; "NaN" counts as a number


def numbers(column: Arrow) -> Numbers:
    """Parse numbers; text must have a decimal point and no thousands separators: -1234.5, 1e3."""
    if not is_text(column.type):
        values = _floats(column if not pa.types.is_dictionary(column.type) else column.dictionary_decode())
        return Numbers(values, np.isnan(values), np.zeros(len(values), dtype=bool))
    text = texts(column)
    missing = as_bools(text.is_null())
    try:
        values = _floats(text)
    except pa.ArrowInvalid:
        values = _floats(pc.if_else(pc.match_substring_regex(text, NUMBER), text, None))
    wrong = np.isnan(values) & ~missing
    if wrong.any():
        wrong &= ~as_bools(pc.match_substring_regex(text, NUMBER))
    return Numbers(values, missing, wrong)


def instants(column: Arrow, zone: str) -> Instants:
    """
    Return text in the grammar of `pipeline.ingest.formats.instants`, timestamps or dates as instants.

    A time without an offset is local to `zone`.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        return instants(column.dictionary_decode(), zone)
    if not pa.types.is_timestamp(kind) and not pa.types.is_date(kind):
        return parse_instants(texts(column), zone)
    missing, wrong = as_bools(column.is_null()), np.zeros(len(column), dtype=bool)
    naive = np.full(len(column), getattr(kind, "tz", None) is None)
    return resolve(_clock_readings(column), missing, wrong, naive, zone)


def is_text(kind: Any) -> bool:
    """Whether a column of this Arrow type holds text, plainly or as a dictionary."""
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def float_text(value: float) -> str | None:
    """Write a float, a whole one as an integer, NaN as missing: pandas writes ids as floats if one is missing."""
    if math.isnan(value):
        return None
    return str(int(value)) if value.is_integer() and abs(value) < WHOLE_MAX else repr(value)


def decimal_text(value: Decimal) -> str | None:
    """Write a decimal without an exponent, NaN as missing."""
    return None if value.is_nan() else format(value, "f")


def moment_text(value: datetime) -> str:
    """Write a time as ISO 8601, in UTC if it has an offset."""
    return value.isoformat() if value.tzinfo is None else value.astimezone(UTC).isoformat()


def _clock_readings(column: Arrow) -> Ints:
    """Convert timestamps or dates of any unit to µs; finer units are truncated, overflows clipped."""
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("ms") if column.type == pa.date64() else pa.timestamp("s"))
    values = as_ints(column.cast(pa.int64()))
    if column.type.unit == "ns":
        return values // 1000
    factor = {"s": SECOND, "ms": SECOND // 1000, "us": 1}[column.type.unit]
    return np.clip(values, -(FAR // factor), FAR // factor) * factor


def _floats(column: Arrow) -> Floats:
    numeric = column.cast(pa.float64(), safe=False) if not is_text(column.type) else column.cast(pa.float64())
    return np.array(pc.fill_null(numeric, np.nan).to_numpy(zero_copy_only=False), dtype=np.float64)


def _float_texts(column: Arrow) -> Arrow:
    """Write floats like `float_text`."""
    values = _floats(column)
    missing = np.isnan(values)
    whole = (np.abs(values) < WHOLE_MAX) & (values == np.rint(values))
    integers = pa.array(np.where(whole, values, 0).astype(np.int64), mask=missing).cast(pa.string())
    if (whole | missing).all():
        return integers
    return pc.if_else(pa.array(whole), integers, pa.array(values, mask=missing).cast(pa.string()))
