"""
Loads source rows as transactions and labels, and stores rejected rows with their reason.

Each source becomes one batch, which becomes visible whole or not at all. Ingest is idempotent: a hash of the content
and of the settings that it is read with identifies a batch that was loaded before.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from pipeline.config.config import Config
from pipeline.errors import InputError
from pipeline.hashing import key_check
from pipeline.ingest.checks.card_data import PlainCardNumberCheck, plain_card_number_check
from pipeline.ingest.checks.inline_label_check import InlineLabelCheck
from pipeline.ingest.checks.label_check import DEFAULT_SOURCE, KNOWN_AFTER, LabelCheck
from pipeline.ingest.checks.rejected_row_text import Rejections, collect_rejected
from pipeline.ingest.checks.source_state import SourceState
from pipeline.ingest.checks.transaction_check import TransactionCheck, source_name
from pipeline.ingest.currencies.rate_sources import current_rates
from pipeline.ingest.early_labels import retract_early_labels
from pipeline.ingest.events.event_labels import EventLabelCheck, EventLabelReader
from pipeline.ingest.events.event_reader import EventReader, EventRows
from pipeline.ingest.formats.reader import SourceReader
from pipeline.ingest.formats.row_batch import ExpectedColumns, RowBatch
from pipeline.ingest.formats.validators import Reasons
from pipeline.ingest.ingest_report import (
    Clock,
    HistoryReason,
    IngestReport,
    Kind,
    Options,
)
from pipeline.ingest.inline_labels import InlineLabelReader, InlineLabelSpool
from pipeline.ingest.read_settings import inline_label_settings, label_settings, transaction_settings
from pipeline.ingest.sources import Source, open_source
from pipeline.progress import NoProgress, Progress
from storage.database.column_types import as_datetime
from storage.database.database import Store
from storage.database.hash_form import has_displays, keep_key_check
from storage.ingest import batches
from storage.ingest.batches import Batch, BatchLoader, RejectedRow
from storage.ingest.chunks import LabelChunk, TransactionChunk, WaitingChunk
from storage.ingest.repeated_labels import fraud_by_source
from storage.queries.status import labels_without_transaction

Chunk = TransactionChunk | WaitingChunk | LabelChunk
CheckStep = Callable[[RowBatch], tuple[Sequence[Chunk], list[RejectedRow]]]


def ingest_transactions(
    store: Store,
    config: Config,
    inputs: Sequence[Source],
    *,
    clock: Clock,
    options: Options,
    progress: Progress | None = None,
) -> Iterator[IngestReport]:
    """
    Load transactions, and their labels if `schema.is_fraud` names a column; yield a report for each batch.

    A generator: each source is loaded when its report is requested.

    Raises
    ------
    InputError
        If a source cannot be read or lacks a column; neither it nor any later source becomes visible.
    Busy
        If another ingest is running.
    """
    check = TransactionCheck(config, current_rates(store, config), has_displays(store), options.one_by_one)
    if config.schema_.hash:
        keep_key_check(store, key_check(config.hash_key()))
    context = _IngestContext.create(store, config, options, clock, progress)
    schema = config.schema_
    if schema.is_fraud and not schema.known_at and context.history and options.known_after is None:
        raise InputError(
            f'column "{check.source_name(schema.is_fraud)}" (schema.is_fraud) says what is fraud, but not when that became '
            "known",
            remedy=f"{KNOWN_AFTER}, or set schema.known_at to the column that says it",
            code="no_known_at",
        )
    context.check_columns(inputs, check.expected_columns())
    for source in inputs:
        with open_source(config, source) as reader:
            load = _load_events if config.events.type else _load_transactions
            yield from load(context, source, reader, check)


def ingest_labels(
    store: Store,
    config: Config,
    inputs: Sequence[Source],
    *,
    clock: Clock,
    options: Options,
    progress: Progress | None = None,
) -> Iterator[IngestReport]:
    """
    Load labels. A file may hold only frauds, or no rows: even then it moves the time up to which labels are complete.

    Raises
    ------
    InputError
        If a source cannot be read, lacks a column, or is loaded as history without the times its labels became known.
    Busy
        If another ingest is running.
    """
    context = _IngestContext.create(store, config, options, clock, progress)
    check = LabelCheck(config, context.history, options.known_after, partial(batches.event_times, store))
    context.check_columns(inputs, check.expected_columns())
    ids = {config.labels.transaction_id} - {*config.schema_.plain_card_numbers}
    for source in inputs:
        with open_source(config, source) as reader:
            state = SourceState()
            plain = PlainCardNumberCheck(source.name, (), ids, {})
            step = partial(_label_step, check, plain, state, clock(), source.name)
            report = context.load(
                source.name,
                "labels",
                reader,
                check.expected_columns(),
                step,
                context.label_settings,
                partial(_require_known_ids, check, state),
            )
            yield _with_labels(report, state)


def _label_step(
    check: LabelCheck, plain: PlainCardNumberCheck, state: SourceState, now: int, name: str, rows: RowBatch
) -> tuple[list[Chunk], list[RejectedRow]]:
    plain.check(rows)
    chunk, reasons = check.check(rows, now, name, state)
    unmasked = (check.config.labels.transaction_id,)
    return [chunk], list(collect_rejected(rows, reasons, (), check.hasher, unmasked))


def _require_known_ids(check: LabelCheck, state: SourceState, report: IngestReport) -> None:
    """Raise InputError if transactions have made ids, and no label has one of them."""
    if check.generates_ids and not state.matched and report.counts.accepted + report.counts.duplicate:
        raise InputError(
            f"no label of {report.source} is for a transaction: their ids are made here, because schema.transaction_id is empty",
            remedy="name the column with labels in schema.is_fraud, or take the ids from an export of transactions",
            code="unknown_ids",
        )


def _load_transactions(
    context: "_IngestContext", source: Source, reader: SourceReader, check: TransactionCheck
) -> Iterator[IngestReport]:
    """Load one source of transactions, then its inline labels, which are spooled to disk meanwhile."""
    now, settings, state = context.clock(), transaction_settings(context.config, check), check.new_state()
    with InlineLabelSpool() as spool:
        plain = plain_card_number_check(check.schema, source.name)
        step = partial(_transaction_step, check, plain, state, now, spool)
        report = context.load(source.name, "transactions", reader, check.expected_columns(), step, settings)
        yield report if report.nothing_new else _with_state(report, check, state)
        if check.schema.is_fraud:
            labels = InlineLabelReader(spool, reader)
            settings = f"{settings} {inline_label_settings(context.config)}{context.label_settings}"
            if (
                report.nothing_new
                and not spool.total
                and context.find_existing("labels", labels, settings) is None
            ):
                # an earlier ingest stopped between the two batches: read the source again, only for its labels
                step = partial(_transaction_step, check, plain, check.new_state(), now, spool)
                for rows in reader.rows(check.expected_columns()):
                    step(rows)
            known_after, frauds = context.options.known_after, fraud_by_source(context.store, DEFAULT_SOURCE)
            inline = InlineLabelCheck(context.config, context.history, known_after, now, frauds)
            label_step = partial(_inline_label_step, inline)
            report = context.load(
                source.name, "labels", labels, ExpectedColumns(), label_step, settings, inline=inline
            )
            yield replace(report, inline=True, silent=inline.silent, neither=inline.neither)


def _inline_label_step(check: InlineLabelCheck, rows: RowBatch) -> tuple[list[Chunk], list[RejectedRow]]:
    chunk, rejected = check.check(rows)
    return [chunk], rejected


def _load_events(
    context: "_IngestContext", source: Source, reader: SourceReader, check: TransactionCheck
) -> Iterator[IngestReport]:
    """Load one source of events: its payments and refunds, then its disputes, which are spooled to disk meanwhile."""
    now, settings, state = context.clock(), transaction_settings(context.config, check), check.new_state()
    expected = check.expected_columns()
    with EventReader(reader, check, now) as events:
        step = partial(
            _transaction_step, check, plain_card_number_check(check.schema, source.name), state, now, None
        )
        report = context.load(source.name, "transactions", events, expected, step, settings)
        counted = replace(report, events=dict(events.counts.most_common()))
        yield report if report.nothing_new else _with_state(counted, check, state)
        labels, settings = EventLabelReader(events), f"{settings} {context.label_settings}"
        if not events.was_read and context.find_existing("labels", labels, settings) is None:
            # an earlier ingest stopped between the two batches: read the source again, only for its disputes
            for _ in events.rows(expected):
                pass
        label_state = check.new_state()
        label_step = partial(EventLabelCheck(context.config, check, label_state).step, now)
        report = context.load(source.name, "labels", labels, ExpectedColumns(), label_step, settings)
        yield replace(_with_labels(report, label_state), inline=True)


def _transaction_step(
    check: TransactionCheck,
    plain: PlainCardNumberCheck,
    state: SourceState,
    now: int,
    spool: InlineLabelSpool | None,
    rows: RowBatch,
) -> tuple[list[Chunk], list[RejectedRow]]:
    plain.check(rows)
    rows = check.without_items(rows, now, state)
    chunk, labels, reasons = check.check(rows, now, state)
    if labels is not None and spool is not None:
        spool.add(labels)
    waiting = state.rate_use.waiting
    hide = partial(
        collect_rejected, hashed=check.hashed_columns, hasher=check.hasher, plain=check.unmasked_columns
    )
    rejected = list(hide(rows, reasons))
    if isinstance(rows, EventRows):
        rejected += _unknown_events(check, rows.unknown, hide) if rows.unknown else []
        chunk = rows.completed(chunk)
        waiting = waiting and WaitingChunk(rows.completed(waiting.transactions))
    if waiting is None:
        return [chunk], rejected
    numbers = set(waiting.transactions.row_number.tolist())
    return [waiting, chunk], [row for row in rejected if row.row_number not in numbers]


def _unknown_events(
    check: TransactionCheck, rows: RowBatch, hide: Callable[[RowBatch, Reasons], Iterator[RejectedRow]]
) -> Iterator[RejectedRow]:
    """Rows with words that [events] does not have."""
    reasons, name = Reasons(len(rows)), check.source_name(check.events.type)
    remedy = "add it to events.ignored, or to the key of [events] that says what it means"
    reasons.add(np.ones(len(rows), dtype=bool), f"{name} is no word of [events]: {remedy}")
    return hide(rows, reasons)


def _with_state(report: IngestReport, check: TransactionCheck, state: SourceState) -> IngestReport:
    """The report with what was noticed over all batches."""
    equal_rows = None if check.schema.transaction_id else state.ids.repeated
    return replace(report, items=state.items.count, equal_rows=equal_rows, stale_rates=state.rate_use.stale)


def _with_labels(report: IngestReport, state: SourceState) -> IngestReport:
    """The report with what labels say, over all batches."""
    unknown = dict(state.unknown_reasons.most_common())
    return replace(
        report,
        unlabelled=state.unlabelled,
        neither=state.neither,
        only_stages=state.only_stages,
        unknown_reasons=unknown,
        without_reason=state.without_reason,
    )


@dataclass(frozen=True)
class _IngestContext:
    """Everything that the sources of one command share."""

    store: Store
    config: Config
    options: Options
    clock: Clock
    progress: Progress
    history: bool
    history_because: HistoryReason
    dated_back: bool  # history although windows have been scored

    @classmethod
    def create(
        cls, store: Store, config: Config, options: Options, clock: Clock, progress: Progress | None
    ) -> "_IngestContext":
        is_open = batches.history_is_open(store)
        history = is_open if options.history is None else options.history
        because: HistoryReason = "nothing_scored" if is_open else "windows_scored"
        if options.history is not None:
            because = "requested"
        progress = progress or NoProgress()
        return cls(store, config, options, clock, progress, history, because, history and not is_open)

    @property
    def hashed_columns(self) -> list[str]:
        """The fields of schema.hash as the sources call them."""
        schema = self.config.schema_
        return [source_name(schema, name) for name in schema.hash]

    @property
    def label_settings(self) -> str:
        """Everything that labels are read with."""
        return label_settings(self.config, self.options.known_after, self.options.complete_through)

    def check_columns(self, inputs: Sequence[Source], expected: ExpectedColumns) -> None:
        """Raise InputError if any file lacks a column, before the first one is loaded."""
        for source in inputs if len(inputs) > 1 else ():
            if source.path is not None:
                with open_source(self.config, source) as reader:
                    next(reader.rows(expected), None)

    def find_existing(self, kind: Kind, reader: SourceReader, settings: str) -> Batch | None:
        """The batch with the same content, if any; None while the digest of a stream is not known yet."""
        digest = reader.digest()
        return batches.find_batch(self.store, kind, _content_hash(kind, digest, settings)) if digest else None

    def load(
        self,
        name: str,
        kind: Kind,
        reader: SourceReader,
        expected: ExpectedColumns,
        step: CheckStep,
        settings: str,
        require: Callable[[IngestReport], None] | None = None,
        inline: InlineLabelCheck | None = None,
    ) -> IngestReport:
        """Load a source as one batch, unless a batch with the same content exists or `require` raises an error."""
        report = IngestReport(name, kind, self.history, self.history_because)
        existing, digest_pending = self.find_existing(kind, reader, settings), reader.digest() is None
        if existing is None:
            holder = f"the ingest of {name}"
            with batches.begin(self.store, kind, name, self.history, self.clock(), holder) as loader:
                loader.row_outcomes = {} if self.options.row_outcomes else None
                rejections = self._load_rows(loader, reader, expected, step, name)
                reasons = dict(rejections.counts.most_common())
                report = replace(
                    report,
                    counts=loader.counts,
                    reasons=reasons,
                    examples=rejections.examples,
                    dated_back=self.dated_back,
                    waiting=dict(loader.waiting),
                    row_outcomes=loader.row_outcomes or {},
                )
                if require is not None:
                    require(report)
                existing = self.find_existing(kind, reader, settings) if digest_pending else None
                if existing is None:
                    return self._finish(loader, reader, settings, report, inline)
        return replace(report, same_as=existing.batch_id)

    def _load_rows(
        self,
        loader: BatchLoader,
        reader: SourceReader,
        expected: ExpectedColumns,
        step: CheckStep,
        name: str,
    ) -> Rejections:
        """Load all rows; returns why some were rejected."""
        self.progress.start(f"{loader.kind} of {name}", reader.total, reader.unit)
        rejections, before = Rejections(self.hashed_columns), 0.0
        try:
            for rows in reader.rows(expected):
                chunks, rejected = step(rows)
                for chunk in chunks:
                    _add(loader, chunk)
                loader.reject(rejected)
                rejections.add(rejected)
                position = reader.position()
                done = before + len(rows) + len(rows.unreadable) if position is None else position
                self.progress.advance(done - before)
                before = done
        finally:
            self.progress.stop()
        return rejections

    def _finish(
        self,
        loader: BatchLoader,
        reader: SourceReader,
        settings: str,
        report: IngestReport,
        inline: InlineLabelCheck | None,
    ) -> IngestReport:
        now, through = self.clock(), self.options.complete_through
        content = _content_hash(loader.kind, reader.digest() or "", settings)
        if inline is not None:
            through = inline.complete_through(now) if through is None else through
            # payments that nobody has labelled yet say nothing of other labels
            loader.says_completeness = bool(report.counts.read or inline.silent)
        elif isinstance(reader, EventLabelReader):
            if report.counts.read and through is None:
                through = reader.events.newest  # of what came later the source says nothing
        elif loader.kind == "labels" and not report.counts.read:
            # Without rows a label file means: no new labels up to now. Each such file is a new batch.
            content = _content_hash(loader.kind, content, str(now))
            through = now if through is None else through
        if report.nothing_usable:
            through = None
            if self.options.repeat_rejected:  # what it lacked may have arrived by then
                content = _content_hash(loader.kind, content, str(now))
        if loader.kind == "transactions":
            report = replace(report, early_labels=retract_early_labels(self.store, loader, self.config))
        batch = loader.finish(now, content, through if loader.kind == "labels" else None)
        stated = None if through is None else as_datetime(through)
        report = replace(report, batch_id=batch.batch_id, counts=batch.counts, complete_through=stated)
        if loader.kind == "labels":
            unknown = labels_without_transaction(self.store, batch.batch_id)
            report = replace(report, without_transaction=unknown)
        if report.history and not batch.history:
            return replace(report, history=False, history_because="scored_during_load")
        return report


def _add(loader: BatchLoader, chunk: Chunk) -> None:
    if not len(chunk):
        return
    if isinstance(chunk, TransactionChunk):
        loader.add_transactions(chunk)
    elif isinstance(chunk, WaitingChunk):
        loader.add_waiting(chunk)
    else:
        loader.add_labels(chunk)


def _content_hash(kind: Kind, digest: str, settings: str) -> str:
    """Hash content and settings: the same bytes read with other settings are other content."""
    return hashlib.sha256(f"{kind} {digest} {settings}".encode()).hexdigest()
