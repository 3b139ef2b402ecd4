"""Claims on flags: who works on which, so that nobody else begins; they end by themselves, and with a verdict."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pipeline.errors import InputError
from pipeline.schedule.run_context import LIVE
from pipeline.services.pages import PAGE_ROWS, Page, decode_cursor, encode_cursor
from pipeline.services.records import as_record
from pipeline.services.review.statements import named_ids
from pipeline.services.session import Session
from storage.database.column_types import as_datetime, as_micros
from storage.queries.notes import claim_page, claims_on
from storage.review import claims

NOT_CLAIMED = {
    "unknown_transaction": "there is no transaction {!r}",
    "no_flag": "there is no flag on transaction {!r}",
    "claimed": "somebody else works on transaction {!r}",
}
CLAIM_MAX = timedelta(hours=12)


@dataclass(frozen=True)
class NewClaim:
    """The flags that somebody wants to work on, and for how long at most."""

    transaction_ids: tuple[str, ...]
    span: timedelta = timedelta(minutes=15)


@dataclass(frozen=True)
class ClaimRow:
    """
    Who works on a flag, and until when at most; None where there is no flag.

    Attributes
    ----------
    code, message
        Why the flag could not be claimed: there is no such transaction, no flag on it, or somebody else has claimed it (`by`). None otherwise.
    """

    transaction_id: str
    by: str | None
    until: datetime | None
    code: claims.NotClaimed | None = None
    message: str | None = None


@dataclass(frozen=True)
class ClaimRecord:
    """A claim that is in force."""

    transaction_id: str
    by: str
    claimed_at: datetime
    until: datetime


@dataclass(frozen=True)
class ReleasedClaim:
    """A claim that its owner has ended."""

    transaction_id: str


def claim(session: Session, new: NewClaim) -> tuple[ClaimRow, ...]:
    """
    Claim each flag that nobody else works on; one's own claim is prolonged.

    Raises
    ------
    InputError
        No transaction is named, or the span is not above zero and at most `CLAIM_MAX`.
    """
    if not timedelta(0) < new.span <= CLAIM_MAX:
        raise InputError(
            f"a claim lasts {new.span}", remedy=f"take a span above zero and of at most {CLAIM_MAX}"
        )
    now = session.now
    until = as_micros(as_datetime(now) + new.span)
    results = claims.claim(session.store, LIVE, named_ids(new.transaction_ids), session.actor, until, now)
    return tuple(
        ClaimRow(
            each.transaction_id,
            each.by,
            None if each.until is None else as_datetime(each.until),
            each.code,
            None if each.code is None else NOT_CLAIMED[each.code].format(each.transaction_id),
        )
        for each in results
    )


def release(session: Session, transaction_ids: Sequence[str]) -> tuple[ReleasedClaim, ...]:
    """
    End one's own claims on these flags; returns those that ended.

    Raises
    ------
    InputError
        No transaction is named.
    """
    ended = claims.release(session.store, LIVE, named_ids(transaction_ids), session.actor, session.now)
    return tuple(map(ReleasedClaim, ended))


def claims_of_others(session: Session, transaction_ids: Sequence[str]) -> tuple[ClaimRecord, ...]:
    """The claims in force on these flags, without one's own."""
    rows = claims_on(session.store, LIVE, transaction_ids, session.now)
    return tuple(as_record(ClaimRecord, row) for row in rows if row["by"] != session.actor)


def list_claims(session: Session, *, limit: int = PAGE_ROWS, cursor: str | None = None) -> Page[ClaimRecord]:
    """
    Claims that are in force, by transaction.

    Raises
    ------
    InputError
        The cursor is not one of this list.
    """
    page = claim_page(session.store, LIVE, session.now, limit, decode_cursor(cursor, keys=1))
    return Page(tuple(as_record(ClaimRecord, row) for row in page.rows), encode_cursor(page.next_position))
