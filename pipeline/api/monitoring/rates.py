"""Rates of fraud and disputes by month, and the limits on them."""

from dataclasses import replace
from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from pipeline.api.context import Context, RequestContext
from pipeline.api.listing import Listing, Parameters
from pipeline.api.types import Instant, Name, Since, Until
from pipeline.services.monitoring.fraud_rates import (
    LimitRecord,
    RateRecord,
    RateRequest,
    list_limits,
    list_rates,
)
from pipeline.services.users.masking import value_for

router = APIRouter(tags=["Monitoring"])
AsOf = Annotated[Instant | None, Query(description="What was known at this time; now without one.")]


@router.get("/rates", operation_id="list_rates", response_model=Listing[RateRecord])
def rates(
    context: Context,
    parameters: Parameters,
    by: Literal["payment", "report"] = "payment",
    per: Annotated[Name | None, Query(description="A field by whose values everything is counted.")] = None,
    since: Since = None,
    until: Until = None,
    as_of: AsOf = None,
) -> Response:
    """List rates by month, the newest first, with the forecast of what is still to be reported."""
    request = RateRequest(by, per or "", since, until, as_of)

    def visible(record: RateRecord) -> RateRecord:
        return replace(record, value=_visible(context, per, record.value))

    return parameters.answer(RateRecord, partial(list_rates, context.session, request), visible)


@router.get("/limits", operation_id="list_limits", response_model=Listing[LimitRecord])
def limits(context: Context, parameters: Parameters, as_of: AsOf = None) -> Response:
    """List where each limit stands, the worst first."""

    def visible(record: LimitRecord) -> LimitRecord:
        return replace(record, value=_visible(context, record.column, record.value))

    return parameters.answer(LimitRecord, partial(list_limits, context.session, as_of), visible)


def _visible(context: RequestContext, column: str | None, value: str | None) -> str | None:
    return value_for(context.caller, value) if column in context.app.config.schema_.entities else value
