"""
Parses Arrow columns of files and databases into text, numbers and instants.

Every function parses a whole column and returns masks of the rows with each kind of error, so that the caller can give
reasons; what a value means never depends on the other values of its column. Text is stripped; empty text is missing.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.sections import FormatSection
from pipeline.ingest.formats.arrow_arrays import Arrow, Bools, as_bools, as_ints
from pipeline.ingest.formats.grammars.numbers import MIXED_CASE, PLAIN, SEPARATORS, WORD, grammar
from pipeline.ingest.formats.instants import (
    ClockReadings,
    Instants,
    parse_clock,
    parse_instant,
    parse_time_of_day,
    resolve,
)
from storage.frames import DAY, HOUR, MINUTE, SECOND, Floats, Ints

PLAIN_FORMAT = FormatSection()
# Before a number with a point that is no text in its source (JSON, Excel, a query): its point is one whatever
# format.decimal says of texts. `texts` strips it like any blank.
NATIVE = "\u205f"
MINUSES = pa.array(["-", "−", "(", ")"])
FAR = 2**62  # µs; instants are clipped to ± this, 146,000 years
WHOLE_MAX = {16: 2.0**11, 32: 2.0**24, 64: 2.0**53}  # bits of a float → it is an exact integer below this
PLAIN_MAX = 100  # digits of a number that is written without an exponent
NUMBER = PLAIN
# µs in one of what a number counts, by format.time
UNITS = {
    "epoch_seconds": SECOND, "epoch_milliseconds": SECOND // 1000,
    "elapsed_seconds": SECOND, "elapsed_minutes": MINUTE, "elapsed_hours": HOUR, "elapsed_days": DAY,
}  # fmt: skip


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
    marks: Sequence[
        Arrow
    ] = ()  # of texts with a currency: its signs or codes before and after the number, "" for none, in capitals but for GBp


def numbers(column: Arrow, decimal: str = ".", thousands: str = "") -> Numbers:
    """Parse numbers; text in the grammar of `pipeline.ingest.formats.grammars.numbers`: -1234.5, 1e3, € 12.50."""
    if not is_text(column.type):
        values = _floats(column if not pa.types.is_dictionary(column.type) else column.dictionary_decode())
        return Numbers(values, np.isnan(values), np.zeros(len(values), dtype=bool))
    text = texts(column)
    missing = as_bools(text.is_null())
    if decimal != ".":
        native = pc.starts_with(column.cast(pa.string()), NATIVE)
        text = pc.if_else(native, pc.replace_substring(text, ".", decimal), text)
    plain = _plain_numbers(text, decimal)
    if plain is None:
        return _written_numbers(text, missing, decimal, thousands)
    wrong = np.isnan(plain) & ~missing
    if wrong.any():
        wrong &= ~as_bools(pc.match_substring_regex(text, PLAIN))
    return Numbers(plain, missing, wrong)


def _plain_numbers(text: Arrow, decimal: str) -> Floats | None:
    """All values at once with Arrow, which is fastest; None if one has more than digits and a decimal separator."""
    if decimal != ".":
        if pc.any(pc.match_substring(text, ".")).as_py():
            return None
        text = pc.replace_substring(text, decimal, ".")
    try:
        return _floats(text)
    except pa.ArrowInvalid:
        return None


def _written_numbers(text: Arrow, missing: Bools, decimal: str, thousands: str) -> Numbers:
    """Parse value by value: a plain number or word (NaN, inf), or the grammar with separators, signs and currencies."""
    plain = pc.match_substring_regex(text, PLAIN if decimal == "." else WORD)
    parts = pc.extract_regex(pc.if_else(plain, None, text), pattern=grammar(decimal, thousands))

    def has(*names: str) -> list[Bools]:
        return [as_bools(pc.is_in(pc.struct_field(parts, name), MINUSES)) for name in names]

    digits = pc.struct_field(parts, "digits")
    if thousands:
        digits = pc.replace_substring_regex(digits, SEPARATORS[thousands], "")
    digits = pc.replace_substring(digits, decimal, ".")
    opened, *minuses = has("open", "minus", "minus_inside", "minus_after")
    signs = [
        *minuses,
        *(as_bools(pc.equal(pc.struct_field(parts, name), "+")) for name in ("minus", "minus_inside")),
    ]
    unfit = (opened != has("close")[0]) | (np.sum([opened, *signs], axis=0) > 1)
    unfit |= minuses[-1] & as_bools(pc.ends_with(pc.struct_field(parts, "digits"), decimal))  # 12,- is no -12
    values = _floats(pc.if_else(plain, text, digits))
    values = np.where(opened | np.any(minuses, axis=0), -values, values)
    wrong = ~missing & ((as_bools(parts.is_null()) & ~as_bools(plain)) | unfit)
    values[wrong] = np.nan
    marks = [pc.utf8_rtrim(pc.struct_field(parts, name), ".") for name in ("before", "after")]
    mixed = [pc.match_substring_regex(mark, MIXED_CASE) for mark in marks]
    capitals = [
        pc.if_else(is_mixed, mark, pc.utf8_upper(mark)) for is_mixed, mark in zip(mixed, marks, strict=True)
    ]
    return Numbers(values, missing, wrong, capitals)


def instants(
    column: Arrow, zone: str, form: FormatSection = PLAIN_FORMAT, time_of_day: Arrow | None = None
) -> Instants:
    """
    Return text in a grammar of `format.time`, timestamps, dates, or numbers that count from a moment as instants.

    A time without an offset is local to `zone`. With `time_of_day`, a second column, the first one holds dates; a value
    of it that is missing makes the instant missing, and a date that has a time already is unreadable.
    """
    if pa.types.is_dictionary(column.type):
        return instants(column.dictionary_decode(), zone, form, time_of_day)
    missing, read = _clock_readings(column, zone, form)
    if time_of_day is not None:
        clock_missing, clock = times_of_day(time_of_day)
        missing = missing | clock_missing
        two_times = read.micros % DAY != 0
        read = ClockReadings(
            read.micros + clock.micros,
            read.unreadable | clock.unreadable | two_times,
            read.naive & clock.naive,
        )
    return resolve(read.micros, missing, read.unreadable & ~missing, read.naive, zone)


def _clock_readings(column: Arrow, zone: str, form: FormatSection) -> tuple[Bools, ClockReadings]:
    """Return a mask of missing values, and what the others say."""
    kind, missing = column.type, as_bools(column.is_null())
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        no, naive = np.zeros(len(column), dtype=bool), np.full(len(column), getattr(kind, "tz", None) is None)
        return missing, ClockReadings(_micros(column), no, naive)
    if form.time in UNITS:
        return _counted(column, zone, form)
    text = texts(column)
    return as_bools(text.is_null()), parse_clock(text, form.time)


def _counted(column: Arrow, zone: str, form: FormatSection) -> tuple[Bools, ClockReadings]:
    """Numbers that count from 1970 or `format.time_start`; other text may be ISO 8601."""
    unit, parsed = UNITS[form.time], numbers(column, form.decimal, form.thousands)
    far = FAR / 2 / unit
    values = np.clip(np.nan_to_num(parsed.values, nan=0.0, posinf=far, neginf=-far), -far, far)
    start = epoch_start(form, zone)
    micros = np.rint(values * unit).astype(np.int64) + start
    no_number = parsed.wrong | (~np.isfinite(parsed.values) & ~parsed.missing)
    for mark in parsed.marks:
        no_number |= ~as_bools(pc.equal(mark, "")) & as_bools(mark.is_valid())
    naive = np.zeros(len(column), dtype=bool)
    rest = np.flatnonzero(no_number)
    if len(rest):
        read = parse_clock(texts(column.take(pa.array(rest))))
        micros[rest], no_number[rest], naive[rest] = read.micros, read.unreadable, read.naive
    return parsed.missing, ClockReadings(micros, no_number, naive)


def epoch_start(form: FormatSection, zone: str) -> int:
    """The instant (µs) from which numbers count: 1970, or `format.time_start`, which may be local to `zone`."""
    if not form.time_start:
        return 0
    return parse_instant(datetime.fromisoformat(form.time_start).isoformat(), zone or "UTC") or 0


def times_of_day(column: Arrow) -> tuple[Bools, ClockReadings]:
    """Return a mask of missing times of day, and the others in µs since midnight."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return times_of_day(column.dictionary_decode())
    if pa.types.is_time(kind) or pa.types.is_duration(kind):
        micros, missing = _micros(column), as_bools(column.is_null())
        outside = (micros < 0) | (micros >= DAY)
        return missing, ClockReadings(micros, outside & ~missing, np.ones(len(column), dtype=bool))
    text = texts(column)
    return as_bools(text.is_null()), parse_time_of_day(text)


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
        return native(decimal_text(value))
    return native(float_text(float(value)) if math.isfinite(float(value)) else str(value))


def native(text: str | None) -> str | None:
    """Mark a number that is no text in its source."""
    return NATIVE + text if text and "." in text else text


def moment_text(value: datetime) -> str:
    """Write a time as ISO 8601, in UTC if it has an offset."""
    return value.isoformat() if value.tzinfo is None else value.astimezone(UTC).isoformat()


def _micros(column: Arrow) -> Ints:
    """Convert timestamps, dates, times or durations of any unit to µs; finer units are truncated, overflows clipped."""
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("ms") if column.type == pa.date64() else pa.timestamp("s"))
    values = as_ints(
        column.cast(pa.int32()).cast(pa.int64())
        if pa.types.is_time32(column.type)
        else column.cast(pa.int64())
    )
    if column.type.unit == "ns":
        return values // 1000
    factor = {"s": SECOND, "ms": SECOND // 1000, "us": 1}[column.type.unit]
    return np.clip(values, -(FAR // factor), FAR // factor) * factor


def _floats(column: Arrow) -> Floats:
    if pa.types.is_floating(column.type) and column.type != pa.float64():
        column = column.cast(pa.float32()).cast(pa.string())  # 0.1 of 32 bits is 0.1, not 0.10000000149
    if pa.types.is_decimal(column.type):
        column = column.cast(
            pa.string()
        )  # 15.880000 is 15.88, while a cast to float64 makes 15.879999999999999 of it
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
