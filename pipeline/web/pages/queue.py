"""The queue: cases that wait for a review, in the order of what a miss would cost."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, Query, Response

from pipeline.api.context import Context, RequestContext
from pipeline.api.types import Name
from pipeline.errors import InputError
from pipeline.services.review.cases import Age, CaseFilter, CaseOrder, ClaimState, Due, list_cases
from pipeline.services.review.saved_filters import list_filters, remove_filter, save_filter
from pipeline.services.users.masking import value_for
from pipeline.web.rendering import page, redirect
from pipeline.web.review_items import visible_case

router = APIRouter()
FACETS = {
    "channel": ("Channel", {}),
    "age": ("Newest payment", {"day": "up to a day ago", "week": "up to a week ago", "older": "longer ago"}),
    "due": ("Answer due", {"overdue": "overdue", "day": "within a day", "later": "later"}),
    "claim": ("Work", {"free": "free", "mine": "mine", "taken": "taken by others"}),
}


ORDERS: Mapping[CaseOrder, str] = {
    "loss": "largest expected loss",
    "due": "due soonest",
    "time": "newest payment",
}


@dataclass(frozen=True)
class QueueAddress:
    """The filters and the order of the queue as they stand in its address."""

    filters: CaseFilter
    order: CaseOrder
    parameters: Mapping[str, str]

    def with_(self, **changes: str | None) -> str:
        """The address with other filters, from the first page on; None removes one."""
        chosen = {name: value for name, value in {**self.parameters, **changes}.items() if value}
        return f"/queue?{urlencode(chosen)}" if chosen else "/queue"

    @property
    def can_be_saved(self) -> bool:
        """Whether something is left of it without the entity, which is a value of a person."""
        return bool(self.parameters.keys() - {"entity"})

    @property
    def saved_path(self) -> str:
        """The address without the entity."""
        return self.with_(entity=None)


def queue_address(
    context: Context,
    channel: Name | None = None,
    age: Age | None = None,
    due: Due | None = None,
    claim: ClaimState | None = None,
    order: CaseOrder = "loss",
    min_loss: Annotated[float | None, Query(ge=0, allow_inf_nan=False)] = None,
    entity: Annotated[str | None, Query(max_length=4_000)] = None,
) -> QueueAddress:
    """The filters of a request."""
    named = None if entity is None else context.app.handles.resolve(entity)
    if named is not None and named.column != context.session.store.fields.case_entity:
        raise InputError(f"cases do not go by {named.column}", remedy="open the entity's own page")
    filters = CaseFilter(channel, age, due, claim, min_loss, None if named is None else named.value)
    given = {
        "channel": channel, "age": age, "due": due, "claim": claim, "min_loss": None if min_loss is None else f"{min_loss:g}",
        "entity": entity, "order": None if order == "loss" else order,
    }  # fmt: skip
    return QueueAddress(filters, order, {name: value for name, value in given.items() if value})


Address = Annotated[QueueAddress, Depends(queue_address)]


@router.get("/")
def start() -> Response:
    """Go to the queue."""
    return redirect("/queue")


@router.get("/queue")
def queue(
    context: Context, address: Address, cursor: Annotated[str | None, Query(max_length=10_000)] = None
) -> Response:
    """Show a page of the queue."""
    parameters = sorted(address.parameters.items())
    found = list_cases(
        context.session,
        address.filters,
        order=address.order,
        cursor=context.app.cursors.open(cursor, "/queue", parameters),
    )
    context.viewed("flags", "queue", sum(len(case.flags) for case in found.items), (), **_detail(address))
    following = context.app.cursors.seal(found.next_cursor, "/queue", parameters)
    return page(
        context,
        "queue.html",
        place="queue",
        cases=[visible_case(context, case) for case in found.items],
        found=found,
        counted_at=datetime.fromtimestamp(context.session.now / 1_000_000, UTC),
        address=address,
        facets=FACETS,
        orders=ORDERS,
        has_due=bool(context.app.config.alerts.answer_within),
        saved=() if context.caller.user_id is None else list_filters(context.session, context.caller.user_id),
        entity_value=value_for(context.caller, address.filters.entity),
        next_address=None if following is None else address.with_(cursor=following),
        is_first=cursor is None,
    )


@router.post("/queue/filters")
def save(context: Context, address: Address, name: Annotated[str, Form(max_length=60)] = "") -> Response:
    """Keep the filters of the address under a name."""
    if not address.can_be_saved:
        raise InputError("no filter is chosen", remedy="choose one first")
    saved = save_filter(context.session, _user(context), name, address.saved_path)
    return Response(status_code=204, headers={"HX-Redirect": saved.path})


@router.post("/queue/filters/remove")
def remove(context: Context, name: Annotated[str, Form(max_length=60)] = "") -> Response:
    """Forget a filter."""
    remove_filter(context.session, _user(context), name)
    return Response(status_code=204, headers={"HX-Refresh": "true"})


def _user(context: RequestContext) -> int:
    if context.caller.user_id is None:
        raise InputError("a token of the operator has no filters", remedy="log in as a user")
    return context.caller.user_id


def _detail(address: QueueAddress) -> dict[str, str]:
    """What else is written of who looked: the filters, with the value of an entity in place of its handle."""
    given = {name: value for name, value in address.parameters.items() if name != "entity"}
    return given if address.filters.entity is None else {**given, "entity": address.filters.entity}
