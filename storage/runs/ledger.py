"""
The ledger: one entry for every due step (scoring a window, a training, …) and its status.

An entry is `pending` from the moment it is due, `running` while a worker works on it, then `done` or `failed`. A failed
entry with `not_before` is retried; one without stays failed until a person takes care of it.

One worker at a time has a step: `claim` counts its `token` up, and what is written inside `fenced` is written only as long
as the step is still this worker's by that token.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, Select, and_, bindparam, exists, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from storage.database.database import Store
from storage.database.tables import ledger, policies
from storage.errors import StepRunning, StepTaken
from storage.runs import workers


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
    worker: str | None = None  # that claimed it
    token: int = 0  # how often it was claimed

    @property
    def key(self) -> tuple[str, int, int]:
        """The primary key without the policy."""
        return (self.kind, self.window_start, self.window_end)

    @property
    def is_open(self) -> bool:
        """Whether it is still to be done, now or by a later retry."""
        return self.status in ("pending", "running") or (
            self.status == "failed" and self.not_before is not None
        )


def ensure(store: Store, missing: Sequence[Entry]) -> None:
    """Add the entries that do not exist yet; existing ones stay as they are."""
    if missing:
        with store.write() as connection:
            _add(connection, missing)


def assign(store: Store, entries: Sequence[Entry], run_id: int) -> list[Entry]:
    """Write into entries that are to be done which run gets to them; returns all as they are then, the newest run's name in them."""
    mine = [replace(each, run_id=run_id) if each.status == "pending" else each for each in entries]
    values = [
        {"of_kind": each.kind, "begin": each.window_start, "until": each.window_end, "of_policy": each.policy}
        for each in mine
        if each.status == "pending"
    ]
    if values:
        row = ledger.c
        given = (
            row.policy == bindparam("of_policy"), row.kind == bindparam("of_kind"),
            row.window_start == bindparam("begin"), row.window_end == bindparam("until"), row.status == "pending",
        )  # fmt: skip
        with store.write() as connection:
            connection.execute(update(ledger).where(*given).values(run_id=run_id), values)
    return mine


def record_plan(store: Store, policy: str, planned: Sequence[Entry], until: int) -> None:
    """Add due entries and set `planned_until` of the policy, in one transaction."""
    with store.write() as connection:
        if planned:
            _add(connection, planned)
        mine = policies.c.policy == policy
        connection.execute(update(policies).where(mine).values(planned_until=until))


def _add(connection: Connection, missing: Sequence[Entry]) -> None:
    make = postgres_insert if connection.dialect.name == "postgresql" else sqlite_insert
    rows = [vars(entry) | {"counts": dict(entry.counts or {})} for entry in missing]
    connection.execute(make(ledger).on_conflict_do_nothing(), rows)


def entries(
    store: Store,
    policy: str,
    kind: str | None = None,
    since: int | None = None,
    until: int | None = None,
    status: str | None = None,
) -> list[Entry]:
    """Entries by time, with window_end > `since` and window_start < `until`."""
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
    """Entries still to be done, now or by a later retry, oldest first; the cost does not grow with the ledger."""
    open_ = or_(
        ledger.c.status.in_(("pending", "running")),
        and_(ledger.c.status == "failed", ledger.c.not_before.is_not(None)),
    )
    return _fetch(store, select(ledger).where(ledger.c.policy == policy, open_))


def not_done(store: Store, policy: str, kind: str) -> list[Entry]:
    """Entries of a kind that are still to be done, or have failed for good."""
    mine = (ledger.c.policy == policy) & (ledger.c.kind == kind)
    return _fetch(store, select(ledger).where(mine, ledger.c.status.in_(("pending", "running", "failed"))))


def find(store: Store, policy: str, kind: str, start: int, end: int) -> Entry | None:
    """One entry, None if it does not exist."""
    row = ledger.c
    chosen = select(ledger).where(
        row.policy == policy, row.kind == kind, row.window_start == start, row.window_end == end
    )
    return next(iter(_fetch(store, chosen)), None)


def newest_done(store: Store, policy: str, kind: str, before: int | None = None) -> int | None:
    """The newest end of a done window of this kind; with `before` of those that end before that instant."""
    row = ledger.c
    chosen = select(func.max(row.window_end)).where(
        row.policy == policy, row.kind == kind, row.status == "done"
    )
    if before is not None:
        chosen = chosen.where(row.window_end < before)
    with store.read() as connection:
        result: int | None = connection.scalar(chosen)
    return result


def _fetch(store: Store, rows: "Select[Any]") -> list[Entry]:
    with store.read() as connection:
        ordered = connection.execute(rows.order_by(ledger.c.window_end, ledger.c.kind)).mappings()
        return [Entry(**row) for row in ordered]


def claim(store: Store, entry: Entry, run_id: int, worker: str) -> Entry | None:
    """
    Set an entry to `running` for this worker, with one more attempt; None if another one has finished it since it was read.

    Steps of workers that are gone are free. Of each policy one training runs at a time, since it builds on those before.

    Raises
    ------
    StepRunning
        Another worker is at work on it; or, if it is a training, on another training of the policy.
    """
    with store.write_exclusive() as connection:
        workers.retire_gone(connection)
        stored = connection.execute(select(ledger).where(_is(entry))).mappings().one()
        current = Entry(**stored)
        if current.status == "running" or (entry.kind == "train" and _is_training(connection, entry.policy)):
            raise StepRunning(f"another worker is at work on the {_name(entry)}", remedy="wait")
        if not current.is_open and (current.token != entry.token or entry.status == "running"):
            return None
        claimed = replace(
            current, status="running", attempts=current.attempts + 1, run_id=run_id, error=None, worker=worker,
            token=current.token + 1,
        )  # fmt: skip
        values = _values(claimed) | {"worker": worker, "token": claimed.token}
        connection.execute(update(ledger).where(_is(entry)).values(values))
    return claimed


def _is_training(connection: Connection, policy: str) -> bool:
    row = ledger.c
    running = exists().where(row.policy == policy, row.kind == "train", row.status == "running")
    return bool(connection.scalar(select(running)))


@contextmanager
def fenced(store: Store, claimed: Entry) -> Iterator[None]:
    """
    Check in every write of a block that the step is still this worker's.

    Raises
    ------
    StepTaken
        From a write: another worker has the step by now, or it was undone. Nothing of that write is stored.
    """

    def guard(connection: Connection) -> None:
        mine = select(ledger.c.token).where(_is(claimed), ledger.c.worker == claimed.worker)
        # On Postgres the row stays locked until the write commits, so no worker takes over in between.
        if connection.scalar(mine.with_for_update(read=True)) != claimed.token:
            raise StepTaken(
                f"the {_name(claimed)} was taken over by another worker, so nothing more is written here"
            )

    store.write_guards.append(guard)
    try:
        yield
    finally:
        store.write_guards.remove(guard)


def reopen(store: Store, finished: Sequence[Entry]) -> list[Entry]:
    """Set entries to `pending` again, in one transaction; returns them as they are then."""
    pending = [replace(entry, status="pending", finished_at=None, counts={}) for entry in finished]
    with store.write() as connection:
        for entry in pending:
            write(connection, entry)
    return pending


def finish(store: Store, entry: Entry, counts: Mapping[str, Any], now: int) -> None:
    """Set an entry to `done`, with its counts."""
    with store.write() as connection:
        write(connection, done(entry, counts, now))


def done(entry: Entry, counts: Mapping[str, Any], now: int) -> Entry:
    """The entry with status `done`; nothing is written."""
    return replace(entry, status="done", counts=counts, not_before=None, finished_at=now, error=None)


def fail(store: Store, entry: Entry, error: str, now: int, not_before: int | None = None) -> None:
    """Set an entry to `failed` with its error; it is retried from `not_before` on, or never if that is None."""
    failed = replace(entry, status="failed", error=error, not_before=not_before, finished_at=now)
    with store.write() as connection:
        write(connection, failed)


def write(connection: Connection, entry: Entry) -> None:
    """Write an entry's status inside the caller's transaction; its worker and token stay."""
    connection.execute(update(ledger).where(_is(entry)).values(_values(entry)))


def _is(entry: Entry) -> ColumnElement[bool]:
    row = ledger.c
    return and_(
        row.policy == entry.policy,
        row.kind == entry.kind,
        row.window_start == entry.window_start,
        row.window_end == entry.window_end,
    )


def _values(entry: Entry) -> dict[str, Any]:
    return {
        "status": entry.status,
        "attempts": entry.attempts,
        "not_before": entry.not_before,
        "finished_at": entry.finished_at,
        "run_id": entry.run_id,
        "counts": dict(entry.counts or {}),
        "error": entry.error,
    }


def _name(entry: Entry) -> str:
    day = str(np.datetime64(entry.window_end, "us").astype("datetime64[D]"))
    return f"step {entry.kind} of {day} ({entry.policy})"
