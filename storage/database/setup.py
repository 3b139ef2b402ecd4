"""Create or upgrade a database, and refuse one that is older or somebody else's."""

from collections.abc import Sequence
from pathlib import Path

from alembic import command
from alembic.config import Config as Alembic
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Table, insert, inspect, select, text

from storage.database import tables, views
from storage.database.database import Store
from storage.errors import SchemaOutOfDate, WrongMonitor

MIGRATIONS = Path(__file__).parent / "migrations"
VERSION_TABLE = "schema_version"
REMEDY = "run fraudwatch init"


def upgrade(store: Store, monitor: str, now: int, precedence: Sequence[str] = ()) -> list[str]:
    """
    Bring the database to this version and this configuration; returns what was done, a sentence each.

    Safe to repeat, and to run twice at once: one waits for the other.

    Raises
    ------
    WrongMonitor
        The database belongs to another monitor.
    """
    if store.dialect == "postgresql":
        _create_schema(store)
    with store.exclusive() as connection:
        before = version(connection)
        _refuse_other(connection, before, monitor)
        command.upgrade(_alembic(connection), "head")
        done = [] if before == tables.VERSION else [f"schema version {tables.VERSION} is in place"]
        if connection.scalar(select(tables.monitor.c.name)) is None:
            connection.execute(insert(tables.monitor), {"name": monitor, "created_at": now})
        done += _add_columns(connection, store, store.transactions)
        _add_columns(connection, store, store.revisions)
        _rank_sources(connection, precedence)
        views.recreate(connection, store.fields)
    return [f"{store.url_shown}: {line}" for line in done or ["up to date, nothing to do"]]


def verify(store: Store, monitor: str) -> None:
    """
    Refuse to work on a database that is not ready.

    Raises
    ------
    SchemaOutOfDate
        Tables or configured columns are missing.
    WrongMonitor
        The database belongs to another monitor.
    """
    with store.read() as connection:
        found = version(connection)
        if found is None:
            raise SchemaOutOfDate(f"database {store.url_shown} has no tables of fraudwatch: {REMEDY}")
        if found != tables.VERSION:
            raise SchemaOutOfDate(
                f"database {store.url_shown} has schema {found}, this is {tables.VERSION}: {REMEDY}"
            )
        _refuse_other(connection, found, monitor)
        missing = [name for name in store.fields.names if name not in _present(connection, "transactions")]
    if missing:
        raise SchemaOutOfDate(f"table transactions lacks the configured {', '.join(missing)}: {REMEDY}")


def version(connection: Connection) -> str | None:
    """The schema version of a database, None for an empty one."""
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return context.get_current_revision()


def _alembic(connection: Connection) -> Alembic:
    config = Alembic()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _create_schema(store: Store) -> None:
    with store.write() as connection:
        connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{store.schema}"'))


def _refuse_other(connection: Connection, found: str | None, monitor: str) -> None:
    owner = None if found is None else connection.scalar(select(tables.monitor.c.name))
    if owner is not None and owner != monitor:
        raise WrongMonitor(
            f'the database belongs to monitor "{owner}", the config is for "{monitor}": '
            "set storage.url or storage.schema to a database of its own, or monitor.name to its owner's"
        )


def _present(connection: Connection, table: str) -> set[str]:
    return {column["name"] for column in inspect(connection).get_columns(table)}


def _add_columns(connection: Connection, store: Store, table: Table) -> list[str]:
    present, quote = _present(connection, table.name), connection.dialect.identifier_preparer.quote
    types = tables.field_types(store.fields)
    missing = [name for name in store.fields.names if name not in present]
    for name in missing:
        type_ = types[name].compile(connection.dialect)
        connection.execute(text(f"ALTER TABLE {table.name} ADD COLUMN {quote(name)} {type_}"))
    for index in table.indexes:
        index.create(connection, checkfirst=True)
    return [f"columns added to transactions: {', '.join(missing)}"] if missing else []


def _rank_sources(connection: Connection, precedence: Sequence[str]) -> None:
    connection.execute(tables.label_precedence.delete())
    rows = [{"source": source, "place": place} for place, source in enumerate(precedence)]
    if rows:
        connection.execute(insert(tables.label_precedence), rows)
