"""Validates the rows of a source of labels."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.config import Config
from pipeline.errors import InputError
from pipeline.hashing import Hasher
from pipeline.ingest.checks.card_data import mask_card_numbers, reject_track_data
from pipeline.ingest.checks.disputes import DisputeMeaning, DisputeRows, dispute_meaning, present
from pipeline.ingest.checks.source_state import SourceState
from pipeline.ingest.checks.stored_values import hasher_of
from pipeline.ingest.checks.transaction_check import label_words
from pipeline.ingest.formats import validators
from pipeline.ingest.formats.arrow_arrays import Bools, as_bools, as_ints, as_objects
from pipeline.ingest.formats.columns import texts
from pipeline.ingest.formats.grammars.minor_units import in_major_units
from pipeline.ingest.formats.row_batch import ExpectedColumns, RowBatch
from pipeline.ingest.formats.validators import ALL_OTHERS, Reasons
from storage.frames import DAY, HOUR, NEVER, Floats, Ints, Strings
from storage.ingest.chunks import LabelChunk

DEFAULT_SOURCE = "chargeback"  # of labels without one: nearly all that arrive in files are
KNOWN_AFTER = "pass known-after, such as 7d"  # the time from a payment until its label is known
CODES_MAX = 20  # that the reasons of one source name
CLOCK_TOLERANCE = HOUR
BEFORE_PAYMENT = "is more than an hour before its payment: check both times and their zones"
EventTimes = Callable[[Strings], Ints]


@dataclass(frozen=True)
class LabelCheck:
    """
    Validates labels by one configuration.

    A row without known_at became known `known_after` after its event. Without that option it became known now, and
    history is an error: it needs the time at which each label became known.
    """

    config: Config
    history: bool
    known_after: int | None  # µs
    event_times: EventTimes

    @property
    def hasher(self) -> Hasher | None:
        """For lines that cannot be split into columns: they may hold a field of schema.hash."""
        return hasher_of(self.config, displays=False)

    def expected_columns(self) -> ExpectedColumns:
        """transaction_id, and one of is_fraud, reason and stage, are required; the others are optional."""
        labels = self.config.labels
        says = {
            "labels.is_fraud": labels.is_fraud,
            "labels.reason": labels.reason,
            "labels.stage": labels.stage,
        }
        others = {
            "labels.known_at": labels.known_at, "labels.source": labels.source, "labels.amount": labels.amount
        }  # fmt: skip
        return ExpectedColumns(
            {labels.transaction_id: "labels.transaction_id"},
            {name: key for key, name in others.items() if name},
            {name: key for key, name in says.items() if name},
        )

    def check(
        self, rows: RowBatch, now: int, source_name: str, state: SourceState | None = None
    ) -> tuple[LabelChunk, Reasons]:
        """
        Validate rows; the chunk holds the good ones that say something.

        Raises
        ------
        InputError
            If labels are history and neither a column nor --known-after says when they became known.
        """
        labels, columns, reasons = self.config.labels, rows.columns, Reasons(len(rows))
        state = state or SourceState()
        reject_track_data(columns, reasons)
        if len(rows) and labels.known_at not in columns and self.history and self.known_after is None:
            raise InputError(
                f'{source_name} has no column "{labels.known_at}" (labels.known_at), so nothing says when its labels '
                "became known",
                remedy=f"add it, or {KNOWN_AFTER}",
                code="no_known_at",
            )
        ids = as_objects(validators.ids(columns[labels.transaction_id], labels.transaction_id, reasons))
        source = self._sources(columns, len(rows), reasons)
        reason = self._texts(columns, labels.reason, len(rows), reasons)
        meaning, unlabelled = self._meaning(columns, reason, source, reasons, state)
        amount = self._amounts(columns, len(rows), reasons)
        known_at, undated = self._known_at(columns, ids, now, reasons, state)
        state.count_labels(meaning, reason, reasons.good, unlabelled)
        good = reasons.good & ~unlabelled
        chunk = LabelChunk(
            rows.row_number,
            ids,
            meaning.is_fraud,
            source,
            known_at,
            meaning.type,
            reason,
            meaning.stage,
            amount,
            undated,
        )
        return chunk.take(np.flatnonzero(good)), reasons

    def _meaning(
        self, columns: Any, reason: Strings, source: Strings, reasons: Reasons, state: SourceState
    ) -> tuple[DisputeMeaning, Bools]:
        """What rows say of their payments, and which say nothing with a word for it."""
        labels, stated, missing = self.config.labels, np.full(len(reason), None, dtype=object), None
        if labels.is_fraud in columns:
            column = columns[labels.is_fraud]
            fraud, missing = validators.fraud_labels(column, labels.is_fraud, reasons, label_words(labels))
            stated[~missing] = fraud[~missing]
        stage = self._texts(columns, labels.stage, len(reason), reasons)
        meaning = dispute_meaning(DisputeRows(stated, reason, stage, source), labels)
        words = "write inquiry, dispute, won or lost, or a word of Visa, Mastercard, Stripe, Adyen or PayPal"
        reasons.add(meaning.unknown_stage, f"{labels.stage} is no stage of a dispute: {words}")
        self._explain_contradictions(meaning, stated, reason, reasons, state)
        empty = meaning.changes_no_label & ~present(meaning.stage)
        unlabelled = np.zeros(len(reason), dtype=bool)
        if missing is not None:
            word = as_bools(texts(columns[labels.is_fraud]).is_valid())
            unlabelled = empty & missing & (word | (ALL_OTHERS in labels.unlabelled_words))
        names = [name for name in self.expected_columns().alternatives if name in columns]
        example = "write 1 or 0" if labels.is_fraud in columns else "write the reason code of the dispute"
        reasons.add(
            empty & ~unlabelled,
            f"{' and '.join(names)} {'are' if len(names) > 1 else 'is'} missing: {example}",
        )
        return meaning, unlabelled

    def _explain_contradictions(
        self, meaning: DisputeMeaning, stated: Strings, reason: Strings, reasons: Reasons, state: SourceState
    ) -> None:
        """Name both values of rows that contradict themselves, with at most `CODES_MAX` codes of a source."""
        labels, fraud = self.config.labels, np.asarray(stated == True, dtype=bool)  # noqa: E712 (elementwise)
        won = np.asarray(meaning.stage == "won", dtype=bool)
        for kind, said, but, remedy in (
            (fraud, "fraud", "is not about fraud", "add the code to labels.fraud_reasons"),
            (~fraud & won, "genuine", "is fraud", 'set labels.won_means = "genuine"'),
            (~fraud & ~won, "genuine", "is fraud", "take the code out of labels.fraud_reasons"),
        ):
            wrong = meaning.contradicts & kind
            for code in sorted(set(reason[wrong & present(reason)].tolist()))[:CODES_MAX]:
                if len(state.named_codes | {code}) <= CODES_MAX:
                    state.named_codes.add(code)
                    text = f"{labels.is_fraud} is {said}, but {labels.reason} {code} {but}: correct one of them, or {remedy}"
                    reasons.add(wrong & np.asarray(reason == code, dtype=bool), text)
            text = f"{labels.is_fraud} is {said}, but the reason or source of the dispute {but}: correct one of them, or {remedy}"
            reasons.add(wrong, text)

    def _amounts(self, columns: Any, size: int, reasons: Reasons) -> Floats:
        """Disputed amounts in the base currency; NaN where there is none."""
        name, form = self.config.labels.amount, self.config.format
        if name not in columns:
            return np.full(size, np.nan)
        base = np.full(size, self.config.schema_.base_currency, dtype=object)
        amount = validators.numbers(columns[name], name, reasons, form, base)
        amount = in_major_units(amount, base) if form.amount_unit == "minor" else amount
        reasons.add(amount < 0, f"{name} is negative: write what is disputed without a sign")
        validators.in_base(np.nan_to_num(amount), np.ones(size), name, reasons)
        return amount

    def _texts(self, columns: Any, name: str, size: int, reasons: Reasons) -> Strings:
        """A column of codes; None for missing."""
        if name not in columns:
            return np.full(size, None, dtype=object)
        text = validators.identifiers(columns[name], name, reasons)
        return as_objects(mask_card_numbers(text, whole=True))

    def _sources(self, columns: Any, size: int, reasons: Reasons) -> Strings:
        name, default = self.config.labels.source, DEFAULT_SOURCE
        if name not in columns:
            return np.full(size, default, dtype=object)
        sources = as_objects(validators.texts(columns[name], name, reasons, validators.ID_MAX))
        return np.where(sources == None, default, sources)  # noqa: E711 (elementwise)

    def _known_at(
        self, columns: Any, ids: Strings, now: int, reasons: Reasons, state: SourceState
    ) -> tuple[Ints, Bools]:
        """When labels became known, and for which that is assumed."""
        name = self.config.labels.known_at
        known_at, missing = np.zeros(len(ids), dtype=np.int64), np.ones(len(ids), dtype=bool)
        if name in columns:
            zone, form = self.config.schema_.timezone, self.config.format
            known_at, missing = validators.instants(columns[name], name, zone, now, reasons, form)
        times = np.full(len(ids), NEVER, dtype=np.int64)
        of_interest = reasons.good & (~missing | (self.known_after is not None) | self.generates_ids)
        times[of_interest] = self.event_times(ids[of_interest])
        state.matched += int(np.count_nonzero(times != NEVER))
        known_at = on_day_of_payment(known_at, times, self.config.schema_.timezone)
        early = ~missing & known_before_payment(known_at, times)
        reasons.add(early, f"{name} {BEFORE_PAYMENT}")
        missing &= reasons.good
        if self.known_after is not None:
            unknown = missing & (times == NEVER)
            reasons.add(
                unknown,
                f"{name} is missing and its transaction is not loaded yet: ingest that first, or add {name}",
            )
            return np.where(missing, assumed_known_at(times, self.known_after, now), known_at), missing
        if self.history:
            reasons.add(missing, f"{name} is missing: add it, or {KNOWN_AFTER}")
        return np.where(missing, now, known_at), missing

    @property
    def generates_ids(self) -> bool:
        """Whether transactions get their ids here, so that labels can hardly have them."""
        return not self.config.schema_.transaction_id


def known_before_payment(known_at: Ints, event_time: Ints) -> Bools:
    """Which labels became known before the payment happened; clocks may differ by an hour. NEVER: it is not known."""
    both = (known_at != NEVER) & (event_time != NEVER)
    return np.asarray(both & (known_at < np.where(both, event_time, 0) - CLOCK_TOLERANCE))


def on_day_of_payment(known_at: Ints, event_time: Ints, zone: str) -> Ints:
    """
    Return `known_at`, where a midnight (µs) that begins the day of the payment in `zone` means some time of that day.

    Such labels count as known no earlier than their payment. NEVER: it is not known.
    """
    times = known_at.copy()
    early = np.flatnonzero(
        (known_at < event_time) & (event_time != NEVER) & (event_time - known_at < 2 * DAY)
    )
    if len(early):
        known, paid = (_local(values[early], zone) for values in (known_at, event_time))
        same_day = early[(known % DAY == 0) & (known // DAY == paid // DAY)]
        times[same_day] = event_time[same_day]
    return times


def _local(micros: Ints, zone: str) -> Ints:
    """What the clocks of a zone show."""
    return as_ints(pc.local_timestamp(pa.array(micros, pa.timestamp("us", zone or "UTC"))).cast(pa.int64()))


def assumed_known_at(event_time: Ints, known_after: int, now: int) -> Ints:
    """When a label without known_at became known: `known_after` (µs) after the event, at the latest now."""
    return np.minimum(event_time + known_after, now)
