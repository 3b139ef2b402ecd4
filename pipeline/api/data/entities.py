"""Entities: customers, cards, merchants …, named in addresses by handles only."""

from dataclasses import dataclass
from functools import partial

from fastapi import APIRouter, Response

from pipeline.api.body import Body
from pipeline.api.context import Context, RequestContext
from pipeline.api.data.transactions import VisiblePayment, visible_payment
from pipeline.api.listing import Listing, Parameters, json_answer
from pipeline.api.types import Name, PathHandle, Policy
from pipeline.schedule.run_context import LIVE
from pipeline.services.data.payments import EntityRequest, entity_timeline
from pipeline.services.entities import entity_filter
from pipeline.services.person import EntityValue
from pipeline.services.users.masking import value_for

router = APIRouter(prefix="/entities", tags=["Payments"])


class EntityBody(Body):
    """A column of schema.entities and a value as people know it, not hashed; in the body, since addresses are logged."""

    column: Name
    value: Name


@dataclass(frozen=True)
class VisibleEntity:
    """A value of an entity as the caller may see it, and the handle that stands for it in addresses."""

    column: str
    value: str
    handle: str


@router.post("", operation_id="find_entity", response_model=VisibleEntity)
def find(context: Context, body: EntityBody) -> Response:
    """Give the handle of a value, whether anything is stored of it or not."""
    return json_answer(
        VisibleEntity, _visible(context, body.column, entity_filter(context.session, body.column, body.value))
    )


@router.get("/{handle}", operation_id="show_entity", response_model=VisibleEntity)
def show(context: Context, handle: PathHandle) -> Response:
    """Show what a handle stands for."""
    entity = context.app.handles.resolve(handle)
    return json_answer(VisibleEntity, _visible(context, entity.column, entity.value))


@router.get(
    "/{handle}/transactions", operation_id="list_entity_transactions", response_model=Listing[VisiblePayment]
)
def timeline(context: Context, handle: PathHandle, parameters: Parameters, policy: Policy = LIVE) -> Response:
    """List the transactions of an entity with their scores, flags and labels, the newest first."""
    entity = context.app.handles.resolve(handle)
    request = EntityRequest(policy, entity.column, entity.value)
    values = (EntityValue(entity.column, entity.value),)
    return parameters.answer(
        VisiblePayment,
        partial(entity_timeline, context.session, request),
        partial(visible_payment, context),
        viewed=lambda rows: context.viewed("entity", entity.column, rows, values),
    )


def _visible(context: RequestContext, column: str, value: str) -> VisibleEntity:
    return VisibleEntity(
        column, value_for(context.caller, value) or "", context.app.handles.handle(column, value)
    )
