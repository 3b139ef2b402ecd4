"""Missed frauds."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from fastapi import APIRouter, Response

from pipeline.api.context import Context, RequestContext
from pipeline.api.data.transactions import VisiblePayment, visible_payment
from pipeline.api.listing import Listing, Parameters
from pipeline.api.types import Policy, Since
from pipeline.schedule.run_context import LIVE
from pipeline.services.review.missed import MissedFraud, MissedRequest, MissKind, list_missed

router = APIRouter(tags=["Review"])


@dataclass(frozen=True)
class VisibleMiss:
    """A missed fraud as its caller may see it."""

    payment: VisiblePayment
    kind: MissKind
    decision_value: float | None
    distance: float | None
    unflagged_above: int | None
    known_frauds: Mapping[str, int]
    flagged_by: tuple[str, ...]


@router.get("/missed", operation_id="list_missed", response_model=Listing[VisibleMiss])
def list_(
    context: Context,
    parameters: Parameters,
    since: Since = None,
    kind: MissKind | None = None,
    policy: Policy = LIVE,
) -> Response:
    """List frauds that became known in the newest eight weeks, or since a time, and had no flag or were cleared, with what would have caught them."""
    return parameters.answer(
        VisibleMiss,
        partial(list_missed, context.session, MissedRequest(policy, since, kind)),
        partial(visible_miss, context),
        viewed=lambda rows: context.viewed("flags", "missed", rows),
    )


def visible_miss(context: RequestContext, miss: MissedFraud) -> VisibleMiss:
    """A missed fraud as the caller may see it."""
    return VisibleMiss(**vars(miss) | {"payment": visible_payment(context, miss.payment)})
