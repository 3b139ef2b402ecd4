"""
The engine, and the two kinds of transaction there are: one that reads and one that writes.
"""

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import psycopg
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import NullPool

from storage.database.tables import Fields, revisions_table, transactions_table
from storage.errors import Locked, StorageError, Unreachable

BUSY_TIMEOUT_MS = 30_000  # a writer waits for another's short write, never for a computation
WRITE_LOCK = 7_215_001  # Postgres advisory lock: horizon and the showing of a batch exclude one another


class Store:
    """A database of one monitor."""

    def __init__(self, engine: Engine, fields: Fields, schema: str) -> None:
        self.engine = engine
        self.fields = fields
        self.schema = schema
        self.dialect = engine.dialect.name
        self.transactions = transactions_table(fields)
        self.revisions = revisions_table(fields)
        self.fences: list[Callable[[Connection], None]] = []  # asked inside every write: may we still?

    def widened(self, text_fields: tuple[str, ...], numeric: tuple[str, ...]) -> "Store":
        """The same database, read with these columns besides the configured ones; both close together."""
        more = tuple(name for name in text_fields if name not in self.fields.text)
        numbers = tuple(name for name in numeric if name not in self.fields.numeric)
        if not more and not numbers:
            return self
        fields = replace(
            self.fields,
            categorical=self.fields.categorical + more,
            numeric=self.fields.numeric + numbers,
        )
        wide = Store(self.engine, fields, self.schema)
        wide.fences = self.fences
        return wide

    @property
    def url_shown(self) -> str:
        """The URL with its password hidden."""
        return self.engine.url.render_as_string(hide_password=True)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database and changes nothing."""
        with self._told(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """
        A short transaction that writes.

        BEGIN IMMEDIATE on SQLite: a transaction that reads first and asks for the lock later fails at once
        when somebody wrote in between, whatever the timeout. Whoever holds a lease writes only while it does.
        """
        with self._writing() as connection:
            self._ask_fences(connection)
            yield connection

    @contextmanager
    def exclusive(self) -> Iterator[Connection]:
        """A write that also excludes every other holder of the horizon's lock, which is taken before any other."""
        with self._writing() as connection:
            if self.dialect == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": WRITE_LOCK})
            self._ask_fences(connection)
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        options = {"fraudwatch_write": True}
        with (
            self._told(),
            self.engine.connect().execution_options(**options) as connection,
            connection.begin(),
        ):
            yield connection

    def _ask_fences(self, connection: Connection) -> None:
        for fence in self.fences:
            fence(connection)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What an operator or time can put right is one sentence of ours, not the driver's traceback."""
        try:
            yield
        except (DBAPIError, sqlite3.Error, psycopg.Error, PoolTimeout) as error:
            told = _refusal(self, error)
            if told is None:
                raise
            raise told from error

    def close(self) -> None:
        """Let go of every connection."""
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_store(url: str, schema: str, fields: Fields) -> Store:
    """
    Open a database.

    Raises
    ------
    Unreachable
        One sentence, without the password.
    """
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() not in ("sqlite", "postgresql"):
            raise Unreachable(f"storage.url is for {parsed.get_backend_name()}: use sqlite or postgresql")
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        engine = create_engine(parsed, poolclass=NullPool if parsed.get_backend_name() == "sqlite" else None)
    except (ArgumentError, NoSuchModuleError) as error:
        raise Unreachable(
            "storage.url is not a database URL: write sqlite:///file.db or postgresql://user@host/name"
        ) from error
    store = Store(engine, fields, schema)
    _listen(store)
    try:
        with store.read() as connection:
            connection.execute(
                text("SELECT 1 FROM sqlite_master" if store.dialect == "sqlite" else "SELECT 1")
            )
    except DBAPIError as error:
        engine.dispose()
        raise Unreachable(f"database {store.url_shown} cannot be opened: {_cause(error)}") from error
    return store


def _cause(error: Exception) -> str:
    said = error.orig if isinstance(error, DBAPIError) else error
    return re.sub(r"\s+", " ", str(said)).strip().rstrip(".")


def _refusal(store: Store, error: Exception) -> StorageError | None:
    """What to tell of an error that is nobody's bug; None for one that is."""
    said = _cause(error)
    lost = isinstance(error, DBAPIError) and error.connection_invalidated
    if "database is locked" in said:
        return Locked(
            f"database {store.url_shown} was locked for {BUSY_TIMEOUT_MS // 1000} s by another program"
        )
    if "disk is full" in said or "No space left" in said:
        return Unreachable(
            f"the disk of database {store.url_shown} is full: free space; nothing was half written"
        )
    if "readonly database" in said:
        return Unreachable(
            f"database {store.url_shown} is read-only: give this user the right to write to it"
        )
    if "malformed" in said or "not a database" in said:
        return Unreachable(f"database {store.url_shown} is damaged ({said}): restore a copy")
    original = error.orig if isinstance(error, DBAPIError) else error
    away = isinstance(original, (psycopg.OperationalError, psycopg.InterfaceError))
    away = away or "unable to open database" in said or "disk I/O error" in said
    if lost or away or isinstance(error, PoolTimeout):
        return Unreachable(f"database {store.url_shown} does not answer: {said}")
    return None


def _listen(store: Store) -> None:
    prepare = _prepare_sqlite if store.dialect == "sqlite" else _prepare_postgres(store.schema)
    event.listen(store.engine, "connect", prepare)
    if store.dialect == "sqlite":
        event.listen(store.engine, "begin", _begin_sqlite)


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver would begin transactions of its own, deferred ones
    for pragma in (
        "journal_mode=WAL",
        "synchronous=NORMAL",
        f"busy_timeout={BUSY_TIMEOUT_MS}",
        "foreign_keys=ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("fraudwatch_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _prepare_postgres(schema: str) -> Any:
    def prepare(connection: Any, _record: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f'SET search_path TO "{schema}"')
            cursor.execute("SET timezone TO 'UTC'")
        connection.commit()

    return prepare
