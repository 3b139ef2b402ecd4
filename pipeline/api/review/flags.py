"""Flags: lists of flagged payments, their number, and one of them with its reasons."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from pipeline.api.context import Context, RequestContext
from pipeline.api.listing import Listing, Parameters, json_answer
from pipeline.api.types import Name, PathTransaction, Policy, Since, Until
from pipeline.schedule.run_context import LIVE
from pipeline.services.person import EntityValue
from pipeline.services.review.flags import (
    FlagOrder,
    FlagRecord,
    FlagRequest,
    FlagStatus,
    count_flags,
    list_flags,
    show_flag,
)

router = APIRouter(prefix="/flags", tags=["Review"])


@dataclass(frozen=True)
class VisibleFlag(FlagRecord):
    """A flag as its caller may see it, with a handle for each of its entities."""

    handles: Mapping[str, str]


@dataclass(frozen=True)
class FlagCount:
    """How many flags a list has."""

    flags: int


def _request(
    context: Context,
    policy: Policy = LIVE,
    since: Since = None,
    until: Until = None,
    status: FlagStatus | None = None,
    channel: Name | None = None,
    min_score: Annotated[float | None, Query(allow_inf_nan=False)] = None,
    entity: Annotated[str | None, Query(max_length=4_000, description="The handle of a value.")] = None,
    muted: Annotated[
        bool | None, Query(description="true for muted flags only, false for all others.")
    ] = None,
    cleared_then_reported: Annotated[
        bool, Query(description="Only payments that a person called genuine and another source fraud.")
    ] = False,
    order: FlagOrder = "loss",
) -> FlagRequest:
    named = None if entity is None else context.app.handles.resolve(entity)
    return FlagRequest(
        policy=policy,
        since=since,
        until=until,
        status=status,
        channel=channel,
        min_score=min_score,
        stored_entity=None if named is None else (named.column, named.value),
        muted=muted,
        cleared_then_reported=cleared_then_reported,
        order=order,
    )


Request = Annotated[FlagRequest, Depends(_request)]


@router.get("", operation_id="list_flags", response_model=Listing[VisibleFlag])
def list_(context: Context, request: Request, parameters: Parameters) -> Response:
    """List flags: by expected loss, unless another order is asked for."""
    entity = () if request.stored_entity is None else (EntityValue(*request.stored_entity),)
    return parameters.answer(
        VisibleFlag,
        partial(list_flags, context.session, request),
        partial(visible_flag, context),
        viewed=lambda rows: context.viewed("flags", request.policy, rows, entity, order=request.order),
    )


@router.get("/count", operation_id="count_flags", response_model=FlagCount)
def count(context: Context, request: Request) -> FlagCount:
    """Count the flags of a list."""
    return FlagCount(count_flags(context.session, request))


@router.get("/{transaction_id}", operation_id="show_flag", response_model=VisibleFlag)
def show(context: Context, transaction_id: PathTransaction, policy: Policy = LIVE) -> Response:
    """Show a flag with its reasons, and the version that a verdict sends as `if_seen`."""
    flag = show_flag(context.session, policy, transaction_id)
    context.viewed("flag", transaction_id, 1)
    return json_answer(VisibleFlag, visible_flag(context, flag))


def visible_flag(context: RequestContext, flag: FlagRecord) -> VisibleFlag:
    """A flag as the caller may see it."""
    visible = replace(
        flag,
        fields=context.visible_fields(flag.fields),
        reasons=tuple(replace(reason, text=context.visible_reason(reason)) for reason in flag.reasons),
        verdict_note=context.visible_text(flag.verdict_note),
    )
    return VisibleFlag(**vars(visible), handles=context.entity_handles(flag.fields))
