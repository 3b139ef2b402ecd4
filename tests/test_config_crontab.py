"""Lines of a crontab mean what crontab(5) says, in the zone of the schedule."""

from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from pipeline.config.loader import load_config
from pipeline.config.sections import ScheduleSection
from pipeline.daemon.crontab_trigger import CrontabTrigger
from pipeline.daemon.daemon import Daemon
from pipeline.errors import ConfigError
from pipeline.schedule.ticks import ticks_after
from storage.database.column_types import as_micros
from storage.frames import MINUTE
from tests.support.daemon import Clock
from tests.support.worlds import FROM

# A line, a moment in Paris, and the next three times that it fires.
LINES = [
    ("0 0 * * 0", "2026-03-02 12:00", ["03-08 00:00", "03-15 00:00", "03-22 00:00"]),  # Sundays
    ("0 0 * * 7", "2026-03-02 12:00", ["03-08 00:00", "03-15 00:00", "03-22 00:00"]),
    ("0 0 * * SUN", "2026-03-02 12:00", ["03-08 00:00", "03-15 00:00", "03-22 00:00"]),
    ("0 0 * * 1", "2026-03-02 12:00", ["03-09 00:00", "03-16 00:00", "03-23 00:00"]),
    ("0 0 * * 5-7", "2026-03-02 12:00", ["03-06 00:00", "03-07 00:00", "03-08 00:00"]),
    ("0 0 13 * 5", "2026-03-02 12:00", ["03-06 00:00", "03-13 00:00", "03-20 00:00"]),  # 13th, or a Friday
    ("0 0 14 * 5", "2026-03-07 12:00", ["03-13 00:00", "03-14 00:00", "03-20 00:00"]),
    ("0 0 31 2 1", "2027-01-20 12:00", ["02-01 00:00", "02-08 00:00", "02-15 00:00"]),  # Mondays of February
    ("*/20 9-10 * * *", "2026-03-02 10:10", ["03-02 10:20", "03-02 10:40", "03-03 09:00"]),
    # the hour from 2 to 3 that is left out: cron does what it missed right after it
    ("30 2 * * *", "2026-03-28 12:00", ["03-29 03:00", "03-30 02:30", "03-31 02:30"]),
    ("*/30 * * * *", "2026-03-29 01:10", ["03-29 01:30", "03-29 03:00", "03-29 03:30"]),
    # the hour from 2 to 3 that comes twice: a fixed hour fires once, any other in both
    ("30 2 * * *", "2026-10-24 12:00", ["10-25 02:30", "10-26 02:30", "10-27 02:30"]),
    ("0 */2 * * *", "2026-10-25 00:30", ["10-25 02:00", "10-25 02:00", "10-25 04:00"]),
]


@pytest.mark.parametrize(("line", "after", "times"), LINES)
def test_a_line_fires_when_cron_would(line: str, after: str, times: list[str]) -> None:
    zone = ZoneInfo("Europe/Paris")
    moment = datetime.fromisoformat(after).replace(tzinfo=zone)
    trigger, fired = CrontabTrigger(line, "Europe/Paris"), list[datetime]()
    for _ in times:
        fired.append(trigger.get_next_fire_time(fired[-1] if fired else None, moment))
    assert [f"{time:%m-%d %H:%M}" for time in fired] == times
    schedule = ScheduleSection.model_validate({"cron": line, "timezone": "Europe/Paris"})
    due = islice(ticks_after(schedule, as_micros(moment)), 3)
    assert list(due) == [as_micros(time.astimezone(UTC)) for time in fired]


def test_without_a_line_ticks_have_a_distance() -> None:
    schedule = ScheduleSection.model_validate({"tick": "5m"})
    assert list(islice(ticks_after(schedule, FROM), 2)) == [FROM + 5 * MINUTE, FROM + 10 * MINUTE]


BAD = [
    ("0 0 31 2 *", "must be a line that fires, and there is no such day in these months"),
    ("0 0 30,31 FEB *", "must be a line that fires"),
    ("0 0 31 4,6,9,11 *", "must be a line that fires"),
    ("0 0 32 * *", "its day-of-month is not: minute 0-59"),
    ("0 0 * * 8", "its day-of-week is not"),
    ("60 * * * *", "its minute is not"),
    ("* * * *", "must be five fields"),
    ("0 0 0 * * *", "must be five fields"),
    ("@daily", "must be five fields"),
]


@pytest.mark.parametrize(("line", "told"), BAD)
def test_a_line_that_is_none_or_never_fires_is_refused_and_a_daemon_keeps_its_own(
    tmp_path: Path, line: str, told: str
) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[schedule]\ncron = "0 0 * * 7"\n', encoding="utf-8")
    daemon = Daemon(lambda: load_config(file, {}), by="daemon", clock=Clock(FROM))
    file.write_text(f'[schedule]\ncron = "{line}"\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=told) as refused:
        load_config(file, {})
    assert str(refused.value).startswith("schedule.cron must")
    assert "\n" not in str(refused.value)
    assert f'got "{line}"' in str(refused.value)
    assert not daemon.reload()
    assert daemon.config.schedule.cron == "0 0 * * 7"
    assert daemon.health.alive()[0]
