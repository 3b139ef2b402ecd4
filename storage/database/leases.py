"""Leases with fencing tokens: one process at a time does a job, by the database's clock."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, text, update
from sqlalchemy.exc import DBAPIError

from storage.database.column_types import as_micros, from_texts
from storage.database.database import Store
from storage.database.processes import died, display, this_process
from storage.database.tables import leases
from storage.errors import Busy, StorageError
from storage.frames import SECOND

RENEWALS = 3  # per duration of a lease: after one failed renewal there are two more
# Leases that this process holds. A lease of this process that is not listed could not be released; it is free.
_MINE: set[tuple[str, str, int]] = set()


def database_now(connection: Connection) -> int:
    """The database's clock in µs."""
    if connection.dialect.name == "postgresql":
        return as_micros(connection.execute(text("SELECT clock_timestamp()")).scalar_one())
    moment = connection.execute(text("SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')")).scalar_one()
    return int(from_texts([moment])[0])


def acquire(store: Store, name: str, holder: str, duration: int) -> int:
    """
    Acquire a lease that is free, has expired, or whose process on this machine has died; returns its token.

    Raises
    ------
    Busy
        Another process holds the lease.
    """
    with store.write_exclusive() as connection:
        now, here = database_now(connection), str(this_process())
        current = connection.execute(leases.select().where(leases.c.name == name)).one_or_none()
        row = {"holder": holder, "process": here, "expires_at": now + duration}
        if current is None:
            connection.execute(insert(leases).values(name=name, token=1, **row))
            _MINE.add(_key(connection, name, 1))
            return 1
        if not is_over(connection, current, now):
            wait = (current.expires_at - now) // SECOND + 1
            raise Busy(
                f"{current.holder} ({display(current.process)}) is at work on {name}",
                remedy=f"wait, {wait} s at most if it died",
            )
        token = int(current.token) + 1
        connection.execute(update(leases).where(leases.c.name == name).values(token=token, **row))
        _MINE.add(_key(connection, name, token))
        return token


def is_over(connection: Connection, lease: Row[Any], now: int) -> bool:
    """Whether a lease was released, has expired, or belongs to a process that has died here or could not release it."""
    if lease.expires_at is None or lease.expires_at <= now:
        return True
    if lease.process == str(this_process()):
        return _key(connection, lease.name, lease.token) not in _MINE
    return died(lease.process)


def renew(connection: Connection, name: str, token: int, duration: int) -> None:
    """
    Renew a lease, inside the transaction that it protects.

    Raises
    ------
    Busy
        Another process has acquired it meanwhile: nothing may be written any more.
    """
    mine = (leases.c.name == name) & (leases.c.token == token)
    until = database_now(connection) + duration
    if connection.execute(update(leases).where(mine).values(expires_at=until)).rowcount != 1:
        raise Busy(f"the lease {name} was taken over by another process, so nothing more is written here")


def release(connection: Connection, name: str, token: int) -> None:
    """Release a lease if its token is still the newest."""
    _MINE.discard(_key(connection, name, token))
    mine = (leases.c.name == name) & (leases.c.token == token)
    connection.execute(update(leases).where(mine).values(expires_at=None))


@contextmanager
def hold(
    store: Store,
    name: str,
    holder: str,
    duration: int,
    release: Callable[[Connection, str, int], None] = release,
) -> Iterator["Lease"]:
    """
    Hold a lease during a block; it is renewed in the background, and every write of this store checks it.

    Parameters
    ----------
    release
        What ends the lease after the block, given the connection, the name and the token.

    Raises
    ------
    Busy
        Another process holds the lease; or, from a write inside the block, another process has taken it over.
    """
    lease = Lease(store, name, acquire(store, name, holder, duration), duration)
    store.write_guards.append(lease.guard_write)
    lease.start()
    try:
        yield lease
    finally:
        lease.stop()
        store.write_guards.remove(lease.guard_write)
        _MINE.discard(_key(store, name, lease.token))
        with suppress(StorageError), store.write() as connection:  # a lease that is not released expires
            release(connection, name, lease.token)


_NEWEST = select(leases.c.token).where(leases.c.name == bindparam("lease")).with_for_update(read=True)


class Lease:
    """A lease that this process holds, with its token and a thread that renews it."""

    def __init__(self, store: Store, name: str, token: int, duration: int) -> None:
        self.name = name
        self.token = token
        # A store without write guards: it writes leases only.
        self._store = Store(store.engine, store.fields, store.schema)
        self._duration = duration
        self._stopped = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"lease {name}", daemon=True)

    @property
    def lost(self) -> bool:
        """Whether another process has taken the lease over."""
        return self._lost.is_set()

    def guard_write(self, connection: Connection) -> None:
        """
        Stop a write if the token is no longer the newest.

        On Postgres the row stays locked until the write commits, so no process takes over in between.
        """
        newest = connection.scalar(_NEWEST, {"lease": self.name})
        if newest != self.token:
            self._lost.set()
            raise Busy(
                f"the lease {self.name} was taken over by another process, so nothing more is written here"
            )

    def start(self) -> None:
        """Start to renew the lease in the background."""
        self._thread.start()

    def stop(self) -> None:
        """Stop renewing the lease."""
        self._stopped.set()
        self._thread.join()

    def _renew(self) -> None:
        while not self._stopped.wait(self._duration / SECOND / RENEWALS):
            try:
                with self._store.write() as connection:
                    renew(connection, self.name, self.token, self._duration)
            except Busy:
                if self._taken():
                    self._lost.set()
                    return
            except (StorageError, DBAPIError):
                continue  # the database is away: the next renewal may succeed, otherwise the lease expires

    def _taken(self) -> bool:
        """Whether another process has acquired the lease, or the database was only locked for a moment."""
        with suppress(StorageError), self._store.read() as connection:
            return connection.scalar(select(leases.c.token).where(leases.c.name == self.name)) != self.token
        return False


def _key(where: Connection | Store, name: str, token: int) -> tuple[str, str, int]:
    return where.engine.url.render_as_string(hide_password=True), name, token
