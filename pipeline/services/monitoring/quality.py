"""How good detection is: estimated when a window ends, realised once its labels are mature."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pipeline.errors import ConfigError
from pipeline.monitoring import quality
from pipeline.monitoring.quality_text import MONEY
from pipeline.services.pages import PAGE_ROWS, Page, decode_cursor, encode_cursor
from pipeline.services.records import as_record
from pipeline.services.session import Session
from storage.database.column_types import as_micros
from storage.errors import Busy, NewerSchema, Unreachable
from storage.ingest import history
from storage.queries.monitoring import QualityFilter, quality_page, validate_metrics


@dataclass(frozen=True)
class QualityRequest:
    """
    Which metrics to list.

    Attributes
    ----------
    since, until
        Windows that end after `since` and start before `until`.
    by
        All flags together, by channel, or by model.
    metrics
        Names; all if empty.
    alarms
        Only metrics whose realised value is outside of the estimated range.
    """

    policy: str
    since: datetime | None = None
    until: datetime | None = None
    kind: Literal["estimated", "realised"] | None = None
    by: Literal["all", "channel", "model"] = "all"
    metrics: tuple[str, ...] = ()
    alarms: bool = False


@dataclass(frozen=True)
class QualityRecord:
    """
    One metric of a window; `docs/quality.md` explains every metric.

    Attributes
    ----------
    model_id, channel
        0 and "" if all are measured together.
    value
        None where it cannot be computed; `message` says why.
    n
        Number of rows that the value is a share, sum or mean of.
    alarm_below, alarm_above
        Of an estimated metric: a realised value outside of these bounds is an alarm.
    as_of
        Labels known at this time were used.
    currency
        Of all values, if the metric is an amount of money.
    """

    window_start: datetime
    window_end: datetime
    model_id: int
    channel: str
    metric: str
    kind: str
    value: float | None
    lower: float | None
    upper: float | None
    n: int
    alarm_below: float | None
    alarm_above: float | None
    alarm: bool
    message: str | None
    as_of: datetime | None
    run_id: int | None
    currency: str | None


@dataclass(frozen=True)
class QualityRefresh:
    """
    How many windows were measured, and the alarms that they raised, a sentence each.

    Attributes
    ----------
    error
        Why what has matured could not be measured: this user may only read the database, or it is busy; "" otherwise.
    """

    windows: int
    alarms: tuple[str, ...]
    error: str = ""

    @property
    def not_measured(self) -> str:
        """What to tell people if there is an error."""
        return f"what has matured since is not measured: {self.error}"


def list_quality(
    session: Session, request: QualityRequest, *, limit: int = PAGE_ROWS, cursor: str | None = None
) -> Page[QualityRecord]:
    """
    Metrics of detection quality, newest window first.

    Raises
    ------
    Unknown
        There is no such policy or metric.
    InputError
        The cursor is not one of this list.
    """
    validate_metrics(session.store, request.policy, request.metrics)
    filters = QualityFilter(
        since=None if request.since is None else as_micros(request.since),
        until=None if request.until is None else as_micros(request.until),
        kind=request.kind,
        by=request.by,
        metrics=request.metrics,
        alarms=request.alarms,
    )
    page = quality_page(session.store, request.policy, filters, limit, decode_cursor(cursor, keys=6))
    base_currency = session.config.schema_.base_currency
    records = (
        as_record(QualityRecord, row, currency=base_currency if row["metric"] in MONEY else None)
        for row in page.rows
    )
    return Page(tuple(records), encode_cursor(page.next_position))


def refresh_quality(session: Session, policy: str) -> QualityRefresh:
    """
    Measure the windows whose labels have matured by now, or by when the newest transaction matured if that is earlier.

    It writes only if a window is due. Lists and reports call it first, so a failure to write is an answer, no error.

    Raises
    ------
    Unknown
        There is no such policy.
    """
    store, config = session.store, session.config.for_policy(policy)
    validate_metrics(store, policy)
    span = history.span(store)
    if span is None:
        return QualityRefresh(0, ())
    matured = span[1] + config.labels.longest_maturity + config.quality.window
    try:
        measured = quality.refresh(store, config, policy, min(session.now, matured), session.actor)
    except (Unreachable, Busy, NewerSchema, ConfigError) as error:
        return QualityRefresh(0, (), str(error))
    return QualityRefresh(measured.realised, measured.alarms)
