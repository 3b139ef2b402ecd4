"""Administration: undo a batch or a run, erase a person, prune what is past its retention."""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.card_numbers import mask_numbers
from pipeline.config.retention import cutoffs
from pipeline.hashing import written_forms
from pipeline.services.entities import entity_filter
from pipeline.services.session import Session
from storage.admin import erase as erasing
from storage.admin import prune as pruning
from storage.admin import undo
from storage.admin.erase import DIGITS_MIN, Erasure, Spelling
from storage.admin.undo import Withdrawal


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


def erase(session: Session, column: str, value: str) -> Erasure:
    """
    Replace an entity's value by a random pseudonym in every table, in sentences however it is written.

    Raises
    ------
    InputError
        The column is none of `schema.entities`.
    Unknown
        No stored row holds this value.
    """
    stored, typed = entity_filter(session, column, value), value.strip()
    spelling = None
    if not typed.isdigit() or len(typed) >= DIGITS_MIN:
        spelling = Spelling(*written_forms(typed))
    return erasing.erase(session.store, column, stored, session.actor, session.now, spelling)


def prune(session: Session, *, dry_run: bool = False) -> Pruning:
    """Let old open flags expire and delete rows that are older than [retention] allows, or only count them."""
    now = session.now
    counts = pruning.prune(session.store, cutoffs(session.config, now), now, dry=dry_run)
    return Pruning(counts, dry_run)
