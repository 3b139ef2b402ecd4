"""Rows of a query in another database, read-only and with a timeout."""

import re
from collections.abc import Iterator
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from storage.errors import Unreachable

MILLISECOND = 1000  # µs


def read_query(url: str, query: str, timeout: int, size: int) -> Iterator[tuple[list[str], list[list[Any]]]]:
    """
    Column names and rows as text, `size` rows at a time; at least one part, if only of no rows.

    Parameters
    ----------
    timeout
        Longest time of the query in µs, where the engine knows one.

    Raises
    ------
    Unreachable
        The database does not answer, or refuses the query.
    """
    try:
        engine = create_engine(make_url(url))
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise Unreachable("the source's URL is not one of a database that is installed here") from error
    try:
        with engine.connect() as connection:
            _restrict(connection, timeout)
            found = connection.execution_options(stream_results=True).execute(text(query))
            names, sent = list(found.keys()), False
            while rows := found.fetchmany(size):
                sent = True
                yield names, [[_as_text(value) for value in row] for row in rows]
            if not sent:
                yield names, []
    except SQLAlchemyError as error:
        cause = re.sub(r"\s+", " ", str(getattr(error, "orig", None) or error)).strip()
        raise Unreachable(f"the source {engine.url.render_as_string()} refuses the query: {cause}") from error
    finally:
        engine.dispose()


def _restrict(connection: Connection, timeout: int) -> None:
    """Nothing is written there, whatever the query says."""
    name = connection.dialect.name
    if name == "postgresql":
        connection.execute(text("SET TRANSACTION READ ONLY"))
        connection.execute(text(f"SET LOCAL statement_timeout = {max(timeout // MILLISECOND, 1)}"))
    elif name == "sqlite":
        connection.execute(text("PRAGMA query_only = ON"))
    elif name in {"mysql", "mariadb"}:
        connection.execute(text("SET TRANSACTION READ ONLY"))


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, datetime | date):
        return value.isoformat()
    return str(value)
