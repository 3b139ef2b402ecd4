"""Lists of runs and of gaps: what has run, and what was due and is not done."""

from typing import Literal

from sqlalchemy import select

from storage.database import tables
from storage.database.column_types import as_datetime
from storage.database.database import Store
from storage.queries.rows import Position, Row, RowPage, SortKey, fetch_page
from storage.runs import scoring_queue, workers

OF_WINDOWS = ("score", "drift", "quality")  # steps that a backfill has
GapRemedy = Literal["wait", "repeat_backfill", "repeat_training", "repeat_window"]


def run_page(store: Store, policy: str, limit: int | None = None, after: Position | None = None) -> RowPage:
    """Runs, newest first. One whose worker is gone is interrupted, before the next run writes it down."""
    r = tables.runs.c
    newest_first = (SortKey(r.run_id, descending=True),)
    page = fetch_page(store, select(tables.runs).where(r.policy == policy), newest_first, limit, after)
    with store.read() as connection:
        gone = workers.interrupted_runs(connection)
    rows = [row | {"status": "interrupted"} if row["run_id"] in gone else row for row in page.rows]
    return RowPage(rows, page.next_position)


def gap_page(store: Store, policy: str, limit: int | None = None, after: Position | None = None) -> RowPage:
    """Entries of the ledger that are due and not done, oldest first, each with a `remedy`."""
    e = tables.ledger.c
    oldest_first = (SortKey(e.window_end), SortKey(e.kind), SortKey(e.window_start))
    columns = (
        e.policy, e.kind, e.window_start, e.window_end, e.due_at, e.status, e.attempts, e.not_before, e.error,
    )  # fmt: skip
    page = fetch_page(
        store, select(*columns).where(e.policy == policy, e.status != "done"), oldest_first, limit, after
    )
    starts_at = scoring_queue.starts_at(store, policy)
    return RowPage([row | {"remedy": _remedy(row, starts_at)} for row in page.rows], page.next_position)


def _remedy(row: Row, starts_at: int | None) -> GapRemedy:
    """What closes a gap: the next run; before the schedule began a backfill; without retries left a person who repeats the step."""
    if row["status"] != "failed" or row["not_before"] is not None:
        is_before = starts_at is None or row["window_end"] <= as_datetime(starts_at)
        return "repeat_backfill" if is_before and row["kind"] in OF_WINDOWS else "wait"
    return "repeat_training" if row["kind"] == "train" else "repeat_window"
