"""The log of verdicts, for lists."""

from sqlalchemy import select, text

from storage.database import tables
from storage.database.database import Store
from storage.errors import Unknown
from storage.queries.rows import Position, RowPage, SortKey, fetch_page


def verdict_page(
    store: Store, transaction_id: str | None = None, limit: int | None = None, after: Position | None = None
) -> RowPage:
    """
    What people said of a payment, or of all, the newest first.

    Raises
    ------
    Unknown
        There is no such transaction.
    """
    v = tables.verdicts.c
    rows = select(tables.verdicts)
    if transaction_id is not None:
        require_transaction(store, transaction_id)
        rows = rows.where(v.transaction_id == transaction_id)
    return fetch_page(store, rows, (SortKey(v.verdict_id, descending=True),), limit, after)


def require_transaction(store: Store, transaction_id: str) -> None:
    """Raise Unknown unless there is such a transaction."""
    sql = text("SELECT 1 FROM visible_transactions WHERE transaction_id = :id")
    with store.read() as connection:
        if connection.scalar(sql, {"id": transaction_id}) is None:
            raise Unknown(f"there is no transaction {transaction_id!r}", code="unknown_transaction")
