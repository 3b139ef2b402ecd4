"""Windows and trainings, and what became of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import ColumnElement, and_, select, update

from storage.inserting import add_missing
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
    status: str = "due"
    attempts: int = 0
    run_id: int | None = None
    counts: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None


def ensure(store: Store, wanted: Sequence[Entry]) -> None:
    """Add the entries that are not there yet; others stay as they are."""
    rows = [vars(entry) | {"counts": dict(entry.counts)} for entry in wanted]
    with store.write() as connection:
        add_missing(connection, ledger, rows)


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
    """Say that a run is at it; returns the entry as it now is."""
    values = {"status": "running", "attempts": ledger.c.attempts + 1, "run_id": run_id, "error": None}
    with store.write() as connection:
        connection.execute(update(ledger).where(_this(entry)).values(values))
        attempts = connection.scalar(select(ledger.c.attempts).where(_this(entry)))
    return replace(entry, status="running", attempts=attempts or 1, run_id=run_id, error=None)


def finish(store: Store, entry: Entry, counts: Mapping[str, Any]) -> None:
    """Say that it is done, with what was done."""
    _write(store, entry, {"status": "done", "counts": dict(counts), "error": None})


def fail(store: Store, entry: Entry, error: str) -> None:
    """Say that it failed, and why; done by another meanwhile, it stays done."""
    _write(store, entry, {"status": "failed", "error": error}, ledger.c.status != "done")


def _write(store: Store, entry: Entry, values: Mapping[str, Any], *conditions: ColumnElement[bool]) -> None:
    with store.write() as connection:
        connection.execute(update(ledger).where(_this(entry), *conditions).values(values))


def _this(entry: Entry) -> ColumnElement[bool]:
    row = ledger.c
    return and_(
        row.policy == entry.policy,
        row.kind == entry.kind,
        row.window_start == entry.window_start,
        row.window_end == entry.window_end,
    )
