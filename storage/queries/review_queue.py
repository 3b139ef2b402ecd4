"""What waits for a review: open flags with the little that cases are made and ordered by."""

from typing import Any, NamedTuple

from sqlalchemy import Select, Text, literal, select

from storage.database import tables
from storage.database.database import Store


class QueuedFlag(NamedTuple):
    """
    A flag that is not muted, of an entity that has an open one.

    Attributes
    ----------
    entity
        The value of the entity that cases go by; None without one.
    event_time
        µs.
    loss
        The expected loss in the base currency; -1 without one.
    """

    transaction_id: str
    entity: str | None
    event_time: int
    status: str
    channel: str
    loss: float
    score: float


def queued_flags(store: Store, policy: str) -> list[QueuedFlag]:
    """The open flags of a policy, and the answered ones of the same entities, which say when a case began; without muted ones."""
    f, t = tables.flags.c, store.transactions.c
    column = store.fields.case_entity
    rows = _flags(store, policy)
    is_open = f.status == "open"
    queries = [rows.where(is_open)]
    if column:
        waiting = (
            select(t[column])
            .select_from(tables.flags.join(store.transactions, t.transaction_id == f.transaction_id))
            .where(f.policy == policy, is_open, t[column].is_not(None))
        )
        queries.append(rows.where(~is_open, t[column].in_(waiting)))
    with store.read() as connection:
        return [QueuedFlag(*row) for query in queries for row in connection.execute(query)]


def _flags(store: Store, policy: str) -> "Select[Any]":
    f, t = tables.flags.c, store.transactions.c
    column = store.fields.case_entity
    entity = t[column] if column else literal(None, Text)
    return (
        select(
            f.transaction_id, entity.label("entity"), f.event_time, f.status, f.channel, f.loss_order, f.score
        )
        .select_from(tables.flags.join(store.transactions, t.transaction_id == f.transaction_id))
        .where(f.policy == policy, f.muted_by.is_(None))
    )
