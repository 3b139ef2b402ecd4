"""
What a computation may read: rows of visible batches, as arrays, in the order (event_time, transaction_id).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection, Select, func, or_, select, text, update

from storage.database import bulk
from storage.database.database import Store
from storage.database.tables import batches, labels, monitor
from storage.frames import MONEY, NEVER, Coded, Codes, Completeness, Floats, Ints, Labels, Transactions

ROWS_AT_ONCE = 50_000  # rows held as Python objects while they become arrays
ALWAYS = ("kind", "currency", "original_id")


@dataclass(frozen=True)
class Horizon:
    """What a run may look at: everything visible up to `as_of`."""

    as_of: int
    newest_batch: int


class _Coder:
    """Strings → codes, chunk after chunk; codes are in order of first appearance."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}
        self._chunks: list[Codes] = []

    def add(self, values: Sequence[str | None]) -> None:
        known = self._known
        codes = [-1 if value is None else known.setdefault(value, len(known)) for value in values]
        self._chunks.append(np.array(codes, dtype=np.int32))

    def coded(self) -> Coded:
        codes = np.concatenate(self._chunks) if self._chunks else np.empty(0, dtype=np.int32)
        return Coded(codes, np.array(list(self._known), dtype=object))


def load_transactions(store: Store, start: int, end: int) -> Transactions:
    """Visible transactions with start ≤ event_time < end."""
    t = store.transactions.c
    with store.read() as connection:
        return _transactions(
            connection, store, [_columns(store).where(t.event_time >= start, t.event_time < end)]
        )


def load_entities(store: Store, start: int, end: int, wanted: Mapping[str, Sequence[str]]) -> Transactions:
    """
    Visible transactions of the span whose value is among `wanted` in any of its columns.

    `wanted` may name `transaction_id` as well as configured columns; every one is looked up by its index.
    """
    t = store.transactions.c
    span = (t.event_time >= start, t.event_time < end)
    parts = [
        _columns(store).where(or_(t[name].in_(some)), *span)
        for name, values in wanted.items()
        for some in _slices(sorted(set(values)))
    ]
    with store.read() as connection:
        return _transactions(connection, store, parts)


def entities_of(store: Store, ids: Iterable[str], columns: Sequence[str]) -> dict[str, list[str]]:
    """{column: values} of these transactions, ready for `load_entities`, the ids themselves included."""
    t, listed = store.transactions, [str(name) for name in ids]
    found: dict[str, list[str]] = {"transaction_id": listed}
    with store.read() as connection, bulk.wanted(connection, listed) as stage:
        for name in columns:
            chosen = t.c.transaction_id.in_(text(f"SELECT transaction_id FROM {stage}"))
            values = select(t.c[name]).where(chosen, t.c[name].is_not(None)).distinct()
            found[name] = list(connection.scalars(values))
    return found


def _slices(values: Sequence[str], size: int = 500) -> Iterable[Sequence[str]]:
    return (values[place : place + size] for place in range(0, len(values), size))


def _columns(store: Store) -> "Select[Any]":
    t = store.transactions.c
    own = [t[name] for name in (*ALWAYS, *store.fields.names)]
    return select(t.transaction_id, _micros(store, t.event_time), t.amount_base, t.batch_id, *own)


def _micros(store: Store, column: Any) -> Any:
    """An instant as the engine gives it fastest: µs on Postgres, text on SQLite."""
    if store.dialect == "postgresql":
        return text(f"(EXTRACT(EPOCH FROM {column.name}) * 1000000)::bigint AS {column.name}")
    return text(f"{column.table.name}.{column.name}")


def _transactions(connection: Connection, store: Store, parts: Sequence["Select[Any]"]) -> Transactions:
    shown = _Shown(connection)
    names = (*ALWAYS, *store.fields.text)
    coders = {name: _Coder() for name in names}
    numeric: dict[str, list[Floats]] = {name: [] for name in store.fields.numeric}
    ids: list[list[str]] = []
    times, arrived, amounts = [], [], []
    for rows in _chunks(connection, parts):
        columns = list(zip(*rows, strict=True))
        batch = np.array(columns[3], dtype=np.int64)
        kept = shown.done(batch)
        if not kept.all():
            columns = [
                tuple(value for value, keep in zip(column, kept, strict=True) if keep) for column in columns
            ]
            batch = batch[kept]
        time = _instants(columns[1])
        ids.append(list(columns[0]))
        times.append(time)
        arrived.append(shown.arrived(batch, time))
        amounts.append(np.rint(np.array(columns[2], dtype=np.float64) * MONEY).astype(np.int64))
        for name, column in zip((*names, *numeric), columns[4:], strict=True):
            if name in coders:
                coders[name].add(column)
            else:
                numeric[name].append(np.array(column, dtype=np.float64))
    return _sorted(
        Transactions(
            np.array([name for chunk in ids for name in chunk], dtype=object),
            _joined(times),
            _joined(arrived),
            _joined(amounts),
            {name: coder.coded() for name, coder in coders.items()},
            {name: np.concatenate(some) if some else np.empty(0) for name, some in numeric.items()},
        ),
        unique=len(parts) <= 1,
    )


def _chunks(connection: Connection, parts: Sequence["Select[Any]"]) -> Iterable[Sequence[Any]]:
    for part in parts:
        found = connection.execution_options(yield_per=ROWS_AT_ONCE).execute(part)
        for rows in found.partitions():
            if rows:
                yield rows


def _instants(values: Sequence[Any]) -> Ints:
    if values and isinstance(values[0], str):
        return np.array(values, dtype="datetime64[us]").astype(np.int64)
    return np.array(values, dtype=np.int64)


def _joined(chunks: Sequence[Ints]) -> Ints:
    return np.concatenate(chunks) if chunks else np.empty(0, dtype=np.int64)


def _sorted(rows: Transactions, unique: bool) -> Transactions:
    """In the order (event_time, transaction_id), each transaction once."""
    times, ids = rows.event_time, rows.transaction_id
    order = np.argsort(times, kind="stable")
    ties = np.flatnonzero(np.diff(times[order]) == 0)
    if len(ties):
        order = _ties_by_id(order, times, ids)
    if not unique and len(order):
        order = order[np.sort(np.unique(ids[order].astype(str), return_index=True)[1])]
    return rows.take(order)


def _ties_by_id(order: Ints, times: Ints, ids: Any) -> Ints:
    """Equal times are few: only their runs are sorted by id."""
    ranked = times[order]
    same = np.concatenate([[False], ranked[1:] == ranked[:-1], [False]])
    starts = np.flatnonzero(~same[:-1] & same[1:])
    ends = np.flatnonzero(same[:-1] & ~same[1:]) + 1
    for start, end in zip(starts, ends, strict=True):
        run = order[start:end]
        order[start:end] = run[np.argsort(ids[run].astype(str), kind="stable")]
    return order


class _Shown:
    """Which batches are visible, and when they became so; batches are few, rows are many."""

    def __init__(self, connection: Connection) -> None:
        b = batches.c
        rows = connection.execute(select(b.batch_id, b.history, b.visible_at).where(b.status == "done")).all()
        size = max((row.batch_id for row in rows), default=0) + 2
        self._done = np.zeros(size, dtype=bool)
        self._history = np.zeros(size, dtype=bool)
        self._visible_at = np.zeros(size, dtype=np.int64)
        for row in rows:
            self._done[row.batch_id] = True
            self._history[row.batch_id] = row.history
            self._visible_at[row.batch_id] = row.visible_at

    def done(self, batch: Ints) -> Any:
        return self._done[np.minimum(batch, len(self._done) - 1)]

    def arrived(self, batch: Ints, happened: Ints) -> Ints:
        """When it became visible: when it happened, for history."""
        return np.where(self._history[batch], happened, self._visible_at[batch])


def load_labels(store: Store, start: int, end: int) -> Labels:
    """Visible labels of transactions with start ≤ event_time < end, in the order they were recorded."""
    t, b = store.transactions.c, batches.c
    chosen = (
        select(
            labels.c.label_id,
            labels.c.transaction_id,
            labels.c.is_fraud,
            labels.c.source,
            labels.c.known_at,
            labels.c.recorded_at,
            b.history,
            b.visible_at,
        )
        .join(store.transactions, t.transaction_id == labels.c.transaction_id)
        .outerjoin(batches, b.batch_id == labels.c.batch_id)
        .where(t.event_time >= start, t.event_time < end)
        .where(or_(labels.c.batch_id.is_(None), b.status == "done"))
        .order_by(labels.c.label_id)
    )
    with store.read() as connection:
        rows = connection.execute(chosen).all()
    source = _Coder()
    source.add([row.source for row in rows])
    recorded = [
        row.recorded_at if row.history is None else row.known_at if row.history else row.visible_at
        for row in rows
    ]
    return Labels(
        np.array([row.label_id for row in rows], dtype=np.int64),
        np.array([row.transaction_id for row in rows], dtype=object),
        np.array([row.is_fraud for row in rows], dtype=bool),
        source.coded(),
        np.array([row.known_at for row in rows], dtype=np.int64),
        np.array(recorded, dtype=np.int64),
    )


def completeness(store: Store) -> Completeness:
    """How far labels are complete, from the label batches and what they say of themselves."""
    b = batches.c
    stated = (b.kind == "labels") & (b.status == "done") & b.complete_through.is_not(None)
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
    """First and last event time of visible transactions."""
    t = store.transactions.c
    done = batches.c.status == "done"
    rows = select(func.min(t.event_time), func.max(t.event_time)).join(
        batches, batches.c.batch_id == t.batch_id
    )
    with store.read() as connection:
        first, last = connection.execute(rows.where(done)).one()
    return None if first is None else (first, last)


def newest_known(store: Store, before: int) -> int | None:
    """When the newest of the transactions that were known by `before` became known, None if there are none."""
    t, b = store.transactions.c, batches.c
    done = (b.status == "done") & (b.kind == "transactions") & (b.accepted > 0)
    arrived = select(func.max(b.visible_at)).where(done, ~b.history, b.visible_at <= before)
    lived = (
        select(t.event_time)
        .join(batches, b.batch_id == t.batch_id)
        .where(done, b.history, t.event_time < before)
        .order_by(t.event_time.desc())
        .limit(1)
    )
    with store.read() as connection:
        found = [connection.scalar(arrived)]
        if connection.scalar(select(func.count()).select_from(batches).where(done, b.history)):
            found.append(connection.scalar(lived))
    return max((instant for instant in found if instant is not None), default=None)


def horizon(store: Store, now: int) -> Horizon:
    """Promise a run all that is visible by `now`; what becomes visible later will say so."""
    done = batches.c.status == "done"
    with store.exclusive() as connection:
        before = connection.scalar(select(monitor.c.horizon))
        connection.execute(update(monitor).values(horizon=now if before is None else max(now, before)))
        newest = connection.scalar(select(func.max(batches.c.batch_id)).where(done))
    return Horizon(now, newest or 0)
