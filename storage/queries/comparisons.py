"""The list of stored comparisons of techniques."""

from sqlalchemy import select

from storage.database import tables
from storage.database.database import Store
from storage.queries.rows import Position, RowPage, SortKey, fetch_page


def comparison_page(store: Store, limit: int, after: Position | None = None) -> RowPage:
    """Comparisons without their results, newest first."""
    c = tables.comparisons.c
    query = select(c.comparison_id, c.at, c.by, c.sentence)
    return fetch_page(store, query, [SortKey(c.comparison_id, descending=True)], limit, after)
