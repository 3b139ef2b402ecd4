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
from pipeline.ingest.checks.card_data import reject_track_data
from pipeline.ingest.checks.source_state import SourceState
from pipeline.ingest.checks.stored_values import hasher_of
from pipeline.ingest.checks.transaction_check import label_words
from pipeline.ingest.formats import validators
from pipeline.ingest.formats.arrow_arrays import Bools, as_bools, as_ints, as_objects
from pipeline.ingest.formats.columns import texts
from pipeline.ingest.formats.row_batch import ExpectedColumns, RowBatch
from pipeline.ingest.formats.validators import ALL_OTHERS, Reasons
from storage.frames import DAY, HOUR, NEVER, Ints, Strings
from storage.ingest.chunks import LabelChunk

DEFAULT_SOURCE = "chargeback"  # of labels without one: nearly all that arrive in files are
KNOWN_AFTER = "pass known-after, such as 7d"  # the time from a payment until its label is known
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
        """transaction_id and is_fraud are required, known_at and source optional."""
        labels = self.config.labels
        required = {labels.transaction_id: "labels.transaction_id", labels.is_fraud: "labels.is_fraud"}
        optional = {labels.known_at: "labels.known_at", labels.source: "labels.source"}
        return ExpectedColumns(required, {name: key for name, key in optional.items() if name})

    def check(
        self, rows: RowBatch, now: int, source_name: str, state: SourceState | None = None
    ) -> tuple[LabelChunk, Reasons]:
        """
        Validate rows; the chunk holds the good ones that say fraud or genuine.

        Raises
        ------
        InputError
            If labels are history and neither a column nor --known-after says when they became known.
        """
        labels, columns, reasons = self.config.labels, rows.columns, Reasons(len(rows))
        reject_track_data(columns, reasons)
        if len(rows) and labels.known_at not in columns and self.history and self.known_after is None:
            raise InputError(
                f'{source_name} has no column "{labels.known_at}" (labels.known_at), so nothing says when its labels '
                "became known",
                remedy=f"add it, or {KNOWN_AFTER}",
                code="no_known_at",
            )
        ids = as_objects(validators.ids(columns[labels.transaction_id], labels.transaction_id, reasons))
        is_fraud, missing = validators.fraud_labels(
            columns[labels.is_fraud], labels.is_fraud, reasons, label_words(labels)
        )
        unlabelled = missing & (
            ALL_OTHERS in labels.unlabelled_words or as_bools(texts(columns[labels.is_fraud]).is_valid())
        )
        reasons.add(missing & ~unlabelled, f"{labels.is_fraud} is missing: write 1 or 0")
        source = self._sources(columns, len(rows), reasons)
        known_at = self._known_at(columns, ids, now, reasons, state or SourceState())
        good = reasons.good & ~unlabelled
        if state is not None:
            state.unlabelled += int(np.count_nonzero(reasons.good & unlabelled))
        return LabelChunk(
            rows.row_number[good], ids[good], is_fraud[good], source[good], known_at[good]
        ), reasons

    def _sources(self, columns: Any, size: int, reasons: Reasons) -> Strings:
        name, default = self.config.labels.source, DEFAULT_SOURCE
        if name not in columns:
            return np.full(size, default, dtype=object)
        sources = as_objects(validators.texts(columns[name], name, reasons, validators.ID_MAX))
        return np.where(sources == None, default, sources)  # noqa: E711 (elementwise)

    def _known_at(self, columns: Any, ids: Strings, now: int, reasons: Reasons, state: SourceState) -> Ints:
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
            return np.where(missing, assumed_known_at(times, self.known_after, now), known_at)
        if self.history:
            reasons.add(missing, f"{name} is missing: add it, or {KNOWN_AFTER}")
        return np.where(missing, now, known_at)

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
