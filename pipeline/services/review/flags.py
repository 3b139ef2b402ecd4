"""Flags: lists of flagged transactions, their number, and one of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pipeline.errors import InputError
from pipeline.services.entities import entity_filter
from pipeline.services.pages import PAGE_ROWS, Page, decode_cursor, encode_cursor
from pipeline.services.records import Amount, as_amount, as_record
from pipeline.services.session import Session
from storage.database.column_types import as_datetime, as_micros
from storage.database.views import field_name
from storage.queries import flags
from storage.queries.flags import FlagFilter, FlagOrder
from storage.queries.rows import Row
from storage.review.payment_state import flag_version
from storage.review.verdicts import Action

__all__ = [
    "FlagOrder",
    "FlagReason",
    "FlagRecord",
    "FlagRequest",
    "FlagStatus",
    "count_flags",
    "list_flags",
    "show_flag",
    "show_flags",
]
FlagStatus = Literal["open", "fraud", "genuine", "closed", "expired"]


@dataclass(frozen=True)
class FlagRequest:
    """
    Which flags of a policy to list; None for any.

    Attributes
    ----------
    since, until
        Event times in [since, until).
    entity, stored_entity
        Column and value, as a person typed it, and as it is stored.
    muted
        True for muted flags only, False for all others.
    cleared_then_reported
        Only payments that a person called genuine and that count as fraud by a later report, such as a chargeback.
    order
        By expected loss (then score, where there is none), by event time, by score or by amount in the base currency: the
        largest, newest or highest first.
    """

    policy: str
    since: datetime | None = None
    until: datetime | None = None
    status: FlagStatus | None = None
    channel: str | None = None
    min_score: float | None = None
    entity: tuple[str, str] | None = None
    stored_entity: tuple[str, str] | None = None
    muted: bool | None = None
    cleared_then_reported: bool = False
    order: FlagOrder = "loss"


@dataclass(frozen=True)
class FlagReason:
    """
    A reason why a transaction was flagged.

    Attributes
    ----------
    feature, usual
        None for a reason that is not a feature of a model: a rule, the random audit sample.
    value
        Of the feature; for a rule its number.
    share
        Of the score, 0 to 1.
    """

    code: str
    feature: str | None
    value: float | None
    usual: float | None
    share: float
    text: str


@dataclass(frozen=True)
class FlagRecord:
    """
    A flagged transaction.

    Attributes
    ----------
    amount, amount_base
        In the currency of the transaction, and in the base currency.
    fields
        The configured fields by name; entities of `schema.hash` as they are stored.
    muted_by
        The number of the mute that covers it.
    expected_loss
        Fraud probability × (exposure + fee), in the base currency. Without a fraud probability it is computed with an upper
        guess of one; None without that.
    is_fraud, label_type, label_source, known_at
        The label that holds, what kind of fraud or dispute it names, where it comes from and when it became known; None
        without one. `is_fraud` is None with a source for a dispute that is not about fraud.
    verdict, verdict_type, verdict_action, verdict_note
        The newest that people said of the payment, with the type of the fraud, what was done, and a note.
    version
        Changes with every answer and every status.
    claimed_by, claimed_until
        Who works on it, and until when at most; None if nobody does.
    """

    policy: str
    transaction_id: str
    event_time: datetime
    amount: Amount
    amount_base: Amount
    fields: Mapping[str, str | float | None]
    channel: str
    score: float
    outlier_score: float | None
    fraud_probability: float | None
    decision_value: float | None
    threshold: float | None
    expected_loss: Amount | None
    reasons: tuple[FlagReason, ...]
    status: FlagStatus
    reviewed_at: datetime | None
    reviewer: str | None
    muted_by: int | None
    is_fraud: bool | None
    label_type: str | None
    label_source: str | None
    known_at: datetime | None
    verdict: str | None
    verdict_type: str | None
    verdict_action: Action | None
    verdict_note: str | None
    version: str
    claimed_by: str | None
    claimed_until: datetime | None
    model_id: int
    run_id: int


def list_flags(
    session: Session, request: FlagRequest, *, limit: int = PAGE_ROWS, cursor: str | None = None
) -> Page[FlagRecord]:
    """
    Flags, in the order of the request; ties are ordered by transaction_id.

    Raises
    ------
    InputError
        There is no such entity column, or the cursor is not one of this list.
    """
    keys = 3 if request.order == "loss" else 2
    filters, after = _filters(session, request), decode_cursor(cursor, keys, request.order)
    page = flags.flag_page(session.store, request.policy, filters, limit, after, order=request.order)
    items = tuple(_record(session, row) for row in page.rows)
    return Page(items, encode_cursor(page.next_position, order=request.order))


def count_flags(session: Session, request: FlagRequest) -> int:
    """
    The number of flags in a list.

    Raises
    ------
    InputError
        There is no such entity column.
    """
    return flags.count_flags(session.store, request.policy, _filters(session, request))


def show_flag(session: Session, policy: str, transaction_id: str) -> FlagRecord:
    """
    The flag on a transaction.

    Raises
    ------
    Unknown
        The policy has not flagged this transaction.
    """
    return _record(session, flags.flag_row(session.store, policy, transaction_id))


def show_flags(session: Session, policy: str, transaction_ids: Sequence[str]) -> dict[str, FlagRecord]:
    """The flags on these transactions by their ids; of a transaction without one there is nothing."""
    rows = flags.flags_on(session.store, policy, transaction_ids)
    return {row["transaction_id"]: _record(session, row) for row in rows}


def _filters(session: Session, request: FlagRequest) -> FlagFilter:
    entity = request.entity
    if request.since is not None and request.until is not None and request.since >= request.until:
        raise InputError(
            "the span is empty",
            remedy="its start must be before its end, which is not part of it",
            code="empty_span",
        )
    return FlagFilter(
        since=None if request.since is None else as_micros(request.since),
        until=None if request.until is None else as_micros(request.until),
        status=request.status,
        channel=None if request.channel is None else _known_channel(request.channel),
        min_score=request.min_score,
        entity=request.stored_entity if entity is None else (entity[0], entity_filter(session, *entity)),
        muted=request.muted,
        cleared_then_reported=request.cleared_then_reported,
    )


def _known_channel(name: str) -> str:
    from pipeline.rules.mutes import known_channel  # needs detectors, which load slowly

    return known_channel(name)


def _record(session: Session, row: Row) -> FlagRecord:
    base, loss = session.config.schema_.base_currency, row["expected_loss"]
    is_claimed = row["claimed_until"] is not None and row["claimed_until"] > as_datetime(session.now)
    claim = {name: row[name] if is_claimed else None for name in ("claimed_by", "claimed_until")}
    return as_record(
        FlagRecord,
        row,
        expected_loss=None if loss is None else as_amount(loss, base),
        amount=as_amount(row["amount"], row["currency"] or base),
        amount_base=as_amount(row["amount_base"], base),
        fields={name: row[field_name(name)] for name in session.store.fields.names},
        reasons=tuple(as_record(FlagReason, reason) for reason in row["reasons"]),
        version=flag_version(row["verdict_id"], row["status"]),
        **claim,
    )
