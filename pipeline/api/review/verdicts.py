"""Verdicts: what people say of payments, one at a time or in batches, and how it is undone."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from pipeline.api.access.approvals import ASKED, approval_answer
from pipeline.api.body import Body
from pipeline.api.context import Context, RequestContext
from pipeline.api.idempotency import IdempotencyKey, replay_headers, request_key
from pipeline.api.listing import Listing, Parameters, json_answer, value_adapter
from pipeline.api.problem_codes import PROBLEMS
from pipeline.api.problems import ApiError
from pipeline.api.types import (
    LongText,
    Name,
    PathTransaction,
    Reason,
    Since,
    TransactionId,
    TransactionIds,
    Until,
)
from pipeline.errors import Forbidden
from pipeline.services.review.verdicts import (
    Action,
    Answer,
    NewVerdict,
    UndoneVerdict,
    Verdict,
    VerdictBatch,
    VerdictOutcome,
    VerdictRecord,
    VerdictRequest,
    VerdictRow,
    VerdictRowResult,
    list_verdicts,
    record_each,
    undo,
)
from pipeline.services.users.approvals import needs_approval

router = APIRouter(tags=["Review"])


class NewVerdictBody(Body):
    """What a person says of a payment; `if_seen` is the version of the flag that they have looked at."""

    verdict: Verdict
    type: Name | None = None
    action: Action = "none"
    note: LongText = ""
    if_seen: Name | None = None

    def row(self, transaction_id: str) -> VerdictRow:
        """As the service takes it."""
        return VerdictRow(transaction_id, self.verdict, self.type, self.action, self.note, self.if_seen)


class VerdictOnBody(NewVerdictBody):
    """A row of a batch."""

    transaction_id: TransactionId


class VerdictBatchBody(Body):
    """Verdicts on up to 1,000 payments; each row is written or refused for itself."""

    verdicts: Annotated[list[VerdictOnBody], Field(min_length=1, max_length=1_000)]


class UndoBody(Body):
    """The payments whose newest verdict is taken back, and why; all of them or none."""

    transaction_ids: TransactionIds
    reason: Reason


@dataclass(frozen=True)
class VerdictResults:
    """A result for each row, in the order of the request; a row with a `code` was refused."""

    results: tuple[VerdictRowResult, ...]


@dataclass(frozen=True)
class VerdictOutcomes:
    """What changed for each payment."""

    results: tuple[VerdictOutcome, ...]


@router.get("/verdicts", operation_id="list_verdicts", response_model=Listing[VerdictRecord])
def list_(
    context: Context,
    parameters: Parameters,
    transaction_id: Annotated[TransactionId | None, Query()] = None,
    by: Name | None = None,
    verdict: Verdict | None = None,
    since: Since = None,
    until: Until = None,
    counting: Annotated[
        bool, Query(description="Only the newest of each payment, unless it was taken back.")
    ] = False,
) -> Response:
    """List what people said, the newest first; of one payment, or of all."""
    request = VerdictRequest(transaction_id, by, verdict, since, until, counting)
    show = partial(_visible, context)
    return parameters.answer(
        VerdictRecord,
        partial(list_verdicts, context.session, request),
        show,
        viewed=lambda rows: context.viewed("verdicts", transaction_id or "all", rows),
    )


@router.post("/verdicts", operation_id="record_verdicts", response_model=VerdictResults, responses=ASKED)
async def record_batch(context: Context, body: VerdictBatchBody, key: IdempotencyKey = None) -> Response:
    """Answer many payments at once, row by row: one that is refused fails no other."""
    rows = tuple(each.row(each.transaction_id) for each in body.verdicts)
    if (pending := await run_in_threadpool(_approval_answer, context, rows)) is not None:
        return pending
    batch = VerdictBatch(rows, await request_key(context, key))
    done = await run_in_threadpool(record_each, context.session, batch)
    return json_answer(VerdictResults, VerdictResults(done.results), headers=replay_headers(done.replayed))


@router.post(
    "/transactions/{transaction_id}/verdict",
    operation_id="record_verdict",
    response_model=VerdictRowResult,
    responses=ASKED,
)
def record_one(context: Context, transaction_id: PathTransaction, body: NewVerdictBody) -> Response:
    """Answer one payment, flagged or not; 409 if somebody has answered since `if_seen`."""
    if (pending := _approval_answer(context, (body.row(transaction_id),))) is not None:
        return pending
    (result,) = record_each(context.session, VerdictBatch((body.row(transaction_id),))).results
    if result.code is not None:
        raise refused(result)
    return json_answer(VerdictRowResult, result)


@router.post("/verdicts/undo", operation_id="undo_verdicts", response_model=VerdictOutcomes)
def undo_(context: Context, body: UndoBody) -> Response:
    """Take the newest verdict on each payment back, from now on."""
    return json_answer(
        VerdictOutcomes,
        VerdictOutcomes(undo(context.session, UndoneVerdict(body.transaction_ids, body.reason))),
    )


def _approval_answer(context: RequestContext, rows: tuple[VerdictRow, ...]) -> Response | None:
    """The answer if the rows that say genuine are so many or so much that two people must say so; None if not."""
    genuine = [row for row in rows if row.verdict == "genuine"]
    if not genuine:
        return None
    ids = tuple(row.transaction_id for row in genuine)
    same = (
        len(genuine) == len(rows) and len({(row.action, row.note, row.if_seen is None) for row in rows}) == 1
    )
    if same and rows[0].if_seen is None:
        return approval_answer(
            context, "record_verdict", NewVerdict(ids, "genuine", None, rows[0].action, rows[0].note)
        )
    if needs_approval(context.session, context.caller, "record_verdict", NewVerdict(ids, "genuine")):
        raise Forbidden(
            "so many or such large payments are called genuine that two people must say so",
            remedy="send them alone, all with the same action and note and without if_seen",
            code="four_eyes",
        )
    return None


def refused(result: VerdictRowResult) -> ApiError:
    """The problem of a row that was refused."""
    assert result.code is not None
    text = f"{result.message}: {result.remedy}" if result.remedy else result.message or ""
    current: dict[str, Any] | None = None
    if PROBLEMS[result.code].status == 409 and result.current != Answer(None, None, None, None, None):
        current = value_adapter(Answer).dump_python(result.current, mode="json")
    return ApiError(result.code, text, current=current)


def _visible(context: RequestContext, verdict: VerdictRecord) -> VerdictRecord:
    return replace(verdict, note=context.visible_text(verdict.note))
