"""Notes and claims, for lists."""

from sqlalchemy import select

from storage.database import tables
from storage.database.database import Store
from storage.queries.rows import Position, RowPage, SortKey, fetch_page
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
