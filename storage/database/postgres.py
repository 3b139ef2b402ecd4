"""
What is particular to a Postgres server: how it is connected to, and which of its errors pass with time.

Settings are made for each transaction, not for the session, and no statement is prepared: behind PgBouncer in transaction
mode the next transaction may run in another session.
"""

from typing import Any, Literal

import psycopg
from sqlalchemy import URL, Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from storage.errors import Locked, StorageError, Unreachable

LOCK_TIMEOUT_S = 30  # a writer waits for another's short write, never for a computation
# Parameters of a connection that storage.url does not give: a server that is gone without a word is noticed.
CONNECT = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
# Beginnings of an SQLSTATE, with what they are about. Errors of other codes are bugs.
AWAY = (
    "08",  # the connection was refused or broke
    "25P03",  # idle_in_transaction_session_timeout
    "25P04",  # transaction_timeout
    "28",  # the password or pg_hba.conf does not let this user in
    "3D000",  # no such database
    "53",  # too many connections, out of memory
    "57P",  # shutting down, crashed, starting, database dropped
    "58",  # the server's files
)
LOCKED = ("55P03", "40")  # lock_timeout; deadlock or serialisation failure
CANCELLED = "57014"  # by statement_timeout, or by an administrator
FORBIDDEN = "42501"
READ_ONLY = "25006"
OF_A_ROLE = ("user", "database user", "client", "session")  # sources of a setting that belong to one user

ErrorKind = Literal["away", "locked", "cancelled", "forbidden", "read_only"]


def connect_arguments(url: URL) -> dict[str, Any]:
    """Arguments of a connection besides those of its URL."""
    given = {name: value for name, value in CONNECT.items() if name not in url.query}
    return {**given, "prepare_threshold": None}


def begin(connection: Connection, schema: str) -> None:
    """Settings of a transaction."""
    name = connection.dialect.identifier_preparer.quote_identifier(schema)
    with connection.connection.cursor() as cursor:  # type: ignore[attr-defined]
        cursor.execute(
            f"SET LOCAL search_path TO {name}; SET LOCAL timezone TO 'UTC'; "
            "SET LOCAL datestyle TO 'ISO'; "  # the only one that the driver reads
            f"SET LOCAL lock_timeout TO '{LOCK_TIMEOUT_S}s'"
        )


def _kind_of(error: BaseException | None) -> ErrorKind | None:
    """What an error of the driver is about; None for a bug, and for the errors of other drivers."""
    if not isinstance(error, psycopg.Error):
        return None
    code = error.sqlstate
    if code is None:  # no server has answered
        return "away" if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) else None
    exact: dict[str, ErrorKind] = {CANCELLED: "cancelled", FORBIDDEN: "forbidden", READ_ONLY: "read_only"}
    if code in exact:
        return exact[code]
    if code.startswith(LOCKED):
        return "locked"
    return "away" if code.startswith(AWAY) else None


def user_error(engine: Engine, named: str, error: BaseException | None, cause: str) -> StorageError | None:
    """The `StorageError` for an error of the driver that is not a bug; None for any other."""
    kind = _kind_of(error)
    if kind == "read_only" and _is_read_only_for_this_user(engine):
        return Unreachable(
            f"{named} is read-only: give this user write access to it (its default_transaction_read_only is on)",
            code="read_only",
        )
    errors: dict[ErrorKind | None, StorageError] = {
        "away": Unreachable(f"{named} does not answer: {cause}"),
        "locked": Locked(f"{named} was locked by another program: {cause}", remedy="repeat it"),
        "cancelled": Unreachable(
            f"{named} stopped a query: {cause}",
            remedy="raise this user's statement_timeout",
            code="cancelled",
        ),
        "forbidden": Unreachable(
            f"{named} refuses this user: {cause}", remedy="let its owner grant it", code="forbidden"
        ),
        "read_only": Unreachable(f"{named} takes no writes now, as a standby or during a failover: {cause}"),
    }
    return errors.get(kind)


def _is_read_only_for_this_user(engine: Engine) -> bool:
    """
    Whether a server refuses this user's writes and takes those of others.

    Otherwise it is a standby, or read-only as a whole: in a failover, or because its disk is full.
    """
    sql = """
        SELECT NOT pg_is_in_recovery() AND setting = 'on' AS of_settings, source FROM pg_settings
        WHERE name = 'default_transaction_read_only'"""
    try:
        with engine.connect() as connection:
            row = connection.execute(text(sql)).one()
    except (DBAPIError, psycopg.Error):
        return False
    return bool(row.of_settings) and row.source in OF_A_ROLE
