"""
What a computation may read: rows of visible batches, as arrays, in the order (event_time, transaction_id).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Select, func, select, union, update

from storage import bulk
from storage.fetching import Codes, Doubles, Instants, Moneys, Numbers, Texts, fetch, micros, money
from storage.frames import NEVER, Completeness, Ints, Labels, Transactions
from storage.schema import batches, labels, monitor
from storage.store import Store

ALWAYS = ("kind", "currency", "original_id")  # columns of text that every `transactions` has


@dataclass(frozen=True)
class Horizon:
    """What a run may look at: everything visible up to `as_of`."""

    as_of: int
    newest_batch: int


def load_transactions(store: Store, start: int, end: int) -> Transactions:
    """Visible transactions with start ≤ event_time < end."""
    t = store.transactions.c
    with store.read() as connection:
        return _load(connection, store, _chosen(store).where(t.event_time >= start, t.event_time < end))


def load_entities(store: Store, start: int, end: int, wanted: Mapping[str, Sequence[str]]) -> Transactions:
    """
    Visible transactions of the span whose value is among `wanted` in any of its columns.

    `wanted` may name `transaction_id` as well as entity columns; every one is looked up by its index, so the
    cost is that of the rows found and not of all history.
    """
    t = store.transactions.c
    inside = (t.event_time >= start, t.event_time < end)
    with store.read() as connection:
        found = [
            select(t.transaction_id).where(bulk.among(connection, t[name], values), *inside)
            for name, values in wanted.items()
            if len(values)
        ]
        if not found:
            return _load(connection, store, _chosen(store).where(t.event_time < start, t.event_time >= end))
        ids = union(*found).subquery()
        return _load(connection, store, _chosen(store).join(ids, ids.c.transaction_id == t.transaction_id))


def entities_of(store: Store, ids: Iterable[str], columns: Sequence[str]) -> dict[str, list[str]]:
    """{column: values} of these transactions, ready for `load_entities`, the ids themselves included."""
    t, listed = store.transactions.c, [str(name) for name in ids]
    found: dict[str, list[str]] = {"transaction_id": listed}
    with store.read() as connection:
        for name in columns:
            these = bulk.among(connection, t.transaction_id, listed)
            values = select(t[name]).where(these, t[name].is_not(None)).distinct().order_by(t[name])
            found[name] = list(connection.scalars(values))
    return found


def load_labels(store: Store, start: int, end: int) -> Labels:
    """Visible labels of visible transactions with start ≤ event_time < end, in the order they were recorded."""
    t, c = store.transactions.c, labels.c
    forms: dict[str, type[Numbers]]
    forms = {"transaction_id": Texts, "source": Codes, "known_at": Instants, "recorded_at": Instants}
    chosen = (
        select(
            c.label_id,
            c.transaction_id,
            c.source,
            c.is_fraud,
            micros(store, c.known_at, "known_at"),
            micros(store, c.recorded_at, "recorded_at"),
            func.coalesce(c.batch_id, -1).label("batch_id"),
            t.batch_id.label("of_batch"),
        )
        .join(store.transactions, t.transaction_id == c.transaction_id)
        .where(t.event_time >= start, t.event_time < end)
        .order_by(c.label_id)
    )
    with store.read() as connection:
        shown = _Shown(connection)
        found = fetch(connection, chosen, forms)
    batch, known_at = found["batch_id"], found["known_at"]
    by_itself = batch < 0  # a verdict: recorded when it was given
    recorded = np.where(by_itself, found["recorded_at"], shown.arrived(batch, known_at))
    visible = np.flatnonzero((by_itself | shown.done(batch)) & shown.done(found["of_batch"]))
    return Labels(
        found["label_id"][visible],
        found["transaction_id"][visible],
        found["is_fraud"][visible].astype(bool),
        found["source"].take(visible),
        known_at[visible],
        recorded[visible],
    )


def completeness(store: Store) -> Completeness:
    """How far labels are complete, from the batches that say so of themselves."""
    b = batches.c
    stated = (b.status == "done") & b.complete_through.is_not(None)
    with store.read() as connection:
        rows = connection.execute(
            select(b.history, b.visible_at, b.complete_through).where(stated).order_by(b.visible_at)
        ).all()
    arrived = [row for row in rows if not row.history]
    return Completeness(
        max((row.complete_through for row in rows if row.history), default=NEVER),
        np.array([row.visible_at for row in arrived], dtype=np.int64),
        np.maximum.accumulate(np.array([row.complete_through for row in arrived], dtype=np.int64)),
    )


def span(store: Store) -> tuple[int, int] | None:
    """First and last event time of visible transactions; looks at either end of an index."""
    t = store.transactions.c
    rows = (
        select(t.event_time)
        .join(batches, batches.c.batch_id == t.batch_id)
        .where(batches.c.status == "done")
        .limit(1)
    )
    with store.read() as connection:
        first = connection.scalar(rows.order_by(t.event_time))
        last = connection.scalar(rows.order_by(t.event_time.desc()))
    return None if first is None or last is None else (first, last)


def horizon(store: Store, now: int) -> Horizon:
    """Promise a run all that is visible by `now`; what becomes visible later will say so."""
    with store.exclusive() as connection:
        before = connection.scalar(select(monitor.c.horizon))
        connection.execute(update(monitor).values(horizon=now if before is None else max(now, before)))
        newest = connection.scalar(select(func.max(batches.c.batch_id)).where(batches.c.status == "done"))
    return Horizon(now, newest or 0)


class _Shown:
    """Which batches are visible, and when they became so; batches are few, rows are many."""

    def __init__(self, connection: Connection) -> None:
        b = batches.c
        rows = connection.execute(select(b.batch_id, b.history, b.visible_at).where(b.status == "done")).all()
        size = max((row.batch_id for row in rows), default=-1) + 2  # the last one stands for all that are not
        self._done = np.zeros(size, dtype=bool)
        self._history = np.zeros(size, dtype=bool)
        self._visible_at = np.zeros(size, dtype=np.int64)
        for row in rows:
            self._done[row.batch_id] = True
            self._history[row.batch_id] = row.history
            self._visible_at[row.batch_id] = row.visible_at

    def done(self, batch: Ints) -> NDArray[np.bool_]:
        """Whether each batch is visible."""
        return self._done[self._places(batch)]

    def arrived(self, batch: Ints, happened: Ints) -> Ints:
        """When it became visible: when it happened, for history."""
        places = self._places(batch)
        return np.where(self._history[places], happened, self._visible_at[places])

    def _places(self, batch: Ints) -> Ints:
        last = len(self._done) - 1
        return np.where((batch < 0) | (batch > last), last, batch)


def _chosen(store: Store) -> Select[Any]:
    t = store.transactions.c
    return select(
        t.transaction_id,
        micros(store, t.event_time, "event_time"),
        money(store, t.amount_base, "amount_base"),
        t.batch_id,
        *(t[name] for name in (*ALWAYS, *store.fields.names)),
    )


def _load(connection: Connection, store: Store, chosen: Select[Any]) -> Transactions:
    t, names = store.transactions.c, (*ALWAYS, *store.fields.text)
    forms: dict[str, type[Numbers]]
    forms = {"transaction_id": Texts, "event_time": Instants, "amount_base": Moneys}
    forms |= dict.fromkeys(names, Codes) | dict.fromkeys(store.fields.numeric, Doubles)
    shown = _Shown(connection)
    ordered = chosen.order_by(t.event_time, t.transaction_id)
    found = fetch(connection, ordered, forms, keep=lambda part: shown.done(part["batch_id"]))
    return Transactions(
        found["transaction_id"],
        found["event_time"],
        shown.arrived(found["batch_id"], found["event_time"]),
        found["amount_base"],
        {name: found[name] for name in names},
        {name: found[name] for name in store.fields.numeric},
    )
