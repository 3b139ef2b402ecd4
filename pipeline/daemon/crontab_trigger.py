"""A trigger of APScheduler that fires by a line of a crontab as cron reads it, which APScheduler's own does not."""

from datetime import datetime
from zoneinfo import ZoneInfo

from apscheduler.triggers.base import BaseTrigger

from pipeline.config.crontab import times_after


class CrontabTrigger(BaseTrigger):  # type: ignore[misc]  # APScheduler has no types
    """Fires at the times of a line, in a zone."""

    def __init__(self, line: str, timezone: str) -> None:
        self._line, self._zone = line, ZoneInfo(timezone)

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """The first time after the previous one, or from now on."""
        return next(times_after(self._line, (previous_fire_time or now).astimezone(self._zone)), None)
