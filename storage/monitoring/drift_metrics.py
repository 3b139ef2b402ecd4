"""Drift metrics and the histograms of small windows; also which transactions of a window arrived on time."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sqlalchemy import and_, column, delete, func, or_, select, table
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from storage.database.column_types import Instant
from storage.database.database import Store
from storage.database.tables import batches, drift_histograms, drift_metrics, labels
from storage.frames import Ints


@dataclass(frozen=True)
class DriftMetric:
    """
    One metric of one feature over one window.

    Attributes
    ----------
    effect
        Size of the change on a scale that all metrics share: the share of payments that would have to change to undo
        it.
    lower, upper
        Interval of `value` where it is a share.
    pooled
        Number of windows that the value was computed from: this one, and earlier ones if this one has too few rows.
    suppressed_because
        Why there is no value, or why this metric raises no alarm; None otherwise.
    """

    window_start: int
    window_end: int
    feature: str
    metric: str
    value: float | None
    threshold: float | None
    alarm: bool
    n_reference: int
    n_current: int
    effect: float | None = None
    lower: float | None = None
    upper: float | None = None
    p_value: float | None = None
    pooled: int = 1
    suppressed_because: str | None = None
    detail: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class StoredHistograms:
    """The histograms of a window that had too few rows to be compared alone."""

    window_start: int
    window_end: int
    model_id: int
    n: int
    histograms: bytes
    run_id: int


def on_time_ids(store: Store, start: int, end: int, lateness: int) -> list[str]:
    """Ids of the payments with start ≤ event_time < end that were visible by end + lateness, in order."""
    visible = table(
        "visible_transactions",
        column("transaction_id"),
        column("event_time", Instant),
        column("ingested_at", Instant),
        column("kind"),
    )
    t = visible.c
    rows = select(t.transaction_id).where(
        t.event_time >= start, t.event_time < end, t.ingested_at <= end + lateness
    )
    if store.fields.refund_kinds:
        rows = rows.where(or_(t.kind.is_(None), t.kind.not_in(store.fields.refund_kinds)))
    with store.read() as connection:
        return list(connection.scalars(rows.order_by(t.event_time, t.transaction_id)))


def load_histograms(store: Store, policy: str, window: tuple[int, int]) -> StoredHistograms | None:
    """The stored histograms of a window, None if there are none."""
    c = drift_histograms.c
    mine = and_(c.policy == policy, c.window_start == window[0], c.window_end == window[1])
    with store.read() as connection:
        row = connection.execute(select(drift_histograms).where(mine)).mappings().one_or_none()
    if row is None:
        return None
    return StoredHistograms(**{name: row[name] for name in StoredHistograms.__dataclass_fields__})


def write_drift(
    store: Store, policy: str, run_id: int, rows: Sequence[DriftMetric], small: StoredHistograms | None = None
) -> None:
    """
    Write the drift metrics of a window, and its histograms if it was small, in one transaction.

    They replace those of an earlier run over the same window.
    """
    if not rows:
        return
    make = postgres_insert if store.dialect == "postgresql" else sqlite_insert
    statement = make(drift_metrics)
    key = [column.name for column in drift_metrics.primary_key]
    changed = {c.name: statement.excluded[c.name] for c in drift_metrics.c if c.name not in key}
    upsert = statement.on_conflict_do_update(index_elements=key, set_=changed)
    d, span = drift_metrics.c, (rows[0].window_start, rows[0].window_end)
    of_window = and_(d.policy == policy, d.window_start == span[0], d.window_end == span[1])
    with store.write() as connection:
        connection.execute(delete(drift_metrics).where(of_window))
        connection.execute(upsert, [vars(row) | {"policy": policy, "run_id": run_id} for row in rows])
        s = drift_histograms.c
        mine = and_(s.policy == policy, s.window_start == span[0], s.window_end == span[1])
        connection.execute(delete(drift_histograms).where(mine))
        if small is not None:
            connection.execute(drift_histograms.insert(), asdict(small) | {"policy": policy})


def frauds_reported(store: Store, start: int, end: int, ignored: Sequence[str]) -> tuple[Ints, Ints]:
    """
    When frauds became known in [start, end), and when they had happened; each fraud once, by its first report.

    Labels of the sources `ignored` do not count: answers of reviewers come as quickly as they work.
    """
    t, c = store.transactions.c, labels.c
    rows = (
        select(func.min(c.known_at).label("known_at"), t.event_time)
        .join(store.transactions, t.transaction_id == c.transaction_id)
        .outerjoin(batches, batches.c.batch_id == c.batch_id)
        .where(c.is_fraud, c.source.not_in(ignored), c.known_at >= start, c.known_at < end)
        .where(or_(c.batch_id.is_(None), batches.c.status == "done"))
        .where(or_(batches.c.history, batches.c.visible_at <= end, c.recorded_at <= end))
        .group_by(c.transaction_id, t.event_time)
    )
    with store.read() as connection:
        result = connection.execute(rows).all()
    known_at = np.array([row.known_at for row in result], dtype=np.int64)
    return known_at, np.array([row.event_time for row in result], dtype=np.int64)
