"""
Parses Arrow columns of files and databases into text, numbers and instants.

Every function parses a whole column and returns masks of the rows with each kind of error, so that the caller can give
reasons. Text is stripped; empty text is missing.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from storage.frames import HOUR, SECOND, Floats, Ints

Bools = NDArray[np.bool_]
Arrow = Any  # a pyarrow Array

MINUTE = 60 * SECOND
FAR = 2**62  # µs; instants are clipped to ± this, 146,000 years
WHOLE_MAX = 2.0**53  # floats are exact integers up to here
# RE2: \d is 0 to 9. A date alone means midnight; seconds are optional; nanoseconds are truncated to microseconds.
ISO_8601 = (
    r"^(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)"
    r"(?:[Tt ](?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,](?P<fraction>\d{1,9}))?)?"
    r" ?(?P<zone>[Zz]|(?P<sign>[+-])(?P<zone_hour>\d\d)(?::?(?P<zone_minute>\d\d))?)?)?$"
)
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?$"


def texts(column: Arrow) -> Arrow:
    """Return any column as text; whole numbers are written without a point, whatever their type."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return texts(column.dictionary).take(column.indices)
    if pa.types.is_floating(kind):
        column = _whole_numbers(column)
    elif pa.types.is_decimal(kind):
        column = pa.array([_decimal(value) for value in column.to_pylist()], pa.string())
    elif pa.types.is_timestamp(kind):
        column = pa.array([_moment(value) for value in column.cast(_micros(kind), safe=False).to_pylist()])
    stripped = pc.utf8_trim_whitespace(column.cast(pa.string()))
    empty = pc.equal(stripped, "")
    return pc.if_else(empty, None, stripped) if pc.any(empty).as_py() else stripped


def objects(column: Arrow) -> NDArray[np.object_]:
    """Return a column of text as Python strings, None for missing."""
    strings: NDArray[np.object_] = column.to_numpy(zero_copy_only=False)
    return strings if strings.dtype == object else np.full(len(strings), None, dtype=object)


def as_bools(column: Arrow) -> Bools:
    """Return a column of booleans; missing is false."""
    return np.asarray(pc.fill_null(column, False).to_numpy(zero_copy_only=False), dtype=bool)


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
    try:
        values = _floats(text)
        wrong = np.zeros(len(values), dtype=bool)
    except pa.ArrowInvalid:
        values, wrong = _careful_floats(text)
    return Numbers(values, as_bools(text.is_null()), wrong)


@dataclass(frozen=True)
class Instants:
    """Instants, and masks of the values that are none, where `micros` holds 0; arrays (n,)."""

    micros: Ints
    missing: Bools
    unreadable: Bools
    naive: Bools  # without an offset, and no zone is configured
    skipped: Bools  # a local time that the clocks skip
    repeated: Bools  # a local time that occurs twice


def instants(column: Arrow, zone: str) -> Instants:
    """
    Parse ISO 8601 text, timestamps or dates into µs since 1970-01-01 UTC.

    A time without an offset is local to `zone`. Local times that the clocks skip or repeat have no single instant and
    are reported, not guessed. A bare number is never a time, because its unit is unknown.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        return instants(column.dictionary_decode(), zone)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        missing, wrong = as_bools(column.is_null()), np.zeros(len(column), dtype=bool)
        aware = getattr(kind, "tz", None) is not None
        return _to_instants(_clock_readings(column), missing, wrong, np.full(len(column), not aware), zone)
    text = texts(column)
    missing = as_bools(text.is_null())
    readings, unreadable, naive = _parse_with_arrow(text) or _parse_with_regex(text)
    return _to_instants(readings, missing, unreadable & ~missing, naive, zone)


def is_text(kind: Any) -> bool:
    """Whether a column of this Arrow type holds text, plainly or as a dictionary."""
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _to_instants(readings: Ints, missing: Bools, unreadable: Bools, naive: Bools, zone: str) -> Instants:
    """Convert local clock readings without an offset to UTC."""
    naive = naive & ~missing & ~unreadable
    no, micros = np.zeros(len(naive), dtype=bool), readings.copy()
    skipped, repeated = no.copy(), no.copy()
    if zone and naive.any():
        micros[naive], skipped[naive], repeated[naive] = to_utc(readings[naive], zone)
        naive = no
    micros[missing | unreadable | naive | skipped | repeated] = 0
    return Instants(micros, missing, unreadable, naive, skipped, repeated)


def to_utc(local: Ints, zone: str) -> tuple[Ints, Bools, Bools]:
    """
    Convert local times of a zone to instants; also return masks of skipped and of repeated local times.

    Offsets are looked up once per hour, and once per minute in hours in which they change: some zones change at
    00:01.
    """
    early, late = _offsets(local, HOUR, zone)
    changing = np.isnan(early)
    early[changing], late[changing] = _offsets(local[changing], MINUTE, zone)
    instants_ = local - early.astype(np.int64)
    return instants_, early < late, early > late


def _offsets(local: Ints, step: int, zone: str) -> tuple[Floats, Floats]:
    """Offsets (µs) before and after a change of clocks; NaN for an hour that contains a change."""
    steps, place = np.unique(local // step, return_inverse=True)
    pairs = [_offset_of(int(start), step, zone) for start in steps]
    both = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    return both[place, 0], both[place, 1]


@lru_cache(maxsize=1 << 16)
def _offset_of(number: int, step: int, zone: str) -> tuple[float, float]:
    """Offsets of step `number` of local time as (fold 0, fold 1), which agree except around a change."""
    start, end = (_wall_clock(number * step), _wall_clock((number + 1) * step - SECOND))
    if start is None or end is None:
        return 0.0, 0.0  # outside Python's range of years, so out of range with any offset
    zone_info = ZoneInfo(zone)
    offsets = [zone_info.utcoffset(moment.replace(fold=fold)) for moment in (start, end) for fold in (0, 1)]
    spans = [(offset or timedelta()) / timedelta(microseconds=1) for offset in offsets]
    if step > MINUTE and len(set(spans)) > 1:
        return np.nan, np.nan
    return spans[0], spans[1]


def _wall_clock(reading: int) -> datetime | None:
    try:
        return datetime(1970, 1, 1) + timedelta(microseconds=reading)  # noqa: DTZ001 (local on purpose)
    except OverflowError:
        return None


def _parse_with_arrow(text: Arrow) -> tuple[Ints, Bools, Bools] | None:
    """Parse with Arrow; None unless all times are valid and all, or none, have an offset."""
    for zone in ("UTC", None):
        try:
            readings = _int64(text.cast(pa.timestamp("us", zone)).cast(pa.int64()))
        except pa.ArrowInvalid:
            continue
        return readings, np.zeros(len(readings), dtype=bool), np.full(len(readings), zone is None)
    return None


def _parse_with_regex(text: Arrow) -> tuple[Ints, Bools, Bools]:
    """Return clock readings in µs (UTC if the text has an offset), and masks of unreadable and of naive times."""
    parts = pc.extract_regex(text, pattern=ISO_8601)
    unreadable = as_bools(parts.is_null())

    def part(name: str) -> Ints:
        digits = pc.struct_field(parts, name)
        digits = pc.if_else(pc.equal(digits, ""), "0", digits)
        return np.asarray(pc.fill_null(digits.cast(pa.int64()), 0).to_numpy(zero_copy_only=False), np.int64)

    fraction = pc.utf8_rpad(pc.struct_field(parts, "fraction"), 6, "0")
    micros = _int64(pc.utf8_slice_codeunits(fraction, 0, 6).cast(pa.int64()))
    months = (part("year") - 1970) * 12 + part("month") - 1
    first = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    last = (months + 1).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    day, hour, minute, second = (part(name) for name in ("day", "hour", "minute", "second"))
    unreadable |= (part("month") < 1) | (part("month") > 12) | (day < 1) | (day > last - first)
    unreadable |= (hour > 23) | (minute > 59) | (second > 59)
    unreadable |= (part("zone_hour") > 23) | (part("zone_minute") > 59)
    offset = (part("zone_hour") * 60 + part("zone_minute")) * MINUTE
    offset = np.where(as_bools(pc.equal(pc.struct_field(parts, "sign"), "-")), -offset, offset)
    reading = (((first + day - 1) * 24 + hour) * 60 + minute) * MINUTE + second * SECOND + micros - offset
    return reading, unreadable, as_bools(pc.equal(pc.struct_field(parts, "zone"), ""))


def _clock_readings(column: Arrow) -> Ints:
    """Convert timestamps or dates of any unit to µs; finer units are truncated, overflows clipped."""
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("ms") if column.type == pa.date64() else pa.timestamp("s"))
    values = _int64(column.cast(pa.int64()))
    if column.type.unit == "ns":
        return values // 1000
    factor = {"s": SECOND, "ms": SECOND // 1000, "us": 1}[column.type.unit]
    return np.clip(values, -(FAR // factor), FAR // factor) * factor


def _int64(column: Arrow) -> Ints:
    return np.asarray(pc.fill_null(column, 0).to_numpy(zero_copy_only=False), dtype=np.int64)


def _floats(column: Arrow) -> Floats:
    numeric = column.cast(pa.float64(), safe=False) if not is_text(column.type) else column.cast(pa.float64())
    return np.array(pc.fill_null(numeric, np.nan).to_numpy(zero_copy_only=False), dtype=np.float64)


def _careful_floats(text: Arrow) -> tuple[Floats, Bools]:
    good = pc.match_substring_regex(text, NUMBER)
    words = pc.utf8_lower(pc.utf8_ltrim(text, "+-"))
    named = pc.is_in(words, pa.array(["nan", "inf", "infinity"]))
    readable = pc.or_(pc.fill_null(good, False), named)
    wrong = as_bools(pc.and_(pc.is_valid(text), pc.invert(readable)))
    return _floats(pc.if_else(readable, text, None)), wrong


def _whole_numbers(column: Arrow) -> Arrow:
    """Convert floats without a fraction to integers: pandas writes ids as floats if one is missing."""
    values = np.array(pc.fill_null(column, np.nan).to_numpy(zero_copy_only=False), dtype=np.float64)
    present = values[~np.isnan(values)]
    if (np.abs(present) < WHOLE_MAX).all() and (present == np.rint(present)).all():
        return pa.array(np.nan_to_num(values).astype(np.int64), mask=np.isnan(values))
    return pa.array(values, mask=np.isnan(values))


def _micros(kind: Any) -> Any:
    return pa.timestamp("us", kind.tz)


def _decimal(value: Any) -> str | None:
    return None if value is None else format(value, "f")


def _moment(value: datetime | None) -> str | None:
    if value is None:
        return None
    return value.isoformat() if value.tzinfo is None else value.astimezone(UTC).isoformat()
