"""
Opening a database, and its two kinds of transaction: reads and writes.
"""

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
from sqlalchemy import URL, Connection, Engine, MetaData, create_engine, event, text
from sqlalchemy.exc import DBAPIError, InvalidatePoolError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from storage.database import postgres
from storage.database.tables import Fields, revisions_table, transactions_table
from storage.database.urls import display_url, parse_url, without_secrets
from storage.errors import Locked, StorageError, Unreachable

BUSY_TIMEOUT_MS = 30_000  # a writer waits for another's short write, never for a computation
# SQLite's own 2 MiB make it write and read again the pages of the indices while a large batch is written: three times the system time.
CACHE_KIB = 32 * 1024  # pages that a connection of SQLite keeps
LOADING_CACHE_KIB = (
    64 * 1024
)  # while a batch is loaded: in less, pages of indexes are written and read again within a chunk
WRITE_LOCK = (
    7_215_001  # Postgres advisory lock: taking a horizon and making a batch visible exclude each other
)


class Store:
    """The database of one monitor."""

    def __init__(
        self, engine: Engine, fields: Fields, schema: str, lock_wait_ms: int = BUSY_TIMEOUT_MS
    ) -> None:
        self.engine = engine
        self.fields = fields
        self.schema = schema
        self.lock_wait_ms = lock_wait_ms
        self.dialect = engine.dialect.name
        self.transactions = transactions_table(fields)
        self.revisions = revisions_table(fields)
        self.write_guards: list[
            Callable[[Connection], None]
        ] = []  # called inside every write; they raise to stop it

    def with_extra_columns(self, text_fields: tuple[str, ...], numeric: tuple[str, ...]) -> "Store":
        """The same database with these columns besides the configured ones; it shares the connections."""
        more = tuple(name for name in text_fields if name not in self.fields.text)
        numbers = tuple(name for name in numeric if name not in self.fields.numeric)
        if not more and not numbers:
            return self
        fields = replace(
            self.fields,
            categorical=self.fields.categorical + more,
            numeric=self.fields.numeric + numbers,
        )
        wide = Store(self.engine, fields, self.schema, self.lock_wait_ms)
        wide.write_guards = self.write_guards
        return wide

    def with_transactions(self, name: str) -> "Store":
        """The same database with the table of this name in place of `transactions`; it shares the connections."""
        other = Store(self.engine, self.fields, self.schema)
        other.write_guards = self.write_guards
        other.transactions = self.transactions.to_metadata(MetaData(), name=name)
        return other

    @property
    def display_url(self) -> str:
        """Engine, user, host, port and database of its URL."""
        return display_url(self.engine.url)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that reads one snapshot of the database."""
        with self.translated_errors(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """
        A short transaction that writes.

        On SQLite it begins with BEGIN IMMEDIATE: a transaction that reads first and takes the lock later fails at
        once if another one wrote in between, whatever the timeout. A process with a lease writes only while it holds
        the lease, since the write guards are checked first.
        """
        with self._writing() as connection:
            self._run_write_guards(connection)
            yield connection

    def keep_pages(self, connection: Connection, loading: bool) -> None:
        """Let a connection of SQLite keep more pages while it loads a batch, and as many as before when that is done."""
        if self.dialect == "sqlite":
            connection.exec_driver_sql(f"PRAGMA cache_size=-{LOADING_CACHE_KIB if loading else CACHE_KIB}")

    @contextmanager
    def write_exclusive(self) -> Iterator[Connection]:
        """A write that also takes the lock `WRITE_LOCK` on Postgres, before any other lock."""
        with self._writing() as connection:
            if self.dialect == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": WRITE_LOCK})
            self._run_write_guards(connection)
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        options = {"fraudwatch_write": True}
        with (
            self.translated_errors(),
            self.engine.connect().execution_options(**options) as connection,
            connection.begin(),
        ):
            yield connection

    def _run_write_guards(self, connection: Connection) -> None:
        for guard in self.write_guards:
            guard(connection)

    @contextmanager
    def translated_errors(self) -> Iterator[None]:
        """Turn driver errors that an operator can fix, or that pass with time, into a `StorageError`."""
        try:
            yield
        except (DBAPIError, sqlite3.Error, psycopg.Error, PoolTimeout) as error:
            user_error = _user_error(self, error)
            if user_error is None:
                raise
            if isinstance(user_error, Unreachable):
                self.engine.dispose()  # the next connection is a new one, to whatever server there is then
            raise user_error from error

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLite database; None for a database in memory, on a server, or of a URL that is none."""
    try:
        parsed = parse_url(url)
    except Unreachable:
        return None
    is_file = parsed.get_backend_name() == "sqlite" and parsed.database not in (None, "", ":memory:")
    return Path(str(parsed.database)) if is_file else None


def open_store(url: str, schema: str, fields: Fields, lock_wait_ms: int = BUSY_TIMEOUT_MS) -> Store:
    """
    Open a database.

    Parameters
    ----------
    lock_wait_ms
        How long a write waits for the lock of an SQLite file.

    Raises
    ------
    Unreachable
        The database cannot be opened; the message does not contain the password.
    """
    parsed = parse_url(url)
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise Unreachable(
            f"storage.url is for {parsed.get_backend_name()}", remedy="use sqlite or postgresql"
        )
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    is_file = parsed.get_backend_name() == "sqlite"
    arguments = {} if is_file else postgres.connect_arguments(parsed)
    # With hidden parameters, errors do not quote values.
    engine = create_engine(parsed, connect_args=arguments, hide_parameters=True)
    store = Store(engine, fields, schema, lock_wait_ms)
    _listen(store)
    try:
        with store.read() as connection:
            connection.execute(
                text("SELECT 1 FROM sqlite_master" if store.dialect == "sqlite" else "SELECT 1")
            )
    except DBAPIError as error:
        engine.dispose()
        raise Unreachable(
            f"database {store.display_url} cannot be opened: {_cause(error, parsed)}"
        ) from error
    return store


def _cause(error: Exception, url: URL) -> str:
    original = error.orig if isinstance(error, DBAPIError) else error
    return without_secrets(re.sub(r"\s+", " ", str(original)).strip().rstrip("."), url)


def _user_error(store: Store, error: Exception) -> StorageError | None:
    """The `StorageError` for an error that is not a bug; None for any other."""
    cause = _cause(error, store.engine.url)
    lost = isinstance(error, DBAPIError) and error.connection_invalidated
    if "database is locked" in cause:
        return Locked(
            f"database {store.display_url} was locked for {store.lock_wait_ms // 1000} s by another program"
        )
    if "disk is full" in cause or "No space left" in cause:
        return Unreachable(
            f"the disk of database {store.display_url} is full, and nothing was half written",
            remedy="free space",
            code="disk_full",
        )
    if "readonly database" in cause:
        return Unreachable(f"database {store.display_url} is read-only: give this user write access to it")
    if "malformed" in cause or "not a database" in cause:
        return Unreachable(f"database {store.display_url} is damaged ({cause}): restore a backup")
    if (
        lost
        or "unable to open database" in cause
        or "disk I/O error" in cause
        or isinstance(error, PoolTimeout)
    ):
        return Unreachable(f"database {store.display_url} does not answer: {cause}")
    original = error.orig if isinstance(error, DBAPIError) else error
    return postgres.user_error(store.engine, f"database {store.display_url}", original, cause)


def _listen(store: Store) -> None:
    if store.dialect == "sqlite":
        path = store.engine.url.database or ""
        event.listen(store.engine, "connect", partial(_prepare_sqlite, path, store.lock_wait_ms))
        event.listen(store.engine, "checkout", partial(_check_file, path))
        event.listen(store.engine, "begin", _begin_sqlite)
    else:
        event.listen(store.engine, "begin", lambda connection: postgres.begin(connection, store.schema))


def _prepare_sqlite(path: str, lock_wait_ms: int, connection: Any, record: Any) -> None:
    record.info["file"] = _identity(path)
    connection.isolation_level = None  # otherwise the driver begins deferred transactions of its own
    for pragma in (
        "journal_mode=WAL",
        "synchronous=NORMAL",
        f"busy_timeout={lock_wait_ms}",
        "foreign_keys=ON",
        f"cache_size=-{CACHE_KIB}",
        "secure_delete=ON",  # deleted rows are overwritten
    ):
        connection.execute(f"PRAGMA {pragma}")


def _check_file(path: str, _connection: Any, record: Any, _proxy: Any) -> None:
    """Give up connections to a file that is no longer the one at the path, as after a restored backup."""
    if record.info["file"] != _identity(path):
        raise InvalidatePoolError


def _identity(path: str) -> tuple[int, int] | None:
    """What tells one file from another at the same path; None if there is none."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("fraudwatch_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
