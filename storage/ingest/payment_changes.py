"""
What becomes of payments after their first version: later versions, refunds, and what people stopped.

Each fact has the instant from which on it is known, so that one reading serves every instant.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import (
    ColumnElement,
    Connection,
    Exists,
    Select,
    exists,
    literal,
    not_,
    or_,
    select,
    union_all,
)

from storage.database.database import Store
from storage.database.tables import verdicts
from storage.frames import FOREVER, MONEY, NEVER, Coded, Ints, Strings
from storage.ingest.history import Coder, VisibleBatches
from storage.review.verdict_log import RETRACTED, retracted_at

Span = tuple["ColumnElement[bool]", ...]
STOPPING = ("blocked", "refunded")  # actions after which no chargeback comes


@dataclass(frozen=True)
class Revisions:
    """Later versions of payments, in the order (transaction_id, revision)."""

    transaction_id: Strings  # (k,)
    known_from: Ints  # (k,) µs: `NEVER` for history, which is known from the beginning
    amount: Ints  # (k,) 1/10,000 of the base currency
    columns: Mapping[str, Coded]


@dataclass(frozen=True)
class Refunds:
    """Versions of refunds, in the order (refund_id, revision)."""

    refund_id: Strings  # (k,) transaction_id of the refund
    transaction_id: Strings  # (k,) of the payment
    known_from: Ints  # (k,) µs
    amount: Ints  # (k,) 1/10,000 of the base currency, 0 or more


@dataclass(frozen=True)
class Stops:
    """Verdicts that stop a payment: it was blocked or refunded, or called fraud."""

    transaction_id: Strings  # (k,)
    at: Ints  # (k,) µs
    retracted_at: Ints  # (k,) µs: from then on it no longer holds; `FOREVER` while it does


@dataclass(frozen=True)
class PaymentChanges:
    """What became of the payments of a span."""

    revisions: Revisions
    refunds: Refunds
    stops: Stops


def load_payment_changes(store: Store, start: int, end: int, columns: Sequence[str]) -> PaymentChanges:
    """
    The changes of payments with start ≤ event_time < end, whenever they happened; `columns` are text columns of a version.

    Refunds of later payments are among them.
    """
    t = store.transactions.c
    in_span = (t.event_time >= start, t.event_time < end)
    with store.read() as connection:
        visible = VisibleBatches(connection)
        return PaymentChanges(
            _revisions(connection, store, visible, in_span, columns),
            _refunds(connection, store, visible, start),
            _stops(connection, store, in_span),
        )


def _revisions(
    connection: Connection, store: Store, visible: VisibleBatches, in_span: Span, columns: Sequence[str]
) -> Revisions:
    r, t = store.revisions.c, store.transactions.c
    listed: list[Any] = [r.transaction_id, r.batch_id, r.amount_base, *(r[name] for name in columns)]
    rows = (
        select(*listed)
        .join(store.transactions, t.transaction_id == r.transaction_id)
        .where(*in_span)
        .order_by(r.transaction_id, r.revision)
    )
    names, batch, amount, *texts = _read(connection, rows, exists(select(r.revision)))
    known_from, readable = _known_from(visible, batch, np.full(len(batch), NEVER))
    return Revisions(
        np.array(names, dtype=object)[readable],
        known_from[readable],
        _money(amount)[readable],
        {name: _coded(values).take(readable) for name, values in zip(columns, texts, strict=True)},
    )


def _refunds(connection: Connection, store: Store, visible: VisibleBatches, start: int) -> Refunds:
    t, r = store.transactions.c, store.revisions.c
    # `NOT (a < b)`: SQLite would read all transactions since then by their time, and not the few refunds.
    refund = (
        t.original_id.is_not(None),
        t.kind.in_(store.fields.refund_kinds),
        not_(t.event_time.bool_op("<")(start)),
    )
    of_refund: list[Any] = [t.transaction_id, t.original_id, t.event_time]
    first = select(*of_refund, literal(0).label("revision"), t.batch_id, t.amount_base)
    later = select(*of_refund, r.revision, r.batch_id, r.amount_base).join(
        store.revisions, r.transaction_id == t.transaction_id
    )
    versions = union_all(first.where(*refund), later.where(*refund)).subquery()
    rows = select(versions).order_by(versions.c.transaction_id, versions.c.revision)
    refunds = exists(select(t.original_id).where(t.original_id.is_not(None)))
    names, payments, times, _, batch, amount = _read(connection, rows, refunds)
    event_time = np.array(times, dtype=np.int64)
    known_from, readable = _known_from(visible, batch, event_time)
    return Refunds(
        np.array(names, dtype=object)[readable],
        np.array(payments, dtype=object)[readable],
        np.maximum(event_time, known_from)[readable],
        np.abs(_money(amount))[readable],
    )


def _stops(connection: Connection, store: Store, in_span: Span) -> Stops:
    v, t = verdicts.c, store.transactions.c
    rows = (
        select(v.transaction_id, v.at, retracted_at(v).label("retracted_at"))
        .join(store.transactions, t.transaction_id == v.transaction_id)
        .where(or_(v.action.in_(STOPPING), v.verdict == "fraud"), v.verdict != RETRACTED, *in_span)
    )
    names, at, until = _read(connection, rows, exists(select(v.verdict_id)))
    return Stops(
        np.array(names, dtype=object),
        np.array(at, dtype=np.int64),
        np.array([FOREVER if instant is None else instant for instant in until], dtype=np.int64),
    )


def _read(connection: Connection, rows: "Select[Any]", any_row: "Exists") -> list[tuple[Any, ...]]:
    """The columns of some rows; most databases have none, and then nothing else is looked through."""
    result = connection.execute(rows).all() if connection.scalar(select(any_row)) else []
    return list(zip(*result, strict=True)) if result else [()] * len(rows.selected_columns)


def _known_from(visible: VisibleBatches, batch: Sequence[int], history: Ints) -> tuple[Ints, Any]:
    """Since when rows of these batches are known, for history since `history`; and whether they are visible."""
    batch_ids = np.array(batch, dtype=np.int64)
    readable = visible.is_visible(batch_ids)
    return visible.ingested_at(np.where(readable, batch_ids, 0), history), readable


def _money(values: Sequence[float]) -> Ints:
    return np.rint(np.array(values, dtype=np.float64) * MONEY).astype(np.int64)


def _coded(values: Sequence[str | None]) -> Coded:
    coder = Coder()
    coder.add(values)
    return coder.coded()
