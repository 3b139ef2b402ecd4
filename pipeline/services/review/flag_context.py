"""What a reviewer compares a flag with: what is usual for its entities, answered flags that are like it, and what was done so far."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from statistics import median
from typing import Literal

from pipeline.services.data.payments import (
    LabelRequest,
    PaymentRecord,
    list_labels,
)
from pipeline.services.records import Amount
from pipeline.services.review.flags import FlagRecord, show_flags
from pipeline.services.review.notes import NoteRequest, list_notes
from pipeline.services.review.verdicts import VerdictRequest, list_verdicts
from pipeline.services.session import Session
from storage.database.column_types import as_micros
from storage.queries.payments import Surroundings, payments_around
from storage.queries.similar_flags import flags_near_amount, flags_of_entity

PAYMENTS_BEFORE = 200  # that say what is usual
PAYMENTS_AFTER = 60  # that the timeline shows, too
SIMILAR = 10
DAY = timedelta(days=1)


@dataclass(frozen=True)
class UsualValue:
    """How often an entity's payments before had the value that a payment has in a categorical field, and what most had."""

    field: str
    value: str
    share: float
    commonest: str


@dataclass(frozen=True)
class EntityContext:
    """
    An entity of a payment, and its other payments.

    Attributes
    ----------
    value
        As it is stored.
    before
        Number of payments that were read of those before: at most `PAYMENTS_BEFORE`, the newest.
    is_cut
        Whether there are more.
    median, low, high
        Of the amounts before, in the base currency: the median, and between what nine in ten lie. None without any.
    last_day
        Payments in the 24 hours before.
    a_day
        Payments a day before, on average over the payments read; None with fewer than two.
    payments
        Those before, this one and the next `PAYMENTS_AFTER` after it, by time, without a hole.
    """

    column: str
    value: str
    before: int
    is_cut: bool
    first_event_time: datetime | None
    median: Amount | None
    low: Amount | None
    high: Amount | None
    last_day: int
    a_day: float | None
    usual: tuple[UsualValue, ...]
    flagged: int
    frauds: int
    payments: tuple[PaymentRecord, ...]


@dataclass(frozen=True)
class SimilarFlags:
    """Answered flags that share an entity, or else that are alike; the names of the columns that each shares."""

    are_shared: bool
    flags: tuple[FlagRecord, ...]
    columns: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Event:
    """
    Something that people or sources said of a payment.

    Attributes
    ----------
    value
        Of a verdict or a label: what it says.
    """

    at: datetime
    by: str
    kind: Literal["verdict", "note", "label"]
    value: str
    text: str | None


def entity_contexts(session: Session, policy: str, payment: PaymentRecord) -> tuple[EntityContext, ...]:
    """Each entity of a payment with what is usual for it."""
    fields = ((column, payment.fields.get(column)) for column in session.config.schema_.entities)
    entities = [(column, value) for column, value in fields if isinstance(value, str)]
    at = as_micros(payment.event_time), payment.transaction_id
    around, rows = payments_around(session.store, policy, entities, at, PAYMENTS_BEFORE, PAYMENTS_AFTER)
    payments = {name: PaymentRecord.of_row(session, row) for name, row in rows.items()}
    return tuple(
        _context(session, payment, entity, each, payments)
        for entity, each in zip(entities, around, strict=True)
    )


def similar_flags(session: Session, flag: FlagRecord) -> SimilarFlags:
    """Up to ten answered flags that share an entity; else with the same leading reason and the nearest amounts."""
    shared: dict[str, list[str]] = {}
    times: dict[str, int] = {}
    for column in session.config.schema_.entities:
        value = flag.fields.get(column)
        if not isinstance(value, str):
            continue
        for at, name in flags_of_entity(
            session.store, flag.policy, (column, value), flag.transaction_id, SIMILAR
        ):
            shared.setdefault(name, []).append(column)
            times[name] = at
    names = sorted(shared, key=lambda name: (-len(shared[name]), -times[name], name))[:SIMILAR]
    if not names and flag.reasons:
        names = flags_near_amount(
            session.store,
            flag.policy,
            flag.reasons[0].code,
            float(flag.amount_base.value),
            flag.transaction_id,
            SIMILAR,
        )
    records = show_flags(session, flag.policy, names) if names else {}
    flags = tuple(records[name] for name in names if name in records)
    return SimilarFlags(
        bool(shared), flags, tuple(tuple(shared.get(each.transaction_id, ())) for each in flags)
    )


def events_of(session: Session, transaction_id: str) -> tuple[Event, ...]:
    """
    What was said of a payment, the newest first: verdicts, notes, and labels of other sources.

    Raises
    ------
    Unknown
        There is no such transaction.
    """
    verdicts = [
        Event(each.at, each.by, "verdict", each.verdict, each.note)
        for each in list_verdicts(session, VerdictRequest(transaction_id)).items
    ]
    notes = [
        Event(each.at, each.by, "note", "note", each.text)
        for each in list_notes(session, NoteRequest(transaction_id)).items
    ]
    labels = [
        Event(
            each.known_at,
            each.source,
            "label",
            each.type or ("fraud" if each.is_fraud else "genuine"),
            each.reason,
        )
        for each in list_labels(session, LabelRequest(transaction_id)).items
        if each.batch_id is not None
    ]
    return tuple(sorted([*verdicts, *notes, *labels], key=lambda event: event.at, reverse=True))


def _context(
    session: Session,
    payment: PaymentRecord,
    entity: tuple[str, str],
    around: Surroundings,
    payments: Mapping[str, PaymentRecord],
) -> EntityContext:
    before, later = ([payments[name] for name in names] for names in (around.before, around.after))
    amounts = sorted(each.amount_base.value for each in before)
    base = session.config.schema_.base_currency
    last_day = sum(each.event_time > payment.event_time - DAY for each in before)
    return EntityContext(
        column=entity[0],
        value=entity[1],
        before=len(before),
        is_cut=around.is_cut,
        first_event_time=before[-1].event_time if before else None,
        median=Amount(_rounded(median(amounts)), base) if amounts else None,
        low=Amount(_rounded(_quantile(amounts, 0.05)), base) if amounts else None,
        high=Amount(_rounded(_quantile(amounts, 0.95)), base) if amounts else None,
        last_day=last_day,
        a_day=_a_day(before, payment.event_time),
        usual=_usual(session, payment, before),
        flagged=sum(each.status is not None for each in before),
        frauds=sum(each.is_fraud is True for each in before),
        payments=(*reversed(before), payment, *later),
    )


def _rounded(value: Decimal) -> Decimal:
    return value.quantize(Decimal("0.01"))


def _quantile(ascending: Sequence[Decimal], share: float) -> Decimal:
    """The nearest value from within."""
    return ascending[round(share * (len(ascending) - 1))]


def _a_day(before: Sequence[PaymentRecord], now: datetime) -> float | None:
    if len(before) < 2:
        return None
    return len(before) / max((now - before[-1].event_time) / DAY, 1.0)


def _usual(
    session: Session, payment: PaymentRecord, before: Sequence[PaymentRecord]
) -> tuple[UsualValue, ...]:
    found = []
    for name in session.config.schema_.categorical:
        value = payment.fields.get(name)
        values = Counter(each.fields.get(name) for each in before)
        if isinstance(value, str) and before:
            commonest = values.most_common(1)[0][0]
            found.append(UsualValue(name, value, values[value] / len(before), str(commonest)))
    return tuple(found)
