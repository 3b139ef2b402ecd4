"""Lists of runs and of gaps: what has run, and what was due and is not done."""

from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import and_, func, select

from storage.database import tables
from storage.database.column_types import as_datetime
from storage.database.database import Store
from storage.queries.rows import Position, Row, RowPage, SortKey, fetch_page, read_rows
from storage.runs import scoring_queue, workers

OF_WINDOWS = ("score", "drift", "quality")  # steps that a backfill has
GapRemedy = Literal["wait", "at_work", "repeat_backfill", "repeat_training", "repeat_window"]


def run_page(store: Store, policy: str, limit: int | None = None, after: Position | None = None) -> RowPage:
    """Runs, newest first. One whose worker is gone is interrupted, before the next run writes it down."""
    r = tables.runs.c
    newest_first = (SortKey(r.run_id, descending=True),)
    page = fetch_page(store, select(tables.runs).where(r.policy == policy), newest_first, limit, after)
    with store.read() as connection:
        gone = workers.interrupted_runs(connection)
    rows = [row | {"status": "interrupted"} if row["run_id"] in gone else row for row in page.rows]
    return RowPage(rows, page.next_position)


@dataclass(frozen=True)
class AtWork:
    """Who is at work on the steps of a policy: runs whose workers live."""

    runs: frozenset[int]
    starts_at: int | None  # of the policy's schedule, µs

    def on(self, status: str, run_id: int | None) -> int | None:
        """The run that is at work on a step, or gets to it; None if nobody does. A backfill writes into its steps that it gets to them."""
        return run_id if status in ("pending", "running") and run_id in self.runs else None


def at_work(store: Store, policy: str) -> AtWork:
    """Who is at work on the steps of a policy."""
    r = tables.runs.c
    with store.read() as connection:
        gone = workers.interrupted_runs(connection)
        running = set(connection.scalars(select(r.run_id).where(r.policy == policy, r.status == "running")))
    return AtWork(frozenset(running - gone), scoring_queue.starts_at(store, policy))


def gap_page(store: Store, policy: str, limit: int | None = None, after: Position | None = None) -> RowPage:
    """Entries of the ledger that are due and not done, oldest first, each with a `remedy` and the run that is at work on it (`at_work_by`)."""
    e = tables.ledger.c
    oldest_first = (SortKey(e.window_end), SortKey(e.kind), SortKey(e.window_start))
    columns = (
        e.policy, e.kind, e.window_start, e.window_end, e.due_at, e.status, e.attempts, e.not_before, e.error,
        e.run_id,
    )  # fmt: skip
    page = fetch_page(
        store, select(*columns).where(e.policy == policy, e.status != "done"), oldest_first, limit, after
    )
    working, rows = at_work(store, policy), []
    for row in page.rows:
        run = working.on(row["status"], row.pop("run_id"))
        remedy = "at_work" if run is not None else _remedy(row, working.starts_at)
        rows.append(row | {"at_work_by": run, "remedy": remedy})
    return RowPage(rows, page.next_position)


def _remedy(row: Row, starts_at: int | None) -> GapRemedy:
    """What closes a gap: the next run; before the schedule began a backfill; without retries left a person who repeats the step."""
    if row["status"] != "failed" or row["not_before"] is not None:
        is_before = starts_at is None or row["window_end"] <= as_datetime(starts_at)
        return "repeat_backfill" if is_before and row["kind"] in OF_WINDOWS else "wait"
    return "repeat_training" if row["kind"] == "train" else "repeat_window"


def running_backfills(store: Store) -> list[Row]:
    """
    The backfills at work: with the number of steps that each has done, is at, and has left.
    """
    r, e = tables.runs.c, tables.ledger.c
    mine = and_(e.policy == r.policy, e.run_id == r.run_id, e.status.in_(("pending", "running")))
    left = select(func.count()).where(mine).scalar_subquery()
    at_work = select(func.count()).where(mine, e.status == "running").scalar_subquery()
    done = select(func.count()).where(e.run_id == r.run_id, e.status == "done").scalar_subquery()
    through = (
        select(func.max(e.window_end, type_=e.window_end.type))
        .where(e.run_id == r.run_id, e.status == "done", e.kind == "score")
        .scalar_subquery()
    )
    query = select(
        r.run_id, r.policy, r.started_at, done.label("steps_done"), at_work.label("steps_running"), left.label("steps_left"),
        through.label("scored_through"),
    ).where(r.kind == "backfill", r.status == "running").order_by(r.run_id)  # fmt: skip
    with store.read() as connection:
        gone = workers.interrupted_runs(connection)
    return [row for row in read_rows(store, query) if row["run_id"] not in gone]


def late_rows(store: Store, policy: str, scored_until: int) -> Row:
    """Payments that wait for a score although their window was scored: how many (`waiting`), and the `oldest` of them; before µs."""
    t, q = store.transactions.c, tables.queue.c
    query: Any = (
        select(func.count().label("waiting"), func.min(t.event_time, type_=t.event_time.type).label("oldest"))
        .select_from(tables.queue.join(store.transactions, t.transaction_id == q.transaction_id))
        .where(q.policy == policy, t.event_time < scored_until)
    )
    return read_rows(store, query)[0]
