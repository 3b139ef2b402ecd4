"""Backfills: past windows as the schedule would have scored them, or rescored under a policy of their own."""

from dataclasses import dataclass
from datetime import datetime

from pipeline.config.config import Config
from pipeline.errors import InputError
from pipeline.progress import Progress
from pipeline.runs import backfill as backfilling
from pipeline.runs.challengers import ChallengerRun, run_challengers
from pipeline.schedule.run_context import LIVE, RunSummary
from pipeline.services.session import Session
from storage.database.column_types import as_datetime, as_micros
from storage.frames import DAY
from storage.ingest import history
from storage.runs import ledger, scoring_queue


@dataclass(frozen=True)
class BackfillRequest:
    """
    The span [start, end) to score.

    Attributes
    ----------
    workers
        Number of processes.
    scheduler
        Address of a Dask scheduler whose workers score the windows; None for processes of this machine.
    rescore_as
        The policy under which the current configuration is backtested; live's scores and flags do not change. None to
        score what live has not scored.
    model_id
        When rescoring: score by this model, without trainings.
    """

    start: datetime
    end: datetime
    workers: int = 1
    scheduler: str | None = None
    rescore_as: str | None = None
    model_id: int | None = None

    def check(self, config: Config) -> None:
        """
        Check what can be said before anything is read.

        Raises
        ------
        InputError
            The span is empty, or the policy or model cannot be used for rescoring.
        """
        if self.start >= self.end:
            raise InputError(
                f"the start {self.start} must be before the end {self.end}: the span is [start, end)",
                code="empty_span",
            )
        if self.rescore_as == LIVE:
            raise InputError(
                f"policy {LIVE} cannot be rescored, because its scores do not change",
                remedy="choose another name",
                code="policy_is_live",
            )
        if self.rescore_as in config.shadow:
            raise InputError(
                f"policy {self.rescore_as} is a challenger, which scores by its own section",
                remedy="choose another name",
                code="policy_is_challenger",
            )
        if self.model_id is not None and self.rescore_as is None:
            raise InputError(
                "a model can be chosen only for rescoring, since live scores always come from promoted models",
                code="model_without_rescore",
            )


@dataclass(frozen=True)
class BackfillResult:
    """What the backfill did for its policy, and for each challenger after live."""

    summary: RunSummary
    challengers: tuple[ChallengerRun, ...]


def backfill(session: Session, request: BackfillRequest, progress: Progress | None = None) -> BackfillResult:
    """
    Score a span as the schedule would have done, trainings included; challengers after live.

    It is idempotent and may be interrupted: finished windows are skipped, and a transaction keeps its score.

    Raises
    ------
    InputError
        The span is empty, or the policy or model cannot be used for rescoring.
    Unknown
        There is no such model.
    NotReady
        Every transaction of the span is recorded as arriving later.
    """
    request.check(session.config)
    if request.model_id is not None:
        backfilling.require_model(session.store, request.model_id)
    as_of = session.now

    def run_policy(config: Config, policy: str) -> RunSummary:
        return backfilling.backfill(
            session.store,
            config,
            start=as_micros(request.start),
            end=as_micros(request.end),
            as_of=as_of,
            policy=policy,
            by=session.actor,
            workers=request.workers,
            scheduler=request.scheduler,
            model_id=request.model_id,
            progress=progress,
        )

    summary = run_policy(session.config, request.rescore_as or LIVE)
    challengers = () if request.rescore_as else tuple(run_challengers(session.config, run_policy))
    return BackfillResult(summary, challengers)


@dataclass(frozen=True)
class StoredSpan:
    """The span [start, end) of whole days (UTC) that a backfill can score."""

    start: datetime
    end: datetime


def stored_span(session: Session) -> StoredSpan | None:
    """The days of all stored transactions; None if there are none."""
    span = history.span(session.store)
    return None if span is None else _whole_days(*span)


def unscored_history(session: Session) -> StoredSpan | None:
    """The days of transactions that are older than live's schedule, if no backfill has scored any of them."""
    span, starts_at = history.span(session.store), scoring_queue.starts_at(session.store, LIVE)
    if span is None or starts_at is None or span[0] >= starts_at:
        return None
    if ledger.newest_done(session.store, LIVE, "score", before=starts_at + 1) is not None:
        return None
    return _whole_days(span[0], starts_at - 1)


def _whole_days(first: int, last: int) -> StoredSpan:
    return StoredSpan(as_datetime(first // DAY * DAY), as_datetime((last // DAY + 1) * DAY))
