"""
Instants: the one grammar in which times are written, and their conversion to µs since 1970-01-01 UTC.

A time is written as in ISO 8601, extended form, of which RFC 3339 is a part:

    2026-03-01                      a date means its midnight
    2026-03-01T06                   minutes and seconds may be left out; T, t or one space after the date
    2026-03-01 06:00:00.123456789   1 to 9 digits after a point or comma; digits finer than 1 µs are dropped
    2026-03-01T06:00+01:00          a time may have an offset, after one space at most: Z, z, ±hh, ±hhmm or ±hh:mm

Nothing else is a time: no week (2026-W09-7), ordinal (2026-060) or basic form (20260301T060000), no 24:00, no leap
second, no name of a zone, no number, because its unit is unknown.

A time without an offset is local to a zone that the caller names. Local times that the clocks skip or repeat are
reported, not guessed. Columns are parsed whole; what a value means never depends on the other values of its column.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.ingest.formats.arrow_arrays import Arrow, Bools, as_bools, as_ints
from storage.frames import HOUR, MINUTE, SECOND, Floats, Ints

# RE2: \d is 0 to 9. Arrow's own parser accepts a part of this and reads it alike (tests/test_formats_instants.py).
GRAMMAR = (
    r"^(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)"
    r"(?:[Tt ](?P<hour>\d\d)(?::(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,](?P<fraction>\d{1,9}))?)?)?"
    r" ?(?P<zone>[Zz]|(?P<sign>[+-])(?P<zone_hour>\d\d)(?::?(?P<zone_minute>\d\d))?)?)?$"
)


@dataclass(frozen=True)
class Instants:
    """Instants, and masks of the values that are none, where `micros` holds 0; arrays (n,)."""

    micros: Ints
    missing: Bools
    unreadable: Bools
    naive: Bools  # without an offset, and no zone is given
    skipped: Bools  # a local time that the clocks skip
    repeated: Bools  # a local time that occurs twice


def parse_instants(text: Arrow, zone: str) -> Instants:
    """Parse a column of stripped text, null where missing; "" as zone refuses times without an offset."""
    missing = as_bools(text.is_null())
    readings, unreadable, naive = _parse_with_arrow(text) or _parse_with_regex(text)
    return resolve(readings, missing, unreadable & ~missing, naive, zone)


def parse_instant(text: str, zone: str) -> int | None:
    """
    Parse one time into µs; None if it is not written in the grammar.

    A local time that the clocks of `zone` skip or repeat has the offset before the change, like the grid's midnights.
    """
    readings, unreadable, naive = _parse_with_regex(pa.array([text.strip()]))
    if unreadable[0]:
        return None
    return int(to_utc(readings, zone)[0][0] if naive[0] else readings[0])


def resolve(readings: Ints, missing: Bools, unreadable: Bools, naive: Bools, zone: str) -> Instants:
    """Convert clock readings (µs) to instants: those that are `naive` are local to `zone`."""
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
    return local - early.astype(np.int64), early < late, early > late


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
    """Parse with Arrow, which is faster; None unless it accepts all values and all, or none, have an offset."""
    for zone in ("UTC", None):
        try:
            readings = as_ints(text.cast(pa.timestamp("us", zone)).cast(pa.int64()))
        except pa.ArrowInvalid:
            continue
        return readings, np.zeros(len(readings), dtype=bool), np.full(len(readings), zone is None)
    return None


def _parse_with_regex(text: Arrow) -> tuple[Ints, Bools, Bools]:
    """Return clock readings in µs (UTC if the text has an offset), and masks of unreadable and of naive times."""
    parts = pc.extract_regex(text, pattern=GRAMMAR)
    unreadable = as_bools(parts.is_null())

    def part(name: str) -> Ints:
        digits = pc.struct_field(parts, name)
        return as_ints(pc.if_else(pc.equal(digits, ""), "0", digits).cast(pa.int64()))

    fraction = pc.utf8_rpad(pc.struct_field(parts, "fraction"), 6, "0")
    micros = as_ints(pc.utf8_slice_codeunits(fraction, 0, 6).cast(pa.int64()))
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
