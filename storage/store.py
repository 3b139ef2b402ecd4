"""
The engine, and the three kinds of transaction there are: one that reads, one that writes, and one that
writes while nobody else fixes a horizon or shows a batch.
"""

import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from storage import refusals
from storage.columns import POSTGRES
from storage.errors import Unreachable
from storage.schema import Fields, revisions_table, transactions_table

BUSY_TIMEOUT_MS = 30_000  # a writer waits for another's short write, never for a computation
CONNECT_TIMEOUT_S = 10
CACHE_KIB = 65_536  # of SQLite's pages in memory: indexes on random ids outgrow the usual 2 MiB at once
LOCK_CLASS = 7_215_001  # of our advisory locks on Postgres, which other programs on the server may use, too
WRITES = "fraudwatch_writes"


class Store:
    """A database of one monitor; close it, or use it as a context manager."""

    def __init__(self, engine: Engine, fields: Fields, schema: str) -> None:
        self.engine = engine
        self.fields = fields
        self.schema = schema
        self.dialect = engine.dialect.name
        self.transactions = transactions_table(fields)
        self.revisions = revisions_table(fields)
        self._lock = {"class": LOCK_CLASS, "key": zlib.crc32(schema.encode()) - 2**31}  # a signed int4
        # One state of the database for all statements of a read, which SQLite gives any transaction.
        snapshot = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        self._reader = engine.execution_options(**snapshot) if self.dialect == POSTGRES else engine
        self._writer = engine.execution_options(**{WRITES: True})

    @property
    def url_shown(self) -> str:
        """The URL with its password hidden."""
        return shown(self.engine.url)

    @property
    def exists(self) -> bool:
        """Whether there is a database at all; a SQLite file comes into being with the first connection."""
        return self.dialect == POSTGRES or _file(self.engine.url).exists()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database and changes nothing."""
        with self._told(), self._reader.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """
        A short transaction that writes.

        BEGIN IMMEDIATE on SQLite: a transaction that reads first and asks for the lock later fails at once
        when somebody wrote in between, whatever the timeout.
        """
        with self._told(), self._writer.begin() as connection:
            yield connection

    @contextmanager
    def exclusive(self) -> Iterator[Connection]:
        """A write that also excludes every other holder of the horizon's lock."""
        with self.write() as connection:
            if self.dialect == POSTGRES:
                connection.execute(text("SELECT pg_advisory_xact_lock(:class, :key)"), self._lock)
            yield connection

    @contextmanager
    def alongside(self) -> Iterator[Connection]:
        """A write that others of its kind run beside, but no batch becomes visible meanwhile."""
        with self.write() as connection:
            if self.dialect == POSTGRES:
                connection.execute(text("SELECT pg_advisory_xact_lock_shared(:class, :key)"), self._lock)
            yield connection

    def close(self) -> None:
        """Let go of every connection."""
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say in one sentence what an operator can put right; everything else is a bug and stays as it is."""
        try:
            yield
        except DBAPIError as error:
            told = refusals.explain(error, self.url_shown)
            if told is None:
                raise
            raise told from error


def open_store(url: str, schema: str, fields: Fields) -> Store:
    """
    Open a database, which need not have tables yet.

    Parameters
    ----------
    url
        `sqlite:///file.db` or `postgresql://user:password@host/database`.
    schema
        On Postgres, the schema of this monitor; ignored on SQLite.

    Raises
    ------
    Unreachable
        One sentence, without the password.
    """
    engine = _engine(url)
    _listen(engine, schema)
    store = Store(engine, fields, schema)
    try:
        if store.exists:
            with store.read() as connection:
                connection.execute(text("SELECT 1"))
    except Unreachable:
        store.close()
        raise
    return store


def shown(url: URL) -> str:
    """A URL without its password, wherever it stands."""
    secret = [name for name in url.query if "password" in name.lower()]
    return url.difference_update_query(secret).render_as_string(hide_password=True)


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        parsed = URL.create("none")  # the parser's message may hold the password: nothing is chained to it
    try:
        if parsed.get_backend_name() in (POSTGRES, "postgres"):
            options: dict[str, Any] = {"connect_timeout": CONNECT_TIMEOUT_S}
            options = {name: value for name, value in options.items() if name not in parsed.query}
            # A daemon outlives restarts of the server: look at a connection before using it again.
            return create_engine(
                parsed.set(drivername="postgresql+psycopg"), connect_args=options, pool_pre_ping=True
            )
        if parsed.get_backend_name() == "sqlite":
            _refuse_path(parsed)
            return create_engine(parsed, connect_args={"isolation_level": None})
    except NoSuchModuleError as error:
        raise Unreachable(f"storage.url is for {parsed.drivername}, which is not installed") from error
    raise Unreachable(
        "storage.url is not a URL of SQLite or Postgres: write sqlite:///file.db or postgresql://user@host/name"
    )


def _file(url: URL) -> Path:
    return Path(url.database or "")


def _refuse_path(url: URL) -> None:
    """What SQLite would only call unable to open."""
    path = _file(url)
    if url.database in (None, "", ":memory:"):
        raise Unreachable("storage.url names no file, so nothing would be kept: write sqlite:///file.db")
    if path.is_dir():
        raise Unreachable(f"storage.url names {path}, which is a folder: name a file in it")
    if not path.parent.is_dir():
        raise Unreachable(f"storage.url is in folder {path.parent}, which does not exist: make it first")


def _listen(engine: Engine, schema: str) -> None:
    if engine.dialect.name == POSTGRES:
        event.listen(engine, "connect", _prepare_postgres(schema))
    else:
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    for pragma in (
        f"busy_timeout={BUSY_TIMEOUT_MS}",  # first: the others may have to wait, too
        "journal_mode=WAL",  # readers and the one writer do not block each other
        "synchronous=NORMAL",  # with WAL, a loss of power may cost the last writes, never the database
        "foreign_keys=ON",
        f"cache_size=-{CACHE_KIB}",
        "temp_store=MEMORY",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # The driver begins transactions of its own, deferred ones, unless its isolation_level is None.
    writes = connection.get_execution_options().get(WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _prepare_postgres(schema: str) -> Any:
    quoted = '"' + re.sub('"', '""', schema) + '"'

    def prepare(connection: Any, _record: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET search_path TO {quoted}")
            cursor.execute("SET timezone TO 'UTC'")
        connection.commit()

    return prepare
