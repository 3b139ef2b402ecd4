"""Undo: withdraw a batch or a run."""

from fastapi import APIRouter, Response

from pipeline.api.access.approvals import ASKED, approval_answer
from pipeline.api.body import Body
from pipeline.api.context import Context
from pipeline.api.listing import json_answer
from pipeline.api.types import PathNumber, Reason
from pipeline.services.admin import UndoRequest, Withdrawal, undo_batch, undo_run

router = APIRouter(tags=["Runs"])


class WithdrawBody(Body):
    """Why it is withdrawn."""

    reason: Reason


@router.post(
    "/batches/{batch_id}/undo", operation_id="undo_batch", response_model=Withdrawal, responses=ASKED
)
def batch(context: Context, batch_id: PathNumber, body: WithdrawBody) -> Response:
    """Withdraw a batch: its transactions with their scores and flags, or its labels."""
    request = UndoRequest(batch_id, body.reason)
    if (pending := approval_answer(context, "undo_batch", request)) is not None:
        return pending
    return json_answer(Withdrawal, undo_batch(context.loading_session(), request))


@router.post("/runs/{run_id}/undo", operation_id="undo_run", response_model=Withdrawal, responses=ASKED)
def run(context: Context, run_id: PathNumber, body: WithdrawBody) -> Response:
    """Withdraw a run: its scores, flags, drift, choices and promotions; its steps are due again."""
    request = UndoRequest(run_id, body.reason)
    if (pending := approval_answer(context, "undo_run", request)) is not None:
        return pending
    return json_answer(Withdrawal, undo_run(context.loading_session(), request))
