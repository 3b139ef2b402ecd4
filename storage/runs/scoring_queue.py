"""
The scoring queue, and which transactions a policy scores.

A policy covers every transaction from `starts_at` on, and those in the spans that were backfilled before it.
All other transactions are history: features read them, but they are never scored.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, and_, delete, func, insert, or_, select, update

from storage.database import bulk
from storage.database.database import Store
from storage.database.tables import backfilled_spans, batches, ledger, policies, promotions, queue, scores
from storage.frames import Ints, Strings

EARLIEST = -(2**62)  # µs; before every payment
FOREVER = 250_000_000_000_000_000  # µs; the year 9892, which both engines can still write


@dataclass(frozen=True)
class Queue:
    """Transactions without a score, in the order (event_time, transaction_id)."""

    transaction_id: Strings
    event_time: Ints
    ingested_at: Ints

    def between(self, start: int, end: int) -> Strings:
        """Ids with start ≤ event_time < end."""
        first, last = np.searchsorted(self.event_time, [start, end])
        return self.transaction_id[first:last]


@dataclass(frozen=True)
class Coverage:
    """Spans [start, end) of event time whose transactions a policy scores."""

    policy: str
    spans: tuple[tuple[int, int], ...]

    def covers(self, event_time: Ints) -> NDArray[np.bool_]:
        """Which of these instants lie in one of the spans."""
        inside = np.zeros(len(event_time), dtype=bool)
        for start, end in self.spans:
            inside |= (event_time >= start) & (event_time < end)
        return inside


def starts_at(store: Store, policy: str) -> int | None:
    """The event time from which a policy scores, None before it is set."""
    with store.read() as connection:
        return connection.scalar(select(policies.c.starts_at).where(policies.c.policy == policy))


def set_starts_at(store: Store, policy: str, instant: int) -> None:
    """Set the event time from which a policy scores, and queue the stored transactions from there on without a score."""
    with store.write_exclusive() as connection:
        existing = connection.scalar(select(policies.c.policy).where(policies.c.policy == policy))
        if existing is None:
            connection.execute(insert(policies).values(policy=policy, starts_at=instant))
        else:
            connection.execute(update(policies).where(policies.c.policy == policy).values(starts_at=instant))
        _queue_span(connection, store, policy, instant, FOREVER)


def add_backfilled_span(store: Store, policy: str, start: int, end: int, as_of: int) -> None:
    """
    Add a backfilled span to the policy's coverage, so that transactions that arrive late in it are scored, too.

    Transactions that became visible between the backfill's `as_of` and now are too late for the backfill, and were
    not queued on arrival, since the policy did not cover the span then. They are queued here.
    """
    with store.write_exclusive() as connection:
        mine = (each for each in coverage(connection) if each.policy == policy)
        if any(first <= start and end <= last for each in mine for first, last in each.spans):
            return
        connection.execute(insert(backfilled_spans).values(policy=policy, span_start=start, span_end=end))
        _queue_span(connection, store, policy, start, end, visible_after=as_of)


def retire_policies(store: Store, active: Collection[str]) -> list[str]:
    """
    Stop scoring for stored policies that are not among `active`; their scores stay. Returns their names.

    Nothing more is queued for them. A policy that becomes active again later starts from the beginning.
    """
    named = select(policies.c.policy)
    with store.read() as connection:
        ended = sorted(set(connection.scalars(named)) - set(active))
    if ended:
        with store.write_exclusive() as connection:
            for table in (policies, backfilled_spans, queue):
                connection.execute(delete(table).where(table.c.policy.in_(ended)))
    return ended


def coverage(connection: Connection) -> list[Coverage]:
    """The spans that each policy covers."""
    p, b = policies.c, backfilled_spans.c
    spans: dict[str, list[tuple[int, int]]] = {}
    for policy, starts in connection.execute(select(p.policy, p.starts_at)).all():
        spans[policy] = [(starts, FOREVER)] if starts is not None else []
    backfilled = select(b.policy, b.span_start, b.span_end).order_by(b.span_start, b.span_end)
    for policy, start, end in connection.execute(backfilled).all():
        spans.setdefault(policy, []).append((start, end))
    return [Coverage(policy, tuple(spans[policy])) for policy in sorted(spans)]


def enqueue(connection: Connection, covered: Sequence[Coverage], ids: Strings, event_time: Ints) -> None:
    """Queue new transactions for every policy that covers them."""
    for spans in covered:
        chosen = ids[spans.covers(event_time)]
        if len(chosen):
            bulk.insert_new(
                connection,
                queue,
                {"policy": [spans.policy] * len(chosen), "transaction_id": chosen.tolist()},
            )


def enqueue_difference(
    connection: Connection, store: Store, before: Sequence[Coverage], batch_id: int
) -> None:
    """Queue a batch's transactions in spans that a policy began to cover while the batch was loading."""
    covered = {policy.policy: set(policy.spans) for policy in before}
    for now in coverage(connection):
        for start, end in sorted(set(now.spans) - covered.get(now.policy, set())):
            _queue_span(connection, store, now.policy, start, end, batch_id)


def _queue_span(
    connection: Connection,
    store: Store,
    policy: str,
    start: int,
    end: int,
    batch_id: int | None = None,
    visible_after: int | None = None,
) -> None:
    rows = _without_score(store, policy, start, end)
    if batch_id is None:
        rows = rows.where(batches.c.status == "done")
    else:
        rows = rows.where(store.transactions.c.batch_id == batch_id)
    if visible_after is not None:
        rows = rows.where(~batches.c.history, batches.c.visible_at > visible_after)
    queued = select(queue.c.transaction_id).where(queue.c.policy == policy)
    result = rows.where(store.transactions.c.transaction_id.not_in(queued))
    connection.execute(insert(queue).from_select(["policy", "transaction_id"], result))


def _without_score(store: Store, policy: str, start: int, end: int):  # type: ignore[no-untyped-def]
    t = store.transactions.c
    scored = and_(scores.c.policy == policy, scores.c.transaction_id == t.transaction_id)
    return (
        select(_literal(policy), t.transaction_id)
        .join(batches, batches.c.batch_id == t.batch_id)
        .outerjoin(scores, scored)
        .where(t.event_time >= start, t.event_time < end, scores.c.transaction_id.is_(None), _scorable(store))
    )


def _literal(policy: str):  # type: ignore[no-untyped-def]
    from sqlalchemy import literal

    return literal(policy).label("policy")


def _scorable(store: Store):  # type: ignore[no-untyped-def]
    """Refunds are stored but never scored."""
    kind = store.transactions.c.kind
    return or_(kind.is_(None), kind.not_in(store.fields.refund_kinds or ("",)))


def queued(store: Store, policy: str, as_of: int, allowed_lateness: int) -> Queue:
    """Visible transactions in the queue that may be scored at `as_of`; the cost grows with the queue, not with history."""
    t = store.transactions
    rows = (
        select(t.c.transaction_id, t.c.event_time, t.c.arrived_at, batches.c.history, batches.c.visible_at)
        .select_from(queue)
        .join(t, t.c.transaction_id == queue.c.transaction_id)
        .join(batches, batches.c.batch_id == t.c.batch_id)
        .where(queue.c.policy == policy, batches.c.status == "done")
    )
    return _queue(store, rows, as_of, allowed_lateness)


def unscored(
    store: Store, policy: str, start: int, end: int, as_of: int = FOREVER, allowed_lateness: int = 0
) -> Queue:
    """Visible transactions of [start, end) without a score that may be scored at `as_of`."""
    t = store.transactions.c
    rows = (
        _without_score(store, policy, start, end)
        .where(batches.c.status == "done")
        .with_only_columns(
            t.transaction_id, t.event_time, t.arrived_at, batches.c.history, batches.c.visible_at
        )
    )
    return _queue(store, rows, as_of, allowed_lateness)


def _queue(store: Store, rows, as_of: int, allowed_lateness: int) -> Queue:  # type: ignore[no-untyped-def]
    t = store.transactions.c
    with store.read() as connection:
        result = connection.execute(rows.order_by(t.event_time, t.transaction_id)).all()
    ids = np.array([row.transaction_id for row in result], dtype=object)
    times = np.array([row.event_time for row in result], dtype=np.int64)
    arrived = np.array([_arrived_at(row) for row in result], dtype=np.int64)
    on_arrival = np.array([row.arrived_at is not None for row in result], dtype=bool)
    due = np.where(on_arrival, arrived, np.maximum(times + allowed_lateness, arrived)) <= as_of
    return Queue(ids[due], times[due], arrived[due])


def _arrived_at(row) -> int:  # type: ignore[no-untyped-def]
    if row.arrived_at is not None:
        return int(row.arrived_at)
    return int(row.event_time if row.history else row.visible_at)


def drop_before_first_model(store: Store, policy: str) -> int:
    """Remove transactions older than the policy's first model from the queue, since no model can score them; returns their number."""
    with store.write_exclusive() as connection:
        first = connection.scalar(
            select(func.min(promotions.c.effective_from)).where(promotions.c.policy == policy)
        )
        if first is None or _earlier_training_is_open(connection, policy, first):
            return 0
        t = store.transactions
        old = (
            select(queue.c.transaction_id)
            .join(t, t.c.transaction_id == queue.c.transaction_id)
            .where(queue.c.policy == policy, t.c.event_time < first)
        )
        gone = delete(queue).where(queue.c.policy == policy, queue.c.transaction_id.in_(old))
        return int(connection.execute(gone).rowcount)


def _earlier_training_is_open(connection: Connection, policy: str, first: int) -> bool:
    """Whether a training before the first model is still to come, as a backfill of an earlier span makes them."""
    still_open = (
        ledger.c.policy == policy,
        ledger.c.kind == "train",
        ledger.c.status.in_(("pending", "running")),
        ledger.c.window_end < first,
    )
    return bool(connection.scalar(select(func.count()).select_from(ledger).where(*still_open)))


def queue_length(connection: Connection, policy: str) -> int:
    """Number of transactions in the queue of a policy."""
    rows = select(func.count()).select_from(queue).where(queue.c.policy == policy)
    return int(connection.scalar(rows) or 0)
