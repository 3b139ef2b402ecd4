"""Create or upgrade a database, and refuse one that is older or somebody else's."""

from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import Connection, Table, inspect, select, text
from sqlalchemy.types import Text

from storage import schema, views
from storage.closing import rank_sources
from storage.columns import POSTGRES
from storage.errors import SchemaOutOfDate, WrongMonitor
from storage.store import Store

MIGRATIONS = Path(__file__).parent / "migrations"
VERSION_TABLE = "schema_version"
REMEDY = "run fraudwatch init"


def upgrade(store: Store, monitor: str, now: int, precedence: Sequence[str] | None = None) -> list[str]:
    """
    Bring the database to this version and this configuration; returns what was done, a sentence each.

    Safe to repeat, and to run twice at once: one waits for the other, and finds nothing left to do.

    Parameters
    ----------
    precedence
        `labels.precedence`, which the views apply; None leaves what is stored.

    Raises
    ------
    WrongMonitor
        The database belongs to another monitor or program.
    SchemaOutOfDate
        A field was stored as another type, or the database was made by a newer version.
    """
    with store.exclusive() as connection:
        done = _create_schema(connection, store)
        before = version(connection)
        _refuse_foreign(connection, store, before, monitor)
        _migrate(connection)
        if before != schema.VERSION:
            done.append(f"schema version {schema.VERSION} is in place")
        if before is None:
            connection.execute(schema.monitor.insert(), {"name": monitor, "created_at": now})
        done += _add_columns(connection, store, store.transactions)
        _add_columns(connection, store, store.revisions)
        if precedence is not None:
            rank_sources(connection, precedence)
        views.recreate(connection, _stored_fields(connection))
    return [f"{store.url_shown}: {line}" for line in done or ["up to date, nothing to do"]]


def verify(store: Store, monitor: str) -> None:
    """
    Refuse to work on a database that is not ready.

    Raises
    ------
    SchemaOutOfDate
        Tables or configured columns are missing, or made by a newer version.
    WrongMonitor
        The database belongs to another monitor.
    """
    if not store.exists:
        raise SchemaOutOfDate(f"there is no database at {store.url_shown} yet: {REMEDY}")
    with store.read() as connection:
        found = version(connection)
        if found is None:
            raise SchemaOutOfDate(f"database {store.url_shown} has no tables of fraudwatch: {REMEDY}")
        _refuse_foreign(connection, store, found, monitor)
        if found != schema.VERSION:
            raise SchemaOutOfDate(
                f"database {store.url_shown} has schema {found}, this is {schema.VERSION}: {REMEDY}"
            )
        missing = _missing(connection, store, store.transactions)
    if missing:
        raise SchemaOutOfDate(f"table transactions lacks the configured {', '.join(missing)}: {REMEDY}")


def version(connection: Connection) -> str | None:
    """The schema version of a database, None for one without our tables."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found: str | None = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))
    return found


def _create_schema(connection: Connection, store: Store) -> list[str]:
    """On Postgres, the schema; asked for first, for IF NOT EXISTS wants the right to create it all the same."""
    if connection.dialect.name != POSTGRES or inspect(connection).has_schema(store.schema):
        return []
    quoted = connection.dialect.identifier_preparer.quote(store.schema)
    connection.exec_driver_sql(f"CREATE SCHEMA {quoted}")
    return [f"schema {store.schema} is made"]


def _refuse_foreign(connection: Connection, store: Store, found: str | None, monitor: str) -> None:
    if found is None:
        _refuse_tables(connection, store)
        return
    if found > schema.VERSION:
        raise SchemaOutOfDate(
            f"database {store.url_shown} has schema {found}, which is newer than this program's "
            f"{schema.VERSION}: upgrade fraudwatch"
        )
    owner = connection.scalar(select(schema.monitor.c.name))
    if owner != monitor:
        raise WrongMonitor(
            f'database {store.url_shown} belongs to monitor "{owner}", the config is for "{monitor}": '
            "set storage.url or storage.schema to a database of its own, or monitor.name to its owner's"
        )


def _refuse_tables(connection: Connection, store: Store) -> None:
    """Tables of our names that we did not make are somebody's data."""
    ours = {*schema.metadata.tables, "transactions", "revisions", *views.NAMES}
    present = inspect(connection).get_table_names() + inspect(connection).get_view_names()
    foreign = sorted(ours & set(present))
    if foreign:
        raise WrongMonitor(
            f"database {store.url_shown} has a table {foreign[0]} that is not fraudwatch's: "
            "set storage.url or storage.schema to a database of its own"
        )


def _migrate(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _stored_fields(connection: Connection) -> list[str]:
    """Every column of `transactions` that is not ours, in the order they were added."""
    ours = schema.transactions_table(schema.Fields()).c.keys()
    return [one["name"] for one in inspect(connection).get_columns("transactions") if one["name"] not in ours]


def _missing(connection: Connection, store: Store, table: Table) -> list[str]:
    """
    Configured fields without a column.

    Raises
    ------
    SchemaOutOfDate
        There is a column, of the other type.
    """
    present = {one["name"]: one["type"] for one in inspect(connection).get_columns(table.name)}
    if connection.dialect.name != POSTGRES:  # SQLite does not tell upper from lower case in names
        present = {name.lower(): type_ for name, type_ in present.items()}
    missing = []
    for name, type_ in schema.field_types(store.fields).items():
        found = present.get(name if connection.dialect.name == POSTGRES else name.lower())
        if found is None:
            missing.append(name)
        elif isinstance(found, Text) != isinstance(type_, Text):
            raise SchemaOutOfDate(
                f"column {name} of {table.name} holds {'text' if isinstance(found, Text) else 'numbers'}, [schema] "
                f"now lists it as the other: give the field another name in the file or query"
            )
    return missing


def _add_columns(connection: Connection, store: Store, table: Table) -> list[str]:
    missing, quote = _missing(connection, store, table), connection.dialect.identifier_preparer.quote
    types = schema.field_types(store.fields)
    for name in missing:
        type_ = types[name].compile(connection.dialect)
        connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {quote(name)} {type_}")
    for index in table.indexes:
        index.create(connection, checkfirst=True)
    return [f"columns added to {table.name}: {', '.join(missing)}"] if missing else []
