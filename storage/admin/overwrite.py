"""
Overwriting what an SQLite file still has of erased values: in free pages, in indexes, and in its log (WAL).

Another program that reads the file keeps the log from being emptied. Then the database remembers it, and whoever erases or
prunes next, or the daemon's next tick, tries again.
"""

import sqlite3
from contextlib import closing

from sqlalchemy import Connection, select, update

from storage.database.database import Store
from storage.database.tables import monitor

WAIT_MS = 2_000  # for readers to finish


def mark(connection: Connection, now: int) -> None:
    """Remember, in the transaction that erases, that old bytes are to be overwritten."""
    if connection.dialect.name == "sqlite":
        unmarked = update(monitor).where(monitor.c.overwrite_since.is_(None))
        connection.execute(unmarked.values(overwrite_since=now))


def overwrite(store: Store) -> bool:
    """Overwrite old bytes if there are any; returns False if another program reads the file, so that they stay for now."""
    if waiting_since(store) is None:
        return True
    # the log is emptied first: while somebody reads, writing the file anew would only make the log longer
    if not (_empty_log(store) and _write_anew(store) and _empty_log(store)):
        return False
    with store.write() as connection:
        connection.execute(update(monitor).values(overwrite_since=None))
    return True


def waiting_since(store: Store) -> int | None:
    """Since when (µs) old bytes wait to be overwritten; None if there are none."""
    if store.dialect != "sqlite":
        return None
    with store.read() as connection:
        since: int | None = connection.scalar(select(monitor.c.overwrite_since))
    return since


def _empty_log(store: Store) -> bool:
    return _pragma(store, "PRAGMA wal_checkpoint(TRUNCATE)")


def _write_anew(store: Store) -> bool:
    return _pragma(store, "VACUUM")


def _pragma(store: Store, statement: str) -> bool:
    try:
        with closing(store.engine.raw_connection()) as connection, closing(connection.cursor()) as cursor:
            connection.detach()  # of its own: it is closed with its wait
            cursor.execute(f"PRAGMA busy_timeout={WAIT_MS}")
            cursor.execute(statement)
            outcome = cursor.fetchone()  # of a checkpoint: whether somebody was in the way, and two counts
            return outcome is None or not outcome[0]
    except sqlite3.OperationalError:
        return False
