"""Payments, flagged or not, with what became of them: one by its id, and those of an entity in the order of time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, and_, func, select

from storage.database import bulk, tables
from storage.database.database import Store
from storage.database.views import field_name
from storage.errors import Unknown
from storage.queries.flags import holding_labels
from storage.queries.rows import (
    Position,
    Row,
    RowPage,
    SortKey,
    fetch_page,
    read_page,
    rows_of,
)
from storage.queries.verdicts import require_transaction

OF_TRANSACTION = (
    "transaction_id",
    "event_time",
    "amount",
    "currency",
    "amount_base",
    "kind",
    "original_id",
    "batch_id",
)
OF_SCORE = ("score", "fraud_probability", "threshold", "expected_loss", "model_id")
OF_FLAG = ("channel", "status", "muted_by")
OF_LABEL = {"is_fraud": "is_fraud", "label_type": "type", "label_source": "source", "known_at": "known_at"}


def entity_page(
    store: Store,
    policy: str,
    entity: tuple[str, str],
    limit: int | None = None,
    after: Position | None = None,
) -> RowPage:
    """The payments of an entity (its column, and its value as it is stored), the newest first."""
    with store.read() as connection:
        ids, position = _timeline(connection, store, entity, limit, after)
        rows = {row["transaction_id"]: row for row in payment_rows(connection, store, policy, ids)}
    return RowPage([rows[name] for name in ids], position)


@dataclass(frozen=True)
class Surroundings:
    """The ids of an entity's payments before a payment, the newest first, and after it, the oldest first; whether there are more before."""

    before: list[str]
    after: list[str]
    is_cut: bool


def payments_around(
    store: Store,
    policy: str,
    entities: Sequence[tuple[str, str]],
    at: Position,
    n_before: int,
    n_after: int,
) -> tuple[list[Surroundings], dict[str, Row]]:
    """The payments of several entities around a position in time, and all of them by their ids: read at once, for plans take longer than rows."""
    with store.read() as connection:
        found = []
        for entity in entities:
            before, more = _timeline(connection, store, entity, n_before, at)
            after, _ = _timeline(connection, store, entity, n_after, at, oldest_first=True)
            found.append(Surroundings(before, after, more is not None))
        ids = {name for each in found for name in (*each.before, *each.after)}
        rows = payment_rows(connection, store, policy, sorted(ids))
    return found, {row["transaction_id"]: row for row in rows}


def _timeline(
    connection: Connection,
    store: Store,
    entity: tuple[str, str],
    limit: int | None,
    after: Position | None,
    *,
    oldest_first: bool = False,
) -> tuple[list[str], Position | None]:
    """The ids of a page of an entity's payments, and where the next page begins."""
    t, (column, value) = store.transactions.c, entity
    chosen = select(t.transaction_id).where(t[column] == value, _is_visible(store))
    keys = (
        SortKey(t.event_time, descending=not oldest_first),
        SortKey(t.transaction_id, descending=oldest_first),
    )
    page = read_page(connection, chosen, keys, limit, after)
    return [row["transaction_id"] for row in page.rows], page.next_position


def payment_row(store: Store, policy: str, transaction_id: str) -> Row:
    """
    A payment with its score and flag under a policy.

    Raises
    ------
    Unknown
        There is no such transaction.
    """
    with store.read() as connection:
        rows = payment_rows(connection, store, policy, [transaction_id])
    if not rows:
        raise Unknown(f"there is no transaction {transaction_id!r}", code="unknown_transaction")
    return rows[0]


def label_page(
    store: Store, transaction_id: str, limit: int | None = None, after: Position | None = None
) -> RowPage:
    """
    What is known of a payment from every source, what was recorded last first; what is being loaded is not there yet.

    Raises
    ------
    Unknown
        There is no such transaction.
    """
    require_transaction(store, transaction_id)
    c, b = tables.labels.c, tables.batches.c
    rows = select(
        c.label_id, c.transaction_id, c.is_fraud, c.type, c.reason, c.stage, c.source, c.known_at, c.recorded_at, c.batch_id,
        c.by, c.retracts,
    ).outerjoin(tables.batches, b.batch_id == c.batch_id)  # fmt: skip
    mine = rows.where(c.transaction_id == transaction_id, c.batch_id.is_(None) | (b.status == "done"))
    return fetch_page(store, mine, [SortKey(c.label_id, descending=True)], limit, after)


def _is_visible(store: Store) -> Any:
    done = select(tables.batches.c.batch_id).where(tables.batches.c.status == "done")
    return store.transactions.c.batch_id.in_(done)


def payment_rows(connection: Connection, store: Store, policy: str, ids: Sequence[str]) -> list[Row]:
    """These payments with their scores and flags under a policy, in no order; of one that is not visible there is nothing."""
    return rows_of(connection, _payments(store, policy, ids))


def _newest_revision(store: Store) -> Any:
    """The number of a transaction's newest visible revision, 0 without one."""
    r, b = store.revisions.c, tables.batches.c
    newest = (
        select(func.coalesce(func.max(r.revision), 0))
        .join(tables.batches, b.batch_id == r.batch_id)
        .where(r.transaction_id == store.transactions.c.transaction_id, b.status == "done")
    )
    return newest.correlate(store.transactions).scalar_subquery().label("revision")


def _payments(store: Store, policy: str, ids: Sequence[str]) -> "Select[Any]":
    given, holding = bulk.listed_ids(store.dialect), holding_labels(store, ids)
    t, s, f = store.transactions.c, tables.scores.c, tables.flags.c
    joined = (
        store.transactions.outerjoin(
            tables.scores, and_(s.policy == policy, s.transaction_id == t.transaction_id)
        )
        .outerjoin(tables.flags, and_(f.policy == policy, f.transaction_id == t.transaction_id))
        .outerjoin(holding, holding.c.transaction_id == t.transaction_id)
    )
    columns = [
        *(
            source[name]
            for source, names in ((t, OF_TRANSACTION), (s, OF_SCORE), (f, OF_FLAG))
            for name in names
        ),
        *(holding.c[column].label(name) for name, column in OF_LABEL.items()),
        *(t[name].label(field_name(name)) for name in store.fields.names),
        _newest_revision(store),
    ]
    return (
        select(*columns)
        .select_from(joined)
        .where(t.transaction_id.in_(bulk.with_listed_ids(given, ids)), _is_visible(store))
    )
