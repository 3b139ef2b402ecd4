"""Labels: what payments turned out to be, flagged or not."""

from functools import partial
from typing import Literal

from fastapi import APIRouter, Response

from pipeline.api.access.approvals import ASKED, approval_answer
from pipeline.api.body import Body
from pipeline.api.context import Context
from pipeline.api.listing import Listing, Parameters, json_answer
from pipeline.api.review.verdicts import VerdictOutcomes
from pipeline.api.types import Instant, LongText, Name, PathTransaction, Reason, TransactionIds
from pipeline.services.data.payments import LabelRecord, LabelRequest, list_labels
from pipeline.services.review.labels import Action, LabelRetraction, NewLabel, add_labels, retract_labels

router = APIRouter(tags=["Review"])


class NewLabelsBody(Body):
    """What some payments turned out to be; all of them get the label or none."""

    transaction_ids: TransactionIds
    verdict: Literal["fraud", "genuine"]
    source: Literal["investigation", "customer"] = "investigation"
    type: Name | None = None
    action: Action = "none"
    note: LongText = ""
    known_at: Instant | None = None


class RetractBody(Body):
    """The payments of which a label is taken back: the newest of `source`, or without one the label that counts."""

    transaction_ids: TransactionIds
    reason: Reason
    source: Name | None = None


@router.get(
    "/transactions/{transaction_id}/labels", operation_id="list_labels", response_model=Listing[LabelRecord]
)
def list_(context: Context, transaction_id: PathTransaction, parameters: Parameters) -> Response:
    """List what every source knows of a payment, what was recorded last first."""
    read = partial(list_labels, context.session, LabelRequest(transaction_id))
    return parameters.answer(LabelRecord, read)


@router.post("/labels", operation_id="add_labels", response_model=VerdictOutcomes, responses=ASKED)
def add(context: Context, body: NewLabelsBody) -> Response:
    """Label payments, flagged or not; on a flag it is a verdict, too."""
    label = NewLabel(**dict(body))
    if (pending := approval_answer(context, "add_labels", label)) is not None:
        return pending
    return json_answer(VerdictOutcomes, VerdictOutcomes(add_labels(context.session, label)))


@router.post("/labels/retract", operation_id="retract_labels", response_model=VerdictOutcomes)
def retract(context: Context, body: RetractBody) -> Response:
    """Take a label of each payment back, from now on."""
    return json_answer(
        VerdictOutcomes, VerdictOutcomes(retract_labels(context.session, LabelRetraction(**dict(body))))
    )
