"""What people say of payments: verdicts, how they are undone, and their history."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from pipeline.card_numbers import mask_numbers
from pipeline.errors import InputError
from pipeline.progress import NoProgress, Progress
from pipeline.schedule.run_context import LIVE
from pipeline.services.pages import PAGE_ROWS, Page, decode_cursor, encode_cursor
from pipeline.services.records import as_record
from pipeline.services.review.statements import known_type, named_ids, with_progress
from pipeline.services.session import Session
from storage.database.column_types import as_datetime, as_micros
from storage.queries.verdicts import VerdictFilter, verdict_page
from storage.review import verdicts
from storage.review.idempotency import RequestKey
from storage.review.verdicts import (
    ROWS_A_WRITE,
    Action,
    Statement,
    StatementOn,
    StatementResult,
    Verdict,
    VerdictOutcome,
)

__all__ = [
    "NO_PROGRESS",
    "Action",
    "Answer",
    "NewVerdict",
    "RequestKey",
    "UndoneVerdict",
    "Verdict",
    "VerdictBatch",
    "VerdictBatchResult",
    "VerdictOutcome",
    "VerdictRecord",
    "VerdictRequest",
    "VerdictRow",
    "VerdictRowResult",
    "list_verdicts",
    "record",
    "record_each",
    "undo",
]
NO_PROGRESS = NoProgress()


@dataclass(frozen=True)
class NewVerdict:
    """
    A person's answer about some payments: fraud, genuine, or closed without opinion, which only a flag can be.

    Attributes
    ----------
    type
        One of `labels.fraud_types`; None if it is not known.
    action
        What was done.
    """

    transaction_ids: tuple[str, ...]
    verdict: Verdict
    type: str | None = None
    action: Action = "none"
    note: str = ""


@dataclass(frozen=True)
class VerdictRow:
    """
    One row of a batch of verdicts.

    Attributes
    ----------
    if_seen
        The version of the flag that the person has seen: nothing is written if somebody has answered since. None for any.
    """

    transaction_id: str
    verdict: Verdict
    type: str | None = None
    action: Action = "none"
    note: str = ""
    if_seen: str | None = None


@dataclass(frozen=True)
class VerdictBatch:
    """Verdicts on at most a thousand payments, each row for itself; the same `key` again gets the same answer for a day."""

    rows: tuple[VerdictRow, ...]
    key: RequestKey | None = None


@dataclass(frozen=True)
class Answer:
    """The newest that somebody said of a payment, and the version of its flag."""

    version: str | None
    status: Literal["open", "fraud", "genuine", "closed", "expired"] | None
    verdict: Literal["fraud", "genuine", "no_opinion", "retracted"] | None
    by: str | None
    at: datetime | None


@dataclass(frozen=True)
class VerdictRowResult:
    """
    What became of one row.

    Attributes
    ----------
    code, message, remedy
        Why nothing was written; None if it was.
    before
        Status of the payment's flag before; None if it has none.
    is_fraud
        What the label says that counts now.
    current
        What holds now.
    """

    transaction_id: str
    code: str | None
    message: str | None
    remedy: str | None
    before: str | None
    is_fraud: bool | None
    current: Answer


@dataclass(frozen=True)
class VerdictBatchResult:
    """A result for each row, in order, and whether an earlier request with the same key has written them."""

    results: tuple[VerdictRowResult, ...]
    replayed: bool


@dataclass(frozen=True)
class UndoneVerdict:
    """
    The payments whose newest verdict is to be undone, and why.

    Attributes
    ----------
    if_seen
        By payment, the version of its flag that the person has seen: nothing is undone if somebody has answered since. Any without one.
    """

    transaction_ids: tuple[str, ...]
    reason: str
    if_seen: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class VerdictRequest:
    """
    Which verdicts to list: of one payment, of a person, of one kind, given in [since, until); None for any.

    Attributes
    ----------
    counting
        Only the newest of each payment, unless it was taken back.
    """

    transaction_id: str | None = None
    by: str | None = None
    verdict: Verdict | None = None
    since: datetime | None = None
    until: datetime | None = None
    counting: bool = False


@dataclass(frozen=True)
class VerdictRecord:
    """What a person said of a payment; `retracted` takes back the label that counted, or a flag's being closed."""

    verdict_id: int
    transaction_id: str
    verdict: Literal["fraud", "genuine", "no_opinion", "retracted"]
    type: str | None
    action: Action
    note: str | None
    at: datetime
    by: str


def record(
    session: Session, verdict: NewVerdict, progress: Progress = NO_PROGRESS
) -> tuple[VerdictOutcome, ...]:
    """
    Store a verdict, which closes the flag and, unless it has no opinion, becomes a label; the newest verdict counts.

    Either all payments get it or none, as long as there are no more than a thousand.

    Raises
    ------
    InputError
        No payment is named, or the type is not one of `labels.fraud_types` or belongs to no fraud.
    Unknown
        There is no such transaction, or no flag to be closed without opinion.
    Refused
        A fraud that another source reported is called genuine without a note, or an answered flag is to be closed.
    """
    statement = Statement(
        verdict.verdict,
        known_type(session, verdict.verdict, verdict.type),
        verdict.action,
        mask_numbers(verdict.note),
    )
    ids = named_ids(verdict.transaction_ids)
    outcomes = verdicts.record(session.store, LIVE, ids, statement, session.actor, session.now)
    return with_progress(outcomes, len(ids), progress)


def record_each(session: Session, batch: VerdictBatch) -> VerdictBatchResult:
    """
    Store each verdict of a batch, as `record` does for one; a row that is refused fails no other.

    Raises
    ------
    InputError
        There is no row, there are too many, one names no transaction, or two the same.
    Refused
        The key of the batch belongs to another request.
    """
    rows = batch.rows
    ids = named_ids([row.transaction_id for row in rows])
    if len(ids) < len(rows):
        raise InputError(
            "a transaction is named twice", remedy="send one row for each", code="repeated_transaction"
        )
    if len(rows) > ROWS_A_WRITE:
        raise InputError(f"{len(rows):,} rows are too many", remedy=f"send at most {ROWS_A_WRITE:,} at once")
    refused = {
        place: error for place, row in enumerate(rows) if (error := _refusal(session, row)) is not None
    }
    notes = {note: mask_numbers(note) for note in {row.note for row in rows}}
    statements = [
        StatementOn(
            row.transaction_id,
            Statement(row.verdict, row.type, row.action, notes[row.note]),
            row.if_seen,
        )
        for place, row in enumerate(rows)
        if place not in refused
    ]
    written, replayed = verdicts.record_each(
        session.store, LIVE, statements, session.actor, session.now, batch.key
    )
    others = iter(written)
    results = (
        refused[place] if place in refused else _row_result(next(others)) for place in range(len(rows))
    )
    return VerdictBatchResult(tuple(results), replayed)


def _refusal(session: Session, row: VerdictRow) -> VerdictRowResult | None:
    try:
        known_type(session, row.verdict, row.type)
    except InputError as error:
        nothing = Answer(None, None, None, None, None)
        return VerdictRowResult(
            row.transaction_id, error.code, error.message, error.remedy, None, None, nothing
        )
    return None


def _row_result(result: StatementResult) -> VerdictRowResult:
    at = None if result.at is None else as_datetime(result.at)
    current = as_record(Answer, vars(result), status=result.after, at=at)
    return as_record(VerdictRowResult, vars(result), current=current)


def undo(
    session: Session, undone: UndoneVerdict, progress: Progress = NO_PROGRESS
) -> tuple[VerdictOutcome, ...]:
    """
    Retract the newest verdict on each payment: the label or status before it counts again from now on.

    Raises
    ------
    InputError
        No payment is named.
    Unknown
        There is no such transaction, or no verdict on it.
    Refused
        Somebody has answered since.
    """
    ids = named_ids(undone.transaction_ids)
    reason = mask_numbers(undone.reason)
    outcomes = verdicts.undo(session.store, LIVE, ids, reason, session.actor, session.now, undone.if_seen)
    return with_progress(outcomes, len(ids), progress)


def list_verdicts(
    session: Session, request: VerdictRequest, *, limit: int = PAGE_ROWS, cursor: str | None = None
) -> Page[VerdictRecord]:
    """
    What people said, the newest first.

    Raises
    ------
    Unknown
        There is no such transaction.
    InputError
        The cursor is not one of this list.
    """
    filters = VerdictFilter(
        request.transaction_id,
        request.by,
        request.verdict,
        None if request.since is None else as_micros(request.since),
        None if request.until is None else as_micros(request.until),
        request.counting,
    )
    page = verdict_page(session.store, filters, limit, decode_cursor(cursor, keys=1))
    return Page(tuple(as_record(VerdictRecord, row) for row in page.rows), encode_cursor(page.next_position))
