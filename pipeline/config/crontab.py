"""Lines of a crontab, as crontab(5) and Debian's cron read them."""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice

from cronsim import CronSim, CronSimError

FIELDS = ("minute", "hour", "day-of-month", "month", "day-of-week")


def times_after(line: str, after: datetime) -> Iterator[datetime]:
    """The times at which a line fires after a moment, in the zone of that moment; it ends if none comes within 50 years."""
    return iter(CronSim(line, after))


def check_crontab(line: str) -> str:
    """Return the line; raise ValueError with the requirement that it does not meet. An empty line is allowed."""
    if not line:
        return line
    if len(line.split()) != len(FIELDS):
        raise ValueError('must be five fields as in a crontab, such as "*/15 * * * *", or empty')
    try:
        never = not list(islice(times_after(line, datetime(2000, 1, 1, tzinfo=UTC)), 1))
    except CronSimError as error:
        field = str(error).removeprefix("Bad ")
        if field == "day-of-month" and _day_exists_in_other_months(line):
            never = True
        else:
            raise ValueError(
                f"must be a line of a crontab, and its {field} is not: minute 0-59, hour 0-23, day of month 1-31, month 1-12, "
                'day of week 0-7, such as "*/15 * * * *"'
            ) from error
    if never:
        raise ValueError("must be a line that fires, and there is no such day in these months")
    return line


def _day_exists_in_other_months(line: str) -> bool:
    """Whether the day of month is one, only not in the months of the line, such as 31 in February."""
    minute, hour, day, _, weekday = line.split()
    try:
        CronSim(f"{minute} {hour} {day} * {weekday}", datetime(2000, 1, 1, tzinfo=UTC))
    except CronSimError:
        return False
    return True
