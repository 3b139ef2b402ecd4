"""
One tick: everything that is due at a time, for all policies.

    feeds → live's run → limits → notifications → challengers

The daemon runs one every few minutes, the command line runs one when asked. A feed or a challenger that fails does not stop
the others; notifications are sent even if the run failed, but not while the database is unreachable. Each part reports its
result as soon as it has one.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pipeline.config.config import Config
from pipeline.ingest import feeds
from pipeline.ingest.feeds import FeedReport
from pipeline.monitoring import limits
from pipeline.notifications import deliver
from pipeline.notifications.deliver import Delivery
from pipeline.progress import Progress
from pipeline.runs import challengers, scoring_run
from pipeline.runs.challengers import ChallengerRun
from pipeline.schedule.run_context import LIVE, RunSummary
from storage.database.database import Store
from storage.errors import StorageError


@dataclass(frozen=True)
class RunFinished:
    """Live's run has finished."""

    summary: RunSummary


@dataclass(frozen=True)
class ChallengerRetired:
    """A challenger is no longer configured and gets no more transactions."""

    name: str


TickEvent = FeedReport | RunFinished | Delivery | ChallengerRun | ChallengerRetired


@dataclass(frozen=True)
class Tick:
    """
    What a tick works with.

    Attributes
    ----------
    as_of
        The horizon of its runs in µs; None for the time after the feeds are read.
    scheduled
        Whether a schedule asks for it: it reads the feeds, and catches up a few windows at a time.
    stopping
        Called between steps; when it returns True the remaining steps are left to the next tick.
    report
        Called with each result.
    """

    store: Store
    config: Config
    by: str
    clock: Callable[[], int]
    as_of: int | None
    scheduled: bool
    stopping: Callable[[], bool]
    progress: Progress | None
    report: Callable[[TickEvent], None]

    def run(self) -> RunSummary:
        """
        Run the tick; returns what live's run did.

        Raises
        ------
        StorageError
            The database is unreachable or busy: the work that is left is found by the next tick.
        """
        if self.scheduled:
            for feed in feeds.poll(self.store, self.config, self.clock):
                self.report(feed)
        as_of = self.clock() if self.as_of is None else self.as_of
        with self._notify_after():
            summary = self._run_policy(self.config, LIVE, as_of)
            limits.check_due_limits(self.store, self.config, as_of)
        self.report(RunFinished(summary))
        self._run_challengers(as_of)
        return summary

    @contextmanager
    def _notify_after(self) -> Iterator[None]:
        """Send notifications after the block, even if the run failed; not while the database is unreachable."""
        try:
            yield
        except StorageError:
            raise
        except Exception:
            self._notify()
            raise
        self._notify()

    def _notify(self) -> None:
        self.report(
            deliver.send_notifications(
                self.store, self.config, clock=self.clock, by=self.by, stopping=self.stopping
            )
        )

    def _run_challengers(self, as_of: int) -> None:
        """Run challengers after live; not even a bug in one of them ends live's tick."""
        for result in challengers.run_challengers(
            self.config,
            lambda config, name: self._run_policy(config, name, as_of),
            isolated=(Exception,),
        ):
            self.report(result)
        for name in challengers.retire(self.store, self.config):
            self.report(ChallengerRetired(name))

    def _run_policy(self, config: Config, policy: str, as_of: int) -> RunSummary:
        return scoring_run.run(
            self.store,
            config,
            as_of=as_of,
            policy=policy,
            by=self.by,
            kind="schedule" if self.scheduled else "manual",
            catch_up=config.schedule.catch_up if self.scheduled else None,
            progress=self.progress,
            stopping=self.stopping,
        )
