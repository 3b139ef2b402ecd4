"""Reading any table or view in chunks, for `export`."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import column, inspect, select, table

from storage.database import loss_views, tables
from storage.database.column_types import Instant, Json, as_datetime
from storage.database.database import Store
from storage.database.views import NAMES
from storage.errors import Unknown

ROWS_AT_ONCE = 20_000
# Hashes of passwords and secrets, and the key of what leaves the database.
NOT_EXPORTED = frozenset({"users", "user_sessions", "api_tokens", "log_in_attempts", "web_keys"})


def names(store: Store) -> list[str]:
    """The tables and views that can be exported: all without secrets."""
    everything = {*tables.metadata.tables, store.transactions.name, store.revisions.name, *NAMES}
    return sorted(everything - NOT_EXPORTED)


def columns(store: Store, name: str) -> dict[str, Any]:
    """
    The columns of a table or view with their types.

    Raises
    ------
    Unknown
        There is no such table.
    """
    if name not in names(store):
        choices = ", ".join(names(store))
        raise Unknown(
            f"there is no table or view {name}", remedy=f"choose from {choices}", code="unknown_table"
        )
    with store.read() as connection:
        present = [column["name"] for column in inspect(connection).get_columns(name)]
    known: dict[str, Any] = {name: Instant() for name in loss_views.INSTANTS}
    for each in (*tables.metadata.sorted_tables, store.revisions, store.transactions):
        known |= {c.name: c.type for c in each.c if isinstance(c.type, Instant | Json)}
    own = store.transactions if name == "transactions" else tables.metadata.tables.get(name)
    types = {c.name: c.type for c in own.c} if own is not None else {}
    return {column: types.get(column, known.get(column)) for column in present}


def rows(store: Store, name: str) -> Iterator[list[dict[str, Any]]]:
    """Chunks of rows of a table or view; instants are aware datetimes, so that Parquet stores them as timestamps."""
    typed = columns(store, name)
    query = select(table(name, *(column(key, type_) for key, type_ in typed.items())))
    instants = [key for key, type_ in typed.items() if isinstance(type_, Instant)]
    with store.read() as connection:
        result = connection.execution_options(yield_per=ROWS_AT_ONCE).execute(query)
        try:
            for part in result.mappings().partitions():
                chunk = [dict(row) for row in part]
                for row in chunk:
                    for key in instants:
                        row[key] = None if row[key] is None else as_datetime(row[key])
                yield chunk
        finally:
            result.close()
