"""Runs, and gaps: steps that were due and are not done."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pipeline.services.pages import PAGE_ROWS, Page, decode_cursor, encode_cursor
from pipeline.services.records import as_record
from pipeline.services.session import Session
from storage.queries import runs
from storage.queries.runs import GapRemedy


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
        "wait": the next run does it. "repeat_backfill": the schedule begins later, so only a backfill does it. "repeat_training",
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
        Steps that this run has done, and steps in the spans of its policy that are being done, and are not done yet.
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
