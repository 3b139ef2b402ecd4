"""Runs: the ledger as a matrix of windows, gaps and what fills them, late payments, and what is at work."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import takewhile
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Form, Query, Response

from pipeline.api.context import Context, RequestContext
from pipeline.api.runs.jobs import JobId, visible_job
from pipeline.api.types import Instant
from pipeline.errors import InputError
from pipeline.schedule.run_context import LIVE
from pipeline.services.models.comparisons import ComparisonRequest
from pipeline.services.runs.backfill import BackfillRequest
from pipeline.services.runs.jobs import JobRequest
from pipeline.services.runs.runs import (
    WINDOWS_MAX,
    WindowRecord,
    late_rows,
    list_gaps,
    list_runs,
    list_windows,
    running_backfills,
)
from pipeline.services.runs.tick import TickRequest
from pipeline.services.runs.training import TrainRequest
from pipeline.web.rendering import page

router = APIRouter()
DAY = timedelta(days=1)
FILL_MOST = timedelta(days=28)  # that the form offers at once
RUNS_SHOWN, GAPS_SHOWN, JOBS_SHOWN = 20, 50, 5
# What a window is shown as: the worst of its steps, with the sign in its cell.
STATES = {
    "failed": ("✕", "failed"),
    "running": ("…", "at work"),
    "pending": ("○", "due"),
    "never": ("–", "never scored"),
    "done": ("✓", "done"),
}
REMEDIES = {  # of gaps, by what the page offers
    "wait": "the next tick does it, or “Run what is due”",
    "at_work": "at work by run {run}",
    "repeat_backfill": "its backfill was interrupted: “Fill” goes on with it",
    "repeat_training": "windows are scored with the model before it; “Train again” repeats it",
    "repeat_window": "mend what the error names, then “Fill”",
}
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


@dataclass(frozen=True)
class MatrixCell:
    """A window in the matrix."""

    window: WindowRecord
    state: str


@dataclass(frozen=True)
class MatrixRow:
    """A line of the matrix; None where its column has no window."""

    title: str
    cells: tuple[MatrixCell | None, ...]


@router.get("/runs")
def runs(context: Context) -> Response:
    """Show what was scored and what was not, and offer to fill gaps."""
    windows = _windows(context)
    gaps = list_gaps(context.session, LIVE, limit=GAPS_SHOWN).items
    zone = ZoneInfo(context.app.config.schedule.timezone)
    done = [each for each in windows if each.score == "done"]
    gap = _newest_gap(windows)
    return page(
        context,
        "runs.html",
        place="runs",
        newest=done[-1] if done else None,
        never=sum(each.score is None for each in windows),
        began=_scoring_began(windows),
        gaps=[replace(gap, error=context.visible_text(gap.error)) for gap in gaps],
        remedies=[REMEDIES[gap.remedy].format(run=gap.at_work_by) for gap in gaps],
        first_day=_local_day(gap[0].window_start, zone) if gap else "",
        day_after=_local_day(gap[-1].window_end + DAY - timedelta.resolution, zone) if gap else "",
        late=late_rows(context.session, LIVE),
        runs=[
            replace(each, error=context.visible_text(each.error))
            for each in list_runs(context.session, LIVE, limit=RUNS_SHOWN).items
        ],
        **_matrix_of(windows, zone),
        **_jobs_and_backfills(context),
    )


@router.get("/runs/matrix")
def matrix(context: Context) -> Response:
    """Show the windows as they are now."""
    zone = ZoneInfo(context.app.config.schedule.timezone)
    shown = {**_matrix_of(_windows(context), zone), **_jobs_and_backfills(context)}
    return page(context, "matrix.html", place="runs", **shown)


@router.get("/runs/work")
def at_work(context: Context, was: Annotated[str, Query(max_length=10)] = "") -> Response:
    """Show what is at work; when nothing is any more, the page is loaded again."""
    now = _jobs_and_backfills(context)
    if was and not now["is_at_work"]:
        return Response(status_code=204, headers={"HX-Refresh": "true"})
    return page(context, "work.html", place="runs", **now)


@router.post("/runs/now")
def run_now(context: Context) -> Response:
    """Start doing what is due."""
    return _start(context, TickRequest())


@router.post("/runs/backfill")
def fill(
    context: Context,
    start: Annotated[Instant | date, Form()],
    end: Annotated[Instant | date, Form()],
) -> Response:
    """Start to score a span: days of the schedule's zone, or instants."""
    zone = ZoneInfo(context.app.config.schedule.timezone)
    if _instant(start, zone) >= _instant(end, zone):
        raise InputError("the first day must be before the last", code="empty_span")
    return _start(context, BackfillRequest(_instant(start, zone), _instant(end, zone)))


@router.post("/runs/train")
def train_at(context: Context, as_of: Annotated[Instant | Literal[""], Form()] = "") -> Response:
    """Start a training, now or as of a date."""
    return _start(context, TrainRequest(as_of or None))


@router.post("/runs/compare")
def compare(context: Context) -> Response:
    """Start to compare techniques."""
    return _start(context, ComparisonRequest())


@router.post("/jobs/{job_id}/stop")
def stop(context: Context, job_id: JobId) -> Response:
    """Stop a job."""
    context.app.jobs.stop(job_id)
    return Response(status_code=204, headers={"HX-Redirect": "/runs"})


def _start(context: RequestContext, request: JobRequest) -> Response:
    context.app.jobs.start(request, context.caller.name)
    return Response(status_code=204, headers={"HX-Redirect": "/runs"})


def _jobs_and_backfills(context: RequestContext) -> dict[str, Any]:
    jobs = [visible_job(context, job) for job in context.app.jobs.list()[:JOBS_SHOWN]]
    backfills = running_backfills(context.session)
    is_at_work = bool(backfills) or any(job.status == "running" for job in jobs)
    return {"jobs": jobs, "backfills": backfills, "is_at_work": is_at_work}


def _windows(context: RequestContext) -> Sequence[WindowRecord]:
    return list_windows(context.session, LIVE, limit=WINDOWS_MAX).items


def _matrix_of(windows: Sequence[WindowRecord], zone: ZoneInfo) -> dict[str, Any]:
    columns, rows = _matrix(windows, zone)
    return {"columns": columns, "rows": rows, "states": STATES, "zone": zone.key}


def _newest_gap(windows: Sequence[WindowRecord]) -> list[WindowRecord]:
    """The newest windows in a row that nobody has scored, at most those of `FILL_MOST`; what is older than the first score comes last."""
    first = next((place for place, each in enumerate(windows) if each.score == "done"), 0)
    for part in (windows[first:], windows[:first]):
        open_ = [each for each in part if each.score not in ("done", "running")]
        if open_:
            newest = open_[-1]
            gap = list(
                takewhile(lambda each: each.score not in ("done", "running"), part[part.index(newest) :: -1])
            )
            return [each for each in reversed(gap) if newest.window_end - each.window_start <= FILL_MOST] or [
                newest
            ]
    return []


def _scoring_began(windows: Sequence[WindowRecord]) -> datetime | None:
    """The start of the first scored window, if all that were never scored are before it."""
    first = next((each.window_start for each in windows if each.score is not None), None)
    never = [each.window_end for each in windows if each.score is None]
    return first if first is not None and all(end <= first for end in never) else None


def _local_day(at: datetime, zone: ZoneInfo) -> str:
    return f"{at.astimezone(zone):%Y-%m-%d}"


def _instant(moment: datetime | date, zone: ZoneInfo) -> datetime:
    if isinstance(moment, datetime):
        return moment
    return datetime.combine(moment, time(), zone).astimezone(UTC)


def _state(window: WindowRecord) -> str:
    statuses = {window.score or "never", window.drift, window.quality}
    return next(state for state in STATES if state in statuses)


def _matrix(windows: Sequence[WindowRecord], zone: ZoneInfo) -> tuple[tuple[str, ...], tuple[MatrixRow, ...]]:
    """The matrix: a line is a week of days, a day of shorter windows, or a year of longer ones."""
    if not windows:
        return (), ()
    lengths = sorted(each.window_end - each.window_start for each in windows)
    usual = lengths[len(lengths) // 2]
    by_row: dict[str, dict[int, MatrixCell]] = {}
    for each in windows:
        local = each.window_start.astimezone(zone)
        if usual < DAY - timedelta(hours=2):
            midnight = datetime.combine(local.date(), time(), zone)
            title, column = f"{local:%a %d %b}", (local - midnight) // usual
        elif usual <= DAY + timedelta(hours=2):
            title, column = f"{local - timedelta(days=local.weekday()):%d %b %Y}", local.weekday()
        else:
            title, column = f"{local:%Y}", local.timetuple().tm_yday // usual.days
        by_row.setdefault(title, {})[column] = MatrixCell(each, _state(each))
    width = 1 + max(column for cells in by_row.values() for column in cells)
    if usual < DAY - timedelta(hours=2):
        minutes = usual // timedelta(minutes=1)
        columns = tuple(f"{place * minutes // 60:02d}:{place * minutes % 60:02d}" for place in range(width))
    else:
        columns = (
            WEEKDAYS if usual <= DAY + timedelta(hours=2) else tuple(str(place + 1) for place in range(width))
        )
    width = len(columns)
    return columns, tuple(
        MatrixRow(title, tuple(cells.get(place) for place in range(width))) for title, cells in by_row.items()
    )
