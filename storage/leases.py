"""Leases: who may work, on the database's clock, with a fencing token that only grows."""

import os
import secrets
import socket
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, insert, select, text, update

from storage.columns import POSTGRES, as_micros, from_texts
from storage.errors import Busy
from storage.frames import SECOND
from storage.schema import leases
from storage.store import Store

START = secrets.token_hex(4)  # of this process: containers give every process the same number


@dataclass(frozen=True)
class Lease:
    """The right to work on something until it is given back, runs out, or is taken over."""

    name: str
    token: int


def database_now(connection: Connection) -> int:
    """The database's clock in µs; machines that share a database need not agree on the time."""
    if connection.dialect.name == POSTGRES:
        return as_micros(connection.execute(text("SELECT clock_timestamp()")).scalar_one())
    moment = connection.execute(text("SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')")).scalar_one()
    return int(from_texts([moment])[0])


def take(store: Store, name: str, holder: str, lasting: int) -> Lease:
    """
    Take a lease that is free, has run out, or whose process on this machine has died.

    Parameters
    ----------
    holder
        Who is asking, in words: the next one who asks reads them.
    lasting
        µs until it runs out unless it is renewed.

    Raises
    ------
    Busy
        Somebody else holds it.
    """
    with store.exclusive() as connection:
        now = database_now(connection)
        held = connection.execute(leases.select().where(leases.c.name == name)).one_or_none()
        row = {"holder": holder, "process": this_process(), "expires_at": now + lasting}
        if held is None:
            connection.execute(insert(leases).values(name=name, token=1, **row))
            return Lease(name, 1)
        if held.expires_at is not None and held.expires_at > now and not _died(held.process):
            wait = (held.expires_at - now) // SECOND + 1
            raise Busy(
                f'"{held.holder}" ({held.process}) is at work on {name}: wait until it has finished, '
                f"or {wait} s if its machine is gone"
            )
        token = int(held.token) + 1
        connection.execute(update(leases).where(leases.c.name == name).values(token=token, **row))
        return Lease(name, token)


def check(connection: Connection, lease: Lease) -> None:
    """
    Make sure, inside the write that a lease protects, that nobody has taken it over.

    One that has merely run out still holds: as nobody else has begun, the work is not in doubt.

    Raises
    ------
    Busy
        Another has taken it: nothing may be written any more.
    """
    chosen = select(leases.c.token).where(leases.c.name == lease.name)
    if connection.dialect.name == POSTGRES:
        chosen = chosen.with_for_update(read=True)  # or it could be taken between here and the commit
    if connection.scalar(chosen) != lease.token:
        raise Busy(f"the lease {lease.name} was taken over by another process: nothing more is written here")


def renew(connection: Connection, lease: Lease, lasting: int) -> None:
    """
    Hold on to a lease, inside the write it protects.

    Raises
    ------
    Busy
        Another has taken it meanwhile: nothing may be written any more.
    """
    check(connection, lease)
    until = database_now(connection) + lasting
    connection.execute(update(leases).where(_mine(lease)).values(expires_at=until))


def release(connection: Connection, lease: Lease) -> None:
    """Give a lease back, if it is still held."""
    connection.execute(update(leases).where(_mine(lease)).values(expires_at=None))


def this_process() -> str:
    """Machine, process and start, by which a dead holder is known."""
    return f"{socket.gethostname()}/{os.getpid()}/{START}"


def _mine(lease: Lease) -> ColumnElement[bool]:
    return (leases.c.name == lease.name) & (leases.c.token == lease.token)


def _died(process: str) -> bool:
    """Whether a process of this machine is gone; of another machine nobody can tell."""
    host, _, rest = process.partition("/")
    pid, _, start = rest.partition("/")
    if host != socket.gethostname() or not pid.isdigit() or os.name != "posix":
        return False  # elsewhere than on POSIX, signal 0 is no question but a signal
    if int(pid) == os.getpid():
        return start != START
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
