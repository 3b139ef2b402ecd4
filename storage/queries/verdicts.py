"""The log of verdicts, for lists."""

from dataclasses import dataclass

from sqlalchemy import exists, select, text

from storage.database import tables
from storage.database.database import Store
from storage.errors import Unknown
from storage.queries.rows import Position, RowPage, SortKey, fetch_page


@dataclass(frozen=True)
class VerdictFilter:
    """
    Which verdicts to list; instants in µs, None for any.

    Attributes
    ----------
    counting
        Only the newest of each payment, unless it was taken back.
    """

    transaction_id: str | None = None
    by: str | None = None
    verdict: str | None = None
    since: int | None = None
    until: int | None = None
    counting: bool = False


def verdict_page(
    store: Store, filters: VerdictFilter, limit: int | None = None, after: Position | None = None
) -> RowPage:
    """
    What people said, the newest first.

    Raises
    ------
    Unknown
        There is no such transaction.
    """
    v = tables.verdicts.c
    rows, newer = select(tables.verdicts), tables.verdicts.alias().c
    if filters.transaction_id is not None:
        require_transaction(store, filters.transaction_id)
        rows = rows.where(v.transaction_id == filters.transaction_id)
    if filters.by is not None:
        rows = rows.where(v[tables.BY] == filters.by)
    if filters.verdict is not None:
        rows = rows.where(v.verdict == filters.verdict)
    if filters.since is not None:
        rows = rows.where(v.at >= filters.since)
    if filters.until is not None:
        rows = rows.where(v.at < filters.until)
    if filters.counting:
        later = exists().where(newer.transaction_id == v.transaction_id, newer.verdict_id > v.verdict_id)
        rows = rows.where(v.verdict != "retracted", ~later)
    return fetch_page(store, rows, (SortKey(v.verdict_id, descending=True),), limit, after)


def require_transaction(store: Store, transaction_id: str) -> None:
    """Raise Unknown unless there is such a transaction."""
    sql = text("SELECT 1 FROM visible_transactions WHERE transaction_id = :id")
    with store.read() as connection:
        if connection.scalar(sql, {"id": transaction_id}) is None:
            raise Unknown(f"there is no transaction {transaction_id!r}", code="unknown_transaction")
