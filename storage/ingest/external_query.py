"""
Reading the rows of a query in another database: read-only, streamed, with a timeout.

The query is the administrator's own, so this guards against mistakes: one statement, in a read-only transaction.
The timeout applies to each response, the first one or the next rows: a long table may take its time as long as rows
keep coming.
"""

import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from storage.database.column_types import as_datetime
from storage.database.urls import parse_url, without_secrets
from storage.errors import Unreachable
from storage.frames import SECOND

Part = tuple[list[str], list[tuple[Any, ...]]]  # names of the columns, some rows

ROWS_AT_ONCE = 1_000  # that are fetched, before their size is known
PART_BYTES = 1 << 24  # of the text in a part
CONNECT_TIMEOUT_S = 10
STEPS = 10_000  # of SQLite's machine between two looks at the clock, some 0.1 ms
# Quoted text, quoted names, dollar quotes and comments: a semicolon in them separates nothing.
_QUOTED = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|\$(\w*)\$.*?\$\1\$|--[^\n]*|/\*.*?\*/""", re.DOTALL)
_READS = re.compile(r"[\s(]*(select|with|values|table)\b", re.IGNORECASE)


def read_query(
    url: str, query: str, timeout: int, size: int, name: str, since: tuple[str, int] | None = None
) -> Iterator[Part]:
    """
    Read a query's rows in parts; at least one, if only of no rows.

    Parameters
    ----------
    timeout
        µs that the database may take for one response.
    size
        Rows a part.
    name
        The source's name in messages; the URL may contain a password.
    since
        A column of the result and an instant in µs: only rows from then on.

    Raises
    ------
    Unreachable
        If the database does not answer, not in time, refuses the query, or the query is not one SELECT.
    """
    _check_single_select(query, name)
    engine = _engine(url, timeout, name)
    try:
        with engine.connect() as connection, _limited(connection, timeout) as restart:
            streamed = connection.execution_options(
                stream_results=True, no_parameters=True, max_row_buffer=min(size, ROWS_AT_ONCE)
            )
            with streamed.exec_driver_sql(
                _query_since(engine, query, since)
            ) as result:  # closed also when the caller stops early
                names = list(result.keys())
                rows, bytes_read = list[tuple[Any, ...]](), 0
                while some := result.fetchmany(min(size - len(rows), ROWS_AT_ONCE)):
                    rows += [tuple(row) for row in some]
                    bytes_read += sum(map(_text_bytes, some))
                    if len(rows) >= size or bytes_read >= PART_BYTES:
                        yield names, rows
                        rows, bytes_read = [], 0
                    restart()
                yield names, rows
                if rows:
                    yield names, []
    except DBAPIError as error:
        raise Unreachable(f"{name} gives no rows: {_cause(error, timeout, engine.url)}") from error
    finally:
        engine.dispose()


def _text_bytes(row: Any) -> int:
    return sum(len(value) for value in row if isinstance(value, str | bytes))


def _query_since(engine: Engine, query: str, since: tuple[str, int] | None) -> str:
    """
    The query, restricted to the rows from an instant on.

    SQLite stores times as text in several formats, so they are compared with `julianday`, which reads them all;
    one second is subtracted because `julianday` rounds.
    """
    bare = query.strip().rstrip(";")
    if since is None:
        return bare
    quote = engine.dialect.identifier_preparer.quote_identifier
    if engine.dialect.name == "sqlite":
        moment = as_datetime(since[1] - SECOND).strftime("%Y-%m-%d %H:%M:%S")
        return f"SELECT * FROM ({bare}) AS source WHERE julianday({quote(since[0])}) >= julianday('{moment}')"
    moment = as_datetime(since[1]).isoformat()
    return f"SELECT * FROM ({bare}) AS source WHERE {quote(since[0])} >= TIMESTAMPTZ '{moment}'"


def _check_single_select(query: str, name: str) -> None:
    bare = _QUOTED.sub(" ", query).strip().rstrip(";")
    if ";" in bare or not _READS.match(bare):
        raise Unreachable(f"{name} must have one SELECT as its query and nothing after it")


def _engine(url: str, timeout: int, name: str) -> Engine:
    parsed = parse_url(url, f"the URL of {name}")
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        return create_engine("sqlite://", creator=lambda: _open_sqlite(parsed), poolclass=NullPool)
    if backend != "postgresql":
        raise Unreachable(
            f"{name} is a {backend} database, and only postgresql and sqlite have the read-only transactions it needs",
            remedy="export to a file, or pipe the rows to standard input",
        )
    arguments = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "tcp_user_timeout": timeout // 1000,  # ms; a server that vanishes answers nothing, not even an error
        "options": f"-c default_transaction_read_only=on -c timezone=UTC -c datestyle=ISO -c intervalstyle=postgres "
        f"-c statement_timeout={timeout // 1000}",
    }
    postgres = parsed.set(drivername="postgresql+psycopg")
    return create_engine(postgres, connect_args=arguments, poolclass=NullPool, hide_parameters=True)


def _open_sqlite(url: URL) -> sqlite3.Connection:
    path = Path(url.database or "")
    if not path.is_file():
        raise sqlite3.OperationalError(f"there is no file {path}")
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    connection.execute("PRAGMA query_only = ON")
    return connection


@contextmanager
def _limited(connection: Connection, timeout: int) -> Iterator[Callable[[], None]]:
    """Enforce the timeout; yields a function that restarts it."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        yield lambda: None  # Postgres enforces statement_timeout itself, for each fetch
        return
    deadline = [0.0]

    def restart() -> None:
        deadline[0] = time.monotonic() + timeout / SECOND

    restart()
    driver.set_progress_handler(lambda: time.monotonic() > deadline[0], STEPS)
    yield restart


def _cause(error: DBAPIError, timeout: int, url: URL) -> str:
    message = without_secrets(re.sub(r"\s+", " ", str(error.orig)).strip().rstrip("."), url)
    if "interrupted" in message or "statement timeout" in message:
        return f"no answer within {timeout / SECOND:g} s; raise its timeout or narrow its query"
    return message
