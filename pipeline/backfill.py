"""Windows of the past, as they would have run."""

from pipeline import schedule
from pipeline.config import Config
from pipeline.cycle import ended, live_through
from pipeline.progress import Progress
from pipeline.work import Step, Tally, job
from storage import policies
from storage.frames import Strings
from storage.store import Store


def backfill(
    store: Store,
    config: Config,
    *,
    start: int,
    end: int,
    as_of: int,
    policy: str,
    by: str,
    progress: Progress | None = None,
) -> Tally:
    """
    Live through [start, end) as the schedule would have: trainings in order, then the windows after them.

    Safe to repeat and to interrupt: windows that are done are left alone, a transaction that has a score
    keeps it.
    """
    lateness = config.schedule.allowed_lateness
    with job(store, config, as_of, policy, "backfill", by, progress) as this:
        policies.cover(store, policy, start, end)

        def missing(begin: int, until: int) -> Strings:
            return policies.missing(store, policy, begin, until, this.as_of, lateness).transaction_id

        return ended(this, live_through(this, steps(config, start, end), missing))


def steps(config: Config, start: int, end: int) -> list[Step]:
    """The newest training date at or before `start`, those inside, and the windows of [start, end)."""
    clock, every = config.schedule, config.training.every
    first = schedule.floor(every, clock.timezone, start)
    dates = [first, *schedule.dates_inside(every, clock.timezone, start, end)]
    windows = schedule.windows(clock.window, clock.timezone, start, end)
    return [Step("train", date, date) for date in sorted(set(dates))] + [Step("score", *w) for w in windows]
