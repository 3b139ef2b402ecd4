"""
Payments that are scored as they arrive: each is visible at once, from an instant of its own on.

All that arrive on a day through one process share a batch, which is visible from its first payment on. They are written under
the lock that `history.horizon` takes, so that an arrival is later than all that was visible before it, and earlier than all
that comes after: what a payment's score knows is the same whenever it is computed.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from sqlalchemy import Connection, Select, bindparam, exists, insert, or_, select, text, update

from storage.database import bulk
from storage.database.column_types import as_texts
from storage.database.database import Store
from storage.database.tables import (
    backfilled_spans,
    batches,
    labels,
    monitor,
    policies,
    queue,
    rejected_rows,
)
from storage.frames import Ints, Strings
from storage.ingest.batches import RejectedRow, insert_fresh, stamp, stamp_after
from storage.ingest.chunks import TransactionChunk
from storage.ingest.entity_rows import MARK_COLUMNS, Mark, as_mark
from storage.runs import scoring_queue


@dataclass(frozen=True)
class Arrived:
    """
    What became of some payments.

    Attributes
    ----------
    batch_id
        The batch that they are in.
    fresh
        Positions of those that were stored; the ids of the others are known already.
    arrived_at
        µs; the same for all of them.
    before
        What was stored before them; its promotion is stored with each.
    labelled
        Whether there are labels of some of them already.
    """

    batch_id: int
    fresh: Ints
    arrived_at: int
    before: Mark
    labelled: bool


@dataclass(frozen=True)
class ArrivalBatch:
    """A batch for payments that arrive one by one, as it is begun: policy that scores them, source and who stores them."""

    policy: str
    source: str
    holder: str


def add(
    store: Store, batch: ArrivalBatch, batch_id: int | None, chunk: TransactionChunk, now: int
) -> Arrived:
    """
    Store the payments whose ids are new, visible at once, and put them into the scoring queue, in one transaction.

    With each is stored the newest promotion of the policy that scores it on arrival.

    Parameters
    ----------
    batch_id
        Where earlier ones are; a batch is begun if it is None, or if somebody has withdrawn it since.
    """
    given = {
        "mark_policy": batch.policy, "batch_id": batch_id, "listed_ids": json.dumps(chunk.transaction_id.tolist()),
    }  # fmt: skip
    with store.write_exclusive() as connection:
        *mark, horizon, status, labelled, shared = connection.execute(_before(store.dialect), given).one()
        before = as_mark(*mark)
        arrived_at = stamp_after(connection, now, (mark[0], horizon))
        if batch_id is None or status != "done":
            batch_id = _begin(connection, batch, arrived_at)
        columns = chunk.columns(batch_id) | {
            "arrived_at": as_texts(np.full(len(chunk), arrived_at)),
            "arrived_promotion": [before.promotion] * len(chunk),
        }
        fresh = insert_fresh(connection, store, chunk, columns)
        payments = chunk.take(fresh).payments(store.fields.refund_kinds)
        always = scoring_queue.Coverage(batch.policy, ((scoring_queue.EARLIEST, scoring_queue.FOREVER),))
        covered = scoring_queue.coverage(connection) if shared else ()
        others = [each for each in covered if each.policy != batch.policy]
        scoring_queue.enqueue(connection, [always, *others], payments.transaction_id, payments.event_time)
        _count(connection, batch_id, len(fresh), arrived_at)
    return Arrived(batch_id, fresh, arrived_at, before, labelled)


_OTHERS = [
    exists().where(table.c.policy != bindparam("mark_policy")) for table in (policies, backfilled_spans)
]


@cache
def _before(dialect: str) -> "Select[Any]":
    """The mark and the newest as_of before some payments, the state of a batch, whether they have labels, and whether others score them, too."""
    return select(
        *MARK_COLUMNS,
        select(monitor.c.horizon).scalar_subquery(),
        select(batches.c.status).where(batches.c.batch_id == bindparam("batch_id")).scalar_subquery(),
        exists().where(labels.c.transaction_id.in_(text(bulk.listed_ids(dialect)))),
        or_(*_OTHERS),
    )


def reject(
    store: Store, batch: ArrivalBatch, batch_id: int | None, rows: Sequence[RejectedRow], now: int
) -> int:
    """Store rows that were rejected, with their reasons, counted on from those before; returns their batch, as in `add`."""
    with store.write_exclusive() as connection:
        if batch_id is None or not _is_visible(connection, batch_id):
            batch_id = _begin(connection, batch, stamp(connection, now))
        b = batches.c
        read = connection.scalar(select(b.read).where(b.batch_id == batch_id)) or 0
        numbered = [
            {"batch_id": batch_id, "row_number": read + place, "row": row.row, "reason": row.reason}
            for place, row in enumerate(rows, start=1)
        ]
        connection.execute(insert(rejected_rows), numbered)
        counts = {"read": read + len(rows), "rejected": b.rejected + len(rows)}
        connection.execute(update(batches).where(b.batch_id == batch_id).values(counts))
    return batch_id


def _is_visible(connection: Connection, batch_id: int) -> bool:
    status = select(batches.c.status).where(batches.c.batch_id == batch_id)
    return connection.scalar(status) == "done"


def _begin(connection: Connection, batch: ArrivalBatch, arrived_at: int) -> int:
    row = {
        "kind": "transactions",
        "source": batch.source,
        "status": "done",
        "history": False,
        "on_arrival": True,
        "started_at": arrived_at,
        "visible_at": arrived_at,
        "holder": batch.holder,
    }
    inserted = connection.execute(insert(batches).values(**row))
    assert inserted.inserted_primary_key is not None
    return int(inserted.inserted_primary_key[0])


def unscored(store: Store, policy: str, ids: Sequence[str]) -> tuple[Strings, Ints]:
    """Which of these payments are to be scored on arrival and have no score yet: their ids and times (µs)."""
    t = store.transactions.c
    listed = bulk.with_listed_ids(bulk.listed_ids(store.dialect), ids)
    waiting = select(queue.c.transaction_id).where(queue.c.policy == policy)
    arrived = (t.transaction_id.in_(listed), t.transaction_id.in_(waiting), t.arrived_at.is_not(None))
    with store.read() as connection:
        rows = connection.execute(select(t.transaction_id, t.event_time).where(*arrived)).all()
    names = np.array([row.transaction_id for row in rows], dtype=object)
    return names, np.array([row.event_time for row in rows], dtype=np.int64)


def _count(connection: Connection, batch_id: int, fresh: int, arrived_at: int) -> None:
    connection.execute(_COUNT, {"counted": batch_id, "fresh": fresh, "arrived_at": arrived_at})


_COUNT = (
    update(batches)
    .where(batches.c.batch_id == bindparam("counted"))
    .values(
        read=batches.c.read + bindparam("fresh"),
        accepted=batches.c.accepted + bindparam("fresh"),
        visible_at=bindparam("arrived_at"),
    )
)
