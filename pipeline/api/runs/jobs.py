"""Jobs: runs, backfills, trainings and comparisons as processes of their own; an answer says how far each is."""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Response
from pydantic import Field

from pipeline.api.body import Body
from pipeline.api.context import Context, RequestContext
from pipeline.api.listing import json_answer
from pipeline.api.types import ID_MAX, Instant, Name
from pipeline.services.models.comparisons import ComparisonRequest
from pipeline.services.runs.backfill import BackfillRequest
from pipeline.services.runs.jobs import Job, JobRequest
from pipeline.services.runs.tick import TickRequest
from pipeline.services.runs.training import TrainRequest

router = APIRouter(tags=["Runs"])
JobId = Annotated[str, Path(max_length=100)]


class RunBody(Body):
    """When: do what was due at this time; now without one."""

    as_of: Instant | None = None


class BackfillBody(Body):
    """The span [start, end) to score; under another policy, and by a model of one's choice, if they are named."""

    start: Instant
    end: Instant
    rescore_as: Name | None = None
    model_id: Annotated[int, Field(ge=1, le=ID_MAX)] | None = None


class TrainingBody(Body):
    """The training date, now without one, and the challenger to train instead of live."""

    as_of: Instant | None = None
    challenger: Name | None = None


class ComparisonBody(Body):
    """What to compare: folds, how many days each is tested on, rows of a fit, words of technique names, and a field for false-flag rates."""

    folds: Annotated[int, Field(ge=1, le=52)] = 3
    test_days: Annotated[int, Field(ge=1, le=366)] = 7
    rows_max: Annotated[int, Field(ge=1_000, le=10_000_000)] = 60_000
    techniques: Annotated[tuple[Name, ...], Field(max_length=100)] = ()
    by: Annotated[str, Field(max_length=200)] = ""
    seed: Annotated[int, Field(ge=0, le=ID_MAX)] = 7


@dataclass(frozen=True)
class RunningJobs:
    """The jobs of this server, the newest first."""

    jobs: tuple[Job, ...]


@router.post("/runs", operation_id="start_run", response_model=Job, status_code=202)
def run(context: Context, body: RunBody) -> Response:
    """Start doing everything that is due: trainings, windows and late arrivals, then notifications and challengers."""
    return _started(context, TickRequest(body.as_of))


@router.post("/backfills", operation_id="start_backfill", response_model=Job, status_code=202)
def backfill(context: Context, body: BackfillBody) -> Response:
    """Start to score a past span as the schedule would have done; what is scored already is skipped."""
    request = BackfillRequest(body.start, body.end, rescore_as=body.rescore_as, model_id=body.model_id)
    return _started(context, request)


@router.post("/trainings", operation_id="start_training", response_model=Job, status_code=202)
def train(context: Context, body: TrainingBody) -> Response:
    """Start a training: a strategy is chosen, a model fitted, and promoted unless the gate rejects it."""
    return _started(context, TrainRequest(body.as_of, body.challenger))


@router.post("/comparisons", operation_id="start_comparison", response_model=Job, status_code=202)
def compare(context: Context, body: ComparisonBody) -> Response:
    """Start to compare techniques on the newest spans whose labels are mature."""
    values = body.model_dump(exclude={"test_days"})
    return _started(context, ComparisonRequest(**values, test_span=timedelta(days=body.test_days)))


@router.get("/jobs", operation_id="list_jobs", response_model=RunningJobs)
def list_(context: Context) -> Response:
    """List jobs that this server has started and those that ended last, with how far each is."""
    jobs = tuple(visible_job(context, each) for each in context.app.jobs.list())
    return json_answer(RunningJobs, RunningJobs(jobs))


@router.get("/jobs/{job_id}", operation_id="show_job", response_model=Job)
def show(context: Context, job_id: JobId) -> Response:
    """Show how far a job is."""
    return json_answer(Job, visible_job(context, context.app.jobs.show(job_id)))


@router.post("/jobs/{job_id}/stop", operation_id="stop_job", response_model=Job)
def stop(context: Context, job_id: JobId) -> Response:
    """Stop a job: finished steps are kept, and nothing is half written."""
    return json_answer(Job, visible_job(context, context.app.jobs.stop(job_id)))


def visible_job(context: RequestContext, job: Job) -> Job:
    """A job as the caller may see it: an error may quote values."""
    notes = tuple(context.visible_text(note) or "" for note in job.notes)
    return replace(job, error=context.visible_text(job.error), notes=notes)


def _started(context: RequestContext, request: JobRequest) -> Response:
    return json_answer(Job, context.app.jobs.start(request, context.caller.name), 202)
