"""Claims: who works on which flag, so that nobody else begins."""

from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import Field

from pipeline.api.body import Body
from pipeline.api.context import Context
from pipeline.api.listing import Listing, Parameters, json_answer
from pipeline.api.types import TransactionIds
from pipeline.services.review.claims import (
    CLAIM_MAX,
    ClaimRecord,
    ClaimRow,
    NewClaim,
    claim,
    list_claims,
    release,
)

router = APIRouter(prefix="/claims", tags=["Review"])


class ClaimBody(Body):
    """The flags that the caller wants to work on, and for how long at most: an ISO 8601 duration such as PT15M."""

    transaction_ids: TransactionIds
    span: Annotated[timedelta, Field(gt=timedelta(0), le=CLAIM_MAX)] = timedelta(minutes=15)


class ReleaseBody(Body):
    """The flags that the caller no longer works on."""

    transaction_ids: TransactionIds


@dataclass(frozen=True)
class ClaimResults:
    """Who works on each flag now; where there is no flag `by` is null and `code` says why."""

    results: tuple[ClaimRow, ...]


@dataclass(frozen=True)
class ReleasedClaims:
    """The transactions whose claim has ended."""

    transaction_ids: tuple[str, ...]


@router.get("", operation_id="list_claims", response_model=Listing[ClaimRecord])
def list_(context: Context, parameters: Parameters) -> Response:
    """List the claims that are in force."""
    return parameters.answer(ClaimRecord, partial(list_claims, context.session))


@router.post("", operation_id="claim_flags", response_model=ClaimResults)
def claim_(context: Context, body: ClaimBody) -> Response:
    """Claim each flag that nobody else works on; one's own claim is prolonged."""
    return json_answer(
        ClaimResults, ClaimResults(claim(context.session, NewClaim(body.transaction_ids, body.span)))
    )


@router.post("/release", operation_id="release_flags", response_model=ReleasedClaims)
def release_(context: Context, body: ReleaseBody) -> Response:
    """End one's own claims."""
    ended = release(context.session, body.transaction_ids)
    return json_answer(ReleasedClaims, ReleasedClaims(tuple(each.transaction_id for each in ended)))
