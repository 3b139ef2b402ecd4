"""What people say of payments: verdicts, how they are undone, and their history."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pipeline.card_numbers import mask_numbers
from pipeline.progress import NoProgress, Progress
from pipeline.schedule.run_context import LIVE
from pipeline.services.pages import PAGE_ROWS, Page, decode_cursor, encode_cursor
from pipeline.services.records import as_record
from pipeline.services.review.statements import known_type, named_ids, with_progress
from pipeline.services.session import Session
from storage.queries.verdicts import verdict_page
from storage.review import verdicts
from storage.review.verdicts import Action, Statement, Verdict, VerdictOutcome

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
class UndoneVerdict:
    """The payments whose newest verdict is to be undone, and why."""

    transaction_ids: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class VerdictRequest:
    """Whose verdicts to list; None for those of all payments."""

    transaction_id: str | None = None


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
    """
    ids = named_ids(undone.transaction_ids)
    reason = mask_numbers(undone.reason)
    outcomes = verdicts.undo(session.store, LIVE, ids, reason, session.actor, session.now)
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
    page = verdict_page(session.store, request.transaction_id, limit, decode_cursor(cursor, keys=1))
    return Page(tuple(as_record(VerdictRecord, row) for row in page.rows), encode_cursor(page.next_position))
