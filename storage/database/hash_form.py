"""
How a database has hashed values: with a display form, such as `•••• 4242`, or not, and by which key.

The display form is decided when the database is created. Of the key a check value is kept, a hash of a constant: with another
key every value would get a new hash, and known entities would not be found.
"""

from sqlalchemy import Connection, select, update

from storage.database.database import Store
from storage.database.tables import monitor
from storage.errors import WrongMonitor


def has_displays(store: Store) -> bool:
    """Whether hashed values are stored with their display form; otherwise as bare hashes."""
    with store.read() as connection:
        return bool(connection.scalar(select(monitor.c.hash_displays)))


def keep_key_check(store: Store, key_check: str) -> None:
    """
    Keep the check value of the key that values are hashed by from now on, if there is none yet.

    Raises
    ------
    WrongMonitor
        The values were hashed by another key.
    """
    with store.write() as connection:
        keep_key_check_in(connection, key_check)


def keep_key_check_in(connection: Connection, key_check: str) -> None:
    """`keep_key_check` in a transaction."""
    if refuse_other_key(connection, key_check) is None:
        connection.execute(update(monitor).values(hash_key_check=key_check))


def refuse_other_key(connection: Connection, key_check: str) -> str | None:
    """
    The check value of the database's key; None if it has none yet.

    Raises
    ------
    WrongMonitor
        It is that of another key.
    """
    kept: str | None = connection.scalar(select(monitor.c.hash_key_check))
    if kept not in (None, key_check):
        raise WrongMonitor(
            "the fields of schema.hash were hashed with another key than the one that is set",
            remedy="set FRAUDWATCH_HASH_KEY or schema.hash_key_file to the first key; with this one no known entity would be found",
            code="other_hash_key",
        )
    return kept
