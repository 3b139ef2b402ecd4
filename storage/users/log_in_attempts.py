"""
Attempts to log in by a password, which are limited by name and by address.

An attempt counts as failed until it has succeeded, and is stored before the password is looked at, so that a thousand attempts
at once are no way around the limits.
"""

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from storage.database.database import Store
from storage.database.tables import log_in_attempts
from storage.errors import Refused
from storage.frames import DAY, MINUTE

WINDOW = 15 * MINUTE  # µs
FAILURES_OF_A_NAME = 10  # in a window
FAILURES_OF_AN_ADDRESS = 30  # in a window; an office shares one
RETENTION = DAY  # µs


def begin(store: Store, name_hash: str, address: str, now: int) -> int:
    """
    Store an attempt as failed; returns its number.

    Raises
    ------
    Refused
        Too many have failed: of this name, or from this address.
    """
    c = log_in_attempts.c
    with store.write_exclusive() as connection:
        connection.execute(delete(log_in_attempts).where(c.at < now - RETENTION))
        _refuse(connection, c.name_hash == name_hash, FAILURES_OF_A_NAME, now)
        _refuse(connection, c.address == address, FAILURES_OF_AN_ADDRESS, now)
        row = {"at": now, "name_hash": name_hash, "address": address, "succeeded": False}
        inserted = connection.execute(insert(log_in_attempts), row)
        assert inserted.inserted_primary_key is not None
        return int(inserted.inserted_primary_key[0])


def _refuse(connection: Connection, mine: ColumnElement[bool], most: int, now: int) -> None:
    c = log_in_attempts.c
    failed = mine & (c.at > now - WINDOW) & ~c.succeeded
    if int(connection.scalar(select(func.count()).where(failed)) or 0) >= most:
        raise Refused("too many log-ins have failed", remedy="wait 15 minutes", code="too_many_log_ins")


def succeed(connection: Connection, attempt_id: int) -> None:
    """Note that an attempt has succeeded, inside the transaction that begins the session."""
    mine = log_in_attempts.c.attempt_id == attempt_id
    connection.execute(update(log_in_attempts).where(mine).values(succeeded=True))
