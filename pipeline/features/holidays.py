"""Which instants lie on a holiday: single or yearly days in the configured time zone."""

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from storage.frames import SECOND, Ints

QUARTER = 15 * 60 * SECOND  # clocks of every zone change on a quarter of an hour
DAYS_A_QUARTER = 4 * 24


def is_holiday(instants: Ints, holidays: Sequence[str], timezone: str) -> NDArray[np.bool_]:
    """
    Whether each instant (n,) lies on one of the days.

    Parameters
    ----------
    holidays
        "2026-04-03" for that day, "12-25" for the same day of every year.
    """
    if not holidays or not len(instants):
        return np.zeros(len(instants), dtype=bool)
    quarters, place = np.unique(instants // QUARTER, return_inverse=True)
    days = frozenset(holidays)
    listed = np.array([is_listed(_day(int(quarter), timezone), days) for quarter in quarters], dtype=bool)
    return listed[place]


def local(instant: int, timezone: str) -> datetime:
    """An instant as local time of a zone."""
    return datetime.fromtimestamp(instant // SECOND, ZoneInfo(timezone))


@lru_cache(maxsize=DAYS_A_QUARTER * 400)
def _day(quarter: int, timezone: str) -> str:
    return local(quarter * QUARTER, timezone).date().isoformat()


def is_listed(day: str, days: frozenset[str]) -> bool:
    """Whether a day such as 2026-04-03 is one of these days, or is so every year."""
    return day in days or day[5:] in days
