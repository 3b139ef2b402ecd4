"""
The grid of windows and training dates.

Edges depend on the calendar of `schedule.timezone`, not on when a run starts, so every way of running has the same
windows. A step of whole days begins at local midnight (days are 23 or 25 hours long when clocks change); a shorter
step is counted in hours of UTC, which clock changes do not affect.
"""

from datetime import date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from storage.frames import DAY, SECOND

MONDAY = date(1970, 1, 5)  # steps of n days are counted from the first Monday, so a weekly step is a Monday


def edges(step: int, timezone: str, start: int, end: int) -> list[int]:
    """
    The edges of the grid from the last one at or before `start` to the first one at or after `end`.

    Parameters
    ----------
    step
        Length of a window in µs: whole days, or a fraction of a day that divides it.
    start, end
        Instants in µs.
    """
    result = [floor(step, timezone, start)]
    while result[-1] < end:
        result.append(following(step, timezone, result[-1]))
    return result


def windows(step: int, timezone: str, start: int, end: int) -> list[tuple[int, int]]:
    """Windows of the grid, clipped to [start, end): the first and last may be shorter."""
    whole = pairwise(edges(step, timezone, start, end))
    return [(max(a, start), min(b, end)) for a, b in whole if a < end and b > start]


def dates_inside(step: int, timezone: str, start: int, end: int) -> list[int]:
    """The edges e with start < e < end."""
    return [edge for edge in edges(step, timezone, start, end) if start < edge < end]


def floor(step: int, timezone: str, instant: int) -> int:
    """The last edge of the grid at or before an instant."""
    if step % DAY:
        return instant - instant % step
    days = step // DAY
    local = _local_date(instant, timezone)
    return _midnight(local - timedelta(days=(local - MONDAY).days % days), timezone)


def following(step: int, timezone: str, edge: int) -> int:
    """The edge after this one."""
    if step % DAY:
        return edge + step
    return _midnight(_local_date(edge, timezone) + timedelta(days=step // DAY), timezone)


def _local_date(instant: int, timezone: str) -> date:
    return datetime.fromtimestamp(instant / SECOND, ZoneInfo(timezone)).date()


def _midnight(day: date, timezone: str) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(timezone)).timestamp()) * SECOND
