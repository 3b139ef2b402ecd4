"""Runs, and gaps: steps that were due and are not done."""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from pipeline.schedule import grid
from pipeline.services.pages import PAGE_ROWS, Page, decode_cursor, encode_cursor, slice_page
from pipeline.services.records import as_record
from pipeline.services.session import Session
from storage.database.column_types import as_datetime, as_micros
from storage.ingest import history
from storage.queries import runs
from storage.queries.runs import GapRemedy
from storage.runs import ledger
from storage.runs.ledger import Entry

WINDOWS_MAX = 400  # that are listed
StepStatus = Literal["pending", "running", "done", "failed"]
WORST_FIRST: tuple[StepStatus, ...] = ("failed", "running", "pending", "done")


@dataclass(frozen=True)
class RunRecord:
    """
    One execution of steps.

    Attributes
    ----------
    as_of
        The time of the run: it used what was known then. Of a run that nobody dated this is when it began.
    status
        "interrupted": it was stopped, or its process is gone; the next run goes on with its steps.
    newest_batch
        The newest batch of data that it could see.
    counts
        By name; None until it ends.
    """

    run_id: int
    policy: str
    kind: Literal["schedule", "backfill", "manual", "arrival", "train"]
    as_of: datetime
    status: Literal["running", "done", "failed", "interrupted"]
    newest_batch: int
    counts: Mapping[str, int] | None
    error: str | None


@dataclass(frozen=True)
class GapRecord:
    """
    A step that was due and is not done.

    Attributes
    ----------
    not_before
        When it is tried again; None if it waits for its first attempt, or if no retries are left.
    remedy
        "wait": the next run does it. "at_work": the run `at_work_by` is at it, or gets to it. "repeat_backfill": the schedule begins later, so only a backfill does it. "repeat_training",
        "repeat_window": no retries are left, so a person repeats it once the cause of the error is removed.
    """

    policy: str
    kind: Literal["score", "train", "drift", "quality", "prune"]
    window_start: datetime
    window_end: datetime
    due_at: datetime
    status: Literal["pending", "running", "failed"]
    attempts: int
    not_before: datetime | None
    error: str | None
    at_work_by: int | None
    remedy: GapRemedy


def list_runs(
    session: Session, policy: str, *, limit: int = PAGE_ROWS, cursor: str | None = None
) -> Page[RunRecord]:
    """
    Runs, newest first.

    Raises
    ------
    InputError
        The cursor is not one of this list.
    """
    page = runs.run_page(session.store, policy, limit, decode_cursor(cursor, keys=1))
    records = tuple(as_record(RunRecord, row, as_of=row["started_at"]) for row in page.rows)
    return Page(records, encode_cursor(page.next_position))


def list_gaps(
    session: Session, policy: str, *, limit: int = PAGE_ROWS, cursor: str | None = None
) -> Page[GapRecord]:
    """
    Steps that were due and are not done, oldest first.

    Raises
    ------
    InputError
        The cursor is not one of this list.
    """
    page = runs.gap_page(session.store, policy, limit, decode_cursor(cursor, keys=3))
    records = tuple(as_record(GapRecord, row) for row in page.rows)
    return Page(records, encode_cursor(page.next_position))


@dataclass(frozen=True)
class BackfillProgress:
    """
    A backfill at work.

    Attributes
    ----------
    steps_done, steps_running, steps_left
        Steps that this run has done, is at, and has not done yet.
    scored_through
        The end of the newest window that it has scored; None if there is none.
    """

    run_id: int
    policy: str
    started_at: datetime
    steps_done: int
    steps_running: int
    steps_left: int
    scored_through: datetime | None


def running_backfills(session: Session) -> tuple[BackfillProgress, ...]:
    """The backfills at work."""
    return tuple(as_record(BackfillProgress, row) for row in runs.running_backfills(session.store))


@dataclass(frozen=True)
class WindowRecord:
    """
    A window of the schedule and its steps.

    Attributes
    ----------
    score, drift, quality
        The step's status, "running" also of one that a backfill at work gets to; quality is measured over several windows at once. None where it is not in the ledger. Without a step `score` the window was never scored: it is older than the
        schedule, and no backfill has reached it.
    scored, flagged
        Payments, by the newest run over it; None until it is scored.
    error
        Of the first step that failed.
    """

    window_start: datetime
    window_end: datetime
    score: StepStatus | None
    drift: StepStatus | None
    quality: StepStatus | None
    scored: int | None
    flagged: int | None
    error: str | None


def list_windows(
    session: Session, policy: str, *, limit: int = PAGE_ROWS, cursor: str | None = None
) -> Page[WindowRecord]:
    """
    The newest 400 windows that have payments or steps and have ended, oldest first.

    Raises
    ------
    InputError
        The cursor is not one of this list.
    """
    windows = _windows(session, policy)
    return slice_page(windows, lambda window: (as_micros(window.window_start),), limit, cursor, keys=1)


def _windows(session: Session, policy: str) -> list[WindowRecord]:
    span = history.span(session.store)
    if span is None:
        return []
    schedule, now = session.config.schedule, session.now
    step, zone = schedule.window, schedule.timezone
    newest = grid.floor(step, zone, min(span[1], now))
    begin = max(span[0], newest - step * WINDOWS_MAX)
    edges = grid.edges(step, zone, begin, grid.following(step, zone, newest))
    steps: list[list[Entry]] = [[] for _ in edges]
    working = runs.at_work(session.store, policy)
    for entry in ledger.entries(session.store, policy, since=edges[0]):
        run = working.on(entry.status, entry.run_id)
        current = entry if run is None else replace(entry, status="running")
        first = max(bisect_right(edges, entry.window_start) - 1, 0)
        for place in range(first, bisect_left(edges, entry.window_end)):
            steps[place].append(current)
    windows = [_window(*each) for each in zip(edges, edges[1:], steps, strict=False) if each[1] <= now]
    return windows[-WINDOWS_MAX:]


def _window(start: int, end: int, entries: list[Entry]) -> WindowRecord:
    """A window; one that was scored in parts, at the ends of backfills, is as its worst part."""

    def worst(kind: str) -> StepStatus | None:
        statuses = {each.status for each in entries if each.kind == kind}
        return next((each for each in WORST_FIRST if each in statuses), None)

    def total(name: str) -> int | None:
        counts = [each.counts or {} for each in entries if each.kind == "score" and each.status == "done"]
        return sum(int(each.get(name, 0)) for each in counts) if counts else None

    errors = [each.error for each in entries if each.status == "failed" and each.error]
    return WindowRecord(
        as_datetime(start), as_datetime(end), worst("score"), worst("drift"), worst("quality"), total("scored"),
        total("flagged"), errors[0] if errors else None,
    )  # fmt: skip


@dataclass(frozen=True)
class LateRows:
    """Payments that arrived after their window was scored and wait for their own score; the oldest is None if there are none."""

    waiting: int
    oldest_at: datetime | None


def late_rows(session: Session, policy: str) -> LateRows:
    """The payments that are late now."""
    scored_until = ledger.newest_done(session.store, policy, "score")
    if scored_until is None:
        return LateRows(0, None)
    row = runs.late_rows(session.store, policy, scored_until)
    return LateRows(row["waiting"], row["oldest"])
