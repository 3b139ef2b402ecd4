"""Mutes, which keep expected flags out of messages and lists for a while."""

from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Response
from pydantic import Field

from pipeline.api.access.approvals import ASKED, approval_answer
from pipeline.api.body import Body
from pipeline.api.context import Context, RequestContext
from pipeline.api.expiry import ExpiringBody
from pipeline.api.listing import Listing, Parameters, json_answer
from pipeline.api.types import Name, PathNumber
from pipeline.services.review.mutes import (
    ChannelTarget,
    EntityTarget,
    FeatureTarget,
    NewMute,
    StoredMute,
    add_mute,
    end_mute,
    list_mutes,
)
from pipeline.services.users.masking import value_for

router = APIRouter(prefix="/mutes", tags=["Review"])


class EntityMuteTarget(Body):
    """Flags of one customer, card, merchant …; the value as people know it, not hashed."""

    kind: Literal["entity"]
    column: Name
    value: Name


class FeatureMuteTarget(Body):
    """Flags whose strongest reason is this feature, or has this code."""

    kind: Literal["feature"]
    feature: Name


class ChannelMuteTarget(Body):
    """Flags of one channel."""

    kind: Literal["channel"]
    channel: Name


class MuteBody(ExpiringBody):
    """A mute to be added."""

    target: Annotated[EntityMuteTarget | FeatureMuteTarget | ChannelMuteTarget, Field(discriminator="kind")]


@dataclass(frozen=True)
class EndedAt:
    """The first instant at which it is no longer in force."""

    ended_at: datetime


@router.get("", operation_id="list_mutes", response_model=Listing[StoredMute])
def list_(context: Context, parameters: Parameters) -> Response:
    """List mutes with the number of flags that each has muted, ended ones too, the newest first."""
    return parameters.answer(StoredMute, partial(list_mutes, context.session), partial(_visible, context))


@router.post("", operation_id="add_mute", response_model=StoredMute, status_code=201, responses=ASKED)
def add(context: Context, body: MuteBody) -> Response:
    """Mute flags of an entity, a feature or a channel; it applies to transactions from now on."""
    new = NewMute(body.end, body.reason, _target(body))
    if (pending := approval_answer(context, "add_mute", new)) is not None:
        return pending
    mute = add_mute(context.session, new)
    return json_answer(StoredMute, _visible(context, mute), 201)


@router.post("/{mute_id}/end", operation_id="end_mute", response_model=EndedAt)
def end(context: Context, mute_id: PathNumber) -> Response:
    """End a mute early; flags that it has muted stay muted."""
    return json_answer(EndedAt, EndedAt(end_mute(context.session, mute_id)))


def _target(body: MuteBody) -> EntityTarget | FeatureTarget | ChannelTarget:
    target = body.target
    if isinstance(target, EntityMuteTarget):
        return EntityTarget(target.column, target.value)
    if isinstance(target, FeatureMuteTarget):
        return FeatureTarget(target.feature)
    return ChannelTarget(target.channel)


def _visible(context: RequestContext, mute: StoredMute) -> StoredMute:
    return replace(
        mute, value=value_for(context.caller, mute.value), reason=context.visible_text(mute.reason) or ""
    )
