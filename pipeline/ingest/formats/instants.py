"""
Instants: the grammars in which times are written, and their conversion to µs since 1970-01-01 UTC.

A time is written as in ISO 8601, extended form, of which RFC 3339 is a part:

    2026-03-01                      a date means its midnight
    2026-03-01T06                   minutes and seconds may be left out; T, t or one space after the date
    2026-03-01 06:00:00.123456789   1 to 9 digits after a point or comma; digits finer than 1 µs are dropped
    2026-03-01T06:00+01:00          a time may have an offset, after one space at most: Z, z, ±hh, ±hhmm or ±hh:mm

Nothing else is a time: no week (2026-W09-7), ordinal (2026-060) or basic form (20260301T060000), no 24:00, no leap
second, no name of a zone, no number, because its unit is unknown. With another `format.time` than "iso", times are
also written in its grammar (`pipeline.ingest.formats.grammars.times`).

A time without an offset is local to a zone that the caller names. Local times that the clocks skip or repeat are
reported, not guessed. Columns are parsed whole; what a value means never depends on the other values of its column.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.ingest.formats.arrow_arrays import Arrow, Bools, as_bools, as_ints
from pipeline.ingest.formats.grammars.times import GRAMMARS, ISO, MONTH_NAMES, MONTH_NUMBERS, TIME_OF_DAY
from storage.frames import DAY, HOUR, MINUTE, SECOND, Floats, Ints


@dataclass(frozen=True)
class Instants:
    """Instants, and masks of the values that are none, where `micros` holds 0; arrays (n,)."""

    micros: Ints
    missing: Bools
    unreadable: Bools
    naive: Bools  # without an offset, and no zone is given
    skipped: Bools  # a local time that the clocks skip
    repeated: Bools  # a local time that occurs twice


@dataclass(frozen=True)
class ClockReadings:
    """What is written, before it is known in which zone; arrays (n,). Readings of missing or unreadable values say nothing."""

    micros: Ints  # µs since 1970-01-01 of the clock, in UTC if there is an offset
    unreadable: Bools
    naive: Bools  # without an offset


def parse_instants(text: Arrow, zone: str, form: str = "iso") -> Instants:
    """Parse a column of stripped text, null where missing; "" as zone refuses times without an offset."""
    missing, read = as_bools(text.is_null()), parse_clock(text, form)
    return resolve(read.micros, missing, read.unreadable & ~missing, read.naive, zone)


def parse_clock(text: Arrow, form: str = "iso") -> ClockReadings:
    """Parse a column of stripped text in a grammar of `format.time`, all of which include ISO 8601."""
    return _parse_with_arrow(text) or _parse_in_turn(text, GRAMMARS[form])


def parse_time_of_day(text: Arrow) -> ClockReadings:
    """Parse a column of times of day, in µs since midnight."""
    return _parse_in_turn(text, TIME_OF_DAY)


def parse_instant(text: str, zone: str) -> int | None:
    """
    Parse one time into µs; None if it is not written in the grammar.

    A local time that the clocks of `zone` skip or repeat has the offset before the change, like the grid's midnights.
    """
    read = _parse_with_regex(pa.array([text.strip()]), ISO)
    if read.unreadable[0]:
        return None
    return int(to_utc(read.micros, zone)[0][0] if read.naive[0] else read.micros[0])


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


def _parse_with_arrow(text: Arrow) -> ClockReadings | None:
    """Parse with Arrow, which is faster; None unless it accepts all values and all, or none, have an offset."""
    for zone in ("UTC", None):
        try:
            readings = as_ints(text.cast(pa.timestamp("us", zone)).cast(pa.int64()))
        except pa.ArrowInvalid:
            continue
        size = len(readings)
        return ClockReadings(readings, np.zeros(size, dtype=bool), np.full(size, zone is None))
    return None


def _parse_in_turn(text: Arrow, expressions: Sequence[str]) -> ClockReadings:
    """Parse each value by the first expression that reads it."""
    read = _parse_with_regex(text, expressions[0])
    for expression in expressions[1:]:
        rest = np.flatnonzero(read.unreadable & ~as_bools(text.is_null()))
        if not len(rest):
            break
        further = _parse_with_regex(text.take(pa.array(rest)), expression)
        read.micros[rest], read.unreadable[rest] = further.micros, further.unreadable
        read.naive[rest] = further.naive
    return read


def _parse_with_regex(text: Arrow, expression: str) -> ClockReadings:
    """Parse by the groups of an expression; without a date it is 1970-01-01."""
    groups = _Groups(text, expression)
    days, no_date = _days(groups)
    clock, no_clock = _time_of_day(groups)
    unreadable = ~groups.matched | no_date | no_clock
    zone_hour, zone_minute = groups.number("zone_hour"), groups.number("zone_minute")
    unreadable |= (zone_hour > 23) | (zone_minute > 59)
    offset = (zone_hour * 60 + zone_minute) * MINUTE
    offset = np.where(groups.equal("sign", "-"), -offset, offset)
    return ClockReadings(days * DAY + clock - offset, unreadable, ~groups.present("zone"))


def _days(groups: "_Groups") -> tuple[Ints, Bools]:
    """Days since 1970-01-01, and a mask of impossible dates."""
    if "day" not in groups.names:
        return groups.number("day"), ~groups.matched
    year, month, day = (groups.number(name) for name in ("year", "month", "day"))
    short = groups.number("short_year")
    year = np.where(groups.present("short_year"), short + np.where(short < 70, 2000, 1900), year)
    if "month_name" in groups.names:
        number = pc.index_in(pc.utf8_lower(groups.written("month_name")), MONTH_NAMES)
        month = month + as_ints(pc.take(MONTH_NUMBERS, number))
    months = (year - 1970) * 12 + month - 1
    first = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    last = (months + 1).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    wrong = (month < 1) | (month > 12) | (day < 1) | (day > last - first)
    if "second_separator" in groups.names:
        wrong |= ~as_bools(pc.equal(groups.written("first_separator"), groups.written("second_separator")))
    return first + day - 1, wrong


def _time_of_day(groups: "_Groups") -> tuple[Ints, Bools]:
    """µs since midnight, and a mask of impossible times."""
    hour, minute, second = (groups.number(name) for name in ("hour", "minute", "second"))
    wrong = (hour > 23) | (minute > 59) | (second > 59)
    if "half" in groups.names:  # of the day: AM or PM, without which an hour needs its minutes
        half = groups.present("half")
        wrong |= np.where(half, (hour < 1) | (hour > 12), groups.present("hour") & ~groups.present("minute"))
        hour = np.where(half, hour % 12 + 12 * groups.equal("half", "p"), hour)
    micros = (hour * 60 + minute) * MINUTE + second * SECOND
    if "fraction" in groups.names:
        fraction = pc.utf8_slice_codeunits(pc.utf8_rpad(groups.written("fraction"), 6, "0"), 0, 6)
        micros = micros + as_ints(fraction.cast(pa.int64()))
    return micros, wrong


class _Groups:
    """The groups of an expression in each text; a group that the expression lacks is empty."""

    def __init__(self, text: Arrow, expression: str) -> None:
        self._parts = pc.extract_regex(text, pattern=expression)
        self.names = {field.name for field in self._parts.type}
        self.matched = as_bools(self._parts.is_valid())

    def written(self, name: str) -> Arrow:
        """What a group holds, null where the text does not match."""
        return pc.struct_field(self._parts, name)

    def number(self, name: str) -> Ints:
        """The number that a group holds, 0 if it is empty."""
        if name not in self.names:
            return np.zeros(len(self._parts), dtype=np.int64)
        digits = self.written(name)
        return as_ints(pc.if_else(pc.equal(digits, ""), "0", digits).cast(pa.int64()))

    def equal(self, name: str, value: str) -> Bools:
        """Whether a group holds this, in any case."""
        if name not in self.names:
            return np.zeros(len(self._parts), dtype=bool)
        return as_bools(pc.equal(pc.utf8_lower(self.written(name)), value))

    def present(self, name: str) -> Bools:
        """Whether a group holds anything."""
        return (
            self.matched & ~self.equal(name, "")
            if name in self.names
            else np.zeros(len(self._parts), dtype=bool)
        )
