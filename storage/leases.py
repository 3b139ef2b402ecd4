"""Leases: who may work, on the database's clock, with a fencing token that only grows."""

import os
import socket

from sqlalchemy import Connection, insert, text, update

from storage.columns import as_micros, from_texts
from storage.errors import Busy
from storage.frames import SECOND
from storage.schema import leases
from storage.store import Store


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
            return 1
        if held.expires_at is not None and held.expires_at > now and not _died(held.process):
            wait = (held.expires_at - now) // SECOND + 1
            raise Busy(
                f"{held.holder} ({held.process}) is at work on {name}: wait, {wait} s at most if it died"
            )
        token = int(held.token) + 1
        connection.execute(update(leases).where(leases.c.name == name).values(token=token, **row))
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
    mine = (leases.c.name == name) & (leases.c.token == token)
    connection.execute(update(leases).where(mine).values(expires_at=None))


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
