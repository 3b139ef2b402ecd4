"""
Stored transactions and labels of visible batches, as arrays, in the order (event_time, transaction_id).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, Select, false, func, or_, select, text, update

from storage.database import bulk
from storage.database.column_types import as_texts
from storage.database.database import Store
from storage.database.loss_views import exposure
from storage.database.tables import batches, labels, monitor
from storage.frames import (
    MONEY,
    NEITHER,
    NEVER,
    UNKNOWN,
    Coded,
    Codes,
    Completeness,
    Floats,
    Ints,
    Labels,
    Strings,
    Transactions,
)
from storage.ingest.chunks import TransactionChunk

ROWS_AT_ONCE = (
    5_000  # rows held as Python objects while they become arrays: more fall out of the processor's cache
)
VALUES_MAX = 500  # values that one query looks up
ALWAYS = ("kind", "currency", "original_id")
Condition = ColumnElement[bool]
STAGE = "arriving_transactions"
NOT_STORED = -1  # in place of the batch of a payment that is read as if it had arrived
NEWEST = 2**31 - 1  # a promotion after every other


@dataclass(frozen=True)
class Horizon:
    """The rows that a run may read: those of batches visible at `as_of`."""

    as_of: int
    newest_batch: int


class _CodeOf(dict[str | None, int]):
    """The code of each value, −1 of None; one that is new gets the next."""

    def __init__(self) -> None:
        super().__init__({None: -1})

    def __missing__(self, value: str | None) -> int:
        code = self[value] = len(self) - 1
        return code


class Coder:
    """Encodes strings chunk by chunk; codes are in order of first appearance."""

    def __init__(self) -> None:
        self._code_of = _CodeOf()
        self._chunks: list[Codes] = []

    def add(self, values: Sequence[str | None]) -> None:
        """Encode some more values; None is missing."""
        codes = map(self._code_of.__getitem__, values)
        self._chunks.append(np.fromiter(codes, dtype=np.int32, count=len(values)))

    def coded(self) -> Coded:
        """The column of all values that were added."""
        codes = np.concatenate(self._chunks) if self._chunks else np.empty(0, dtype=np.int32)
        return Coded(codes, np.array(list(self._code_of)[1:], dtype=object))


def load_transactions(store: Store, start: int, end: int) -> Transactions:
    """Visible transactions with start ≤ event_time < end."""
    t = store.transactions.c
    with store.read() as connection:
        return _transactions(
            connection, store, [_columns(store).where(t.event_time >= start, t.event_time < end)]
        )


def load_entities(
    store: Store,
    start: int,
    end: int,
    values_by_column: Mapping[str, Sequence[str]],
    arriving: TransactionChunk | None = None,
    arrived_at: int = 0,
) -> Transactions:
    """
    Visible transactions of the span that have one of the values in any of the columns.

    The columns are `transaction_id` or configured entities; each is looked up by its index.

    Parameters
    ----------
    arriving
        Payments that are not stored, to be read as if they had arrived at `arrived_at` (µs); they stand for stored ones of
        the same id.
    """
    t = store.transactions.c
    span = (t.event_time >= start, t.event_time < end)
    parts = [
        _columns(store).where(or_(t[name].in_(some)), *span)
        for name, values in values_by_column.items()
        for some in _slices(sorted(set(values)))
    ]
    with store.read() as connection:
        if arriving is None:
            return _transactions(connection, store, parts)
        ids = arriving.transaction_id.tolist()
        stored = [part.where(t.transaction_id.not_in(ids)) for part in parts]
        return _transactions(connection, store, stored, _staged(connection, store, arriving, arrived_at))


def _staged(connection: Connection, store: Store, chunk: TransactionChunk, arrived_at: int) -> Store:
    """
    The store with a temporary table of these payments in place of its transactions; they know every promotion.

    The table is gone when the read ends.
    """
    names = [column.name for column in store.transactions.c]
    listed = ", ".join(map(connection.dialect.identifier_preparer.quote, names))
    empty = f"SELECT {listed} FROM {store.transactions.name} LIMIT 0"
    connection.execute(text(f"CREATE TEMP TABLE {STAGE} AS {empty}"))
    columns = chunk.columns(NOT_STORED) | {
        "arrived_at": as_texts(np.full(len(chunk), arrived_at)),
        "arrived_promotion": [NEWEST] * len(chunk),
    }
    staged = store.with_transactions(STAGE)
    bulk.insert_new(connection, staged.transactions, columns)
    return staged


def entities_of(store: Store, ids: Iterable[str], columns: Sequence[str]) -> dict[str, list[str]]:
    """{column: values} of these transactions for `load_entities`, including their ids."""
    t, listed = store.transactions, [str(name) for name in ids]
    values_by_column: dict[str, list[str]] = {"transaction_id": listed}
    with store.read() as connection, bulk.staged_ids(connection, listed) as stage:
        for name in columns:
            chosen = t.c.transaction_id.in_(text(f"SELECT transaction_id FROM {stage}"))
            values = select(t.c[name]).where(chosen, t.c[name].is_not(None)).distinct()
            values_by_column[name] = list(connection.scalars(values))
    return values_by_column


def _slices(values: Sequence[str]) -> Iterable[Sequence[str]]:
    return (values[start : start + VALUES_MAX] for start in range(0, len(values), VALUES_MAX))


def _columns(store: Store) -> "Select[Any]":
    t = store.transactions.c
    own: list[Any] = [t[name] for name in (*ALWAYS, *store.fields.names)]
    if not store.fields.loss.is_whole_amount:
        own.append(text(exposure(store.engine.dialect, store.fields, store.transactions.name)))
    return select(t.transaction_id, _micros(store, t.event_time), _amount(store), t.batch_id, *own)


def _arrival(store: Store) -> tuple[Any, Any]:
    """Of payments that were scored on arrival: when they arrived, and the newest promotion then."""
    t = store.transactions.c
    return _micros(store, t.arrived_at), t.arrived_promotion


def _or_none(values: Sequence[int | None]) -> Ints:
    """−1 for None."""
    return np.array([-1 if value is None else value for value in values], dtype=np.int64)


def _micros(store: Store, column: Any) -> Any:
    """An instant in the form that the engine returns fastest: µs on Postgres, text on SQLite."""
    if store.dialect == "postgresql":
        return text(f"(EXTRACT(EPOCH FROM {column.name}) * 1000000)::bigint AS {column.name}")
    return text(f"{column.table.name}.{column.name}")


def _amount(store: Store) -> Any:
    """The amount in the form that the engine returns fastest."""
    return text("amount_base::float8") if store.dialect == "postgresql" else store.transactions.c.amount_base


def rows_of(
    connection: Connection, store: Store, visible: "VisibleBatches", *chosen: Condition
) -> Transactions:
    """The visible transactions that meet these conditions."""
    return _transactions(connection, store, [_columns(store).where(*chosen)], visible=visible)


def _transactions(
    connection: Connection,
    store: Store,
    parts: Sequence["Select[Any]"],
    staged: Store | None = None,
    visible: "VisibleBatches | None" = None,
) -> Transactions:
    visible = visible or VisibleBatches(connection)
    on_arrival = visible.any_on_arrival or staged is not None
    if on_arrival:
        parts = [part.add_columns(*_arrival(store)) for part in parts]
    if staged is not None:
        parts = [*parts, _columns(staged).add_columns(*_arrival(staged))]
    names = (*ALWAYS, *store.fields.text)
    coders = {name: Coder() for name in names}
    numeric: dict[str, list[Floats]] = {name: [] for name in store.fields.numeric}
    ids: list[Strings] = []
    times, ingested_at, amounts = [], [], []
    at_risk: list[Ints] | None = None if store.fields.loss.is_whole_amount else []
    promotions: list[Ints] | None = [] if on_arrival else None
    for rows in _chunks(connection, parts):
        columns = list(zip(*rows, strict=True))
        batch = np.array(columns[3], dtype=np.int64)
        readable = visible.is_visible(batch)
        if not readable.all():
            columns = [
                tuple(value for value, keep in zip(column, readable, strict=True) if keep)
                for column in columns
            ]
            batch = batch[readable]
        time = _instants(columns[1])
        arrived_at = visible.ingested_at(batch, time)
        if promotions is not None:
            promotion = _or_none(columns.pop())
            arrived_at = np.where(promotion < 0, arrived_at, _instants_or_none(columns.pop()))
            promotions.append(promotion)
        ids.append(_objects(columns[0]))
        times.append(time)
        ingested_at.append(arrived_at)
        amounts.append(_money(columns[2]))
        if at_risk is not None:
            at_risk.append(_money(columns.pop()))
        for name, column in zip((*names, *numeric), columns[4:], strict=True):
            if name in coders:
                coders[name].add(column)
            else:
                numeric[name].append(np.array(column, dtype=np.float64))
    return _sorted(
        Transactions(
            np.concatenate(ids) if ids else np.empty(0, dtype=object),
            _joined(times),
            _joined(ingested_at),
            _joined(amounts),
            {name: coder.coded() for name, coder in coders.items()},
            {name: np.concatenate(some) if some else np.empty(0) for name, some in numeric.items()},
            None if at_risk is None else _joined(at_risk),
            None if promotions is None else _joined(promotions),
        ),
        unique=len(parts) <= 1,
    )


def _chunks(connection: Connection, parts: Sequence["Select[Any]"]) -> Iterable[Sequence[Any]]:
    """Rows, on Postgres from a cursor of the server, on SQLite as the driver gives them: SQLAlchemy's own take twice as long."""
    for part in parts:
        if connection.dialect.name == "postgresql":
            streamed = connection.execution_options(yield_per=ROWS_AT_ONCE).execute(part)
            yield from filter(None, streamed.partitions())
            continue
        with connection.execute(part) as result:
            cursor: Any = result.cursor
            while rows := cursor.fetchmany(ROWS_AT_ONCE):
                yield rows


def _objects(values: Sequence[Any]) -> Strings:
    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found


def _instants(values: Sequence[Any]) -> Ints:
    if values and isinstance(values[0], str):
        return np.array(values, dtype="datetime64[us]").astype(np.int64)
    return np.array(values, dtype=np.int64)


def _instants_or_none(values: Sequence[Any]) -> Ints:
    """Any number for None."""
    some = next((value for value in values if value is not None), 0)
    return _instants([some if value is None else value for value in values])


def _money(values: Sequence[Any]) -> Ints:
    """Amounts in 1/10,000 of the base currency."""
    return np.rint(np.array(values, dtype=np.float64) * MONEY).astype(np.int64)


def _joined(chunks: Sequence[Ints]) -> Ints:
    return np.concatenate(chunks) if chunks else np.empty(0, dtype=np.int64)


def as_arrived(store: Store, chunk: TransactionChunk, arrived_at: int, promotion: int) -> Transactions:
    """Payments as they are read after they were stored on arrival, at an instant (µs), when a promotion was the newest."""
    always = {"kind": chunk.kind, "currency": chunk.currency, "original_id": chunk.original_id}
    columns = {}
    for name in (*ALWAYS, *store.fields.text):
        values, coder = always[name] if name in always else chunk.text.get(name), Coder()
        coder.add([None] * len(chunk) if values is None else values.tolist())
        columns[name] = coder.coded()
    missing = np.full(len(chunk), np.nan)
    arrived = np.full(len(chunk), arrived_at, dtype=np.int64)
    return Transactions(
        chunk.transaction_id,
        chunk.event_time,
        arrived,
        _money((chunk.amount_base / MONEY).tolist()),
        columns,
        {name: chunk.numeric.get(name, missing) for name in store.fields.numeric},
        None,
        np.full(len(chunk), promotion, dtype=np.int64),
    ).take(_time_order(chunk.event_time, chunk.transaction_id))


def joined(parts: Sequence[Transactions], columns: Mapping[str, Coded]) -> tuple[Transactions, Ints]:
    """
    The rows of several parts in the order (event_time, transaction_id), and this order.

    Parameters
    ----------
    parts
        Each in this order already, so that ids decide only where rows of several parts have the same time.
    columns
        Those of all parts, one after the other.
    """

    def column(of: Callable[[Transactions], Any]) -> Any:
        return None if of(parts[0]) is None else np.concatenate([of(part) for part in parts])

    rows = Transactions(
        column(lambda part: part.transaction_id),
        column(lambda part: part.event_time),
        column(lambda part: part.ingested_at),
        column(lambda part: part.amount),
        columns,
        {name: column(lambda part, name=name: part.numeric[name]) for name in parts[0].numeric},  # type: ignore[misc]
        column(lambda part: part.at_risk),
        column(lambda part: part.promotion),
    )
    order = np.argsort(rows.event_time, kind="stable")
    part = np.repeat(np.arange(len(parts)), [len(part) for part in parts])[order]
    ranked = rows.event_time[order]
    mixed = np.flatnonzero((ranked[1:] == ranked[:-1]) & (part[1:] != part[:-1]))
    for instant in np.unique(ranked[mixed]):
        start, end = np.searchsorted(ranked, [instant, instant + 1])
        run = order[start:end]
        order[start:end] = run[np.argsort(rows.transaction_id[run].astype(str), kind="stable")]
    return rows.take(order), order


def _time_order(times: Ints, ids: Strings) -> Ints:
    """The order (event_time, transaction_id) of rows."""
    order = np.argsort(times, kind="stable")
    ties = np.flatnonzero(np.diff(times[order]) == 0)
    return _ties_by_id(order, times, ids) if len(ties) else order


def _sorted(rows: Transactions, unique: bool) -> Transactions:
    """The rows in the order (event_time, transaction_id), each transaction once."""
    ids = rows.transaction_id
    order = _time_order(rows.event_time, ids)
    if not unique and len(order):
        order = order[np.sort(np.unique(ids[order].astype(str), return_index=True)[1])]
    return rows.take(order)


def _ties_by_id(order: Ints, times: Ints, ids: Any) -> Ints:
    """Sort rows with equal times by id; there are few of them."""
    ranked = times[order]
    same = np.concatenate([[False], ranked[1:] == ranked[:-1], [False]])
    starts = np.flatnonzero(~same[:-1] & same[1:])
    ends = np.flatnonzero(same[:-1] & ~same[1:]) + 1
    for start, end in zip(starts, ends, strict=True):
        run = order[start:end]
        order[start:end] = run[np.argsort(ids[run].astype(str), kind="stable")]
    return order


class VisibleBatches:
    """Visible batches and when they became visible, as arrays indexed by batch_id."""

    def __init__(self, connection: Connection) -> None:
        b = batches.c
        columns = (b.batch_id, b.history, b.visible_at, b.on_arrival)
        rows = connection.execute(select(*columns).where(b.status == "done")).all()
        self.any_on_arrival = any(row.on_arrival for row in rows)
        size = max((row.batch_id for row in rows), default=0) + 2
        self._done = np.zeros(size, dtype=bool)
        self._history = np.zeros(size, dtype=bool)
        self._visible_at = np.zeros(size, dtype=np.int64)
        for row in rows:
            self._done[row.batch_id] = True
            self._history[row.batch_id] = row.history
            self._visible_at[row.batch_id] = row.visible_at

    def is_visible(self, batch: Ints) -> Any:
        """Whether rows of these batches are visible."""
        return (batch == NOT_STORED) | self._done[np.minimum(batch, len(self._done) - 1)]

    def ingested_at(self, batch: Ints, event_time: Ints) -> Ints:
        """When rows became visible; for history the event time."""
        return np.where(self._history[batch], event_time, self._visible_at[batch])


def load_frauds(
    store: Store,
    start: int,
    end: int,
    known_from: int,
    values_by_column: Mapping[str, Sequence[str]] | None = None,
) -> tuple[Transactions, Labels]:
    """
    Visible transactions with start ≤ event_time < end of which a label said from `known_from` on that they were fraud, and all
    their labels.

    Both are found from the labels of fraud, by the index of these, whatever else the span holds.

    Parameters
    ----------
    values_by_column
        Only those that have one of the values in any of the columns are needed; of many values all are read.
    """
    chosen = of_fraud(store, start, end, known_from, values_by_column)
    with store.read() as connection:
        return _transactions(connection, store, [_columns(store).where(*chosen)]), labels_of(
            connection, store, *chosen
        )


def of_fraud(
    store: Store,
    start: int,
    end: int,
    known_from: int,
    values_by_column: Mapping[str, Sequence[str]] | None = None,
) -> list[Condition]:
    """Conditions on the transactions that `load_frauds` reads."""
    t = store.transactions.c
    said = select(labels.c.transaction_id).where(labels.c.is_fraud, labels.c.known_at >= known_from)
    chosen: list[Condition] = [t.transaction_id.in_(said), t.event_time >= start, t.event_time < end]
    return chosen + _one_of(store, values_by_column)


def load_labels(
    store: Store, start: int, end: int, values_by_column: Mapping[str, Sequence[str]] | None = None
) -> Labels:
    """
    Visible labels of transactions with start ≤ event_time < end, ordered by label_id.

    Rows that only tell how a dispute about money went on are left out: they change no label.

    Parameters
    ----------
    values_by_column
        Only those of transactions that have one of the values in any of the columns are needed; of many values all are read.
    """
    t = store.transactions.c
    span = (t.event_time >= start, t.event_time < end)
    with store.read() as connection:
        return labels_of(connection, store, *span, *_one_of(store, values_by_column))


def _one_of(store: Store, values_by_column: Mapping[str, Sequence[str]] | None) -> list[Condition]:
    """A condition on transactions with one of some values; none where they are many. Nothing is written, not even to a temporary table."""
    if values_by_column is None or sum(map(len, values_by_column.values())) > VALUES_MAX:
        return []
    t = store.transactions.c
    return [or_(false(), *(t[name].in_(some) for name, some in values_by_column.items() if some))]


def labels_of(connection: Connection, store: Store, *of_transactions: Condition) -> Labels:
    """The visible labels of the transactions that meet these conditions, ordered by label_id."""
    t, b = store.transactions.c, batches.c
    chosen = (
        select(
            labels.c.label_id,
            labels.c.transaction_id,
            labels.c.is_fraud,
            labels.c.source,
            labels.c.known_at,
            labels.c.recorded_at,
            labels.c.type,
            labels.c.retracts,
            labels.c.bulk_id,
            b.history,
            b.visible_at,
        )
        .join(store.transactions, t.transaction_id == labels.c.transaction_id)
        .outerjoin(batches, b.batch_id == labels.c.batch_id)
        .where(*of_transactions)
        .where(or_(labels.c.batch_id.is_(None), b.status == "done"))
        .where(says_something())
        .order_by(labels.c.label_id)
    )
    rows = connection.execute(chosen).all()
    source, bulk = Coder(), Coder()
    source.add([row.source for row in rows])
    bulk.add([row.bulk_id for row in rows])
    recorded = [
        row.recorded_at if row.history is None else row.known_at if row.history else row.visible_at
        for row in rows
    ]
    return Labels(
        np.array([row.label_id for row in rows], dtype=np.int64),
        np.array([row.transaction_id for row in rows], dtype=object),
        np.array([_status(row.is_fraud, row.retracts) for row in rows], dtype=np.int8),
        source.coded(),
        np.array([row.known_at for row in rows], dtype=np.int64),
        np.array(recorded, dtype=np.int64),
        np.array([-1 if row.retracts is None else row.retracts for row in rows], dtype=np.int64),
        bulk.coded(),
    )


def says_something() -> ColumnElement[bool]:
    """Which rows of `labels` bear on the label of their transaction: those with an answer, a type or a retraction."""
    return or_(labels.c.is_fraud.is_not(None), labels.c.type.is_not(None), labels.c.retracts.is_not(None))


def _status(is_fraud: bool | None, retracts: int | None) -> int:
    if retracts is not None:
        return UNKNOWN
    return NEITHER if is_fraud is None else int(is_fraud)


def completeness(store: Store) -> Completeness:
    """Up to which instant labels are complete, from `complete_through` of the label batches."""
    with store.read() as connection:
        return completeness_in(connection)


def completeness_in(connection: Connection) -> Completeness:
    """The same in a read."""
    b = batches.c
    stated = (b.kind == "labels") & (b.status == "done") & b.complete_through.is_not(None)
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
    """First and last event time of visible transactions, each from its end of the index."""
    t = store.transactions.c
    rows = select(t.event_time).join(batches, batches.c.batch_id == t.batch_id)
    rows = rows.where(batches.c.status == "done").limit(1)
    with store.read() as connection:
        first = connection.scalar(rows.order_by(t.event_time))
        last = connection.scalar(rows.order_by(t.event_time.desc()))
    return None if first is None or last is None else (first, last)


def newest_known(store: Store, before: int) -> int | None:
    """When the newest of the transactions that were visible by `before` became visible, None if there are none."""
    t, b = store.transactions.c, batches.c
    done = (b.status == "done") & (b.kind == "transactions") & (b.accepted > 0)
    arrived = select(func.max(b.visible_at)).where(done, ~b.history, b.visible_at <= before)
    historic = (
        select(t.event_time)
        .join(batches, b.batch_id == t.batch_id)
        .where(done, b.history, t.event_time < before)
        .order_by(t.event_time.desc())
        .limit(1)
    )
    with store.read() as connection:
        newest = [connection.scalar(arrived)]
        if connection.scalar(select(func.count()).select_from(batches).where(done, b.history)):
            newest.append(connection.scalar(historic))
    return max((instant for instant in newest if instant is not None), default=None)


def horizon(store: Store, now: int) -> Horizon:
    """Fix what a run may read: batches visible by `now`; every later batch becomes visible after `now`."""
    done = batches.c.status == "done"
    with store.write_exclusive() as connection:
        before = connection.scalar(select(monitor.c.horizon))
        connection.execute(update(monitor).values(horizon=now if before is None else max(now, before)))
        newest = connection.scalar(select(func.max(batches.c.batch_id)).where(done))
    return Horizon(now, newest or 0)
