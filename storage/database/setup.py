"""Create or upgrade a database, and check that a database has this version and belongs to this monitor."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config as Alembic
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Table, insert, inspect, select, text, update

from storage.database import audit_guard, cases, hash_form, loss_views, tables, views
from storage.database.database import Store, sqlite_file
from storage.errors import Locked, NewerSchema, SchemaOutOfDate, Unreachable, UnsupportedSchema, WrongMonitor

MIGRATIONS = Path(__file__).parent / "migrations"
VERSION_TABLE = "schema_version"
BASELINE = "0200"  # the first migration; the unreleased versions before it had 0001 to 0007
LOCK_TIMEOUT_S = 10  # that an upgrade waits for a table on Postgres: whoever comes after it waits as long
REMEDY = "create or upgrade the tables"


@dataclass(frozen=True)
class Upgrade:
    """What an upgrade changed."""

    database: str  # its address, without a password
    version: str | None  # the schema version that was created or upgraded to; None if it was in place
    columns: tuple[str, ...]  # added to transactions


def upgrade(
    store: Store,
    monitor: str,
    now: int,
    precedence: Sequence[str] = (),
    never_by_silence: Mapping[str, Sequence[str]] | None = None,
    hash_key_check: str | None = None,
) -> Upgrade:
    """
    Create or upgrade the tables, add the configured columns and recreate the views; returns what changed.

    Views leave out payments with a value of `never_by_silence`: they were declined. `hash_key_check` is the check value of the key
    that fields are hashed by, None without one.

    It is idempotent, and two processes may run it at once: one waits for the other.

    Raises
    ------
    UnsupportedSchema
        The schema is older than the first migration, or newer than this program.
    WrongMonitor
        The database belongs to another monitor, or to another program, or its values were hashed by another key.
    """
    if store.dialect == "postgresql":
        _create_schema(store)
    with _waiting_briefly(store), store.write_exclusive() as connection:
        if store.dialect == "postgresql":
            connection.execute(text(f"SET LOCAL lock_timeout TO '{LOCK_TIMEOUT_S}s'"))
        before = check_upgradable(connection, store, monitor)
        command.upgrade(alembic_config(connection), "head")
        if connection.scalar(select(tables.monitor.c.name)) is None:
            connection.execute(
                insert(tables.monitor), {"name": monitor, "created_at": now, "hash_displays": True}
            )
        if hash_key_check is not None:
            hash_form.keep_key_check_in(connection, hash_key_check)
        columns = add_columns(connection, store)
        cases.follow_entity(connection, store)
        configure(connection, store, precedence, never_by_silence)
    return Upgrade(store.display_url, None if before == tables.VERSION else tables.VERSION, tuple(columns))


def check_upgradable(connection: Connection, store: Store, monitor: str) -> str | None:
    """
    Check that a database can be created or upgraded; returns its schema version.

    Raises
    ------
    UnsupportedSchema, WrongMonitor
        As `upgrade` says.
    """
    before = schema_version(connection)
    if before is None:
        _refuse_other_program(connection, store)
    _refuse_unsupported(store, before)
    _refuse_other_monitor(connection, before, monitor)
    return before


def add_columns(connection: Connection, store: Store) -> list[str]:
    """Add the configured columns and their indexes; returns those that were missing."""
    columns = _add_columns(connection, store, store.transactions)
    _add_columns(connection, store, store.revisions)
    return columns


def configure(
    connection: Connection,
    store: Store,
    precedence: Sequence[str],
    never_by_silence: Mapping[str, Sequence[str]] | None,
) -> None:
    """Write what queries need of the configuration, and create the views anew."""
    _rank_sources(connection, precedence)
    _set_refund_kinds(connection, store.fields.refund_kinds)
    connection.execute(
        update(tables.monitor).values(
            case_entity=store.fields.case_entity or None, readable_from=tables.READABLE_FROM
        )
    )
    views.recreate(connection, store.fields, never_by_silence)
    audit_guard.recreate(connection, store.schema)


def verify(store: Store, monitor: str, hash_key_check: str | None = None) -> None:
    """
    Check that the database can be used with this version and this configuration.

    If the schema is newer than this program and the program can read it, every write of this store raises `NewerSchema` from
    now on; so it does if the database is upgraded later.

    Raises
    ------
    SchemaOutOfDate
        Tables or configured columns are missing, or refund kinds, the entity of cases or what is at risk of a payment are
        others; `upgrade` puts that right.
    UnsupportedSchema
        The schema is older than the first migration, or newer than this program.
    WrongMonitor
        The database belongs to another monitor, or its values were hashed by another key.
    """
    with store.read() as connection:
        current = schema_version(connection)
        if current is None:
            raise SchemaOutOfDate(f"database {store.display_url} has no tables of fraudwatch", remedy=REMEDY)
        if not _is_readable(connection, current):
            _refuse_unsupported(store, current)
        if current < tables.VERSION:
            raise SchemaOutOfDate(
                f"database {store.display_url} has schema {current}, this is {tables.VERSION}", remedy=REMEDY
            )
        _refuse_other_monitor(connection, current, monitor)
        if hash_key_check is not None:
            hash_form.refuse_other_key(connection, hash_key_check)
        missing = [name for name in store.fields.names if name not in _present(connection, "transactions")]
        refund_kinds = set(connection.scalars(select(tables.refund_kinds.c.kind)))
        case_entity = connection.scalar(select(tables.monitor.c.case_entity)) or ""
        losses = loss_views.stored_settings(connection)
    if refund_kinds != set(store.fields.refund_kinds):
        raise SchemaOutOfDate(
            f"the database counts {', '.join(sorted(refund_kinds)) or 'nothing'} as refunds, schema.refund_kinds is "
            f"{', '.join(store.fields.refund_kinds) or 'empty'}",
            remedy=REMEDY,
        )
    if case_entity != store.fields.case_entity:
        raise SchemaOutOfDate(
            f"the database counts cases by {case_entity or 'nothing'}, alerts.entity is {store.fields.case_entity or 'empty'}",
            remedy=REMEDY,
        )
    if losses != store.fields.loss.as_text:
        raise SchemaOutOfDate(
            f"the database counts losses by {losses}, [costs] says {store.fields.loss.as_text}", remedy=REMEDY
        )
    if missing:
        raise SchemaOutOfDate(f"table transactions lacks the configured {', '.join(missing)}", remedy=REMEDY)
    store.write_guards.append(lambda connection: _refuse_newer(store, connection))


def require_file(url: str) -> None:
    """
    Check that the file of an SQLite database exists, since opening it would create it; other URLs pass.

    Raises
    ------
    SchemaOutOfDate
        There is no such file.
    Unreachable
        Nor is its folder there: a disk is not mounted, or the path is mistyped.
    """
    path = sqlite_file(url)
    if path is None or path.exists():
        return
    if not path.parent.is_dir():
        raise Unreachable(f"database sqlite:///{path} does not answer: folder {path.parent} does not exist")
    raise SchemaOutOfDate(f"database sqlite:///{path} has no tables of fraudwatch", remedy=REMEDY)


def schema_version(connection: Connection) -> str | None:
    """The schema version of a database, None for an empty one."""
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return context.get_current_revision()


def alembic_config(connection: Connection) -> Alembic:
    config = Alembic()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


@contextmanager
def _waiting_briefly(store: Store) -> Iterator[None]:
    try:
        yield
    except Locked as error:
        raise Locked(
            f"database {store.display_url} was not changed, because another program kept it locked",
            remedy="stop the programs that use it, then repeat this",
        ) from error


def _create_schema(store: Store) -> None:
    with store.write() as connection:
        if inspect(connection).has_schema(store.schema):  # its owner need not be allowed to create others
            return
        connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{store.schema}"'))


def _refuse_other_program(connection: Connection, store: Store) -> None:
    """Refuse a database that holds tables, but none of a monitor."""
    schema = store.schema if store.dialect == "postgresql" else None
    others = sorted(set(inspect(connection).get_table_names(schema)) - {VERSION_TABLE})
    if others:
        raise WrongMonitor(
            f"database {store.display_url} holds tables of another program ({', '.join(others[:3])})",
            remedy="set storage.url to a new database, or on Postgres storage.schema to a schema of its own",
            code="other_program",
        )


def _refuse_unsupported(store: Store, current: str | None) -> None:
    if current is not None and current < BASELINE:
        raise UnsupportedSchema(
            f"database {store.display_url} has schema {current} of a version before 0.2.0, which cannot be upgraded",
            remedy="set storage.url to a new database, create its tables, and ingest the data again",
            code="schema_too_old",
        )
    if current is not None and current > tables.VERSION:
        raise UnsupportedSchema(
            f"database {store.display_url} has schema {current}, which is newer than this program's {tables.VERSION}",
            remedy="install the newer version of fraudwatch",
        )


def _is_readable(connection: Connection, current: str) -> bool:
    """Whether this program is older than the schema, and the schema says that such a program can read it."""
    if current <= tables.VERSION or not inspect(connection).has_table(tables.monitor.name):
        return False
    if "readable_from" not in _present(connection, tables.monitor.name):
        return False
    oldest = connection.scalar(select(tables.monitor.c.readable_from))
    return oldest is not None and oldest <= tables.VERSION


def _refuse_newer(store: Store, connection: Connection) -> None:
    current = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))
    if current != tables.VERSION:
        raise NewerSchema(
            f"database {store.display_url} has schema {current}, this program has {tables.VERSION} and may only read it",
            remedy="install the newer version of fraudwatch",
        )


def _refuse_other_monitor(connection: Connection, current: str | None, monitor: str) -> None:
    owner = None if current is None else connection.scalar(select(tables.monitor.c.name))
    if owner is not None and owner != monitor:
        raise WrongMonitor(
            f'the database belongs to monitor "{owner}", the config is for "{monitor}"',
            remedy="set storage.url or storage.schema to a database of its own, or monitor.name to its owner's",
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
    return missing


def _rank_sources(connection: Connection, precedence: Sequence[str]) -> None:
    connection.execute(tables.label_precedence.delete())
    rows = [{"source": source, "rank": rank} for rank, source in enumerate(precedence)]
    if rows:
        connection.execute(insert(tables.label_precedence), rows)


def _set_refund_kinds(connection: Connection, kinds: Sequence[str]) -> None:
    connection.execute(tables.refund_kinds.delete())
    if kinds:
        connection.execute(insert(tables.refund_kinds), [{"kind": kind} for kind in kinds])
