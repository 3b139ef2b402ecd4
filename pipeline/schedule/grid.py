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
    local = local_date(instant, timezone)
    return midnight(local - timedelta(days=(local - MONDAY).days % days), timezone)


def following(step: int, timezone: str, edge: int) -> int:
    """The edge after this one."""
    if step % DAY:
        return edge + step
    return midnight(local_date(edge, timezone) + timedelta(days=step // DAY), timezone)


def local_date(instant: int, timezone: str) -> date:
    """The date of an instant in a time zone."""
    return datetime.fromtimestamp(instant / SECOND, ZoneInfo(timezone)).date()


def midnight(day: date, timezone: str) -> int:
    """The start of a day in a time zone."""
    return int(datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(timezone)).timestamp()) * SECOND


def month_floor(timezone: str, instant: int) -> int:
    """The start of the calendar month that an instant is in."""
    return midnight(local_date(instant, timezone).replace(day=1), timezone)


def following_month(timezone: str, start: int, months: int = 1) -> int:
    """The start of the calendar month so many months after the one that starts at `start`; before it if negative."""
    first = local_date(start, timezone)
    place = first.year * 12 + first.month - 1 + months
    return midnight(date(place // 12, place % 12 + 1, 1), timezone)
