"""What a driver says when it refuses → the error of ours that names who can put it right."""

import re

from sqlalchemy.exc import DBAPIError

from storage.errors import Busy, SchemaOutOfDate, StorageError, Unreachable

# SQLite's own names of its result codes; an extended code begins with the plain one.
SQLITE_BUSY = ("SQLITE_BUSY", "SQLITE_LOCKED")
SQLITE_UNREACHABLE = (
    "SQLITE_CANTOPEN", "SQLITE_NOTADB", "SQLITE_READONLY", "SQLITE_IOERR", "SQLITE_FULL", "SQLITE_CORRUPT",
    "SQLITE_PERM", "SQLITE_AUTH",
)  # fmt: skip
# SQLSTATE codes of Postgres; a longer text begins with its class.
POSTGRES_BUSY = ("40001", "40P01", "55P03")  # serialisation, deadlock, lock not available
POSTGRES_OUT_OF_DATE = ("42P01", "42703", "3F000")  # no such table, column, schema
# Connection, authorisation, no such database, resources, shutdown, privilege, disk.
POSTGRES_UNREACHABLE = ("08", "28", "3D", "53", "57P", "42501", "58", "25006")


def explain(error: DBAPIError, url_shown: str) -> StorageError | None:
    """Our error for what an operator can put right, None for what would be a bug."""
    kind = _kind_of_sqlite(error) if url_shown.startswith("sqlite") else _kind_of_postgres(error)
    if kind is Busy:
        return Busy(f"database {url_shown} is busy with another process ({cause(error)}): try again")
    if kind is SchemaOutOfDate:
        return SchemaOutOfDate(f"database {url_shown} lacks a table ({cause(error)}): run fraudwatch init")
    if kind is Unreachable:
        return Unreachable(f"database {url_shown} cannot be used: {cause(error)}")
    return None


def cause(error: DBAPIError) -> str:
    """The driver's words on one line, without any password."""
    said = re.sub(r"\s+", " ", str(error.orig)).strip().rstrip(".")
    return re.sub(r"(?i)(password=|://[^:/@\s]+:)[^\s@']+", r"\1***", said)


def _kind_of_sqlite(error: DBAPIError) -> type[StorageError] | None:
    name = getattr(error.orig, "sqlite_errorname", "")
    if name.startswith(SQLITE_BUSY):
        return Busy
    if name.startswith(SQLITE_UNREACHABLE):
        return Unreachable
    return SchemaOutOfDate if str(error.orig).startswith(("no such table", "no such column")) else None


def _kind_of_postgres(error: DBAPIError) -> type[StorageError] | None:
    state = getattr(error.orig, "sqlstate", None)
    if state is None:  # nobody answered, or the connection broke
        lost = error.connection_invalidated or type(error.orig).__name__ in (
            "OperationalError",
            "ConnectionTimeout",
        )
        return Unreachable if lost else None
    for kind, states in (
        (Busy, POSTGRES_BUSY),
        (SchemaOutOfDate, POSTGRES_OUT_OF_DATE),
        (Unreachable, POSTGRES_UNREACHABLE),
    ):
        if state.startswith(states):
            return kind
    return None
