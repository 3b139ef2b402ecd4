"""INSERT … ON CONFLICT, which SQLAlchemy writes per engine."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Select, Table, true
from sqlalchemy.dialects import postgresql, sqlite

from storage.columns import POSTGRES


def insert_missing(connection: Connection, table: Table, names: Sequence[str], rows: Select[Any]) -> int:
    """Insert what a SELECT finds, leaving out keys that are there; returns how many went in."""
    if connection.dialect.name == POSTGRES:
        statement: Any = postgresql.insert(table).from_select(list(names), rows).on_conflict_do_nothing()
    else:
        # Without a WHERE, SQLite takes the ON of ON CONFLICT for a join's.
        chosen = rows if rows.whereclause is not None else rows.where(true())
        statement = sqlite.insert(table).from_select(list(names), chosen).on_conflict_do_nothing()
    return connection.execute(statement, execution_options={"preserve_rowcount": True}).rowcount


def add_missing(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, leaving out keys that are there."""
    if rows:
        connection.execute(_insert(connection)(table).on_conflict_do_nothing(), list(rows))


def add_or_replace(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], unless_less: str | None = None
) -> None:
    """Insert rows; where the key is there, replace the rest, unless its `unless_less` would shrink."""
    if not rows:
        return
    statement = _insert(connection)(table)
    key = [column.name for column in table.primary_key]
    changed = {one.name: statement.excluded[one.name] for one in table.c if one.name not in key}
    kept = None if unless_less is None else statement.excluded[unless_less] >= table.c[unless_less]
    connection.execute(
        statement.on_conflict_do_update(index_elements=key, set_=changed, where=kept), list(rows)
    )


def _insert(connection: Connection) -> Any:
    return postgresql.insert if connection.dialect.name == POSTGRES else sqlite.insert
