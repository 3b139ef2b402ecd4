"""Payments, flagged or not: one by its id, those of an entity in the order of time, and what is known of one."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pipeline.services.entities import require_entity_column
from pipeline.services.pages import PAGE_ROWS, Page, decode_cursor, encode_cursor
from pipeline.services.records import Amount, as_amount, as_record
from pipeline.services.session import Session
from storage.database.views import field_name
from storage.queries import payments
from storage.queries.rows import Row


@dataclass(frozen=True)
class EntityRequest:
    """The payments of one customer, card, merchant …; the value as it is stored."""

    policy: str
    column: str
    value: str


@dataclass(frozen=True)
class PaymentRecord:
    """
    A payment.

    Attributes
    ----------
    amount, amount_base
        In the currency of the payment, and in the base currency.
    fields
        The configured fields by name; entities of `schema.hash` as they are stored.
    score, fraud_probability, threshold, expected_loss, model_id
        None until the policy has scored it.
    channel, status, muted_by
        Of its flag; None without one.
    is_fraud, label_type, label_source, known_at
        The label that holds; None without one.
    revision
        The number of its newest revision, 0 if it has none; what is shown is the first version, which scores use.
    """

    transaction_id: str
    event_time: datetime
    amount: Amount
    amount_base: Amount
    kind: str | None
    original_id: str | None
    fields: Mapping[str, str | float | None]
    score: float | None
    fraud_probability: float | None
    threshold: float | None
    expected_loss: Amount | None
    model_id: int | None
    channel: str | None
    status: Literal["open", "fraud", "genuine", "closed", "expired"] | None
    muted_by: int | None
    is_fraud: bool | None
    label_type: str | None
    label_source: str | None
    known_at: datetime | None
    batch_id: int
    revision: int

    @classmethod
    def of_row(cls, session: Session, row: Row) -> "PaymentRecord":
        """A row of storage as a payment."""
        base, loss = session.config.schema_.base_currency, row["expected_loss"]
        return as_record(
            cls,
            row,
            expected_loss=None if loss is None else as_amount(loss, base),
            amount=as_amount(row["amount"], row["currency"] or base),
            amount_base=as_amount(row["amount_base"], base),
            fields={name: row[field_name(name)] for name in session.store.fields.names},
        )


@dataclass(frozen=True)
class LabelRequest:
    """Whose labels to list."""

    transaction_id: str


@dataclass(frozen=True)
class LabelRecord:
    """
    What a source knows of a payment.

    Attributes
    ----------
    is_fraud
        None for a dispute that is not about fraud, the end of a dispute, and a retraction.
    recorded_at
        Of a label that a person gave here.
    retracts
        The label that no longer holds because of this one.
    """

    label_id: int
    transaction_id: str
    is_fraud: bool | None
    type: str | None
    reason: str | None
    stage: Literal["inquiry", "dispute", "won", "lost"] | None
    source: str
    known_at: datetime
    recorded_at: datetime | None
    batch_id: int | None
    by: str
    retracts: int | None


def show_payment(session: Session, policy: str, transaction_id: str) -> PaymentRecord:
    """
    A payment with its score and flag under a policy.

    Raises
    ------
    Unknown
        There is no such transaction.
    """
    return PaymentRecord.of_row(session, payments.payment_row(session.store, policy, transaction_id))


def entity_timeline(
    session: Session,
    request: EntityRequest,
    *,
    limit: int = PAGE_ROWS,
    cursor: str | None = None,
) -> Page[PaymentRecord]:
    """
    The payments of an entity, the newest first.

    Raises
    ------
    InputError
        There is no such entity column, or the cursor is not one of this list.
    """
    position, entity = decode_cursor(cursor, keys=2), (request.column, request.value)
    require_entity_column(session, request.column)
    page = payments.entity_page(session.store, request.policy, entity, limit, position)
    return Page(
        tuple(PaymentRecord.of_row(session, row) for row in page.rows), encode_cursor(page.next_position)
    )


def list_labels(
    session: Session, request: LabelRequest, *, limit: int = PAGE_ROWS, cursor: str | None = None
) -> Page[LabelRecord]:
    """
    The labels of a payment, what was recorded last first.

    Raises
    ------
    Unknown
        There is no such transaction.
    InputError
        The cursor is not one of this list.
    """
    page = payments.label_page(session.store, request.transaction_id, limit, decode_cursor(cursor, keys=1))
    return Page(tuple(as_record(LabelRecord, row) for row in page.rows), encode_cursor(page.next_position))
