"""
Reads a source of events as payments, their later versions and their refunds, and keeps the rows of disputes apart.

Files list events in any order, and a payment must be stored as it began. So all rows are spooled to disk first; then
those of a payment are read together: the one that begins it, then the others by their time.
"""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.ingest.checks.transaction_check import TransactionCheck
from pipeline.ingest.events.event_words import UNKNOWN, EventWords
from pipeline.ingest.events.row_spool import RowSpool
from pipeline.ingest.formats.arrow_arrays import Bools
from pipeline.ingest.formats.columns import instants, numbers, texts
from pipeline.ingest.formats.reader import SourceReader
from pipeline.ingest.formats.row_batch import BATCH_ROWS, ExpectedColumns, RowBatch
from storage.database.column_types import as_datetime
from storage.frames import NEVER, Ints, Strings
from storage.ingest.chunks import TransactionChunk

ROW_NUMBER, MEANING, PAYMENT, TIME = "\0row_number", "\0meaning", "\0payment", "\0time"  # no names of a file
PAYMENT_KEYS = ("payments", "settled", "declined", "refunds")
DISPUTE_KEYS = ("disputes", "won", "inquiries", "fraud_reports")


def _no_rows() -> Bools:
    return np.zeros(0, dtype=bool)


@dataclass(frozen=True)
class EventRows(RowBatch):
    """
    Rows that became payments and refunds.

    Attributes
    ----------
    begins, refunds
        Which rows begin a payment, and which give money back; (n,).
    unknown
        Rows with a word that [events] does not have.
    """

    begins: Bools = field(default_factory=_no_rows)
    refunds: Bools = field(default_factory=_no_rows)
    unknown: RowBatch | None = None

    def completed(self, chunk: TransactionChunk) -> TransactionChunk:
        """Some of the rows once they are checked: money that is given back has no sign, and each row knows what it begins."""
        refund = np.isin(chunk.row_number, self.row_number[self.refunds])
        return replace(
            chunk,
            amount=np.where(refund, np.abs(chunk.amount), chunk.amount),
            amount_base=np.where(refund, np.abs(chunk.amount_base), chunk.amount_base),
            begins=np.isin(chunk.row_number, self.row_number[self.begins]),
        )


class EventReader:
    """
    Reads a source as `EventRows`; use it as a context manager.

    Attributes
    ----------
    disputes
        The rows of disputes, once all rows were read.
    counts
        How many rows each word has.
    newest
        Time of the newest event, µs; None without one.
    was_read
        Whether `disputes` is complete.
    """

    def __init__(self, source: SourceReader, check: TransactionCheck, now: int) -> None:
        self._source, self._check, self._now = source, check, now
        self._dictionary = EventWords(check.events)
        self._payments, self.disputes = RowSpool(), RowSpool()
        self.counts = Counter[str]()
        self.newest: int | None = None
        self.was_read = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._payments.__exit__()
        self.disputes.__exit__()

    @property
    def total(self) -> float | None:
        """As much as there is in the source."""
        return self._source.total

    @property
    def unit(self) -> str:
        """What `total` counts."""
        return self._source.unit

    def rows(self, expected: ExpectedColumns) -> Iterator[RowBatch]:
        """Yield the rows with unknown words as they are read, then payments and refunds."""
        for rows in self._source.rows(expected):
            yield self._spool(rows)
        self.was_read = True
        for table in self._payments.by_id(PAYMENT):
            yield from self._in_order(table)

    def digest(self) -> str | None:
        """Return the digest of the source."""
        return self._source.digest()

    def position(self) -> float | None:
        """How much of the source was read."""
        return self._source.position()

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def _spool(self, rows: RowBatch) -> EventRows:
        """Spool the rows, and return those that nothing is known of."""
        schema, events = self._check.schema, self._check.events
        meaning = self._dictionary.keys_of(rows.columns[self._name(events.type)], self.counts)
        times = self._times(rows)
        known = times[(times != NEVER) & (times <= self._now)]
        if len(known):
            self.newest = max(int(known.max()), self.newest or 0)
        columns = dict(rows.columns)
        payment = texts(columns[self._name(schema.transaction_id)])
        refund = meaning == "refunds"
        kind = pa.scalar(schema.refund_kinds[0], pa.string())
        columns[self._name(schema.kind)] = pc.if_else(pa.array(refund), kind, None)
        columns[self._name(schema.original_id)] = pc.if_else(pa.array(refund), payment, None)
        if refund.any():
            ids = payment.to_pylist()
            for place in np.flatnonzero(refund).tolist():
                ids[place] = self._refund_id(rows, place, ids[place], int(times[place]))
            columns[self._name(schema.transaction_id)] = pa.array(ids, pa.string())
        table = pa.table(
            {
                **columns,
                ROW_NUMBER: pa.array(rows.row_number),
                MEANING: pa.array(meaning, pa.string()),
                PAYMENT: payment,
                TIME: pa.array(times),
            }
        )
        for spool, keys in ((self._payments, PAYMENT_KEYS), (self.disputes, DISPUTE_KEYS)):
            chosen = np.flatnonzero(np.isin(meaning.astype(str), keys))
            if len(chosen):
                spool.add(table.take(chosen))
        unknown = np.flatnonzero(meaning == UNKNOWN)
        none = {name: column.slice(0, 0) for name, column in columns.items()}
        return EventRows(rows.row_number[:0], none, rows.unreadable, unknown=_taken(rows, unknown))

    def _times(self, rows: RowBatch) -> Ints:
        """Time of each event, µs; NEVER where it cannot be read."""
        schema = self._check.schema
        clock = rows.columns[self._name(schema.time_of_day)] if schema.time_of_day else None
        column = rows.columns[self._name(schema.event_time)]
        parsed = instants(column, schema.timezone or "UTC", self._check.form, clock)
        return np.where(parsed.missing | parsed.unreadable, NEVER, parsed.micros)

    def _refund_id(self, rows: RowBatch, place: int, payment: str | None, time: int) -> str | None:
        """The id of the event, or one of its payment, word, time and amount."""
        schema, events, form = self._check.schema, self._check.events, self._check.form

        def value(name: str) -> Any:
            return rows.columns[self._name(name)].slice(place, 1)

        named = texts(value(events.id))[0].as_py() if events.id else None
        if named or payment is None or time == NEVER:
            return named or payment  # a row without a time is rejected for that
        amount = abs(float(numbers(value(schema.amount), form.decimal, form.thousands).values[0]))
        written = "" if math.isnan(amount) else f"-{amount:.15g}"
        word = texts(value(events.type))[0].as_py()
        return f"{payment}-{word.lower()}-{as_datetime(time):%Y%m%dT%H%M%S}{written}"

    def _name(self, name: str) -> str:
        return self._check.source_name(name)

    def _in_order(self, table: pa.Table) -> Iterator[EventRows]:
        """The rows of whole payments, in batches: those that begin one first, then by time."""
        if not table.num_rows:
            return
        begins = _meanings(table) == "payments"
        order = np.lexsort((table.column(ROW_NUMBER), table.column(TIME), ~begins))
        for start in range(0, len(order), BATCH_ROWS):
            part = table.take(order[start : start + BATCH_ROWS])
            meaning, rows = _meanings(part), batch_of(part)
            yield EventRows(
                rows.row_number, rows.columns, begins=meaning == "payments", refunds=meaning == "refunds"
            )


def batch_of(table: pa.Table) -> RowBatch:
    """Spooled rows as those of the source."""
    columns = {name: table.column(name).combine_chunks() for name in table.column_names if name[0] != "\0"}
    return RowBatch(np.asarray(table.column(ROW_NUMBER)), columns)


def _meanings(table: pa.Table) -> Strings:
    return np.array(table.column(MEANING).to_pylist(), dtype=object)


def _taken(rows: RowBatch, places: Ints) -> RowBatch | None:
    if not len(places):
        return None
    taken = {name: column.take(pa.array(places)) for name, column in rows.columns.items()}
    return RowBatch(rows.row_number[places], taken)
