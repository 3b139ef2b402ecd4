"""One tick, as the daemon runs it by its schedule and a person by hand."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from pipeline.config.config import Config
from pipeline.ingest.feeds import FeedReport
from pipeline.notifications import deliver
from pipeline.notifications.apprise_transport import require_apprise
from pipeline.notifications.deliver import Delivery
from pipeline.progress import Progress
from pipeline.runs.challengers import ChallengerRun
from pipeline.runs.tick import ChallengerRetired, RunFinished, StepFailed, Tick, TickEvent
from pipeline.schedule.run_context import LIVE, RunSummary, never_stop
from pipeline.services.session import Session, past_instant
from storage.admin.overwrite import overwrite
from storage.monitoring import health
from storage.monitoring.health import HealthFigures, NewestChoice

__all__ = [
    "LIVE", "ChallengerRetired", "ChallengerRun", "Delivery", "FeedReport", "HealthFigures", "NewestChoice",
    "RunFinished", "RunSummary", "StepFailed", "TickEvent", "TickRequest", "check_config", "health_figures", "report_silence", "run_tick",
]  # fmt: skip


@dataclass(frozen=True)
class TickRequest:
    """
    A tick to run.

    Attributes
    ----------
    as_of
        Do what was due at this time; None for now.
    scheduled
        Whether a schedule asks for it: it reads the feeds, and catches up a few windows at a time.
    """

    as_of: datetime | None = None
    scheduled: bool = False


def run_tick(
    session: Session,
    request: TickRequest,
    report: Callable[[TickEvent], None],
    *,
    stopping: Callable[[], bool] = never_stop,
    progress: Progress | None = None,
) -> RunSummary:
    """
    Do what is due: feeds, trainings, windows, notifications, challengers; each result goes to `report` at once.

    Parameters
    ----------
    stopping
        Called between steps; when it returns True the remaining steps are left to the next tick.

    Raises
    ------
    InputError
        `as_of` is in the future.
    NotReady
        No transaction is stored yet.
    ConfigError
        notify.urls is set, but Apprise is not installed.
    """
    require_apprise(session.config)
    as_of = None if request.as_of is None else past_instant(session, request.as_of)
    overwrite(session.store)
    return Tick(
        session.store,
        session.config,
        session.actor,
        session.clock,
        as_of,
        request.scheduled,
        stopping,
        progress,
        report,
    ).run()


def check_config(config: Config) -> None:
    """
    Fail now rather than at the first training or message.

    Raises
    ------
    ConfigError
        The key that seals models is missing, or Apprise is not installed although notify.urls is set.
    """
    config.model_keys()
    require_apprise(config)


def report_silence(session: Session, longest: int) -> bool:
    """Tell receivers if no tick has ended for `longest` (µs) after the one that was due; returns whether that is so."""
    silent = deliver.queue_silence(session.store, session.config, session.now, longest)
    if silent and session.config.notify.enabled:
        deliver.deliver(session.store, session.config, clock=session.clock, by=session.actor)
    return silent


def health_figures(session: Session, policy: str) -> HealthFigures:
    """The figures that the health port exports; instants in µs."""
    return health.read(session.store, policy)
