"""
Bulk inserts and staging tables: COPY on Postgres, executemany on SQLite. Only this module knows the difference.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Table, TextClause, text

from storage.database.column_types import as_texts
from storage.frames import Ints

Columns = Mapping[str, Sequence[Any]]
STAGE = "staged_ids"
FEW = 20  # rows that Postgres inserts one by one: to make a staging table for them takes longer


def instants(values: Ints) -> list[str]:
    """Instants in the text form that both engines read."""
    return as_texts(values) if len(values) else []


def numbers(values: NDArray[np.float64]) -> list[float | None]:
    """Floats, with None for NaN."""
    listed: list[float | None] = values.tolist()
    return [None if value != value else value for value in listed] if np.isnan(values).any() else listed  # noqa: PLR0124


def insert_new(connection: Connection, table: Table, columns: Columns) -> int:
    """Insert the rows whose key does not exist yet; returns their number."""
    quote = connection.dialect.identifier_preparer.quote
    listed = ", ".join(quote(name) for name in columns)
    rows: Iterable[Sequence[Any]] = zip(*columns.values(), strict=True)
    is_postgres = connection.dialect.name == "postgresql"
    if is_postgres and len(next(iter(columns.values()))) > FEW:
        return _copy(connection, table, listed, rows)
    if is_postgres:
        rows = sorted([[*map(_as_copied, row)] for row in rows], key=_order(table, columns))
    marks = ", ".join(["%s" if is_postgres else "?"] * len(columns))
    return _many(
        connection, f"INSERT INTO {table.name} ({listed}) VALUES ({marks}) ON CONFLICT DO NOTHING", rows
    )


def _as_copied(value: Any) -> Any:
    """A number as COPY writes it: as a parameter of its own type it would lose digits on its way to NUMERIC."""
    return repr(float(value)) if isinstance(value, float) else value


def _order(table: Table, columns: Columns) -> Callable[[Sequence[Any]], list[Any]]:
    """The key of a row, by which rows are inserted, so that writers never deadlock."""
    keys = [column.name for column in table.primary_key if column.name in columns] or ["transaction_id"]
    places = [list(columns).index(name) for name in keys]
    return lambda row: [row[place] for place in places]


def _many(connection: Connection, sql: str, rows: Iterable[Sequence[Any]]) -> int:
    cursor = connection.connection.cursor()
    try:
        cursor.executemany(sql, rows)  # type: ignore[arg-type]  # sqlite3 takes any iterable
        return max(int(cursor.rowcount), 0)
    finally:
        cursor.close()


def _copy(connection: Connection, table: Table, listed: str, rows: Iterable[Sequence[Any]]) -> int:
    """
    COPY cannot skip conflicts, so it fills a staging table; keys are inserted in order, so writers never deadlock.

    The table lasts as long as the transaction: another one may run in another session, and with other columns.
    """
    stage = f"stage_{table.name}"
    key = ", ".join(column.name for column in table.primary_key) or "transaction_id"
    order = "transaction_id" if table.name == "labels" else key
    with connection.connection.cursor() as cursor:  # type: ignore[attr-defined]
        cursor.execute(
            f"CREATE TEMP TABLE IF NOT EXISTS {stage} ON COMMIT DROP AS SELECT {listed} FROM {table.name} LIMIT 0"
        )
        cursor.execute(f"TRUNCATE {stage}")
        with cursor.copy(f"COPY {stage} ({listed}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        cursor.execute(
            f"INSERT INTO {table.name} ({listed}) SELECT {listed} FROM {stage} ORDER BY {order} "
            "ON CONFLICT DO NOTHING"
        )
        return int(cursor.rowcount)


def listed_ids(dialect: str) -> str:
    """
    SQL that selects the transaction ids of the parameter `listed_ids`, a JSON list, as `transaction_id`.

    For reads, which then need no temporary table: a database that takes no writes, such as a replica, answers them, too.
    Not for `not_in`, which sets no parentheses around text: `~` of an `in_` does.
    """
    if dialect == "postgresql":
        return 'SELECT json_array_elements_text(CAST(:listed_ids AS json)) COLLATE "C" AS transaction_id'
    return "SELECT value AS transaction_id FROM json_each(:listed_ids)"


def with_listed_ids(sql: str, ids: Iterable[str]) -> TextClause:
    """A statement, or a part of one, that holds `listed_ids`, with these ids."""
    return text(sql).bindparams(listed_ids=json.dumps(list(ids)))


def listed_rows(dialect: str, columns: Mapping[str, str]) -> str:
    """SQL that selects the rows of the parameter `listed_rows`, a JSON list of lists, as columns with these names and types."""
    if dialect == "postgresql":
        listed = (
            f"CAST(value ->> {at} AS {kind}) AS {name}" for at, (name, kind) in enumerate(columns.items())
        )
        return f"SELECT {', '.join(listed)} FROM json_array_elements(CAST(:listed_rows AS json))"
    listed = (f"json_extract(value, '$[{at}]') AS {name}" for at, name in enumerate(columns))
    return f"SELECT {', '.join(listed)} FROM json_each(:listed_rows)"


def write_listed(
    connection: Connection, sql: str, columns: Mapping[str, str], rows: Sequence[Sequence[Any]]
) -> None:
    """
    Change rows by one statement that reads `{rows}`: one for each row would take minutes on Postgres.

    Parameters
    ----------
    columns
        Name and type of each value of a row; instants as text.
    """
    if rows:
        statement = sql.format(rows=listed_rows(connection.dialect.name, columns))
        connection.execute(text(statement), {"listed_rows": json.dumps(rows)})


@contextmanager
def staged_ids(connection: Connection, ids: Iterable[str]) -> Iterator[str]:
    """Fill a temporary table with transaction ids to join with (column `transaction_id`); yields its name."""
    if connection.dialect.name == "postgresql":
        _stage_postgres(connection, ids)
    else:
        connection.exec_driver_sql(
            f"CREATE TEMP TABLE IF NOT EXISTS {STAGE} (transaction_id TEXT PRIMARY KEY)"
        )
        connection.exec_driver_sql(f"DELETE FROM {STAGE}")
        _many(connection, f"INSERT OR IGNORE INTO {STAGE} VALUES (?)", ((name,) for name in ids))
    yield STAGE


def _stage_postgres(connection: Connection, ids: Iterable[str]) -> None:
    with connection.connection.cursor() as cursor:  # type: ignore[attr-defined]
        cursor.execute(
            f'CREATE TEMP TABLE IF NOT EXISTS {STAGE} (transaction_id TEXT COLLATE "C") ON COMMIT DROP'
        )
        cursor.execute(f"TRUNCATE {STAGE}")
        with cursor.copy(f"COPY {STAGE} FROM STDIN") as copy:
            for name in ids:
                copy.write_row((name,))
