"""
Rows that wait for a rate of their currency: set aside by their batch, taken up by a later one, exactly once.

A batch that takes rows up claims them first, then loads them. They count as taken up when it becomes visible; if it is
interrupted, removing it releases them.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    bindparam,
    distinct,
    exists,
    func,
    insert,
    select,
    text,
    update,
)

from storage.database import bulk
from storage.database.database import Store
from storage.database.tables import batches, waiting_rows
from storage.frames import Strings
from storage.ingest.chunks import TransactionChunk

CLAIMED_ROWS = 10_000  # that are read at a time
_Key = tuple[str, int, str]  # id, time in µs and JSON of a row: what tells versions apart

# Its id has arrived since in another batch, which had a rate: that version is the newer one.
SUPERSEDED = """
    EXISTS (
        SELECT 1 FROM {table} t WHERE t.transaction_id = waiting_rows.transaction_id AND t.batch_id > waiting_rows.batch_id
        AND NOT EXISTS (SELECT 1 FROM waiting_rows o WHERE o.taken_up_by = t.batch_id AND o.batch_id <> t.batch_id)
    )"""


@dataclass(frozen=True)
class WaitingPayments:
    """The payments that wait for a rate of one currency."""

    currency: str
    payments: int
    since: int  # µs, when the first of them arrived
    first_event: int  # µs: a rate of this day or an earlier one is enough for all


def list_waiting(store: Store) -> list[WaitingPayments]:
    """Count the payments that wait, by currency."""
    w, b, t = waiting_rows.c, batches.c, batches.alias("taker").c
    taken = exists().where(t.batch_id == w.taken_up_by, t.status == "done")
    counted = (
        select(
            w.currency, func.count(distinct(w.transaction_id)), func.min(b.visible_at), func.min(w.event_time)
        )
        .join(batches, b.batch_id == w.batch_id)
        .where(b.status == "done", ~taken)
        .group_by(w.currency)
        .order_by(w.currency)
    )
    with store.read() as connection:
        return [WaitingPayments(*row) for row in connection.execute(counted)]


def ready_modes(store: Store, first_rates: Mapping[str, int]) -> list[bool]:
    """
    Return whether rows that have a rate by now came as history, as arrived, or both.

    Parameters
    ----------
    first_rates
        Currency → the instant from which on it has a rate, µs.
    """
    w, b = waiting_rows.c, batches.c
    modes = set[bool]()
    with store.read() as connection:
        for currency, first in first_rates.items():
            mine = select(b.history).distinct().join(waiting_rows, w.batch_id == b.batch_id)
            modes |= set(connection.scalars(mine.where(_is_ready(currency, first))))
    return sorted(modes)


def claim(
    connection: Connection, batch_id: int, first_rates: Mapping[str, int], modes: Sequence[bool]
) -> None:
    """Give a loading batch the rows that have a rate by now, of batches of these modes (whether they are history)."""
    mine = waiting_rows.c.batch_id.in_(select(batches.c.batch_id).where(batches.c.history.in_(modes)))
    for currency, first in first_rates.items():
        ready = update(waiting_rows).where(_is_ready(currency, first), mine)
        connection.execute(ready.values(taken_up_by=batch_id))


def _is_ready(currency: str, first: int) -> "ColumnElement[bool]":
    w, visible = waiting_rows.c, select(batches.c.batch_id).where(batches.c.status == "done")
    return and_(
        w.currency == currency, w.event_time >= first, w.taken_up_by.is_(None), w.batch_id.in_(visible)
    )


def supersede(connection: Connection, batch_id: int, chunk: TransactionChunk) -> None:
    """
    End the waiting of those rows of a loading batch whose id has a rate in a later row of the same batch.

    They count as taken up by their own batch, since the later row is the newer version.
    """
    w = waiting_rows.c
    last = dict(zip(chunk.transaction_id.tolist(), chunk.row_number.tolist(), strict=True))
    with bulk.staged_ids(connection, last) as stage:
        named = w.transaction_id.in_(text(f"SELECT transaction_id FROM {stage}"))
        rows = connection.execute(
            select(w.row_number, w.transaction_id).where(
                w.batch_id == batch_id, w.taken_up_by.is_(None), named
            )
        ).all()
    older = [{"older": row.row_number} for row in rows if row.row_number < last[row.transaction_id]]
    if older:
        mine = (w.batch_id == batch_id) & (w.row_number == bindparam("older"))
        connection.execute(update(waiting_rows).where(mine).values(taken_up_by=batch_id), older)


def release(connection: Connection, batch_id: int) -> None:
    """Let the rows that a batch took up wait again: the batch was interrupted or undone."""
    mine = waiting_rows.c.taken_up_by == batch_id
    connection.execute(update(waiting_rows).where(mine).values(taken_up_by=None))


def claimed(store: Store, batch_id: int) -> Iterator[TransactionChunk]:
    """
    Yield the rows that a batch claimed in the order they arrived, numbered from 1, without amounts in the base currency.

    Rows whose id has arrived again since are left out.
    """
    w = waiting_rows.c
    others = [text(f"NOT {SUPERSEDED.format(table=name)}") for name in ("transactions", "revisions")]
    rows = select(waiting_rows).where(w.taken_up_by == batch_id, *others).order_by(w.batch_id, w.row_number)
    last, number = (0, 0), 1
    while True:
        after = (w.batch_id > last[0]) | ((w.batch_id == last[0]) & (w.row_number > last[1]))
        with store.read() as connection:
            part = connection.execute(rows.where(after).limit(CLAIMED_ROWS)).all()
        if not part:
            return
        yield _chunk(store, part, number)
        last, number = (part[-1].batch_id, part[-1].row_number), number + len(part)


def add(connection: Connection, batch_id: int, chunk: TransactionChunk) -> int:
    """Set rows aside; returns the number of those that do not wait already with the same content."""
    contents = [json.dumps(content(chunk, place), ensure_ascii=False) for place in range(len(chunk))]
    keys = list(zip(chunk.transaction_id.tolist(), chunk.event_time.tolist(), contents, strict=True))
    waiting = _waiting_already(connection, chunk.transaction_id)
    fresh: dict[_Key, int] = {}
    for place, key in enumerate(keys):
        if key not in waiting:
            fresh.setdefault(key, place)
    assert chunk.currency is not None
    rows = [
        {
            "batch_id": batch_id,
            "row_number": int(chunk.row_number[place]),
            "transaction_id": name,
            "event_time": event_time,
            "currency": chunk.currency[place],
            "row": row,
        }
        for (name, event_time, row), place in fresh.items()
    ]
    if rows:
        connection.execute(insert(waiting_rows), rows)
    return len(rows)


def _waiting_already(connection: Connection, ids: Strings) -> set[_Key]:
    w = waiting_rows.c
    with bulk.staged_ids(connection, dict.fromkeys(ids.tolist())) as stage:
        named = w.transaction_id.in_(text(f"SELECT transaction_id FROM {stage}"))
        rows = connection.execute(
            select(w.transaction_id, w.event_time, w.row).where(named, w.taken_up_by.is_(None))
        )
        return {(row.transaction_id, row.event_time, row.row) for row in rows}


def content(chunk: TransactionChunk, place: int) -> dict[str, Any]:
    """Return the columns of a row but its id, time and amount in the base currency, as values that JSON has."""
    values: dict[str, Any] = {"amount": float(chunk.amount[place])}
    for name in ("currency", "kind", "original_id"):
        column = getattr(chunk, name)
        values[name] = None if column is None else column[place]
    values |= {name: column[place] for name, column in chunk.text.items()}
    numbers = {name: float(column[place]) for name, column in chunk.numeric.items()}
    values |= {name: None if np.isnan(value) else value for name, value in numbers.items()}
    return values


def _chunk(store: Store, rows: Sequence[Any], first: int) -> TransactionChunk:
    contents = [json.loads(row.row) for row in rows]

    def column(name: str) -> Strings:
        return np.array([content.get(name) for content in contents] + [None], dtype=object)[:-1]

    return TransactionChunk(
        row_number=np.arange(first, first + len(rows)),
        transaction_id=np.array([row.transaction_id for row in rows], dtype=object),
        event_time=np.array([row.event_time for row in rows], dtype=np.int64),
        amount=np.array([content["amount"] for content in contents], dtype=np.float64),
        amount_base=np.zeros(len(rows), dtype=np.int64),
        currency=np.array([row.currency for row in rows], dtype=object),
        kind=column("kind"),
        original_id=column("original_id"),
        text={name: column(name) for name in store.fields.text},
        numeric={name: column(name).astype(np.float64) for name in store.fields.numeric},
    )
