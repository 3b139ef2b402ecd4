"""Choices of a strategy, explained, and whether the data are fit for training."""

from functools import partial

from fastapi import APIRouter, Response

from pipeline.api.context import Context
from pipeline.api.listing import Listing, Parameters, json_answer
from pipeline.api.types import PathNumber, Policy
from pipeline.schedule.run_context import LIVE
from pipeline.services.models.readiness import ReadinessReport, newest_readiness
from pipeline.services.models.strategy import ChoiceRecord, ExplainedChoice, list_choices, show_choice

router = APIRouter(tags=["Models"])


@router.get("/choices", operation_id="list_choices", response_model=Listing[ChoiceRecord])
def list_(context: Context, parameters: Parameters, policy: Policy = LIVE) -> Response:
    """List the choices of a strategy, newest training date first."""
    return parameters.answer(ChoiceRecord, partial(list_choices, context.session, policy))


@router.get("/choices/newest", operation_id="show_newest_choice", response_model=ExplainedChoice)
def show_newest(context: Context, policy: Policy = LIVE) -> Response:
    """Show the newest choice with everything that it rests on."""
    return json_answer(ExplainedChoice, show_choice(context.session, policy))


@router.get("/choices/{choice_id}", operation_id="show_choice", response_model=ExplainedChoice)
def show(context: Context, choice_id: PathNumber, policy: Policy = LIVE) -> Response:
    """Show a choice with everything that it rests on."""
    return json_answer(ExplainedChoice, show_choice(context.session, policy, choice_id))


@router.get("/readiness", operation_id="show_readiness", response_model=ReadinessReport)
def readiness(context: Context, policy: Policy = LIVE) -> Response:
    """Show what the newest training found in the data."""
    return json_answer(ReadinessReport, newest_readiness(context.session, policy))
