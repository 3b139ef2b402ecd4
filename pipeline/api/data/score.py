"""Scores of payments while the caller waits."""

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import Field

from pipeline.api.body import Body
from pipeline.api.context import Context, RequestContext
from pipeline.api.data.transactions import FieldName
from pipeline.api.listing import json_answer
from pipeline.api.types import Value
from pipeline.services.runs.scoring import (
    PAYMENTS_MAX,
    ScoreAnswer,
    ScoredPayment,
    ScoreRequest,
)
from pipeline.services.runs.scoring import score as score_payments

router = APIRouter(prefix="/score", tags=["Payments"])


class ScoreBody(Body):
    """
    Up to 1,000 payments as objects with the fields of [schema], as in a file of JSON Lines.

    Without `store` nothing is written. With it they are stored and scored, each id once.
    """

    transactions: Annotated[list[dict[FieldName, Value]], Field(min_length=1, max_length=PAYMENTS_MAX)]
    store: bool = False


@router.post("", operation_id="score", response_model=ScoreAnswer)
def score(context: Context, body: ScoreBody) -> Response:
    """
    Score payments as if they had just arrived: would each be flagged, and why.

    A score knows what is stored now, and nothing of what comes later. With `store` the payment keeps that knowledge, so that its score
    can be computed again to the byte; the same id with the same content is a `duplicate`, with the score of before. A payment that is
    rejected says why and fails no other.
    """
    answer = score_payments(context.session, ScoreRequest(body.transactions, body.store), context.app.scorer)
    payments = tuple(_visible(context, payment) for payment in answer.payments)
    return json_answer(ScoreAnswer, replace(answer, payments=payments))


def _visible(context: RequestContext, payment: ScoredPayment) -> ScoredPayment:
    reasons = tuple(replace(each, text=context.visible_reason(each)) for each in payment.reasons)
    return replace(payment, reasons=reasons)
