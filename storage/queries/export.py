"""Any table or view, a part at a time."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import column, inspect, select, table

from storage.database import tables
from storage.database.column_types import Instant, Json, as_datetime
from storage.database.database import Store
from storage.database.views import NAMES
from storage.errors import Unknown

ROWS_AT_ONCE = 20_000


def names(store: Store) -> list[str]:
    """What can be exported."""
    return sorted({*tables.metadata.tables, store.transactions.name, store.revisions.name, *NAMES})


def columns(store: Store, name: str) -> dict[str, Any]:
    """
    The columns of a table or view with their types.

    Raises
    ------
    Unknown
        There is no such table.
    """
    if name not in names(store):
        raise Unknown(f"there is no table or view {name}: choose from {', '.join(names(store))}")
    with store.read() as connection:
        found = [one["name"] for one in inspect(connection).get_columns(name)]
    known: dict[str, Any] = {}
    for one in (*tables.metadata.sorted_tables, store.revisions, store.transactions):
        known |= {c.name: c.type for c in one.c if isinstance(c.type, Instant | Json)}
    own = store.transactions if name == "transactions" else tables.metadata.tables.get(name)
    types = {c.name: c.type for c in own.c} if own is not None else {}
    return {one: types.get(one, known.get(one)) for one in found}


def rows(store: Store, name: str) -> Iterator[list[dict[str, Any]]]:
    """Parts of a table or view; instants as aware datetimes, so that Parquet keeps them as times."""
    typed = columns(store, name)
    chosen = select(table(name, *(column(one, type_) for one, type_ in typed.items())))
    instants = [one for one, type_ in typed.items() if isinstance(type_, Instant)]
    with store.read() as connection:
        found = connection.execution_options(yield_per=ROWS_AT_ONCE).execute(chosen)
        try:
            for part in found.mappings().partitions():
                held = [dict(row) for row in part]
                for row in held:
                    for one in instants:
                        row[one] = None if row[one] is None else as_datetime(row[one])
                yield held
        finally:
            found.close()
