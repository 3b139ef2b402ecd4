"""
Workers: who is at work on which steps, each with a lease of its own.

A worker is a process while it executes a run, or a part of one. Its lease ends with the block, or when its process dies or
falls silent for `LEASE`; then its running steps are due again, without one attempt less, and its run is interrupted.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import ColumnElement, Connection, delete, select, update

from storage.database import leases, tables
from storage.database.database import Store
from storage.database.processes import display
from storage.frames import SECOND

LEASE = 60 * SECOND  # how long the steps of a worker that died on another machine wait for another worker
PREFIX = "worker:"


@contextmanager
def hold(store: Store, holder: str) -> Iterator[str]:
    """Be a worker during a block; yields its id, which no other worker has."""
    worker = secrets.token_hex(8)
    with leases.hold(store, PREFIX + worker, holder, LEASE, _release):
        yield worker


def retire_gone(connection: Connection) -> None:
    """Free the steps and interrupt the runs of workers that are gone."""
    for name, process, expires_at in _gone(connection):
        # A worker that renews its lease at this moment is not gone.
        as_seen = (tables.leases.c.name == name) & (tables.leases.c.expires_at == expires_at)
        if connection.execute(delete(tables.leases).where(as_seen)).rowcount:
            _retire(connection, name, f"{display(process)} ended before it did")


def interrupted_runs(connection: Connection) -> set[int]:
    """Runs that are still `running` although their worker is gone."""
    gone = {name.removeprefix(PREFIX) for name, _, _ in _gone(connection)}
    held = set(connection.scalars(select(tables.leases.c.name).where(_is_worker())))
    runs = select(tables.runs.c.run_id, tables.runs.c.worker).where(tables.runs.c.status == "running")
    return {
        row.run_id
        for row in connection.execute(runs)
        if row.worker in gone or PREFIX + (row.worker or "") not in held
    }


def interrupt_abandoned(connection: Connection) -> None:
    """Mark runs whose worker is gone, or that never had one."""
    retire_gone(connection)
    runs = interrupted_runs(connection)
    if runs:
        _interrupt(connection, tables.runs.c.run_id.in_(runs), "its process is gone")


def _is_worker() -> ColumnElement[bool]:
    return tables.leases.c.name.startswith(PREFIX, autoescape=True)


def _gone(connection: Connection) -> list[tuple[str, str, int | None]]:
    now = leases.database_now(connection)
    rows = connection.execute(select(tables.leases).where(_is_worker())).all()
    return [(row.name, row.process, row.expires_at) for row in rows if leases.is_over(connection, row, now)]


def _release(connection: Connection, name: str, token: int) -> None:
    mine = (tables.leases.c.name == name) & (tables.leases.c.token == token)
    connection.execute(delete(tables.leases).where(mine))
    _retire(connection, name, "stopped before its end")


def _retire(connection: Connection, name: str, error: str) -> None:
    """Make its running steps due again, and interrupt its run. A kill is no attempt."""
    worker, step = name.removeprefix(PREFIX), tables.ledger
    running = (step.c.status == "running") & (step.c.worker == worker)
    connection.execute(
        update(step).where(running).values(status="pending", worker=None, attempts=step.c.attempts - 1)
    )
    _interrupt(connection, (tables.runs.c.worker == worker) & (tables.runs.c.status == "running"), error)


def _interrupt(connection: Connection, which: ColumnElement[bool], error: str) -> None:
    connection.execute(update(tables.runs).where(which).values(status="interrupted", error=error))
