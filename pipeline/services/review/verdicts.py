"""Verdicts of reviewers on flags."""

from dataclasses import dataclass

from pipeline.card_numbers import mask_numbers
from pipeline.schedule.run_context import LIVE
from pipeline.services.session import Session
from storage.review import verdicts
from storage.review.verdicts import VerdictOutcome


@dataclass(frozen=True)
class NewVerdict:
    """A reviewer's answer to a flag."""

    transaction_id: str
    is_fraud: bool
    note: str = ""


def record(session: Session, verdict: NewVerdict) -> VerdictOutcome:
    """
    Store a verdict, which closes the flag and becomes a label; the newest verdict counts.

    Raises
    ------
    Unknown
        There is no flag on this transaction.
    """
    return verdicts.verdict(
        session.store,
        LIVE,
        verdict.transaction_id,
        verdict.is_fraud,
        mask_numbers(verdict.note),
        session.actor,
        session.now,
    )
