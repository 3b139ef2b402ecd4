"""The grids of windows and trainings that were in force, each from a stored boundary on."""

from dataclasses import dataclass

from sqlalchemy import insert, select

from storage.database.database import Store
from storage.database.tables import policies, schedules


@dataclass(frozen=True)
class Grid:
    """Lengths in µs of a window and of the time between trainings, on the calendar of a time zone."""

    window: int
    every: int
    timezone: str


def in_force(store: Store, policy: str) -> Grid | None:
    """The newest grid of the policy, None before its first plan."""
    s = schedules.c
    rows = select(s.window, s.every, s.timezone).where(s.policy == policy)
    with store.read() as connection:
        found = connection.execute(rows.order_by(s.effective_from.desc()).limit(1)).one_or_none()
    return None if found is None else Grid(found.window, found.every, found.timezone)


def change(store: Store, policy: str, grid: Grid, effective_from: int, now: int) -> None:
    """Let another grid rule from an instant on; one that began at that very instant never ruled and goes."""
    row = {"window": grid.window, "every": grid.every, "timezone": grid.timezone, "decided_at": now}
    with store.write() as connection:
        same = (schedules.c.policy == policy) & (schedules.c.effective_from == effective_from)
        connection.execute(schedules.delete().where(same))
        connection.execute(insert(schedules), row | {"policy": policy, "effective_from": effective_from})


def planned_until(store: Store, policy: str) -> int | None:
    """Up to where the ledger has every step of the schedule."""
    with store.read() as connection:
        found: int | None = connection.scalar(
            select(policies.c.planned_until).where(policies.c.policy == policy)
        )
    return found
