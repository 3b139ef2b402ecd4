"""
Validates the labels that stand beside transactions (`schema.is_fraud`), once their transactions are loaded.

In such a column a 0 is usually silence: no fraud is known of the payment as of the file. It writes no label, unless an earlier
file called the payment fraud: then it is new knowledge.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.config.config import Config
from pipeline.ingest.checks.label_check import (
    BEFORE_PAYMENT,
    DEFAULT_SOURCE,
    KNOWN_AFTER,
    assumed_known_at,
    known_before_payment,
    on_day_of_payment,
)
from pipeline.ingest.checks.transaction_check import source_name
from pipeline.ingest.formats.arrow_arrays import Bools
from pipeline.ingest.formats.row_batch import RowBatch
from pipeline.ingest.formats.validators import Reasons
from pipeline.ingest.inline_labels import InlineLabels
from storage.database.column_types import as_datetime
from storage.frames import NEVER
from storage.ingest.batches import RejectedRow
from storage.ingest.chunks import LabelChunk


@dataclass
class InlineLabelCheck:
    """
    Validates the labels of one source, batch by batch.

    Attributes
    ----------
    known_after
        Time (µs) from a payment until a label without a time of its own became known; None for now.
    now
        µs; when the source was opened.
    frauds
        Payments that an earlier file called fraud, and whether the newest one that says anything of them still does.
    silent
        How many words for genuine were silence.
    neither
        How many labels are disputes about something else than fraud.
    newest
        The newest instant (µs) of which the source says something: of a payment with a label, or the time of a label.
    """

    config: Config
    history: bool
    known_after: int | None
    now: int
    frauds: Mapping[str, bool]
    silent: int = 0
    neither: int = 0
    newest: int = NEVER

    def check(self, rows: RowBatch) -> tuple[LabelChunk, list[RejectedRow]]:
        """Return the labels to load, and those that are set aside."""
        labels, changed = self._without_silence(InlineLabels.of_arrow(rows.columns))
        schema, reasons = self.config.schema_, Reasons(len(labels))
        for text in sorted(set(labels.rejection.tolist()) - {""}):
            reasons.add(np.asarray(labels.rejection == text, dtype=bool), text)
        name = source_name(schema, schema.known_at)
        known_at = on_day_of_payment(labels.known_at, labels.event_time, schema.timezone)
        reasons.add(known_before_payment(known_at, labels.event_time), f"{name} {BEFORE_PAYMENT}")
        undated = (known_at == NEVER) | ~reasons.good
        if self.history and self.known_after is None:
            reasons.add(undated & ~changed, f"{name} is missing: add it, or {KNOWN_AFTER}")
        assumed = np.full(len(labels), self.now)
        if self.known_after is not None:
            assumed = assumed_known_at(labels.event_time, self.known_after, self.now)
        chunk = LabelChunk(
            labels.row_number,
            labels.transaction_id,
            labels.is_fraud,
            np.full(len(labels), DEFAULT_SOURCE, dtype=object),
            np.where(changed, self.now, np.where(undated, assumed, known_at)),
            labels.type,
            labels.reason,
            undated=undated,
        )
        good = np.flatnonzero(reasons.good)
        self.neither += int(np.count_nonzero(labels.type[good] != None))  # noqa: E711 (elementwise)
        rejected = [
            RejectedRow(int(labels.row_number[place]), self._json(labels, place), reasons.of(place))
            for place in np.flatnonzero(~reasons.good).tolist()
        ]
        return (chunk.take(good) if rejected else chunk), rejected

    def complete_through(self, now: int) -> int | None:
        """Until when (µs) words for genuine say that labels are complete; None without such words."""
        return min(self.newest, now) if self.silent else None

    def _without_silence(self, labels: InlineLabels) -> tuple[InlineLabels, Bools]:
        """Return the labels without those that are silence, and which of them say otherwise than before as of now."""
        if self.config.schema_.genuine_means == "genuine":
            return labels, np.zeros(len(labels), dtype=bool)
        readable = np.asarray(labels.rejection == "", dtype=bool)
        for times in (labels.event_time[readable], labels.known_at[readable]):
            self.newest = int(times.max(initial=self.newest))
        before = np.array([self.frauds.get(name) for name in labels.transaction_id], dtype=object)
        fraud, genuine = (np.asarray(labels.is_fraud == value, dtype=bool) for value in (True, False))
        silent = readable & genuine & np.asarray(before != True, dtype=bool)  # noqa: E712 (elementwise)
        self.silent += int(np.count_nonzero(silent))
        changed = genuine | (fraud & np.asarray(before == False, dtype=bool))  # noqa: E712
        return labels.take(~silent), changed[~silent]

    def _json(self, labels: InlineLabels, place: int) -> str:
        """A label as it was received."""
        schema, known_at = self.config.schema_, int(labels.known_at[place])
        row = {
            "transaction_id": labels.transaction_id[place],
            source_name(schema, schema.is_fraud): labels.word[place],
        }
        if schema.known_at:
            stated = None if known_at == NEVER else as_datetime(known_at).isoformat()
            row[source_name(schema, schema.known_at)] = stated
        return json.dumps(row, ensure_ascii=False)
