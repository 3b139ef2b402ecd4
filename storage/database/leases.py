"""Leases: who may work, on the database's clock, with a fencing token that only grows."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from sqlalchemy import Connection, insert, select, text, update

from storage.database.column_types import as_micros, from_texts
from storage.database.database import Store
from storage.database.tables import leases
from storage.errors import Busy, StorageError
from storage.frames import SECOND

RENEWALS = 3  # in the time a lease lasts: one that fails leaves two more
# Leases that this process still holds: one that it could not give back, since the database was away, is free to it.
_MINE: set[tuple[str, str, int]] = set()
RETRY_S = 0.5  # between two looks at a lease that somebody else holds


def database_now(connection: Connection) -> int:
    """The database's clock in µs."""
    if connection.dialect.name == "postgresql":
        return as_micros(connection.execute(text("SELECT clock_timestamp()")).scalar_one())
    moment = connection.execute(text("SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')")).scalar_one()
    return int(from_texts([moment])[0])


def take(store: Store, name: str, holder: str, lasting: int) -> int:
    """
    Take a lease that is free, has run out, or whose process on this machine has died; returns its token.

    Raises
    ------
    Busy
        Somebody else holds it.
    """
    with store.exclusive() as connection:
        now = database_now(connection)
        held = connection.execute(leases.select().where(leases.c.name == name)).one_or_none()
        row = {"holder": holder, "process": _this_process(), "expires_at": now + lasting}
        if held is None:
            connection.execute(insert(leases).values(name=name, token=1, **row))
            _MINE.add(_key(connection, name, 1))
            return 1
        left_behind = held.process == _this_process() and _key(connection, name, held.token) not in _MINE
        over = held.expires_at is None or held.expires_at <= now
        if not over and not left_behind and not _died(held.process):
            wait = (held.expires_at - now) // SECOND + 1
            raise Busy(
                f"{held.holder} ({held.process}) is at work on {name}: wait, {wait} s at most if it died"
            )
        token = int(held.token) + 1
        connection.execute(update(leases).where(leases.c.name == name).values(token=token, **row))
        _MINE.add(_key(connection, name, token))
        return token


def renew(connection: Connection, name: str, token: int, lasting: int) -> None:
    """
    Hold on to a lease, inside the write it protects.

    Raises
    ------
    Busy
        Another has taken it meanwhile: nothing may be written any more.
    """
    mine = (leases.c.name == name) & (leases.c.token == token)
    until = database_now(connection) + lasting
    if connection.execute(update(leases).where(mine).values(expires_at=until)).rowcount != 1:
        raise Busy(f"the lease {name} was taken over by another process: nothing more is written here")


def release(connection: Connection, name: str, token: int) -> None:
    """Give a lease back, if it is still held."""
    _MINE.discard(_key(connection, name, token))
    mine = (leases.c.name == name) & (leases.c.token == token)
    connection.execute(update(leases).where(mine).values(expires_at=None))


@contextmanager
def held(store: Store, name: str, holder: str, lasting: int) -> Iterator["Held"]:
    """
    Hold a lease, renewed in the background; while it is held every write of this store asks for it.

    Raises
    ------
    Busy
        Somebody else holds it, or, from a write inside the block, somebody has taken it over.
    """
    lease = Held(store, name, take(store, name, holder, lasting), lasting)
    store.fences.append(lease.fence)
    lease.start()
    try:
        yield lease
    finally:
        lease.stop()
        store.fences.remove(lease.fence)
        _MINE.discard(_key(store, name, lease.token))
        with suppress(StorageError), store.write() as connection:  # one that is not given back runs out
            release(connection, name, lease.token)


@contextmanager
def held_when_free(
    store: Store, name: str, holder: str, lasting: int, stopping: Callable[[], bool]
) -> Iterator["Held"]:
    """
    The same, after waiting for it to be free.

    Raises
    ------
    Busy
        Somebody else held it until `stopping` said to stop.
    """
    while True:
        try:
            with ExitStack() as stack:
                lease = stack.enter_context(held(store, name, holder, lasting))
                leave = stack.pop_all()
            break
        except Busy:
            if stopping():
                raise
            time.sleep(RETRY_S)
    with leave:
        yield lease


class Held:
    """A lease that is being held: its token, and whether it still is."""

    def __init__(self, store: Store, name: str, token: int, lasting: int) -> None:
        self.name = name
        self.token = token
        self._store = Store(store.engine, store.fields, store.schema)  # without fences: it writes leases only
        self._lasting = lasting
        self._over = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"lease {name}", daemon=True)

    @property
    def lost(self) -> bool:
        """Whether somebody else has it now."""
        return self._lost.is_set()

    def fence(self, connection: Connection) -> None:
        """
        Refuse a write under a token that is no longer the newest.

        On Postgres the row stays locked until the write commits, so nobody takes over in between.
        """
        row = select(leases.c.token).where(leases.c.name == self.name)
        newest = connection.scalar(row.with_for_update(read=True))
        if newest != self.token:
            self._lost.set()
            raise Busy(
                f"the lease {self.name} was taken over by another process: nothing more is written here"
            )

    def start(self) -> None:
        """Begin to renew it."""
        self._thread.start()

    def stop(self) -> None:
        """Cease to renew it."""
        self._over.set()
        self._thread.join()

    def _renew(self) -> None:
        while not self._over.wait(self._lasting / SECOND / RENEWALS):
            try:
                with self._store.write() as connection:
                    renew(connection, self.name, self.token, self._lasting)
            except Busy:
                if self._taken():
                    self._lost.set()
                    return
            except StorageError:
                continue  # away for a moment: the next renewal may come through, else it runs out

    def _taken(self) -> bool:
        """Whether it is really another's, rather than the database locked for a moment."""
        with suppress(StorageError), self._store.read() as connection:
            return connection.scalar(select(leases.c.token).where(leases.c.name == self.name)) != self.token
        return False


def _key(where: Connection | Store, name: str, token: int) -> tuple[str, str, int]:
    return where.engine.url.render_as_string(hide_password=True), name, token


def _this_process() -> str:
    return f"{socket.gethostname()}/{os.getpid()}"


def _died(process: str) -> bool:
    host, _, pid = process.rpartition("/")
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
