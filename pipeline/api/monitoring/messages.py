"""Messages to people, without their text."""

from functools import partial

from fastapi import APIRouter, Response

from pipeline.api.context import Context
from pipeline.api.listing import Listing, Parameters
from pipeline.services.monitoring.notifications import QueuedMessage, list_messages

router = APIRouter(tags=["Monitoring"])


@router.get("/messages", operation_id="list_messages", response_model=Listing[QueuedMessage])
def list_(context: Context, parameters: Parameters, waiting: bool = False) -> Response:
    """List messages, newest first; with `waiting` only those that are waiting or failed."""
    return parameters.answer(QueuedMessage, partial(list_messages, context.session, waiting))
