"""
Recognises files whose rows are events of payments: a column with words such as Settled and Chargeback, and ids that repeat.

A file of payments and refunds alone is none: `payment_roles.find_kind` reads those.
"""

import numpy as np

from pipeline.config.sections import EventsSection
from pipeline.ingest.events.event_words import UNKNOWN, EventWords
from pipeline.ingest.formats.arrow_arrays import Bools
from pipeline.schema_inference import names
from pipeline.schema_inference.column_profile import ColumnProfile
from pipeline.schema_inference.draft import CHECK, SchemaDraft
from storage.frames import Strings

SHARE_MIN = 0.6  # share of the rows that have a word of [events], at least
SAME_PAYMENT = 0.8  # share of the later events whose id begins with a payment, at least
NEARLY_UNIQUE = 0.99
WORDS_MAX = 50
DEFAULTS = EventWords(EventsSection())
BEYOND_REFUNDS = frozenset(
    {"settled", "disputes", "won", "inquiries", "fraud_reports"}
)  # one of which a file of events has
EVENT_ID = (r"id|(event|modification|balance_?transaction)(_?(id|ref|reference))", r".*modification.*")


def find_events(draft: SchemaDraft) -> None:
    """Find the column that says what happened to a payment, and the columns that go with it."""
    for column in list(draft.unassigned.values()):
        meaning = _meanings(column)
        ids = [] if meaning is None else _payment_ids(draft, meaning)
        if meaning is not None and ids:
            _decide(draft, column, names.first_named(ids, names.ID) or ids[0], meaning)
            for other in ids:
                if other.name in draft.unassigned:
                    draft.leave_out(other, "another name of the payment: it repeats only with its events")
            return


def _meanings(column: ColumnProfile) -> Strings | None:
    """The key of [events] of each row's word, (n,); None if the column holds other words."""
    if not 1 < len(column.distinct) <= WORDS_MAX:
        return None
    keys = np.array([*map(DEFAULTS.key_of, column.distinct), UNKNOWN], dtype=object)
    present = set(keys.tolist())
    if not {"payments", "settled"} & present or not BEYOND_REFUNDS & present or len(present - {UNKNOWN}) < 2:
        return None
    meaning = keys[column.codes]
    return meaning if np.mean(meaning != UNKNOWN) >= SHARE_MIN else None


def begins_payment(meaning: Strings) -> Bools:
    """Which rows count as payments: those of authorised ones, or the settled ones of a file without."""
    begins = np.asarray(meaning == "payments", dtype=bool)
    return begins if begins.any() else np.asarray(meaning == "settled", dtype=bool)


def _payment_ids(draft: SchemaDraft, meaning: Strings) -> list[ColumnProfile]:
    """The columns whose value is another one in each payment, and the same in its later events."""
    begins = begins_payment(meaning)
    later = ~begins & np.isin(meaning.astype(str), ("refunds", *BEYOND_REFUNDS))
    columns = [c for c in draft.unassigned.values() if not c.time_formats and (c.whole or not c.number)]
    return [c for c in columns if later.any() and _names_payments(c, begins, later)]


def _names_payments(column: ColumnProfile, begins: Bools, later: Bools) -> bool:
    codes = column.codes[begins]
    different = np.unique(codes[codes >= 0])
    if len(different) < NEARLY_UNIQUE * begins.sum():
        return False
    return bool(np.isin(column.codes[later], different).mean() >= SAME_PAYMENT)


def _event_id(draft: SchemaDraft, refund: Bools) -> ColumnProfile | None:
    """The column with another value in each refund, by its name."""
    columns = [
        c
        for c in draft.unassigned.values()
        if refund.any() and (c.codes[refund] >= 0).all() and len(np.unique(c.codes[refund])) == refund.sum()
    ]
    return names.first_named(columns, EVENT_ID)


def _decide(draft: SchemaDraft, column: ColumnProfile, payment: ColumnProfile, meaning: Strings) -> None:
    draft.payments = begins_payment(meaning)
    shown = []
    for place in np.argsort(-column.counts, kind="stable").tolist():
        key = DEFAULTS.key_of(column.distinct[place]) or "ignored"
        shown.append(f"{column.distinct[place]} {column.counts[place]:,} ({key})")
    draft.decide("events.type", column.name, f"rows are events of payments: {', '.join(shown)}")
    draft.take(
        "transaction_id", payment, "the payment of each event: it repeats, from its beginning to its end"
    )
    event = _event_id(draft, np.asarray(meaning == "refunds", dtype=bool))
    if event is None:
        draft.decide(
            "events.id",
            "",
            "no column names the refunds: their ids are made from payment, word, time and amount",
        )
    else:
        draft.decide("events.id", event.name, "different in each refund")
        draft.leave_out(event, "it is events.id")
    unknown = sorted(word for word in column.distinct if DEFAULTS.key_of(word) == UNKNOWN)
    if unknown:
        reason = "words that are taken for events which say nothing here: move those that do to another key of [events]"
        draft.decide("events.ignored", unknown, CHECK + reason)
    _decide_kind(draft)
    _decide_reason(draft, meaning)
    _decide_status(draft, column)


def _decide_kind(draft: SchemaDraft) -> None:
    """Names of the columns that are made from the events, which no column of the file has."""
    for key, reason in (("kind", "which rows are refunds"), ("original_id", "which payment a refund is of")):
        name = key if key not in draft.unassigned else f"event_{key}"
        draft.decide(key, name, f"made from the events: {reason}")
    draft.decide("refund_kinds", ["refund"], "the kind that refunds get")


def _decide_reason(draft: SchemaDraft, meaning: Strings) -> None:
    """Labels are the disputes among the events."""
    if not (meaning == "disputes").any():
        draft.decide("is_fraud", "", "no event is a dispute: ingest labels by themselves")
        return
    draft.decide("is_fraud", "", "disputes are events")
    dispute = np.asarray(meaning == "disputes", dtype=bool)
    columns = [c for c in draft.unassigned.values() if (c.codes[dispute] >= 0).any()]
    reason = names.first_named(
        [c for c in columns if not (c.codes[~dispute] >= 0).mean() > 0.1], names.DISPUTE
    )
    if reason is None:
        note = "no column has the reasons of disputes: ingest a report with them as labels, too, or none is known to be fraud"
        draft.note("is_fraud", CHECK + note)
    else:
        draft.decide("labels.reason", reason.name, "the reasons of disputes: they say which are fraud")
        draft.leave_out(reason, "it is labels.reason")


def _decide_status(draft: SchemaDraft, column: ColumnProfile) -> None:
    """Keep the word of the newest event if it may say that a payment did not happen."""
    declined = sorted(word for word in column.distinct if DEFAULTS.key_of(word) == "declined")
    if not declined:
        draft.leave_out(column, "it is events.type")
        return
    draft.add("categorical", column, "events.type; features see the word a payment begins with")
    reason = "Such payments never bring a chargeback: without a label they are not genuine, but unknown."
    draft.decide("labels.never_by_silence", {column.name: declined}, reason)
