"""Notes and claims, for lists."""

from collections.abc import Sequence

from sqlalchemy import select

from storage.database import bulk, tables
from storage.database.database import Store
from storage.queries.rows import Position, Row, RowPage, SortKey, fetch_page, read_rows
from storage.queries.verdicts import require_transaction


def note_page(
    store: Store, transaction_id: str | None = None, limit: int | None = None, after: Position | None = None
) -> RowPage:
    """
    The notes on a payment, or on all, the newest first.

    Raises
    ------
    Unknown
        There is no such transaction.
    """
    n = tables.notes.c
    rows = select(tables.notes)
    if transaction_id is not None:
        require_transaction(store, transaction_id)
        rows = rows.where(n.transaction_id == transaction_id)
    return fetch_page(store, rows, [SortKey(n.note_id, descending=True)], limit, after)


def claim_page(
    store: Store, policy: str, now: int, limit: int | None = None, after: Position | None = None
) -> RowPage:
    """The claims that are in force at a time (µs), by transaction."""
    c = tables.claims.c
    rows = select(tables.claims).where(c.policy == policy, c.until > now)
    return fetch_page(store, rows, [SortKey(c.transaction_id)], limit, after)


def claims_on(store: Store, policy: str, ids: Sequence[str], now: int) -> list[Row]:
    """The claims on these flags that are in force at a time (µs)."""
    c = tables.claims.c
    mine = bulk.with_listed_ids(bulk.listed_ids(store.dialect), ids)
    in_force = (c.policy == policy, c.transaction_id.in_(mine), c.until > now)
    return read_rows(store, select(tables.claims).where(*in_force))
