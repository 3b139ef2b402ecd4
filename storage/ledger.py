"""Windows and trainings, and what became of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import and_, select, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from storage.schema import ledger
from storage.store import Store


@dataclass(frozen=True)
class Entry:
    """A row of the ledger."""

    policy: str
    kind: str  # score, train, drift, prune
    window_start: int
    window_end: int
    due_at: int
    status: str = "pending"
    attempts: int = 0
    run_id: int | None = None
    counts: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None


def ensure(store: Store, wanted: Sequence[Entry]) -> None:
    """Add the entries that are not there yet; others stay as they are."""
    if not wanted:
        return
    make = postgres_insert if store.dialect == "postgresql" else sqlite_insert
    rows = [vars(entry) | {"counts": dict(entry.counts)} for entry in wanted]
    with store.write() as connection:
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
    rows = select(ledger).where(ledger.c.policy == policy).order_by(ledger.c.window_end, ledger.c.kind)
    if kind is not None:
        rows = rows.where(ledger.c.kind == kind)
    if status is not None:
        rows = rows.where(ledger.c.status == status)
    if since is not None:
        rows = rows.where(ledger.c.window_end > since)
    if until is not None:
        rows = rows.where(ledger.c.window_start < until)
    with store.read() as connection:
        return [Entry(**row) for row in connection.execute(rows).mappings()]


def claim(store: Store, entry: Entry, run_id: int) -> Entry:
    """Say that a run is at it."""
    claimed = replace(entry, status="running", attempts=entry.attempts + 1, run_id=run_id, error=None)
    _write(store, claimed)
    return claimed


def finish(store: Store, entry: Entry, counts: Mapping[str, Any]) -> None:
    """Say that it is done, with what was done."""
    _write(store, replace(entry, status="done", counts=counts))


def fail(store: Store, entry: Entry, error: str) -> None:
    """Say that it failed, and why."""
    _write(store, replace(entry, status="failed", error=error))


def _write(store: Store, entry: Entry) -> None:
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
        "run_id": entry.run_id,
        "counts": dict(entry.counts),
        "error": entry.error,
    }
    with store.write() as connection:
        connection.execute(update(ledger).where(this).values(values))
