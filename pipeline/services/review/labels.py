"""Labels that people give to any payment, flagged or not, and labels that they retract."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pipeline.card_numbers import mask_numbers
from pipeline.progress import NoProgress, Progress
from pipeline.schedule.run_context import LIVE
from pipeline.services.review.statements import known_type, named_ids, with_progress
from pipeline.services.session import Session, past_instant
from storage.review import verdicts
from storage.review.verdicts import Action, Statement, VerdictOutcome

__all__ = [
    "NO_PROGRESS",
    "Action",
    "LabelRetraction",
    "NewLabel",
    "add_labels",
    "retract_labels",
]
NO_PROGRESS = NoProgress()


@dataclass(frozen=True)
class NewLabel:
    """
    What some payments turned out to be.

    Attributes
    ----------
    source
        Whether a customer reports it, or a person found it: that counts as a verdict on the flag if there is one.
    type
        One of `labels.fraud_types`; None if it is not known.
    known_at
        When it became known; None for now.
    """

    transaction_ids: tuple[str, ...]
    verdict: Literal["fraud", "genuine"]
    source: Literal["investigation", "customer"] = "investigation"
    type: str | None = None
    action: Action = "none"
    note: str = ""
    known_at: datetime | None = None


@dataclass(frozen=True)
class LabelRetraction:
    """The payments of which a label is retracted: the newest of a source, or with None the one that counts; and why."""

    transaction_ids: tuple[str, ...]
    reason: str
    source: str | None = None


def add_labels(
    session: Session, label: NewLabel, progress: Progress = NO_PROGRESS
) -> tuple[VerdictOutcome, ...]:
    """
    Label payments, flagged or not.

    Raises
    ------
    InputError
        No payment is named, the type is not one of `labels.fraud_types` or belongs to no fraud, or `known_at` is in the
        future.
    Unknown
        There is no such transaction.
    Refused
        A fraud that another source reported is called genuine without a note.
    """
    known_at = None if label.known_at is None else past_instant(session, label.known_at)
    statement = Statement(
        label.verdict,
        known_type(session, label.verdict, label.type),
        label.action,
        mask_numbers(label.note),
        by_customer=label.source == "customer",
        known_at=known_at,
    )
    ids = named_ids(label.transaction_ids)
    outcomes = verdicts.record(session.store, LIVE, ids, statement, session.actor, session.now)
    return with_progress(outcomes, len(ids), progress)


def retract_labels(
    session: Session, retraction: LabelRetraction, progress: Progress = NO_PROGRESS
) -> tuple[VerdictOutcome, ...]:
    """
    Retract a label of each payment, from now on; the label is kept, and trainings up to now knew it.

    Raises
    ------
    InputError
        No payment is named.
    Unknown
        There is no such transaction, or no such label of it.
    """
    ids = named_ids(retraction.transaction_ids)
    reason = mask_numbers(retraction.reason)
    outcomes = verdicts.retract(
        session.store, LIVE, ids, retraction.source, reason, session.actor, session.now
    )
    return with_progress(outcomes, len(ids), progress)
