"""Quality: how good detection is, estimated at once and realised when labels are mature."""

from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from pipeline.api.context import Context
from pipeline.api.listing import Listing, Parameters
from pipeline.api.types import Name, Policy, Since, Until
from pipeline.schedule.run_context import LIVE
from pipeline.services.monitoring.quality import QualityRecord, QualityRequest, list_quality

router = APIRouter(tags=["Monitoring"])


@router.get("/quality", operation_id="list_quality", response_model=Listing[QualityRecord])
def list_(
    context: Context,
    parameters: Parameters,
    policy: Policy = LIVE,
    since: Since = None,
    until: Until = None,
    kind: Literal["estimated", "realised"] | None = None,
    by: Literal["all", "channel", "model"] = "all",
    metric: Annotated[
        tuple[Name, ...], Query(max_length=50, description="Names of metrics; all without one.")
    ] = (),
    alarms: bool = False,
) -> Response:
    """List metrics of detection quality, newest window first, as they were last measured."""
    request = QualityRequest(policy, since, until, kind, by, tuple(metric), alarms)
    return parameters.answer(QualityRecord, partial(list_quality, context.session, request))
