"""Administration: undo a batch or a run, prune what is past its retention, check the audit trail."""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.card_numbers import mask_numbers
from pipeline.config.retention import cutoffs
from pipeline.services.session import Session
from storage.admin import prune as pruning
from storage.admin import undo
from storage.admin.undo import Withdrawal
from storage.review.audit_chain import ChainCheck, check_chain

__all__ = [
    "ChainCheck",
    "Pruning",
    "UndoRequest",
    "Withdrawal",
    "prune",
    "undo_batch",
    "undo_run",
    "verify_audit",
]


@dataclass(frozen=True)
class UndoRequest:
    """A batch or a run to be withdrawn, by its number."""

    number: int
    reason: str


@dataclass(frozen=True)
class Pruning:
    """
    The number of rows by table that were deleted, or would be.

    Besides, `expired_flags` are flags that expired, and `notes` are notes that were deleted while their rows stay.
    """

    counts: Mapping[str, int]
    dry_run: bool


def undo_batch(session: Session, request: UndoRequest) -> Withdrawal:
    """
    Withdraw a batch: its transactions with their scores and flags, or its labels.

    Raises
    ------
    Unknown
        There is no visible batch of that number.
    Busy
        An ingest is running.
    """
    return undo.undo_batch(
        session.store, request.number, mask_numbers(request.reason), session.actor, session.now
    )


def undo_run(session: Session, request: UndoRequest) -> Withdrawal:
    """
    Withdraw a run: its scores, flags, drift, choices and promotions; its steps are due again.

    Raises
    ------
    Unknown
        There is no such run.
    """
    return undo.undo_run(
        session.store, request.number, mask_numbers(request.reason), session.actor, session.now
    )


def prune(session: Session, *, dry_run: bool = False) -> Pruning:
    """Let old open flags expire and delete rows that are older than [retention] allows, or only count them."""
    now = session.now
    counts = pruning.prune(session.store, cutoffs(session.config, now), now, dry=dry_run, by=session.actor)
    return Pruning(counts, dry_run)


def verify_audit(session: Session, expected: str | None = None) -> ChainCheck:
    """
    Check that no row of the audit trail was changed, removed or put in later.

    Parameters
    ----------
    expected
        The newest hash of an earlier check, which must still be there: so nothing after it was cut off.
    """
    return check_chain(session.store, expected)
