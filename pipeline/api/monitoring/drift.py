"""Drift: how far data, scores and labels have moved away from the model's reference."""

from functools import partial

from fastapi import APIRouter, Response

from pipeline.api.context import Context
from pipeline.api.listing import Listing, Parameters
from pipeline.api.types import Name, Policy, Since
from pipeline.schedule.run_context import LIVE
from pipeline.services.monitoring.drift import DriftRecord, DriftRequest, list_drift

router = APIRouter(tags=["Monitoring"])


@router.get("/drift", operation_id="list_drift", response_model=Listing[DriftRecord])
def list_(
    context: Context,
    parameters: Parameters,
    policy: Policy = LIVE,
    since: Since = None,
    feature: Name | None = None,
    alarms: bool = False,
) -> Response:
    """List drift metrics, newest window first; in it alarms first."""
    request = DriftRequest(policy, since, feature, alarms)
    return parameters.answer(DriftRecord, partial(list_drift, context.session, request))
