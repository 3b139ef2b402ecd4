"""Missed frauds: what was not flagged, or was cleared by a person, and what would have caught it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, cast

from pipeline.services.data.payments import PaymentRecord
from pipeline.services.pages import PAGE_ROWS, Page, decode_cursor, encode_cursor
from pipeline.services.records import Amount, as_amount
from pipeline.services.session import Session
from storage.database.column_types import as_datetime, as_micros
from storage.queries import missed
from storage.queries.losses import losses
from storage.queries.missed import MissFilter
from storage.runs import ledger

MissKind = Literal["unflagged", "cleared"]
NEWEST = timedelta(weeks=8)


@dataclass(frozen=True)
class MissedRequest:
    """
    Frauds that became known at `since` or later, eight weeks before the end of what is scored if None.

    Attributes
    ----------
    kind
        "unflagged": without a flag, or only drawn at random; "cleared": a person called it genuine before. None for both.
    """

    policy: str
    since: datetime | None = None
    kind: MissKind | None = None


@dataclass(frozen=True)
class MissedFraud:
    """
    A fraud that was missed, with its score and threshold then.

    Attributes
    ----------
    decision_value
        What was compared with the threshold; None without a score, or if it was drawn at random.
    distance
        By how much it fell short of the threshold, negative for one above; None where its channel flags nothing, too.
    unflagged_above
        How many payments of its day (UTC) and channel had such a value or a higher one and no flag, itself among them: so many more flags would
        have reached it. None without a value, and for one that was flagged.
    known_frauds
        By entity column how many of the value's newest 300 payments before were known to be fraud by then.
    flagged_by
        Other policies that have flagged it.
    """

    payment: PaymentRecord
    kind: MissKind
    decision_value: float | None
    distance: float | None
    unflagged_above: int | None
    known_frauds: Mapping[str, int]
    flagged_by: tuple[str, ...]


@dataclass(frozen=True)
class MissedCount:
    """How many frauds were missed in one way, and their loss as it is known now: net of what came back, with the fees of disputes."""

    kind: MissKind
    payments: int
    loss: Amount


def list_missed(
    session: Session, request: MissedRequest, *, limit: int = PAGE_ROWS, cursor: str | None = None
) -> Page[MissedFraud]:
    """
    Missed frauds, what became known last first.

    Raises
    ------
    InputError
        The cursor is not one of this list.
    """
    page = missed.missed_page(session.store, _filter(session, request), limit, decode_cursor(cursor, keys=2))
    frauds = []
    for row in page.rows:
        value, threshold = row["decision_value"], row["threshold"]
        distance = None if value is None or threshold is None else threshold - value
        frauds.append(
            MissedFraud(
                PaymentRecord.of_row(session, row), row["miss"], value, distance, row["unflagged_above"], row["known_frauds"],
                row["flagged_by"],
            )
        )  # fmt: skip
    return Page(tuple(frauds), encode_cursor(page.next_position))


def count_missed(session: Session, request: MissedRequest) -> tuple[MissedCount, ...]:
    """How many frauds such a list has, by kind."""
    base = session.config.schema_.base_currency
    by_kind = missed.missed_ids(session.store, _filter(session, request))
    lost = losses(session.store, [name for ids in by_kind.values() for name in ids], session.now)
    return tuple(
        MissedCount(
            cast("MissKind", kind),
            len(ids),
            as_amount(sum(lost[name].loss for name in ids if name in lost), base),
        )
        for kind, ids in by_kind.items()
    )


def missed_since(session: Session, request: MissedRequest) -> datetime:
    """The begin of a list: eight weeks before the end of what is scored where the request names none."""
    if request.since is not None:
        return request.since
    scored_until = ledger.newest_done(session.store, request.policy, "score")
    return as_datetime(min(session.now, scored_until or session.now)) - NEWEST


def _filter(session: Session, request: MissedRequest) -> MissFilter:
    return MissFilter(request.policy, as_micros(missed_since(session, request)), request.kind)
