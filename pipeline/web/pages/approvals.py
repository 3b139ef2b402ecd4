"""Approvals: what one user asked for and another one decides."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from pipeline.api.access.approvals import visible_approval
from pipeline.api.context import Context
from pipeline.api.types import PathNumber
from pipeline.services.users.approvals import approve, list_approvals, may_decide, reject
from pipeline.web.record_text import record_text
from pipeline.web.rendering import page

router = APIRouter()
PATH = "/approvals"
ROWS_A_PAGE = 100
ACTIONS = {
    "promote": "promote a model that the gate rejected",
    "undo_batch": "withdraw a batch",
    "undo_run": "withdraw a run",
    "erase": "erase a person",
    "set_role": "change a role",
    "enable_user": "enable a user",
    "add_mute": "mute for long",
    "record_verdict": "call many or large payments genuine",
    "add_labels": "label many or large payments genuine",
}


@router.get(PATH)
def approvals(context: Context, cursor: Annotated[str | None, Query(max_length=10_000)] = None) -> Response:
    """List requests, the newest first, with what the caller can decide."""
    found = list_approvals(
        context.session, limit=ROWS_A_PAGE, cursor=context.app.cursors.open(cursor, PATH, [])
    )
    following = context.app.cursors.seal(found.next_cursor, PATH, [])
    return page(
        context,
        "approvals.html",
        place="approvals",
        rows=[
            (visible_approval(context, each), may_decide(context.caller, each.action)) for each in found.items
        ],
        actions=ACTIONS,
        settings=context.app.config.web.four_eyes,
        next_address=None if following is None else f"{PATH}?cursor={following}",
        as_text=record_text,
    )


@router.post("/approvals/{approval_id}/approve")
def approve_(context: Context, approval_id: PathNumber) -> Response:
    """Approve a request, and carry it out."""
    approve(context.session, context.caller, approval_id)
    return Response(status_code=204, headers={"HX-Redirect": PATH})


@router.post("/approvals/{approval_id}/reject")
def reject_(context: Context, approval_id: PathNumber) -> Response:
    """Reject a request, or withdraw one's own."""
    reject(context.session, context.caller, approval_id)
    return Response(status_code=204, headers={"HX-Redirect": PATH})
