"""Notes: what people write about a payment without answering."""

from dataclasses import replace
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Response
from starlette.concurrency import run_in_threadpool

from pipeline.api.body import Body
from pipeline.api.context import Context, RequestContext
from pipeline.api.idempotency import IdempotencyKey, replay_headers, request_key
from pipeline.api.listing import Listing, Parameters, json_answer
from pipeline.api.types import PathTransaction, Reason, TransactionId
from pipeline.services.review.notes import NewNote, NoteRecord, NoteRequest, add_note, list_notes

router = APIRouter(tags=["Review"])


class NoteBody(Body):
    """A note; whole card numbers in it are masked."""

    text: Reason


@router.get("/notes", operation_id="list_notes", response_model=Listing[NoteRecord])
def list_(
    context: Context, parameters: Parameters, transaction_id: Annotated[TransactionId | None, Query()] = None
) -> Response:
    """List notes, the newest first; on one payment, or on all."""
    read = partial(list_notes, context.session, NoteRequest(transaction_id))
    return parameters.answer(
        NoteRecord,
        read,
        partial(_visible, context),
        viewed=lambda rows: context.viewed("verdicts", transaction_id or "all", rows, of="notes"),
    )


@router.post(
    "/transactions/{transaction_id}/notes",
    operation_id="add_note",
    response_model=NoteRecord,
    status_code=201,
)
async def add(
    context: Context, transaction_id: PathTransaction, body: NoteBody, key: IdempotencyKey = None
) -> Response:
    """Add a note to a payment."""
    note = NewNote(transaction_id, body.text, await request_key(context, key))
    added = await run_in_threadpool(add_note, context.session, note)
    return json_answer(NoteRecord, added.note, 201, replay_headers(added.replayed))


def _visible(context: RequestContext, note: NoteRecord) -> NoteRecord:
    return replace(note, text=context.visible_text(note.text) or "")
