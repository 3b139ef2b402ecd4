"""
Source rows → transactions and labels; bad rows set aside with the reason.

Each source becomes one batch, visible whole or not at all. Its content is hashed together with the settings it is
read by, so that what is here already is recognised.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from pipeline.config.config import Config
from pipeline.errors import InputError
from pipeline.ingest.formats import columns
from pipeline.ingest.formats.columns import as_bools
from pipeline.ingest.formats.reader import Reading
from pipeline.ingest.formats.row_batch import Rows, Wanted
from pipeline.ingest.inline_labels import Shelf, ShelfReading
from pipeline.ingest.rejected_rows import set_aside
from pipeline.ingest.row_checks import LabelCheck, TransactionCheck, assumed
from pipeline.ingest.sources import Source, opened, sources
from pipeline.progress import Progress, Silent
from pipeline.sanitize import for_terminal
from storage.database.database import Store
from storage.ingest import batches
from storage.ingest.batches import Batch, Counts, Loading, Rejected
from storage.ingest.chunks import LabelChunk, TransactionChunk

__all__ = ["IngestReport", "Options", "Source", "ingest_labels", "ingest_transactions", "sources"]

Clock = Callable[[], int]  # µs; read at the start of a source and when its batch becomes visible
Kind = Literal["transactions", "labels"]
Chunk = TransactionChunk | LabelChunk
Step = Callable[[Rows], tuple[Chunk, list[Rejected]]]

REASONS_SHOWN = 5
AS_HISTORY = "as history: every row counts as known when it happened"
AS_ARRIVED = "as arrived: every row counts as known from now on"


@dataclass(frozen=True)
class Options:
    """What the command said about all its sources; times in µs, None for nothing."""

    history: bool | None = None
    known_after: int | None = None
    complete_through: int | None = None


@dataclass
class IngestReport:
    """What became of one source."""

    source: str
    kind: Kind
    history: bool
    why: str  # a sentence: history or as arrived, and why
    counts: Counts = field(default_factory=Counts)
    batch_id: int | None = None
    same_as: int | None = None  # the batch that had this content already
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def nothing_new(self) -> bool:
        """Whether the same content was here already."""
        return self.same_as is not None

    def top_reasons(self, number: int = REASONS_SHOWN) -> list[tuple[str, int]]:
        """The most frequent reasons for setting rows aside, with their counts."""
        return self.reasons.most_common(number)

    def lines(self) -> list[str]:
        """For the one who typed the command."""
        source = for_terminal(self.source)  # whoever made the file chose its name
        if self.same_as is not None:
            return [f"{source}: these {self.kind} are batch {self.same_as} already, nothing to do"]
        c = self.counts
        said = [
            f"{source}: {c.read:,} {self.kind} read = {c.accepted:,} accepted + {c.duplicate:,} duplicate "
            f"+ {c.revised:,} revised + {c.rejected:,} rejected (batch {self.batch_id})",
            f"  {self.why}",
        ]
        said += [f"  {count:,} set aside: {reason}" for reason, count in self.top_reasons()]
        if c.rejected:
            said.append(f"  all of them are in rejected_rows, with batch_id {self.batch_id}")
        return said


def ingest_transactions(
    store: Store,
    config: Config,
    given: Sequence[Source],
    *,
    clock: Clock,
    options: Options,
    progress: Progress | None = None,
) -> Iterator[IngestReport]:
    """
    Load transactions, and labels where `schema.is_fraud` names a column of them; reports each as it is done.

    The work is done while the reports are asked for.

    Raises
    ------
    InputError
        If a source cannot be read or lacks a column; nothing of it becomes visible, nor of one after it.
    Busy
        If another ingest is at work.
    """
    check = TransactionCheck(config)
    job = _Job.of(store, config, options, clock, progress)
    if config.schema_.is_fraud and job.history and options.known_after is None:
        raise InputError(
            f'column "{config.schema_.is_fraud}" (schema.is_fraud) says what is fraud, but not when that became known: '
            "pass --known-after, such as --known-after 7d"
        )
    job.look_ahead(given, check.wanted())
    for source in given:
        with opened(config, source) as reading:
            yield from _transactions(job, source, reading, check)


def ingest_labels(
    store: Store,
    config: Config,
    given: Sequence[Source],
    *,
    clock: Clock,
    options: Options,
    progress: Progress | None = None,
) -> Iterator[IngestReport]:
    """
    Load labels; a file may hold frauds alone, or no row at all, which still says how far labels are complete.

    Raises
    ------
    InputError
        If a source cannot be read or lacks a column, or is history that does not say when it became known.
    Busy
        If another ingest is at work.
    """
    job = _Job.of(store, config, options, clock, progress)
    check = LabelCheck(config, job.history, options.known_after, partial(batches.event_times, store))
    job.look_ahead(given, check.wanted())
    for source in given:
        with opened(config, source) as reading:
            step = partial(_label_step, check, clock(), source.name)
            yield job.run(source.name, "labels", reading, check.wanted(), step, _label_settings(job))


def _label_step(check: LabelCheck, now: int, name: str, rows: Rows) -> tuple[Chunk, list[Rejected]]:
    chunk, reasons = check.check(rows, now, name)
    return chunk, list(set_aside(rows, reasons, (), check.hasher))


def _transactions(
    job: "_Job", source: Source, reading: Reading, check: TransactionCheck
) -> Iterator[IngestReport]:
    """Load one source of transactions, and then what it says about fraud, which is put by meanwhile."""
    now, settings = job.clock(), _transaction_settings(job.config, check)
    with Shelf() as shelf:
        step = partial(_transaction_step, check, now, shelf)
        report = job.run(source.name, "transactions", reading, check.wanted(), step, settings)
        yield report
        if check.schema.is_fraud:
            answers, settings = ShelfReading(shelf, reading), f"{settings} {_label_settings(job)}"
            if report.nothing_new and not shelf.total and job.find("labels", answers, settings) is None:
                # an ingest stopped between the two batches: read once more, for the answers only
                for rows in reading.rows(check.wanted()):
                    step(rows)
            label = partial(_answer_step, job, now)
            yield job.run(source.name, "labels", answers, Wanted(), label, settings)


def _transaction_step(
    check: TransactionCheck, now: int, shelf: Shelf, rows: Rows
) -> tuple[Chunk, list[Rejected]]:
    chunk, answers, reasons = check.check(rows, now)
    if answers is not None:
        shelf.put(answers)
    return chunk, list(set_aside(rows, reasons, check.schema.hash, check.hasher))


def _answer_step(job: "_Job", now: int, rows: Rows) -> tuple[Chunk, list[Rejected]]:
    size, after = len(rows), job.options.known_after
    times = np.asarray(rows.columns["event_time"])
    known_at = np.full(size, now) if after is None else assumed(times, after, now)
    source = np.full(size, job.config.labels.default_source, dtype=object)
    ids, is_fraud = columns.objects(rows.columns["transaction_id"]), as_bools(rows.columns["is_fraud"])
    return LabelChunk(rows.row_number, ids, is_fraud, source, known_at), []


def _transaction_settings(config: Config, check: TransactionCheck) -> str:
    """What decides how transactions are read: settings, rates, and (by a hash of nothing) the key."""
    rates = Path(check.schema.rates).read_bytes() if check.schema.rates else b""
    key = check.hasher.hash("") if check.hasher is not None else ""
    return f"{config.hash('schema')} {hashlib.sha256(rates).hexdigest()} {key}"


def _label_settings(job: "_Job") -> str:
    """What decides how labels are read, and what is said about all of them."""
    labels, options = job.config.labels, job.options
    names = (labels.transaction_id, labels.is_fraud, labels.known_at, labels.source, labels.default_source)
    return repr((names, job.config.schema_.timezone, options.known_after, options.complete_through))


@dataclass(frozen=True)
class _Job:
    """What all sources of one command share."""

    store: Store
    config: Config
    options: Options
    clock: Clock
    progress: Progress
    history: bool
    why: str

    @classmethod
    def of(
        cls, store: Store, config: Config, options: Options, clock: Clock, progress: Progress | None
    ) -> "_Job":
        history, why = _history(store, options.history)
        return cls(store, config, options, clock, progress or Silent(), history, why)

    def look_ahead(self, given: Sequence[Source], wanted: Wanted) -> None:
        """Refuse files that lack a column before any other is loaded."""
        for source in given if len(given) > 1 else ():
            if source.path is not None:
                with opened(self.config, source) as reading:
                    next(reading.rows(wanted), None)

    def find(self, kind: Kind, reading: Reading, settings: str) -> Batch | None:
        """The batch that has this content already; None as well while the content is not known."""
        digest = reading.digest()
        return batches.find_batch(self.store, kind, _content(kind, digest, settings)) if digest else None

    def run(
        self, name: str, kind: Kind, reading: Reading, wanted: Wanted, step: Step, settings: str
    ) -> IngestReport:
        """Load a source as one batch, unless its content is here already."""
        report = IngestReport(name, kind, self.history, self.why)
        found, unknown = self.find(kind, reading, settings), reading.digest() is None
        if found is None:
            holder = f"fraudwatch ingest {name}"
            with batches.begin(self.store, kind, name, self.history, self.clock(), holder) as loading:
                self._load(loading, reading, wanted, step, report)
                found = self.find(kind, reading, settings) if unknown else None
                if found is None:
                    self._finish(loading, reading, settings, report)
        report.same_as = found.batch_id if found else None
        return report

    def _load(
        self, loading: Loading, reading: Reading, wanted: Wanted, step: Step, report: IngestReport
    ) -> None:
        self.progress.start(f"{loading.kind} of {report.source}", reading.total, reading.unit)
        before = 0.0
        try:
            for rows in reading.rows(wanted):
                chunk, rejected = step(rows)
                report.counts += _add(loading, chunk) + loading.reject(rejected)
                report.reasons.update(one.reason for one in rejected)
                position = reading.position()
                done = before + len(rows) + len(rows.unreadable) if position is None else position
                self.progress.advance(done - before)
                before = done
        finally:
            self.progress.stop()

    def _finish(self, loading: Loading, reading: Reading, settings: str, report: IngestReport) -> None:
        now, through = self.clock(), self.options.complete_through
        content = _content(loading.kind, reading.digest() or "", settings)
        if loading.kind == "labels" and not report.counts.read:
            # No rows: all it says is that until now there was nothing to say, and it says so anew each time.
            content = _content(loading.kind, content, str(now))
            through = now if through is None else through
        batch = loading.finish(now, content, through if loading.kind == "labels" else None)
        report.batch_id, report.counts = batch.batch_id, batch.counts
        if report.history and not batch.history:
            report.history = False
            report.why = f"{AS_ARRIVED}, because a window was scored while this was loading"


def _add(loading: Loading, chunk: Chunk) -> Counts:
    if not len(chunk):
        return Counts()
    if isinstance(chunk, TransactionChunk):
        return loading.add_transactions(chunk)
    return loading.add_labels(chunk)


def _content(kind: Kind, digest: str, settings: str) -> str:
    """The same bytes read by other settings are another content."""
    return hashlib.sha256(f"{kind} {digest} {settings}".encode()).hexdigest()


def _history(store: Store, said: bool | None) -> tuple[bool, str]:
    """Whether the past is lived again, and a sentence about it."""
    history = batches.history_is_open(store) if said is None else said
    how = AS_HISTORY if history else AS_ARRIVED
    if said is not None:
        return history, f"{how} (--{'history' if said else 'as-arrived'})"
    return history, f"{how}, because {'no window has' if history else 'windows have'} been scored yet"
