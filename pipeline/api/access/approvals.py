"""What one user asks for and another one approves."""

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from fastapi import APIRouter, Response

from pipeline.api.context import Context, RequestContext
from pipeline.api.listing import Listing, Parameters, json_answer, value_adapter
from pipeline.api.types import PathNumber
from pipeline.services.users.approvals import (
    ActionName,
    Approval,
    ApprovalRequest,
    Status,
    approve,
    list_approvals,
    reject,
    request_approval,
)
from pipeline.services.users.permissions import Permission

router = APIRouter(prefix="/approvals", tags=["Access"])


@dataclass(frozen=True)
class VisibleApproval:
    """What a user asked for, and what became of it; `request` is null for those who may not see values."""

    approval_id: int
    action: ActionName
    request: dict[str, Any] | None
    requested_by: str
    requested_at: datetime
    expires_at: datetime
    status: Status
    decided_by: str | None
    decided_at: datetime | None
    error: str | None


ASKED: dict[int | str, dict[str, Any]] = {
    202: {"model": VisibleApproval, "description": "Another person must approve it; nothing is done yet."}
}


@router.get("", operation_id="list_approvals", response_model=Listing[VisibleApproval])
def list_(context: Context, parameters: Parameters) -> Response:
    """List what somebody asked for that needs two people, the newest first."""
    return parameters.answer(
        VisibleApproval, partial(list_approvals, context.session), partial(visible_approval, context)
    )


@router.post("/{approval_id}/approve", operation_id="approve", response_model=VisibleApproval)
def approve_(context: Context, approval_id: PathNumber) -> Response:
    """Approve a request and carry it out; one that fails says why in `error`."""
    return json_answer(
        VisibleApproval, visible_approval(context, approve(context.session, context.caller, approval_id))
    )


@router.post("/{approval_id}/reject", operation_id="reject", response_model=VisibleApproval)
def reject_(context: Context, approval_id: PathNumber) -> Response:
    """Reject a request, or withdraw one's own."""
    return json_answer(
        VisibleApproval, visible_approval(context, reject(context.session, context.caller, approval_id))
    )


def approval_answer(context: RequestContext, action: ActionName, request: ApprovalRequest) -> Response | None:
    """The answer to what needs two people: another one must approve it. None for what the caller may do alone."""
    approval = request_approval(context.session, context.caller, action, request)
    return (
        None if approval is None else json_answer(VisibleApproval, visible_approval(context, approval), 202)
    )


def visible_approval(context: RequestContext, approval: Approval) -> VisibleApproval:
    """A request as the caller may see it."""
    request = None
    if context.caller.may(Permission.SEE_VALUES):
        kind: Any = type(approval.request)
        request = value_adapter(kind).dump_python(approval.request, mode="json")
    return VisibleApproval(**vars(approval) | {"request": request})
