"""How far data, scores and labels have moved away from the model's reference."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pipeline.monitoring.drift_reference import calendar_features
from pipeline.services.pages import PAGE_ROWS, Page, decode_cursor, encode_cursor, every
from pipeline.services.records import as_record
from pipeline.services.session import Session
from storage.database.column_types import as_datetime, as_micros
from storage.queries.monitoring import DriftFilter, drift_page, newest_drift_start


@dataclass(frozen=True)
class DriftRequest:
    """Which metrics to list: of windows that start at `since` or later, of one feature, or only alarms."""

    policy: str
    since: datetime | None = None
    feature: str | None = None
    alarms: bool = False


@dataclass(frozen=True)
class DriftRecord:
    """
    One drift metric of a window; `docs/drift.md` explains every metric.

    Attributes
    ----------
    value, lower, upper, p_value
        None where the metric has none, or could not be measured.
    threshold
        From when on the value is an alarm; None if this metric raises none.
    effect
        Size of the change on a scale from 0 to 1 that all metrics share.
    pooled
        How many windows were added up for this value.
    suppressed_because
        Why there is no value, or why this metric raises no alarm.
    """

    window_start: datetime
    window_end: datetime
    feature: str
    metric: str
    value: float | None
    threshold: float | None
    effect: float | None
    alarm: bool
    n_current: int
    n_reference: int
    pooled: int
    lower: float | None
    upper: float | None
    p_value: float | None
    detail: Mapping[str, float | Mapping[str, float]] | None
    suppressed_because: str | None
    run_id: int


def list_drift(
    session: Session, request: DriftRequest, *, limit: int = PAGE_ROWS, cursor: str | None = None
) -> Page[DriftRecord]:
    """
    Metrics, newest window first; in it alarms, then metrics with a threshold, then the others and those of the calendar, each by effect.

    Raises
    ------
    InputError
        The cursor is not one of this list.
    """
    filters = DriftFilter(
        since=None if request.since is None else as_micros(request.since),
        feature=request.feature,
        alarms=request.alarms,
        last=calendar_features(session.config),
    )
    page = drift_page(session.store, request.policy, filters, limit, decode_cursor(cursor, keys=6))
    records = tuple(as_record(DriftRecord, row) for row in page.rows)
    return Page(records, encode_cursor(page.next_position))


def newest_drift(session: Session, policy: str, since: datetime | None = None) -> tuple[DriftRecord, ...]:
    """All metrics of the newest window that starts at `since` or later; empty if there is none."""
    start = newest_drift_start(session.store, policy)
    if start is None or (since is not None and start < as_micros(since)):
        return ()
    return tuple(every(list_drift, session, DriftRequest(policy, as_datetime(start))))
