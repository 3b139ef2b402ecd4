"""The schedules of windows and trainings, each with the instant from which it is in force."""

from dataclasses import dataclass

from sqlalchemy import insert, select

from storage.database.database import Store
from storage.database.tables import policies, schedules


@dataclass(frozen=True)
class StoredSchedule:
    """Length of a window and time between trainings, both in µs, on the calendar of a time zone."""

    window: int
    train_every: int
    timezone: str


def in_force(store: Store, policy: str) -> StoredSchedule | None:
    """The newest schedule of the policy, None before the first one is stored."""
    s = schedules.c
    rows = select(s.window_us, s.train_every_us, s.timezone).where(s.policy == policy)
    with store.read() as connection:
        newest = connection.execute(rows.order_by(s.effective_from.desc()).limit(1)).one_or_none()
    return (
        None if newest is None else StoredSchedule(newest.window_us, newest.train_every_us, newest.timezone)
    )


def store_schedule(
    store: Store, policy: str, schedule: StoredSchedule, effective_from: int, now: int
) -> None:
    """Store a schedule that is in force from an instant on; it replaces one with the same `effective_from`."""
    row = {
        "window_us": schedule.window, "train_every_us": schedule.train_every, "timezone": schedule.timezone, "decided_at": now,
    }  # fmt: skip
    with store.write() as connection:
        same = (schedules.c.policy == policy) & (schedules.c.effective_from == effective_from)
        connection.execute(schedules.delete().where(same))
        connection.execute(insert(schedules), row | {"policy": policy, "effective_from": effective_from})


def planned_until(store: Store, policy: str) -> int | None:
    """The instant up to which the ledger has every step of the schedule."""
    with store.read() as connection:
        result: int | None = connection.scalar(
            select(policies.c.planned_until).where(policies.c.policy == policy)
        )
    return result
