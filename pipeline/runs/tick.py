"""
One tick: everything that is due at a time, for all policies.

    feeds → live's run → limits → notifications → challengers

The daemon runs one every few minutes, the command line runs one when asked. A part that fails, even by a bug, does not stop
the others: how each ended is stored in `tick_steps`, so that a person learns of it, and the next tick tries it again. Only an
error of the monitor's own database ends a tick. Each part reports its result as soon as it has one.
"""

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.config.config import Config
from pipeline.errors import NotReady
from pipeline.expected_errors import bug_in, error_code, storable_text
from pipeline.ingest import feeds
from pipeline.ingest.feeds import FeedReport
from pipeline.monitoring import limits
from pipeline.notifications import deliver, ping
from pipeline.notifications.deliver import Delivery
from pipeline.progress import Progress
from pipeline.runs import challengers, scoring_run
from pipeline.runs.challengers import ChallengerRun
from pipeline.schedule.run_context import LIVE, RunSummary
from storage.database.database import Store
from storage.errors import DATABASE_ERRORS
from storage.runs import tick_steps

RUN, LIMITS, NOTIFY, PING, RETIRE = (
    "run",
    "limits",
    "notify",
    "ping",
    "retire",
)  # names of parts in `tick_steps`


@dataclass(frozen=True)
class RunFinished:
    """Live's run has finished."""

    summary: RunSummary

    @property
    def bug(self) -> Exception | None:
        """The first error of a step that nobody expects."""
        return self.summary.bugs[0] if self.summary.bugs else None


@dataclass(frozen=True)
class StepFailed:
    """A part of the tick other than live's run failed; the others went on."""

    name: str
    error: Exception

    @property
    def bug(self) -> Exception | None:
        """The error, if it is one that nobody expects."""
        return bug_in(self.error)


@dataclass(frozen=True)
class ChallengerRetired:
    """A challenger is no longer configured and gets no more transactions."""

    name: str


TickEvent = FeedReport | RunFinished | Delivery | ChallengerRun | ChallengerRetired | StepFailed


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

        An error that ended live's run is raised when all other parts are done.

        Raises
        ------
        StorageError
            The database is unreachable or busy: the work that is left is found by the next tick.
        """
        if self.scheduled:
            self._poll_feeds()
        as_of = self.clock() if self.as_of is None else self.as_of
        summary, error = self._run_live(as_of)
        self._part(LIMITS, lambda: limits.check_due_limits(self.store, self.config, as_of))
        notified = self._part(NOTIFY, self._notify)
        if summary is not None:
            self.report(RunFinished(summary))
        self._run_challengers(as_of)
        if self.scheduled:
            tick_steps.forget_others(self.store, self._names())
            self._record(tick_steps.TICK, None)
        if notified and _failure(error) is None and self.config.notify.ping_url.get_secret_value():
            self._part(PING, lambda: ping.ping(self.config))
        if summary is None:
            assert error is not None
            raise error
        return summary

    def _poll_feeds(self) -> None:
        """Read the feeds; if none has been read for long, that no tick has ended since is queued as a message."""
        deliver.queue_silence(self.store, self.config, self.clock())
        for feed in feeds.poll(self.store, self.config, self.clock):
            self.report(feed)

    def _run_live(self, as_of: int) -> tuple[RunSummary | None, Exception | None]:
        """Live's run, and the error that ended it or the bug that ended one of its steps; `NotReady` is no failure."""
        try:
            summary = self._run_policy(self.config, LIVE, as_of)
        except DATABASE_ERRORS:
            raise
        except Exception as error:  # noqa: BLE001 (raised at the end of the tick)
            self._record(RUN, _failure(error))
            return None, error
        bug = summary.bugs[0] if summary.bugs else None
        self._record(RUN, bug)
        return summary, bug

    def _record(self, name: str, error: Exception | None) -> None:
        told = () if error is None else (storable_text(error), error_code(error))
        tick_steps.record(self.store, name, self.clock(), *told)

    def _part(self, name: str, do: Callable[[], object]) -> bool:
        """Do a part whose error is recorded and reported, and does not stop the others; returns whether it worked."""
        failure = None
        try:
            do()
        except DATABASE_ERRORS:
            raise
        except Exception as error:  # noqa: BLE001 (reported with its traceback)
            failure = error
        self._record(name, failure)
        if failure is not None:
            self.report(StepFailed(name, failure))
        return failure is None

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
            self._record(f"shadow.{result.name}", result.error or result.bug)
            self.report(result)
        self._part(RETIRE, self._retire)

    def _retire(self) -> None:
        for name in challengers.retire(self.store, self.config):
            self.report(ChallengerRetired(name))

    def _names(self) -> set[str]:
        """The names of all parts that the configuration has."""
        shadows = {f"shadow.{name}" for name in self.config.shadow}
        return {tick_steps.TICK, RUN, LIMITS, NOTIFY, PING, RETIRE, *shadows, *feeds.feed_names(self.config)}

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


def _failure(error: Exception | None) -> Exception | None:
    """The error, unless it only says that there are no data yet."""
    return None if isinstance(error, NotReady) else error
