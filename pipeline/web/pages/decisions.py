"""Mutes and rules from a flag's page, each with what it would hit, and labels of any payment."""

from datetime import timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Form, Response

from pipeline.api.context import Context
from pipeline.api.data.transactions import visible_payment
from pipeline.schedule.run_context import LIVE
from pipeline.services.data.payments import show_payment
from pipeline.services.review.flags import FlagRequest, count_flags
from pipeline.services.review.labels import NewLabel, add_labels
from pipeline.services.review.mutes import EntityTarget, NewMute, add_mute
from pipeline.services.review.rules import NewRule, add_rule, preview_rule
from pipeline.services.users.approvals import request_approval
from pipeline.web.forms import Anyway
from pipeline.web.rendering import page
from pipeline.web.review_items import workers_on

router = APIRouter()
PREVIEW_DAYS = 28
Handle = Annotated[str, Form(max_length=4_000)]
Reason = Annotated[str, Form(max_length=2_000)]
Days = Annotated[int, Form(ge=1, le=3_660)]


@router.post("/mutes/preview")
def preview_mute(context: Context, handle: Handle) -> Response:
    """Say how many flags of the entity there are, open and in all."""
    entity = context.app.handles.resolve(handle)
    stored = (entity.column, entity.value)
    every = count_flags(context.session, FlagRequest(LIVE, stored_entity=stored))
    waiting = count_flags(context.session, FlagRequest(LIVE, status="open", stored_entity=stored))
    fraud = count_flags(context.session, FlagRequest(LIVE, status="fraud", stored_entity=stored))
    return page(
        context,
        "decision.html",
        place="queue",
        kind="mute preview",
        every=every,
        waiting=waiting,
        fraud=fraud,
    )


@router.post("/mutes")
def mute(context: Context, handle: Handle, reason: Reason, days: Days = 7) -> Response:
    """Mute flags of an entity from now on."""
    entity = context.app.handles.resolve(handle)
    new = NewMute(timedelta(days=days), reason, EntityTarget(entity.column, entity.value))
    needs_approval = request_approval(context.session, context.caller, "add_mute", new) is not None
    until = None if needs_approval else add_mute(context.session, new).until
    return page(
        context, "decision.html", place="queue", kind="muted", needs_approval=needs_approval, until=until
    )


@router.post("/rules/preview")
def preview(context: Context, text: Annotated[str, Form(max_length=10_000)]) -> Response:
    """Try a rule on history."""
    return page(
        context,
        "decision.html",
        place="queue",
        kind="rule preview",
        found=preview_rule(context.session, text, PREVIEW_DAYS),
    )


@router.post("/rules")
def rule(
    context: Context,
    text: Annotated[str, Form(max_length=10_000)],
    reason: Reason = "",
    days: Days = 28,
    place: Literal["", "rules"] = Form(""),
) -> Response:
    """Add a rule from now on."""
    added = add_rule(context.session, NewRule(timedelta(days=days), reason, text))
    if place:
        return Response(status_code=204, headers={"HX-Redirect": "/rules"})
    return page(context, "decision.html", place="queue", kind="rule added", until=added.until)


@router.post("/labels")
def label(
    context: Context,
    transaction_id: Annotated[str, Form(max_length=1_000)],
    column: Annotated[str, Form(max_length=200)],
    verdict: Annotated[Literal["fraud", "genuine"], Form()],
    anyway: Anyway = False,
) -> Response:
    """
    Label a payment of an entity's history, flagged or not; two people must say so where the configuration says it.

    What somebody else works on is labelled only if `anyway` says so.
    """
    workers = {} if anyway else workers_on(context, [transaction_id])
    new = NewLabel((transaction_id,), verdict)
    if not workers and request_approval(context.session, context.caller, "add_labels", new) is None:
        add_labels(context.session, new)
    payment = show_payment(context.session, LIVE, transaction_id)
    context.viewed("flag", transaction_id, 1)
    return page(
        context,
        "payment_row.html",
        place="queue",
        each=visible_payment(context, payment),
        column=column,
        worker=workers.get(transaction_id),
        wanted=verdict,
    )
