"""
Policies, where their work begins, and the queue of what has no score yet.

A policy's work is every transaction from `starts_at` on, and what lies in the spans that were backfilled
before it. Everything else is history: read, never scored.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, and_, delete, func, insert, or_, select, update

from storage.database import bulk
from storage.database.database import Store
from storage.database.tables import batches, covered_spans, policies, promotions, scores, unscored
from storage.frames import Ints, Strings

FOREVER = 250_000_000_000_000_000  # µs; the year 9892, which both engines can still write


@dataclass(frozen=True)
class Queue:
    """Transactions waiting for a score, in the order (event_time, transaction_id)."""

    transaction_id: Strings
    event_time: Ints
    ingested_at: Ints

    def between(self, start: int, end: int) -> Strings:
        """Ids with start ≤ event_time < end."""
        first, last = np.searchsorted(self.event_time, [start, end])
        return self.transaction_id[first:last]


@dataclass(frozen=True)
class Coverage:
    """Spans [start, end) of event time whose transactions are a policy's work."""

    policy: str
    spans: tuple[tuple[int, int], ...]

    def covers(self, event_time: Ints) -> NDArray[np.bool_]:
        """Which of these instants lie inside."""
        inside = np.zeros(len(event_time), dtype=bool)
        for start, end in self.spans:
            inside |= (event_time >= start) & (event_time < end)
        return inside


def starts_at(store: Store, policy: str) -> int | None:
    """Where the policy's work begins, None while nobody has decided."""
    with store.read() as connection:
        return connection.scalar(select(policies.c.starts_at).where(policies.c.policy == policy))


def set_starts_at(store: Store, policy: str, instant: int) -> None:
    """Decide where work begins; what is stored from there on and has no score is queued."""
    with store.exclusive() as connection:
        known = connection.scalar(select(policies.c.policy).where(policies.c.policy == policy))
        if known is None:
            connection.execute(insert(policies).values(policy=policy, starts_at=instant))
        else:
            connection.execute(update(policies).where(policies.c.policy == policy).values(starts_at=instant))
        _queue_span(connection, store, policy, instant, FOREVER)


def cover(store: Store, policy: str, start: int, end: int, as_of: int) -> None:
    """
    Make a backfilled span the policy's work: what comes late into it will be scored, too.

    What became visible between `as_of`, which the backfill looks up to, and now was not queued when it came,
    since the span was nobody's work, and is too late for the backfill: it is queued here.
    """
    with store.exclusive() as connection:
        for span in _coverage(connection, policy).spans:
            if span[0] <= start and end <= span[1]:
                return
        connection.execute(insert(covered_spans).values(policy=policy, span_start=start, span_end=end))
        _queue_span(connection, store, policy, start, end, visible_after=as_of)


def retire(store: Store, kept: Collection[str]) -> list[str]:
    """
    End the work of policies that began some and are not kept; what they scored stays. Returns their names.

    Nothing more is queued for them. One that is kept again later begins anew.
    """
    named = select(policies.c.policy)
    with store.read() as connection:
        ended = sorted(set(connection.scalars(named)) - set(kept))
    if ended:
        with store.exclusive() as connection:
            for table in (policies, covered_spans, unscored):
                connection.execute(delete(table).where(table.c.policy.in_(ended)))
    return ended


def coverage(connection: Connection) -> list[Coverage]:
    """What is whose work, of every policy."""
    named = set(connection.scalars(select(policies.c.policy)))
    named |= set(connection.scalars(select(covered_spans.c.policy).distinct()))
    return [_coverage(connection, policy) for policy in sorted(named)]


def _coverage(connection: Connection, policy: str) -> Coverage:
    starts = connection.scalar(select(policies.c.starts_at).where(policies.c.policy == policy))
    spans = [(starts, FOREVER)] if starts is not None else []
    rows = connection.execute(
        select(covered_spans.c.span_start, covered_spans.c.span_end).where(covered_spans.c.policy == policy)
    )
    return Coverage(policy, tuple(spans + sorted((row.span_start, row.span_end) for row in rows)))


def enqueue(connection: Connection, covered: Sequence[Coverage], ids: Strings, event_time: Ints) -> None:
    """Queue new transactions for every policy whose work they are."""
    for one in covered:
        chosen = ids[one.covers(event_time)]
        if len(chosen):
            bulk.insert_new(
                connection,
                unscored,
                {"policy": [one.policy] * len(chosen), "transaction_id": chosen.tolist()},
            )


def enqueue_difference(
    connection: Connection, store: Store, before: Sequence[Coverage], batch_id: int
) -> None:
    """Queue a batch's transactions in spans that became somebody's work while it was loading."""
    seen = {one.policy: set(one.spans) for one in before}
    for now in coverage(connection):
        for start, end in sorted(set(now.spans) - seen.get(now.policy, set())):
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
    queued = select(unscored.c.transaction_id).where(unscored.c.policy == policy)
    found = rows.where(store.transactions.c.transaction_id.not_in(queued))
    connection.execute(insert(unscored).from_select(["policy", "transaction_id"], found))


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
    """Refunds are kept and never scored."""
    kind = store.transactions.c.kind
    return or_(kind.is_(None), kind.not_in(store.fields.refund_kinds or ("",)))


def queued(store: Store, policy: str, as_of: int, allowed_lateness: int) -> Queue:
    """Visible queue rows whose `as_of` has come; costs the size of the queue, not of history."""
    t = store.transactions
    rows = (
        select(t.c.transaction_id, t.c.event_time, batches.c.history, batches.c.visible_at)
        .select_from(unscored)
        .join(t, t.c.transaction_id == unscored.c.transaction_id)
        .join(batches, batches.c.batch_id == t.c.batch_id)
        .where(unscored.c.policy == policy, batches.c.status == "done")
    )
    return _queue(store, rows, as_of, allowed_lateness)


def missing(
    store: Store, policy: str, start: int, end: int, as_of: int = FOREVER, allowed_lateness: int = 0
) -> Queue:
    """Visible transactions of [start, end) without a score whose `as_of` has come."""
    t = store.transactions.c
    rows = (
        _without_score(store, policy, start, end)
        .where(batches.c.status == "done")
        .with_only_columns(t.transaction_id, t.event_time, batches.c.history, batches.c.visible_at)
    )
    return _queue(store, rows, as_of, allowed_lateness)


def _queue(store: Store, rows, as_of: int, allowed_lateness: int) -> Queue:  # type: ignore[no-untyped-def]
    t = store.transactions.c
    with store.read() as connection:
        found = connection.execute(rows.order_by(t.event_time, t.transaction_id)).all()
    ids = np.array([row.transaction_id for row in found], dtype=object)
    times = np.array([row.event_time for row in found], dtype=np.int64)
    arrived = np.array([row.event_time if row.history else row.visible_at for row in found], dtype=np.int64)
    due = np.maximum(times + allowed_lateness, arrived) <= as_of
    return Queue(ids[due], times[due], arrived[due])


def forget_before_first_model(store: Store, policy: str) -> int:
    """What is older than the first model can never be scored: it leaves the queue; returns how much."""
    with store.exclusive() as connection:
        first = connection.scalar(
            select(func.min(promotions.c.effective_from)).where(promotions.c.policy == policy)
        )
        if first is None:
            return 0
        t = store.transactions
        old = (
            select(unscored.c.transaction_id)
            .join(t, t.c.transaction_id == unscored.c.transaction_id)
            .where(unscored.c.policy == policy, t.c.event_time < first)
        )
        gone = delete(unscored).where(unscored.c.policy == policy, unscored.c.transaction_id.in_(old))
        return int(connection.execute(gone).rowcount)


def queue_length(connection: Connection, policy: str) -> int:
    """How much waits for a score."""
    rows = select(func.count()).select_from(unscored).where(unscored.c.policy == policy)
    return int(connection.scalar(rows) or 0)
