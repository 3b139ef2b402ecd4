"""
Policies, where their work begins, and the queue of what has no score yet.

A policy's work is every payment from `starts_at` on, and what lies in the spans that were backfilled before
it, but nothing older than its first model, which nothing could score. Everything else is history: read, never
scored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import (
    Connection,
    Select,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
)
from sqlalchemy.sql.elements import ColumnElement

from storage.columns import POSTGRES
from storage.frames import NEVER, Ints, Strings
from storage.inserting import insert_missing
from storage.schema import batches, covered_spans, policies, promotions, scores, unscored
from storage.store import Store

FOREVER = 250_000_000_000_000_000  # µs; the year 9892, which both engines can still write


@dataclass(frozen=True)
class Queue:
    """Transactions waiting for a score, in the order (event_time, transaction_id)."""

    transaction_id: Strings
    event_time: Ints
    ingested_at: Ints

    def __len__(self) -> int:
        return len(self.event_time)

    def between(self, start: int, end: int) -> Strings:
        """Ids with start ≤ event_time < end."""
        first, last = np.searchsorted(self.event_time, [start, end])
        return self.transaction_id[first:last]


@dataclass(frozen=True)
class Coverage:
    """Spans [start, end) of event time whose payments are a policy's work."""

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
        return _starts_at(connection, policy)


def set_starts_at(store: Store, policy: str, instant: int) -> int:
    """
    Decide where work begins, and queue what is stored from there on and has no score.

    The first decision stands: what it put on the queue is promised to be scored. Returns the one in force.
    """
    with store.exclusive() as connection:
        known = _starts_at(connection, policy)
        if known is not None:
            return known
        connection.execute(insert(policies).values(policy=policy, starts_at=instant))
        _queue_span(connection, store, policy, (instant, FOREVER))
    return instant


def cover(store: Store, policy: str, start: int, end: int) -> None:
    """Make a backfilled span the policy's work: what comes late into it will be scored, too."""
    with store.exclusive() as connection:
        if any(first <= start and end <= last for first, last in _given_spans(connection, policy)):
            return
        connection.execute(insert(covered_spans).values(policy=policy, span_start=start, span_end=end))


def coverage(connection: Connection) -> list[Coverage]:
    """What is whose work, of every policy."""
    named = set(connection.scalars(select(policies.c.policy)))
    named |= set(connection.scalars(select(covered_spans.c.policy).distinct()))
    return [_coverage(connection, policy) for policy in sorted(named)]


def enqueue(connection: Connection, covered: Sequence[Coverage], ids: Strings, event_time: Ints) -> None:
    """Queue new payments for every policy whose work they are."""
    for one in covered:
        chosen = ids[one.covers(event_time)]
        if len(chosen):
            _queue_ids(connection, one.policy, chosen.tolist())


def enqueue_difference(
    connection: Connection, store: Store, before: Sequence[Coverage], batch_id: int
) -> None:
    """Queue a batch's payments in spans that became somebody's work while it was loading."""
    seen = {one.policy: set(one.spans) for one in before}
    for now in coverage(connection):
        for span in sorted(set(now.spans) - seen.get(now.policy, set())):
            _queue_span(connection, store, now.policy, span, batch_id)


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
    """Visible payments of [start, end) without a score whose `as_of` has come."""
    t = store.transactions.c
    rows = (
        select(t.transaction_id, t.event_time, batches.c.history, batches.c.visible_at)
        .join(batches, batches.c.batch_id == t.batch_id)
        .where(batches.c.status == "done", *_without_score(store, policy, start, end))
    )
    return _queue(store, rows, as_of, allowed_lateness)


def forget_before(store: Store, policy: str, instant: int) -> int:
    """Take what happened before an instant off the queue; returns how much that was."""
    with store.exclusive() as connection:
        return _forget_before(connection, store, policy, instant)


def forget_before_first_model(store: Store, policy: str) -> int:
    """What is older than the first model can never be scored: it leaves the queue; returns how much."""
    with store.exclusive() as connection:
        first = _first_model(connection, policy)
        return 0 if first is None else _forget_before(connection, store, policy, first)


def queue_length(connection: Connection, policy: str) -> int:
    """How much waits for a score."""
    rows = select(func.count()).select_from(unscored).where(unscored.c.policy == policy)
    return int(connection.scalar(rows) or 0)


def _starts_at(connection: Connection, policy: str) -> int | None:
    return connection.scalar(select(policies.c.starts_at).where(policies.c.policy == policy))


def _first_model(connection: Connection, policy: str) -> int | None:
    first: int | None = connection.scalar(
        select(func.min(promotions.c.effective_from)).where(promotions.c.policy == policy)
    )
    return first


def _given_spans(connection: Connection, policy: str) -> list[tuple[int, int]]:
    """Spans as they were decided, whatever models there are."""
    starts = _starts_at(connection, policy)
    rows = connection.execute(
        select(covered_spans.c.span_start, covered_spans.c.span_end).where(covered_spans.c.policy == policy)
    )
    covered = sorted((row.span_start, row.span_end) for row in rows)
    return covered if starts is None else [(starts, FOREVER), *covered]


def _coverage(connection: Connection, policy: str) -> Coverage:
    first = _first_model(connection, policy)
    since = NEVER if first is None else first
    spans = [(max(start, since), end) for start, end in _given_spans(connection, policy)]
    return Coverage(policy, tuple((start, end) for start, end in spans if start < end))


def _queue_ids(connection: Connection, policy: str, ids: list[str]) -> None:
    names = ["policy", "transaction_id"]
    if connection.dialect.name == POSTGRES:
        each: Any = func.unnest(bindparam("ids", ids)).column_valued("id")
        rows = select(literal(policy), each)
        insert_missing(connection, unscored, names, rows)
        return
    sql = "INSERT INTO unscored (policy, transaction_id) VALUES (?, ?) ON CONFLICT DO NOTHING"
    connection.exec_driver_sql(sql, [(policy, name) for name in ids])


def _queue_span(
    connection: Connection, store: Store, policy: str, span: tuple[int, int], batch_id: int | None = None
) -> None:
    """Queue what is stored in a span: all that is visible, or one batch that is about to be."""
    t = store.transactions.c
    shown = batches.c.status == "done" if batch_id is None else t.batch_id == batch_id
    rows = (
        select(literal(policy), t.transaction_id)
        .join(batches, batches.c.batch_id == t.batch_id)
        .where(shown, *_without_score(store, policy, *span))
    )
    insert_missing(connection, unscored, ["policy", "transaction_id"], rows)


def _without_score(store: Store, policy: str, start: int, end: int) -> list[ColumnElement[bool]]:
    """Payments (refunds are kept and never scored) of [start, end) that have no score."""
    t = store.transactions.c
    scored = exists().where(scores.c.policy == policy, scores.c.transaction_id == t.transaction_id)
    conditions = [t.event_time >= start, t.event_time < end, ~scored]
    if store.fields.refund_kinds:
        conditions.append(or_(t.kind.is_(None), t.kind.not_in(store.fields.refund_kinds)))
    return conditions


def _queue(store: Store, rows: Select[Any], as_of: int, allowed_lateness: int) -> Queue:
    t = store.transactions.c
    with store.read() as connection:
        found = connection.execute(rows.order_by(t.event_time, t.transaction_id)).all()
    ids = np.array([row.transaction_id for row in found], dtype=object)
    times = np.array([row.event_time for row in found], dtype=np.int64)
    arrived = np.array([row.event_time if row.history else row.visible_at for row in found], dtype=np.int64)
    due = np.maximum(times + allowed_lateness, arrived) <= as_of
    return Queue(ids[due], times[due], arrived[due])


def _forget_before(connection: Connection, store: Store, policy: str, instant: int) -> int:
    t = store.transactions.c
    old = exists().where(t.transaction_id == unscored.c.transaction_id, t.event_time < instant)
    return connection.execute(delete(unscored).where(unscored.c.policy == policy, old)).rowcount
