"""
What `setup.upgrade` would execute on a Postgres server, as text for its administrator.

Queries run on the database as it is; every other statement is written down and not executed.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from alembic import command
from sqlalchemy import Connection, Engine, event, insert

from storage.database import cases, setup, tables
from storage.database.database import Store
from storage.errors import Refused

RECORDED = "fraudwatch_recorded"  # the execution option of a connection that writes down
GRANTS = """
-- Rights of a role that runs fraudwatch and owns nothing (replace NAME; a new table needs them again):
-- GRANT USAGE ON SCHEMA {schema} TO NAME;
-- GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO NAME;
-- REVOKE UPDATE, DELETE, TRUNCATE ON {schema}.audit FROM NAME;
-- GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO NAME;
-- GRANT TEMPORARY ON DATABASE {database} TO NAME;
"""


def upgrade_sql(
    store: Store,
    monitor: str,
    now: int,
    precedence: Sequence[str] = (),
    never_by_silence: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """
    The statements that create the tables, or upgrade them from the version that the database has.

    Raises
    ------
    Refused
        The database is an SQLite file, which needs no administrator.
    UnsupportedSchema, WrongMonitor
        As for `setup.upgrade`.
    """
    if store.dialect != "postgresql":
        raise Refused("statements are printed for Postgres only, and storage.url is an SQLite file")
    quote = store.engine.dialect.identifier_preparer.quote_identifier
    schema, database = quote(store.schema), quote(store.engine.url.database or "")
    with _recording(store) as (connection, statements):
        if setup.check_upgradable(connection, store, monitor) is None:
            _create(connection, store, monitor, now)
        else:
            command.upgrade(setup.alembic_config(connection), "head")
            setup.add_columns(connection, store)
            cases.follow_entity(connection, store)
        setup.configure(connection, store, precedence, never_by_silence)
    begin = [
        "BEGIN",
        f"CREATE SCHEMA IF NOT EXISTS {schema}",
        f"SET LOCAL search_path TO {schema}",
        "SET LOCAL timezone TO 'UTC'",
        f"SET LOCAL lock_timeout TO '{setup.LOCK_TIMEOUT_S}s'",
    ]
    text = "".join(f"{statement.strip()};\n" for statement in [*begin, *statements, "COMMIT"])
    return text + GRANTS.format(schema=schema, database=database)


def _create(connection: Connection, store: Store, monitor: str, now: int) -> None:
    """Everything at once, as it is after the last migration."""
    tables.metadata.create_all(connection, checkfirst=False)
    for table in (store.transactions, store.revisions):
        table.create(connection)
    name = setup.VERSION_TABLE
    connection.exec_driver_sql(
        f"CREATE TABLE {name} (version_num VARCHAR(32) NOT NULL, CONSTRAINT {name}_pkc PRIMARY KEY (version_num))"
    )
    connection.exec_driver_sql(f"INSERT INTO {name} (version_num) VALUES ('{tables.VERSION}')")
    connection.execute(insert(tables.monitor), {"name": monitor, "created_at": now, "hash_displays": True})


@contextmanager
def _recording(store: Store) -> Iterator[tuple[Connection, list[str]]]:
    _listen(store.engine)
    statements: list[str] = []
    with (
        store.translated_errors(),
        store.engine.connect().execution_options(**{RECORDED: statements}) as connection,
    ):
        yield connection, statements


def _listen(engine: Engine) -> None:
    @event.listens_for(engine, "do_execute")
    def execute(cursor: Any, statement: str, parameters: Any, context: Any) -> bool | None:
        return _record(cursor, statement, [parameters], context)

    @event.listens_for(engine, "do_executemany")
    def execute_many(cursor: Any, statement: str, parameters: Any, context: Any) -> bool | None:
        return _record(cursor, statement, parameters, context)


def _record(cursor: Any, statement: str, rows: Sequence[Any], context: Any) -> bool | None:
    """Write a statement down and return True, so that it is not executed; None for a query."""
    recorded = context.execution_options.get(RECORDED)
    if recorded is None or statement.lstrip().upper().startswith(("SELECT", "SHOW", "WITH")):
        return None
    client = psycopg.ClientCursor(cursor.connection)
    recorded += [client.mogrify(statement, row) for row in rows]
    cursor.execute("SELECT 1")  # as if one row had been changed, which Alembic checks
    return True
