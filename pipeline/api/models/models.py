"""Models: lists and cards, and a person's decision for another one."""

from functools import partial

from fastapi import APIRouter, Response

from pipeline.api.access.approvals import ASKED, approval_answer
from pipeline.api.body import Body
from pipeline.api.context import Context
from pipeline.api.listing import Listing, Parameters, json_answer
from pipeline.api.types import Instant, Name, PathNumber, Policy, Reason
from pipeline.schedule.run_context import LIVE
from pipeline.services.models.models import (
    ListedModel,
    ModelCard,
    PromotionRequest,
    PromotionResult,
    list_models,
    model_card,
    promote,
    rollback,
)

router = APIRouter(prefix="/models", tags=["Models"])


class PromotionBody(Body):
    """Why a model scores transactions, and from when on; from now on without a time."""

    reason: Reason
    policy: Name = LIVE
    effective_from: Instant | None = None


class RollbackBody(Body):
    """Why the previous model scores transactions again."""

    reason: Reason
    policy: Name = LIVE


@router.get("", operation_id="list_models", response_model=Listing[ListedModel])
def list_(context: Context, parameters: Parameters, policy: Policy = LIVE) -> Response:
    """List promoted models and rejected candidates, newest first."""
    return parameters.answer(ListedModel, partial(list_models, context.session, policy))


@router.get("/{model_id}", operation_id="show_model", response_model=ModelCard)
def show(context: Context, model_id: PathNumber, policy: Policy = LIVE) -> Response:
    """Show where a model comes from, what it reads, and whether it loads."""
    return json_answer(ModelCard, model_card(context.session, policy, model_id))


@router.post(
    "/{model_id}/promote", operation_id="promote_model", response_model=PromotionResult, responses=ASKED
)
def promote_(context: Context, model_id: PathNumber, body: PromotionBody) -> Response:
    """Let a model score transactions from now on, or from a later time; stored scores do not change."""
    request = PromotionRequest(body.policy, model_id, body.reason, body.effective_from)
    if (pending := approval_answer(context, "promote", request)) is not None:
        return pending
    return json_answer(PromotionResult, promote(context.session, request))


@router.post("/rollback", operation_id="roll_back_model", response_model=PromotionResult)
def roll_back(context: Context, body: RollbackBody) -> Response:
    """Let the previous model score transactions again, from now on."""
    return json_answer(PromotionResult, rollback(context.session, body.policy, body.reason))
