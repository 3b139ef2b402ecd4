"""
Windows and trainings, and what became of each.

An entry is `pending` from the moment it is due, `running` while a run is at it, then `done` or `failed`. A failed
entry with `not_before` will be tried again; one without stays failed until a person does something about it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, Select, and_, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from storage.database.database import Store
from storage.database.tables import ledger, policies


@dataclass(frozen=True)
class Entry:
    """A row of the ledger."""

    policy: str
    kind: str  # score, train, drift, quality, prune
    window_start: int
    window_end: int
    due_at: int
    status: str = "pending"
    attempts: int = 0
    not_before: int | None = None
    finished_at: int | None = None
    run_id: int | None = None
    counts: Mapping[str, Any] | None = field(default_factory=dict)
    error: str | None = None

    @property
    def key(self) -> tuple[str, int, int]:
        """What tells it from the policy's other entries."""
        return (self.kind, self.window_start, self.window_end)

    @property
    def will_be_tried(self) -> bool:
        """Whether it is still to be done, now or later."""
        return self.status in ("pending", "running") or (
            self.status == "failed" and self.not_before is not None
        )


def ensure(store: Store, wanted: Sequence[Entry]) -> None:
    """Add the entries that are not there yet; others stay as they are."""
    if wanted:
        with store.write() as connection:
            _add(connection, wanted)


def plan(store: Store, policy: str, wanted: Sequence[Entry], until: int) -> None:
    """Add what is due and remember, in the same transaction, up to where that has been done."""
    with store.write() as connection:
        if wanted:
            _add(connection, wanted)
        mine = policies.c.policy == policy
        connection.execute(update(policies).where(mine).values(planned_until=until))


def _add(connection: Connection, wanted: Sequence[Entry]) -> None:
    make = postgres_insert if connection.dialect.name == "postgresql" else sqlite_insert
    rows = [vars(entry) | {"counts": dict(entry.counts or {})} for entry in wanted]
    connection.execute(make(ledger).on_conflict_do_nothing(), rows)


def entries(
    store: Store,
    policy: str,
    kind: str | None = None,
    since: int | None = None,
    until: int | None = None,
    status: str | None = None,
) -> list[Entry]:
    """Entries by time; `since` and `until` bound their window's end and start."""
    rows = select(ledger).where(ledger.c.policy == policy)
    if kind is not None:
        rows = rows.where(ledger.c.kind == kind)
    if status is not None:
        rows = rows.where(ledger.c.status == status)
    if since is not None:
        rows = rows.where(ledger.c.window_end > since)
    if until is not None:
        rows = rows.where(ledger.c.window_start < until)
    return _fetch(store, rows)


def unfinished(store: Store, policy: str) -> list[Entry]:
    """What is still to be done, now or later, oldest first; costs its own number, not the ledger's length."""
    open_ = or_(
        ledger.c.status.in_(("pending", "running")),
        and_(ledger.c.status == "failed", ledger.c.not_before.is_not(None)),
    )
    return _fetch(store, select(ledger).where(ledger.c.policy == policy, open_))


def not_done(store: Store, policy: str, kind: str) -> list[Entry]:
    """Entries of a kind that are still to be done or failed for good."""
    mine = (ledger.c.policy == policy) & (ledger.c.kind == kind)
    return _fetch(store, select(ledger).where(mine, ledger.c.status.in_(("pending", "running", "failed"))))


def find(store: Store, policy: str, kind: str, start: int, end: int) -> Entry | None:
    """One entry, None if there is no such row."""
    row = ledger.c
    chosen = select(ledger).where(
        row.policy == policy, row.kind == kind, row.window_start == start, row.window_end == end
    )
    return next(iter(_fetch(store, chosen)), None)


def newest_done(store: Store, policy: str, kind: str, before: int | None = None) -> int | None:
    """The newest end of a done window of this kind, of those that end before an instant if one is given."""
    row = ledger.c
    chosen = select(func.max(row.window_end)).where(
        row.policy == policy, row.kind == kind, row.status == "done"
    )
    if before is not None:
        chosen = chosen.where(row.window_end < before)
    with store.read() as connection:
        found: int | None = connection.scalar(chosen)
    return found


def _fetch(store: Store, rows: "Select[Any]") -> list[Entry]:
    with store.read() as connection:
        found = connection.execute(rows.order_by(ledger.c.window_end, ledger.c.kind)).mappings()
        return [Entry(**row) for row in found]


def claim(store: Store, entry: Entry, run_id: int) -> Entry:
    """Say that a run is at it."""
    claimed = replace(entry, status="running", attempts=entry.attempts + 1, run_id=run_id, error=None)
    with store.write() as connection:
        write(connection, claimed)
    return claimed


def finish(store: Store, entry: Entry, counts: Mapping[str, Any], now: int) -> None:
    """Say that it is done, with what was done."""
    with store.write() as connection:
        write(connection, done(entry, counts, now))


def done(entry: Entry, counts: Mapping[str, Any], now: int) -> Entry:
    """The entry as it is once it is done."""
    return replace(entry, status="done", counts=counts, not_before=None, finished_at=now, error=None)


def fail(store: Store, entry: Entry, error: str, now: int, not_before: int | None = None) -> None:
    """Say that it failed, why, and when it may be tried again: never by itself without `not_before`."""
    failed = replace(entry, status="failed", error=error, not_before=not_before, finished_at=now)
    with store.write() as connection:
        write(connection, failed)


def write(connection: Connection, entry: Entry) -> None:
    """Write an entry's state inside a transaction of the caller's."""
    row = ledger.c
    this = and_(
        row.policy == entry.policy,
        row.kind == entry.kind,
        row.window_start == entry.window_start,
        row.window_end == entry.window_end,
    )
    values = {
        "status": entry.status,
        "attempts": entry.attempts,
        "not_before": entry.not_before,
        "finished_at": entry.finished_at,
        "run_id": entry.run_id,
        "counts": dict(entry.counts or {}),
        "error": entry.error,
    }
    connection.execute(update(ledger).where(this).values(values))
