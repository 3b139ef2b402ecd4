"""Windows of the past, as they would have run."""

from pipeline import due
from pipeline.config import Config
from pipeline.cycle import ended, live_through
from pipeline.progress import Progress
from pipeline.work import Job, Tally, in_time, job, pending
from storage import ledger, policies
from storage.frames import Strings
from storage.ledger import Entry
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

        return ended(this, live_through(this, claimable(this, start, end), missing))


def claimable(this: Job, start: int, end: int) -> list[Entry]:
    """The ledger's entries of the span, those that were missing added, in the order of time."""
    steps = due.backfill_steps(this.store, this.config, this.policy, start, end)
    wanted = [pending(this.policy, step, this.config.schedule.allowed_lateness) for step in steps]
    ledger.ensure(this.store, wanted)
    since = min((entry.window_end for entry in wanted), default=start) - 1
    known = {entry.key: entry for entry in ledger.entries(this.store, this.policy, since=since)}
    entries = [known[entry.key] for entry in wanted]
    return sorted(entries, key=lambda entry: in_time(entry.kind, entry.window_end))
