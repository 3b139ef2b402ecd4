"""When the daemon's ticks are due."""

from collections.abc import Iterator
from datetime import UTC
from itertools import count
from zoneinfo import ZoneInfo

from pipeline.config.crontab import times_after
from pipeline.config.sections import ScheduleSection
from storage.database.column_types import as_datetime, as_micros


def ticks_after(schedule: ScheduleSection, moment: int) -> Iterator[int]:
    """The times at which ticks are due after a moment, in µs: by schedule.cron in its zone, otherwise every schedule.tick."""
    if schedule.cron:
        local = as_datetime(moment).astimezone(ZoneInfo(schedule.timezone))
        return (as_micros(time.astimezone(UTC)) for time in times_after(schedule.cron, local))
    return (moment + schedule.tick * step for step in count(1))
