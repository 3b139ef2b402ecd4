"""Labels of a source of events: its chargebacks, what came of them, inquiries and reports of fraud."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.config.config import Config
from pipeline.ingest.checks.disputes import DisputeRows, dispute_meaning, present
from pipeline.ingest.checks.label_check import DEFAULT_SOURCE
from pipeline.ingest.checks.rejected_row_text import collect_rejected
from pipeline.ingest.checks.source_state import SourceState
from pipeline.ingest.checks.transaction_check import TransactionCheck
from pipeline.ingest.events.event_reader import EventReader, batch_of
from pipeline.ingest.events.event_words import EventWords
from pipeline.ingest.formats.columns import texts
from pipeline.ingest.formats.row_batch import ExpectedColumns, RowBatch
from storage.frames import MONEY, Strings
from storage.ingest.batches import RejectedRow
from storage.ingest.chunks import LabelChunk, TransactionChunk

UNKNOWN_TYPE = "unknown"  # of a dispute without a reason: neither fraud nor genuine
# Its own source, which no precedence has: whatever another source says of the payment holds, whenever it said so.
WITHOUT_REASON = "chargeback_without_reason"
# By the keys of [events], in words of `checks.disputes`.
STAGE_WORDS = {"disputes": "dispute", "won": "won", "inquiries": "inquiry", "fraud_reports": "fraud report"}


@dataclass(frozen=True)
class EventLabelReader:
    """Reads the rows of disputes of a source that was read; its digest is that of the source."""

    events: EventReader
    unit: str = "rows"

    @property
    def total(self) -> float | None:
        """How many rows there are."""
        return self.events.disputes.total

    def rows(self, expected: ExpectedColumns) -> Iterator[RowBatch]:  # noqa: ARG002 (the columns are those of the source)
        """Yield the rows."""
        return map(batch_of, self.events.disputes.tables())

    def digest(self) -> str | None:
        """Return the digest of the source."""
        return self.events.digest()

    def position(self) -> float | None:
        """None: progress counts rows."""
        return None

    def close(self) -> None:
        """Do nothing: the source is closed by the caller."""


@dataclass(frozen=True)
class EventLabelCheck:
    """Makes labels of rows of disputes, which are checked as transactions are: their times, amounts and currencies."""

    config: Config
    check: TransactionCheck
    state: SourceState

    def step(self, now: int, rows: RowBatch) -> tuple[list[LabelChunk], list[RejectedRow]]:
        """The labels of the good rows, and the other rows."""
        check, schema = self.check, self.check.schema
        chunk, _, reasons = check.check(rows, now, self.state)
        unmasked = map(check.source_name, (schema.transaction_id, *schema.plain_card_numbers))
        rejected = collect_rejected(rows, reasons, check.hashed_columns, check.hasher, set(unmasked))
        return [self._labels(rows, chunk)], list(rejected)

    def _labels(self, rows: RowBatch, chunk: TransactionChunk) -> LabelChunk:
        labels, size = self.config.labels, len(chunk)
        places = np.searchsorted(rows.row_number, chunk.row_number)
        words = self._texts(rows, self.check.source_name(self.check.events.type))[places]
        word_keys = EventWords(self.check.events)
        stage = np.array([STAGE_WORDS[word_keys.key_of(word)] for word in words], dtype=object)
        reason = self._texts(rows, labels.reason)[places]
        nothing = np.full(size, None, dtype=object)
        meaning = dispute_meaning(DisputeRows(nothing, reason, stage, nothing), labels)
        without_reason = meaning.changes_no_label & (stage == "dispute")
        self.state.without_reason += int(np.count_nonzero(without_reason))
        self.state.count_labels(meaning, reason, ~without_reason, ~present(stage))
        return LabelChunk(
            chunk.row_number,
            chunk.transaction_id,
            meaning.is_fraud,
            np.where(without_reason, WITHOUT_REASON, DEFAULT_SOURCE).astype(object),
            chunk.event_time,
            np.where(without_reason, UNKNOWN_TYPE, meaning.type),
            reason,
            meaning.stage,
            np.abs(chunk.amount_base) / MONEY,
        )

    def _texts(self, rows: RowBatch, name: str) -> Strings:
        """A column as text; None for missing."""
        if name not in rows.columns:
            return np.full(len(rows), None, dtype=object)
        return np.array([*texts(rows.columns[name]).to_pylist(), None], dtype=object)[:-1]
