"""Policies: how the flags of two of them differ."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from pipeline.api.context import Context
from pipeline.api.listing import Listing, Parameters, json_answer
from pipeline.api.types import Name, PathName, Since, Until
from pipeline.schedule.run_context import LIVE
from pipeline.services.models.policies import (
    PolicyDifference,
    PolicyDiffRequest,
    PolicyDiffSummary,
    compare_policies,
    list_differences,
)

router = APIRouter(prefix="/policies", tags=["Models"])


def _request(
    policy: PathName, against: Annotated[Name, Query()] = LIVE, since: Since = None, until: Until = None
) -> PolicyDiffRequest:
    return PolicyDiffRequest(policy, against, since, until)


Request = Annotated[PolicyDiffRequest, Depends(_request)]


@router.get("/{policy}/diff", operation_id="compare_policies", response_model=PolicyDiffSummary)
def compare(context: Context, request: Request) -> Response:
    """Count the flags and the known frauds that each of two policies has and the other has not."""
    return json_answer(PolicyDiffSummary, compare_policies(context.session, request))


@router.get(
    "/{policy}/differences", operation_id="list_differences", response_model=Listing[PolicyDifference]
)
def list_(context: Context, request: Request, parameters: Parameters) -> Response:
    """List the transactions that one policy flags and the other does not, newest first."""
    return parameters.answer(PolicyDifference, partial(list_differences, context.session, request))
