"""Lists of drift and of detection quality."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import case, func, select

from storage.database import tables
from storage.database.database import Store
from storage.errors import Unknown
from storage.queries.rows import Position, RowPage, SortKey, fetch_page


@dataclass(frozen=True)
class DriftFilter:
    """Which drift metrics to list; `since` is in µs. Features of `last` come after the others of a window, unless they raise an alarm."""

    since: int | None = None
    feature: str | None = None
    alarms: bool = False
    last: Sequence[str] = ()


@dataclass(frozen=True)
class QualityFilter:
    """Which quality metrics to list; instants in µs. `by` is "all", "model" or "channel"."""

    since: int | None = None
    until: int | None = None
    kind: str | None = None
    by: str = "all"
    metrics: Sequence[str] = ()
    alarms: bool = False


def drift_page(
    store: Store, policy: str, filters: DriftFilter, limit: int | None = None, after: Position | None = None
) -> RowPage:
    """Drift metrics, newest windows first: alarms, then metrics that can alarm, then suppressed ones and those of `last`, by effect."""
    d = tables.drift_metrics.c
    rows = select(tables.drift_metrics).where(d.policy == policy)
    if filters.alarms:
        rows = rows.where(d.alarm)
    if filters.since is not None:
        rows = rows.where(d.window_start >= filters.since)
    if filters.feature is not None:
        rows = rows.where(d.feature == filters.feature)
    order = (
        SortKey(d.window_end, descending=True),
        SortKey(
            case(
                (d.alarm, 0),
                (d.suppressed_because.is_(None) & d.feature.not_in(list(filters.last)), 1),
                else_=2,
            )
        ),
        SortKey(func.coalesce(d.effect, -1.0), descending=True),
        SortKey(d.feature),
        SortKey(d.metric),
        SortKey(d.window_start),
    )
    return fetch_page(store, rows, order, limit, after)


def newest_drift_start(store: Store, policy: str) -> int | None:
    """The start (µs) of the newest window with drift metrics."""
    d = tables.drift_metrics.c
    with store.read() as connection:
        start: int | None = connection.scalar(select(func.max(d.window_start)).where(d.policy == policy))
    return start


def quality_page(
    store: Store, policy: str, filters: QualityFilter, limit: int | None = None, after: Position | None = None
) -> RowPage:
    """Metrics of detection quality, newest window first."""
    q = tables.quality_metrics.c
    rows = select(tables.quality_metrics).where(
        q.policy == policy,
        q.model_id != 0 if filters.by == "model" else q.model_id == 0,
        q.channel != "" if filters.by == "channel" else q.channel == "",
    )
    if filters.since is not None:
        rows = rows.where(q.window_end > filters.since)
    if filters.until is not None:
        rows = rows.where(q.window_start < filters.until)
    if filters.kind is not None:
        rows = rows.where(q.kind == filters.kind)
    if filters.metrics:
        rows = rows.where(q.metric.in_(filters.metrics))
    if filters.alarms:
        rows = rows.where(q.alarm)
    ascending = (q.window_start, q.model_id, q.channel, q.metric, q.kind)
    order = (SortKey(q.window_end, descending=True), *(SortKey(column) for column in ascending))
    return fetch_page(store, rows, order, limit, after)


def validate_metrics(store: Store, policy: str, metrics: Sequence[str] = ()) -> None:
    """
    Check that a policy has scores, and that these quality metrics exist.

    Raises
    ------
    Unknown
        For an unknown policy or metric; the remedy lists the known ones.
    """
    q = tables.quality_metrics.c
    with store.read() as connection:
        scored = connection.scalar(
            select(tables.scores.c.policy).where(tables.scores.c.policy == policy).limit(1)
        )
        policies = sorted(connection.scalars(select(tables.ledger.c.policy).distinct()))
        known = sorted(connection.scalars(select(q.metric).where(q.policy == policy).distinct()))
    if scored is None and policy not in policies and policies:
        raise Unknown(
            f'policy "{policy}" has no scores',
            remedy=f"choose among {', '.join(policies)}",
            code="unknown_policy",
        )
    for name in metrics:
        if known and name not in known:
            raise Unknown(
                f'there is no metric "{name}"', remedy=f"there are {', '.join(known)}", code="unknown_metric"
            )
