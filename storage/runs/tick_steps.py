"""
How the parts of a tick ended the last time, and since when one fails: feeds, run, limits, messages, challengers.

A part that fails again within `SETTLED` after it recovered has never stopped failing, so that one that comes and goes does
not raise a new alarm each time.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, insert, select

from storage.database.database import Store
from storage.database.tables import tick_steps
from storage.frames import MINUTE

SETTLED = 15 * MINUTE  # three ticks at the default schedule.tick
TICK = "tick"  # the whole tick
FEEDS = ("source.", "watch.")  # how the names of feeds begin


@dataclass(frozen=True)
class TickStep:
    """A part of a tick; instants in µs. `error` is that of the newest end, None if it worked."""

    name: str
    ended_at: int
    succeeded_at: int | None
    failing_since: int | None
    recovered_from: int | None
    recovered_at: int | None
    failures: int  # in a row
    code: str | None
    error: str | None


def record(store: Store, name: str, at: int, error: str | None = None, code: str | None = None) -> None:
    """Store how a part of a tick ended; `error` is None if it worked."""
    with store.write() as connection:
        mine = tick_steps.c.name == name
        found = connection.execute(select(tick_steps).where(mine)).mappings().one_or_none()
        before: Mapping[Any, Any] = {} if found is None else found
        outcome = _worked(before, at) if error is None else _failed(before, at)
        row = {"name": name, "ended_at": at, "code": code, "error": error, **outcome}
        connection.execute(delete(tick_steps).where(mine))
        connection.execute(insert(tick_steps), row)


def _worked(before: Mapping[Any, Any], at: int) -> dict[str, int | None]:
    since = before.get("failing_since")
    ended = (before.get("recovered_from"), before.get("recovered_at")) if since is None else (since, at)
    return {
        "succeeded_at": at,
        "failing_since": None,
        "recovered_from": ended[0],
        "recovered_at": ended[1],
        "failures": 0,
    }


def _failed(before: Mapping[Any, Any], at: int) -> dict[str, int | None]:
    since, recovered = before.get("failing_since"), before.get("recovered_at")
    if since is None:
        relapsed = recovered is not None and at - recovered < SETTLED
        since = before["recovered_from"] if relapsed else at
    return {
        "succeeded_at": before.get("succeeded_at"),
        "failing_since": since,
        "recovered_from": None,
        "recovered_at": None,
        "failures": before.get("failures", 0) + 1,
    }


def list_steps(store: Store) -> list[TickStep]:
    """All parts that have ended at least once, by name."""
    with store.read() as connection:
        rows = connection.execute(select(tick_steps).order_by(tick_steps.c.name)).mappings().all()
    return [TickStep(**row) for row in rows]


def failing(store: Store) -> list[TickStep]:
    """The parts that fail, by name."""
    return [step for step in list_steps(store) if step.failing_since is not None]


def last_tick(store: Store) -> int | None:
    """When the last tick that could use the database ended; None if none ever has."""
    with store.read() as connection:
        at: int | None = connection.scalar(select(tick_steps.c.ended_at).where(tick_steps.c.name == TICK))
    return at


def forget_others(store: Store, names: Collection[str]) -> Sequence[str]:
    """Forget the parts that are not among these names any more; returns which."""
    others = [step.name for step in list_steps(store) if step.name not in names]
    if others:
        with store.write() as connection:
            connection.execute(delete(tick_steps).where(tick_steps.c.name.in_(others)))
    return others
