"""
Parses Arrow columns of files and databases into text, numbers and instants.

Every function parses a whole column and returns masks of the rows with each kind of error, so that the caller can give
reasons; what a value means never depends on the other values of its column. Text is stripped; empty text is missing.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.ingest.formats.arrow_arrays import Arrow, Bools, as_bools, as_ints
from pipeline.ingest.formats.instants import Instants, parse_instants, resolve
from storage.frames import SECOND, Floats, Ints

FAR = 2**62  # µs; instants are clipped to ± this, 146,000 years
WHOLE_MAX = {16: 2.0**11, 32: 2.0**24, 64: 2.0**53}  # bits of a float → it is an exact integer below this
PLAIN_MAX = 100  # digits of a number that is written without an exponent
NUMBER = r"(?i)^[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|inf|infinity)$"  # Arrow's grammar, but for nan(…)


def texts(column: Arrow) -> Arrow:
    """Return any column as text, numbers as `decimal_text` and `float_text` write them, whatever their type."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return texts(column.dictionary).take(column.indices)
    if pa.types.is_floating(kind):
        column = _float_texts(column)
    elif pa.types.is_decimal(kind):
        column = _per_value(column, decimal_text)
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
    """
    Write a float as `decimal_text` does; pandas writes ids as floats if one is missing.

    A whole number that a float cannot tell from its neighbours keeps its exponent (`4.11e+16`): digits may be lost.
    """
    if not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if abs(value) >= WHOLE_MAX[64]:
        return np.format_float_scientific(value, trim="-")
    return str(int(value)) if value.is_integer() else decimal_text(Decimal(repr(value)))


def decimal_text(value: Decimal) -> str | None:
    """Write a decimal without trailing zeros, and without an exponent unless it is immense; NaN as missing."""
    if not value.is_finite():
        return None if value.is_nan() else str(value)
    if abs(value.adjusted()) > PLAIN_MAX:
        return str(value)
    digits = format(value, "f")
    digits = digits.rstrip("0").rstrip(".") if "." in digits else digits
    return "0" if digits == "-0" else digits


def json_number_text(digits: str) -> str | None:
    """Write a JSON number that has a point or an exponent; from 2^53 on it is a float that may have lost digits."""
    try:
        value = Decimal(digits)
    except InvalidOperation:  # an exponent beyond all bounds
        return digits
    if value.copy_abs() < WHOLE_MAX[64]:
        return decimal_text(value)
    return float_text(float(value)) if math.isfinite(float(value)) else str(value)


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
    if pa.types.is_floating(column.type) and column.type != pa.float64():
        column = column.cast(pa.float32()).cast(pa.string())  # 0.1 of 32 bits is 0.1, not 0.10000000149
    numeric = column.cast(pa.float64(), safe=False) if not is_text(column.type) else column.cast(pa.float64())
    return np.array(pc.fill_null(numeric, np.nan).to_numpy(zero_copy_only=False), dtype=np.float64)


def _float_texts(column: Arrow) -> Arrow:
    """Write floats like `float_text`; those of fewer bits lose digits earlier."""
    values, largest = _floats(column), WHOLE_MAX[column.type.bit_width]
    missing = np.isnan(values)
    whole = (np.abs(values) < largest) & (values == np.rint(values))
    integers = pa.array(np.where(whole, values, 0).astype(np.int64), mask=missing).cast(pa.string())
    if (whole | missing).all():
        return integers
    others = np.flatnonzero(~whole & ~missing)
    written = [
        float_text(value) if abs(value) < largest else np.format_float_scientific(value, trim="-")
        for value in values[others].tolist()
    ]
    return pc.replace_with_mask(integers, pa.array(~whole & ~missing), pa.array(written, pa.string()))


def _per_value(column: Arrow, write: Callable[[Any], str | None]) -> Arrow:
    texts = [None if value is None else write(value) for value in column.to_pylist()]
    return pa.array(texts, pa.string())
