"""A flag: the payment beside what is usual for its entities, why it was flagged, what is like it, and the answer."""

import json
import re
from dataclasses import dataclass, replace
from urllib.parse import quote

from fastapi import APIRouter, Response
from markupsafe import Markup

from pipeline.api.context import Context, RequestContext
from pipeline.api.data.transactions import visible_payment
from pipeline.api.types import PathTransaction
from pipeline.expected_errors import EXPECTED_ERRORS
from pipeline.schedule.run_context import LIVE
from pipeline.services.data.payments import PaymentRecord, show_payment
from pipeline.services.models.models import ListedModel, list_models
from pipeline.services.review.cases import answer_time
from pipeline.services.review.flag_context import (
    EntityContext,
    Event,
    entity_contexts,
    events_of,
    similar_flags,
)
from pipeline.services.review.flags import FlagRecord, show_flags
from pipeline.services.review.notes import NewNote, add_note
from pipeline.services.users.masking import value_for
from pipeline.services.users.permissions import Permission
from pipeline.web.drawings import draw_timeline
from pipeline.web.forms import NoteText
from pipeline.web.rendering import page
from pipeline.web.review_items import VERDICTS, unmarked_flag, versions

router = APIRouter()
ACTIONS = {
    "none": "no action",
    "blocked": "blocked",
    "refunded": "refunded",
    "contacted": "customer contacted",
}


@dataclass(frozen=True)
class VisibleContext:
    """An entity of the payment as the caller may see it, with its timeline."""

    context: EntityContext
    value: str
    handle: str
    picture: Markup
    is_high: bool


@router.get("/flags/{transaction_id}")
def show(context: Context, transaction_id: PathTransaction) -> Response:
    """Show a payment, flagged or not."""
    return _page(context, transaction_id)


@router.post("/flags/{transaction_id}/notes")
def note(context: Context, transaction_id: PathTransaction, note: NoteText = "") -> Response:
    """Add a note, without an answer."""
    add_note(context.session, NewNote(transaction_id, note))
    return Response(status_code=204, headers={"HX-Redirect": f"/flags/{quote(transaction_id, safe='')}"})


def _page(context: RequestContext, transaction_id: str) -> Response:
    session = context.session
    payment = show_payment(session, LIVE, transaction_id)
    flag = show_flags(session, LIVE, [transaction_id]).get(transaction_id)
    context.viewed("flag", transaction_id, 1)
    contexts = entity_contexts(session, LIVE, payment)
    similar = None if flag is None else similar_flags(session, flag)
    shown = None if flag is None else unmarked_flag(context, flag)
    events = events_of(session, transaction_id)
    return page(
        context,
        "flag.html",
        place="queue",
        payment=visible_payment(context, payment),
        flag=shown,
        model=None if flag is None else _model(context, flag),
        contexts=[_visible_context(context, payment, each) for each in contexts],
        similar=similar,
        alike=() if similar is None else [unmarked_flag(context, each) for each in similar.flags],
        answer=answer_time(session, [transaction_id]),
        links=_links(context, payment),
        events=[_visible_event(context, each) for each in events],
        is_answered=flag is not None and flag.status not in ("open", "expired"),
        can_undo=flag is not None and any(_is_verdict_of(event, flag.reviewer) for event in events),
        versions=json.dumps([[transaction_id, None]]) if flag is None else versions([flag]),
        types=context.app.config.labels.fraud_types,
        actions=ACTIONS,
        verdicts=VERDICTS,
        may_rule=context.caller.may(Permission.WRITE_RULES),
        rule=_proposed_rule(context, payment),
    )


def _model(context: RequestContext, flag: FlagRecord) -> ListedModel | None:
    """The model that flagged it, as its promotion names it."""
    try:
        listed = list_models(context.session, LIVE).items
    except EXPECTED_ERRORS:
        return None
    return next((each for each in listed if each.model_id == flag.model_id), None)


def _visible_context(context: RequestContext, payment: PaymentRecord, each: EntityContext) -> VisibleContext:
    return VisibleContext(
        each,
        value_for(context.caller, each.value) or "",
        context.app.handles.handle(each.column, each.value),
        draw_timeline(each.payments, payment.transaction_id),
        each.high is not None and payment.amount_base.value > each.high.value,
    )


def _is_verdict_of(event: Event, reviewer: str | None) -> bool:
    """Whether it is an answer of the person whose answer the flag has; a report has no verdict to take back."""
    return event.kind == "verdict" and event.value != "retracted" and event.by == reviewer


def _visible_event(context: RequestContext, event: Event) -> Event:
    return replace(event, text=context.visible_text(event.text))


def _links(context: RequestContext, payment: PaymentRecord) -> dict[str, str]:
    """The links of `web.links` for which the payment has all values, by their words; none for those who see masked values."""
    if not context.caller.may(Permission.SEE_VALUES):
        return {}
    entities = {name: payment.fields.get(name) for name in context.app.config.schema_.entities}
    values = {name: quote(value, safe="") for name, value in entities.items() if isinstance(value, str)}
    values["id"] = quote(payment.transaction_id, safe="")
    return {
        words: re.sub(r"\{(\w+)\}", lambda field: values[field[1]], template)
        for words, template in context.app.config.web.links.items()
        if values.keys() >= {*re.findall(r"\{(\w+)\}", template)}
    }


def _proposed_rule(context: RequestContext, payment: PaymentRecord) -> str:
    """A rule about payments like this one, to begin with: at least its amount, with its first categorical value."""
    first = next(
        (
            name
            for name in context.app.config.schema_.categorical
            if isinstance(payment.fields.get(name), str)
        ),
        None,
    )
    amount = f"amount >= {payment.amount_base.value:.0f}"
    if first is None:
        return amount
    quoted = str(payment.fields[first]).replace("\\", "\\\\").replace('"', '\\"')
    return f'{amount} and {first} = "{quoted}"'
