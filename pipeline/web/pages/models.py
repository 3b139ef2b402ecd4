"""Models: where each comes from and what the promotion gate said, a promotion by hand, and the way back."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Form, Query, Response

from pipeline.api.context import Context, RequestContext
from pipeline.api.types import PathNumber, Reason
from pipeline.rendering.text import thresholds_text
from pipeline.schedule.run_context import LIVE
from pipeline.services.models.models import (
    ListedModel,
    PromotionRequest,
    list_models,
    model_card,
    model_in_force,
    promote,
    rollback,
)
from pipeline.services.users.approvals import request_approval
from pipeline.training.gate_texts import RULE_TEXTS
from pipeline.web.rendering import page

router = APIRouter()
ROWS_A_PAGE = 100
FormReason = Annotated[Reason, Form()]


@router.get("/models")
def models(context: Context, cursor: Annotated[str | None, Query(max_length=10_000)] = None) -> Response:
    """List models with what the promotion gate said, and offer to go back to the one before."""
    found = list_models(
        context.session, LIVE, limit=ROWS_A_PAGE, cursor=context.app.cursors.open(cursor, "/models", [])
    )
    following = context.app.cursors.seal(found.next_cursor, "/models", [])
    return page(
        context,
        "models.html",
        place="models",
        models=found.items,
        rules=RULE_TEXTS,
        in_force=_in_force(context, found.items) if cursor is None else None,
        next_address=None if following is None else f"/models?cursor={following}",
    )


def _in_force(context: RequestContext, models: Sequence[ListedModel]) -> ListedModel | None:
    """The newest promotion that has taken effect."""
    now = datetime.fromtimestamp(context.session.now / 1_000_000, UTC)
    begun = [
        (each.effective_from, each.promotion or 0, each)
        for each in models
        if each.effective_from is not None and each.effective_from <= now
    ]
    return max(begun, key=lambda each: each[:2])[2] if begun else None


@router.get("/models/{model_id}")
def model(context: Context, model_id: PathNumber) -> Response:
    """Show the card of a model."""
    card, in_force = model_card(context.session, LIVE, model_id), model_in_force(context.session, LIVE)
    return page(
        context,
        "model.html",
        place="models",
        card=card,
        thresholds=thresholds_text(card.thresholds, context.app.config.costs.missed_fraud_basis),
        is_in_force=in_force == model_id,
        rules=RULE_TEXTS,
    )


@router.post("/models/{model_id}/promote")
def promote_(context: Context, model_id: PathNumber, reason: FormReason) -> Response:
    """Let a model score from now on; two people must say so of one that the gate rejected, where the configuration says it."""
    request = PromotionRequest(LIVE, model_id, reason)
    if request_approval(context.session, context.caller, "promote", request) is not None:
        return Response(status_code=204, headers={"HX-Redirect": "/approvals"})
    promote(context.session, request)
    return Response(status_code=204, headers={"HX-Redirect": "/models"})


@router.post("/models/rollback")
def roll_back(context: Context, reason: FormReason) -> Response:
    """Promote the model before the one in force, from now on."""
    rollback(context.session, LIVE, reason)
    return Response(status_code=204, headers={"HX-Redirect": "/models"})
