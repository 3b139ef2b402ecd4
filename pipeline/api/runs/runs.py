"""Runs, gaps and backfills at work."""

from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from fastapi import APIRouter, Response

from pipeline.api.context import Context, RequestContext
from pipeline.api.listing import Listing, Parameters
from pipeline.api.types import Policy
from pipeline.schedule.run_context import LIVE
from pipeline.services.runs.runs import (
    BackfillProgress,
    GapRecord,
    RunRecord,
    WindowRecord,
    list_gaps,
    list_runs,
    list_windows,
    running_backfills,
)

router = APIRouter(tags=["Runs"])
Failed = TypeVar("Failed", RunRecord, GapRecord, WindowRecord)


@dataclass(frozen=True)
class RunningBackfills:
    """The backfills at work, with how far they are."""

    backfills: tuple[BackfillProgress, ...]


@router.get("/runs", operation_id="list_runs", response_model=Listing[RunRecord])
def runs(context: Context, parameters: Parameters, policy: Policy = LIVE) -> Response:
    """List runs, newest first."""
    show = partial(_with_visible_error, context)
    return parameters.answer(RunRecord, partial(list_runs, context.session, policy), show)


@router.get("/gaps", operation_id="list_gaps", response_model=Listing[GapRecord])
def gaps(context: Context, parameters: Parameters, policy: Policy = LIVE) -> Response:
    """List steps that were due and are not done, oldest first, each with what closes it."""
    show = partial(_with_visible_error, context)
    return parameters.answer(GapRecord, partial(list_gaps, context.session, policy), show)


@router.get("/windows", operation_id="list_windows", response_model=Listing[WindowRecord])
def windows(context: Context, parameters: Parameters, policy: Policy = LIVE) -> Response:
    """List the newest windows of the schedule with the status of their steps, oldest first."""
    show = partial(_with_visible_error, context)
    return parameters.answer(WindowRecord, partial(list_windows, context.session, policy), show)


@router.get("/backfills", operation_id="list_backfills", response_model=RunningBackfills)
def backfills(context: Context) -> RunningBackfills:
    """List the backfills at work."""
    return RunningBackfills(running_backfills(context.session))


def _with_visible_error(context: RequestContext, record: Failed) -> Failed:
    """An error may quote values of rows."""
    return replace(record, error=context.visible_text(record.error))
