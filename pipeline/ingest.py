"""
Source rows → transactions and labels; bad rows set aside with the reason.

A source is hashed before it is read, so the same content is recognised at once; then it is read in blocks,
validated, and loaded as one batch that becomes visible whole or not at all.
"""

import hashlib
import json
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pipeline import readers, validate
from pipeline.config import Config
from pipeline.errors import InputError
from pipeline.hashing import Hasher
from pipeline.progress import Progress, Silent
from pipeline.rates import load_rates
from pipeline.readers import Block
from storage import batches, external
from storage.batches import Counts, LabelChunk, Loading, Rejected, TransactionChunk
from storage.frames import MONEY, NEVER, Ints
from storage.store import Store

Clock = Callable[[], int]
REASONS_SHOWN = 5
READ_AT_ONCE = 1 << 20  # bytes


@dataclass(frozen=True)
class Source:
    """Where rows come from: a file, or a query of another database."""

    name: str  # for people
    path: Path | None = None
    form: str = ""
    sql: str = ""  # NAME of [source.NAME]


@dataclass(frozen=True)
class Options:
    """What the command said about all its sources."""

    history: bool | None = None
    known_after: int | None = None
    complete_through: int | None = None


@dataclass
class IngestReport:
    """What became of one source."""

    source: str
    kind: str
    history: bool
    counts: Counts = field(default_factory=Counts)
    batch_id: int | None = None
    same_as: int | None = None  # the batch that had this content already
    reasons: Counter[str] = field(default_factory=Counter)

    def lines(self) -> list[str]:
        """For the one who typed the command."""
        if self.same_as is not None:
            return [f"{self.source}: the same content as batch {self.same_as}, nothing to do"]
        c = self.counts
        arrived = "as history, known when it happened" if self.history else "as arrived, known from now on"
        said = [
            f"{self.source}: {c.read:,} {self.kind} read = {c.accepted:,} accepted + {c.duplicate:,} duplicate "
            f"+ {c.revised:,} revised + {c.rejected:,} rejected; batch {self.batch_id}, {arrived}"
        ]
        for reason, count in self.reasons.most_common(REASONS_SHOWN):
            said.append(f"  {count:,} set aside: {reason}")
        if c.rejected:
            said.append(f"  see them in the table rejected_rows, batch_id {self.batch_id}")
        return said


def sources(
    config: Config, kind: str, paths: Sequence[str], sql: str | None, form: str | None
) -> list[Source]:
    """
    What the arguments name.

    Raises
    ------
    InputError
        Nothing, a folder, a file that is not there, or one whose name says no format.
    """
    if sql is not None:
        if config.source.get(sql) is not None and config.source[sql].kind != kind:
            raise InputError(f"source.{sql} is configured for {config.source[sql].kind}, not for {kind}")
        return [Source(f"source {sql}", sql=sql)]
    if not paths:
        raise InputError("name a file, - for standard input, or --from-sql NAME")
    return [_source(name, form) for name in paths]


def _source(name: str, form: str | None) -> Source:
    if name == "-":
        if form is None:
            raise InputError(
                "standard input has no name that says its format: add --format csv, parquet or jsonl"
            )
        return Source("standard input", form=form)
    path = Path(name)
    if path.is_dir():
        raise InputError(f"{name} is a folder: name its files, such as {name.rstrip('/')}/*.csv")
    if not path.exists():
        raise InputError(f"{name} does not exist")
    return Source(name, path, form or readers.format_of(path))


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
    Load transactions, and their labels where `schema.is_fraud` names a column of them.

    Raises
    ------
    InputError
        A source that cannot be read; nothing of it becomes visible.
    """
    for source in given:
        job = _Job.of(store, config, source, "transactions", clock, options, progress)
        if config.schema_.is_fraud and job.history and options.known_after is None:
            raise InputError(
                f"column {config.schema_.is_fraud} says what is fraud, not since when that was known: "
                "add --known-after, such as --known-after 7d"
            )
        with job:
            yield job.run(_Transactions(config, clock))
            if config.schema_.is_fraud:
                yield replace(job, kind="labels").run(_AnswersAmong(config, clock, job))


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
    Load labels; a file may hold frauds alone, or nothing, which still says how far labels are complete.

    Raises
    ------
    InputError
        A source that cannot be read, or history that does not say since when it was known.
    """
    for source in given:
        with _Job.of(store, config, source, "labels", clock, options, progress) as job:
            yield job.run(_LabelRows(config, clock, job))


@dataclass
class _Job:
    """One source on its way into the store."""

    store: Store
    config: Config
    source: Source
    kind: Literal["transactions", "labels"]
    clock: Clock
    options: Options
    progress: Progress
    history: bool
    path: Path | None
    _cleanup: ExitStack = field(default_factory=ExitStack)

    @classmethod
    def of(
        cls, store: Store, config: Config, source: Source, kind: Any, clock: Clock, options: Options,
        progress: Progress | None,
    ) -> "_Job":  # fmt: skip
        cleanup = ExitStack()
        path = source.path if source.path is not None or source.sql else _spooled(cleanup)
        history = batches.history_is_open(store) if options.history is None else options.history
        shown = progress or Silent()
        return cls(store, config, source, kind, clock, options, shown, history, path, cleanup)

    def __enter__(self) -> "_Job":
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def run(self, maker: "_Maker") -> IngestReport:
        """Load the source as one batch, unless its content is there already."""
        report = IngestReport(self.source.name, self.kind, self.history)
        content = self._content_hash() if self.path is not None else None
        if content is not None and self._is_there(content, report):
            return report
        holder = f"fraudwatch ingest {self.source.name}"
        loading = batches.begin(self.store, self.kind, self.source.name, self.history, self.clock(), holder)
        with loading:
            seen = hashlib.sha256()
            self.progress.start(f"{self.kind} of {self.source.name}", None, "rows")
            for block in self._blocks(maker.needed()):
                if content is None:
                    _digest(seen, block)
                _load(loading, maker, block, report)
                self.progress.advance(len(block) + len(block.bad))
            self.progress.stop()
            content = content or self._salted(seen)
            if self.path is None and self._is_there(content, report):
                return report
            batch = loading.finish(self.clock(), content, self.options.complete_through)
        report.batch_id, report.counts = batch.batch_id, batch.counts
        return report

    def _is_there(self, content: str, report: IngestReport) -> bool:
        """The same content is nothing new, unless it now says more about completeness."""
        if self.options.complete_through is not None:
            return False
        found = batches.find_batch(self.store, self.kind, content)
        report.same_as = found.batch_id if found else None
        return found is not None

    def _blocks(self, needed: Sequence[str]) -> Iterator[Block]:
        if self.path is not None:
            return readers.read_blocks(self.path, self.source.form, needed, self.source.name)
        return self._rows_of_query(needed)

    def _rows_of_query(self, needed: Sequence[str]) -> Iterator[Block]:
        name = self.source.sql
        url, settings = self.config.source_url(name), self.config.source[name]
        first = 1
        for names, rows in external.read_query(url, settings.query, settings.timeout, readers.ROWS):
            readers.check_columns(names, needed, self.source.name)
            places = {wanted: names.index(wanted) for wanted in needed}
            columns = {wanted: readers.as_objects([row[at] for row in rows]) for wanted, at in places.items()}
            yield Block(np.arange(first, first + len(rows)), columns)
            first += len(rows)

    def _content_hash(self) -> str:
        assert self.path is not None
        seen = hashlib.sha256()
        try:
            with self.path.open("rb") as file:
                while part := file.read(READ_AT_ONCE):
                    seen.update(part)
        except OSError as error:
            raise InputError(f"{self.source.name} cannot be read: {error.strerror}") from error
        return self._salted(seen)

    def _salted(self, seen: Any) -> str:
        """The same bytes read by other settings are another content."""
        settings = self.config.hash("schema", "labels")
        told = f"{settings} {self.options.known_after} {self.options.complete_through}"
        return hashlib.sha256(seen.digest() + told.encode()).hexdigest()


def _spooled(cleanup: ExitStack) -> Path:
    """Standard input as a file, since it may be read twice."""
    file = cleanup.enter_context(tempfile.NamedTemporaryFile(prefix="fraudwatch-"))  # noqa: SIM115 (the stack closes it)
    shutil.copyfileobj(sys.stdin.buffer, file)
    file.flush()
    return Path(file.name)


def _digest(seen: Any, block: Block) -> None:
    for name, column in sorted(block.columns.items()):
        seen.update(name.encode())
        seen.update("\x1f".join(map(repr, column.tolist())).encode())


def _load(loading: Loading, maker: "_Maker", block: Block, report: IngestReport) -> None:
    chunk, rejected = maker.make(block)
    if isinstance(chunk, TransactionChunk):
        loading.add_transactions(chunk)
    elif len(chunk):
        loading.add_labels(chunk)
    rejected = [*rejected, *(maker.bad(bad) for bad in block.bad)]
    loading.reject(rejected)
    report.reasons.update(one.reason for one in rejected)


class _Maker:
    """Blocks of text → validated chunks and the rows set aside."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self.config = config
        self.clock = clock
        schema = config.schema_
        self.hasher = Hasher(config.hash_key()) if schema.hash else None

    def needed(self) -> list[str]:
        """Columns that the source must have."""
        raise NotImplementedError

    def make(self, block: Block) -> tuple[TransactionChunk | LabelChunk, list[Rejected]]:
        """Validate a block."""
        raise NotImplementedError

    def bad(self, bad: readers.Bad) -> Rejected:
        """A row that could not be split; where fields are to be hashed its text is not kept, only its hash."""
        text = bad.text.encode("utf-8", "backslashreplace").decode()
        if self.hasher is not None:
            text = f"{len(text)} characters, {self.hasher.hash(text)}"
        return Rejected(bad.row_number, json.dumps(text, ensure_ascii=False), bad.reason)

    def set_aside(self, block: Block, reasons: validate.Reasons) -> list[Rejected]:
        """The rows of a block that have a reason, as they came, hashed fields hashed."""
        hidden = set(self.config.schema_.hash)
        rejected = []
        for place in np.flatnonzero(~reasons.good):
            row = {name: _shown(column[place]) for name, column in block.columns.items()}
            if self.hasher is not None:
                row = {k: self.hasher.hash(v) if v is not None and k in hidden else v for k, v in row.items()}
            text = (
                json.dumps(row, ensure_ascii=False)
                .encode("utf-8", "backslashreplace")
                .decode()
                .replace("\\u0000", "")
            )
            rejected.append(Rejected(int(block.row_number[place]), text, str(reasons.of[place])))
        return rejected


def _shown(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, np.int64):
        return str(value.astype("datetime64[us]")) + "Z"
    return str(value).replace("\x00", "\\0")


class _Transactions(_Maker):
    def __init__(self, config: Config, clock: Clock) -> None:
        super().__init__(config, clock)
        self.rates = load_rates(config.schema_.rates, config.schema_.base_currency)

    def needed(self) -> list[str]:
        s = self.config.schema_
        own = [s.transaction_id, s.event_time, s.amount, s.currency, s.kind, s.original_id, s.is_fraud]
        return validate.chosen([*own, *s.entities, *s.categorical, *s.numeric])

    def make(self, block: Block) -> tuple[TransactionChunk, list[Rejected]]:
        s, columns = self.config.schema_, block.columns
        reasons = validate.Reasons(len(block))
        ids = validate.ids(columns[s.transaction_id], s.transaction_id, reasons)
        times = validate.instants(columns[s.event_time], s.event_time, s.timezone, self.clock(), reasons)
        given = validate.amounts(columns[s.amount], s.amount, reasons)
        currency, base = self._base(columns, given, times, reasons)
        text = {name: validate.texts(columns[name], name, reasons) for name in (*s.entities, *s.categorical)}
        numeric = {name: validate.numbers(columns[name], name, reasons) for name in s.numeric}
        others = [validate.texts(columns[n], n, reasons) if n else None for n in (s.kind, s.original_id)]
        if self.hasher is not None:
            text |= {
                name: np.array(self.hasher.texts(text[name]), dtype=object) for name in s.hash if name in text
            }
        good = np.flatnonzero(reasons.good)
        chunk = TransactionChunk(
            block.row_number, ids, times, given, base, currency, others[0], others[1], text, numeric
        )
        return chunk.take(good) if len(good) < len(block) else chunk, self.set_aside(block, reasons)

    def _base(self, columns: Mapping[str, Any], given: Any, times: Ints, reasons: validate.Reasons) -> Any:
        name = self.config.schema_.currency
        if not name:
            return None, np.rint(given * MONEY).astype(np.int64)
        currency = validate.currencies(columns[name])
        reasons.add(currency == "", f"{name} is missing")
        rates, known = self.rates.look_up(currency, times)
        reasons.add(~known, f"{name} is not a currency of schema.rates")
        reasons.add(np.isnan(rates), f"{name} has no rate yet on this day in schema.rates")
        return currency, np.rint(given * np.nan_to_num(rates) * MONEY).astype(np.int64)


class _LabelRows(_Maker):
    def __init__(self, config: Config, clock: Clock, job: _Job) -> None:
        super().__init__(config, clock)
        self.job = job
        self._here: set[str] | None = None

    def needed(self) -> list[str]:
        names = self.config.labels
        needed = [names.transaction_id, names.is_fraud]
        if self.job.options.known_after is None and self.job.history:
            needed.append(names.known_at)
        return needed + [
            name for name in (names.known_at, names.source) if name in self._there() and name not in needed
        ]

    def _there(self) -> set[str]:
        """Columns that a label file may have, and this one has."""
        if self._here is None:
            self._here = _columns_of(self.job)
            if self.job.history and self.job.options.known_after is None:
                self._refuse_timeless()
        return self._here

    def _refuse_timeless(self) -> None:
        name = self.config.labels.known_at
        if self._here and name not in self._here:
            raise InputError(
                f"{self.job.source.name} has no column {name!r}, so it is not known since when its labels were known: "
                "add the column, or --known-after such as 7d, or --as-arrived if they became known just now"
            )

    def make(self, block: Block) -> tuple[LabelChunk, list[Rejected]]:
        names, columns = self.config.labels, block.columns
        reasons = validate.Reasons(len(block))
        ids = validate.ids(columns[names.transaction_id], names.transaction_id, reasons)
        answers = validate.answers(columns[names.is_fraud], names.is_fraud, reasons)
        reasons.add(np.isnan(answers), f"{names.is_fraud} is missing")
        known_at = self.known_at(block, ids, reasons)
        source = columns.get(names.source)
        sources_ = (
            readers.as_objects([names.default_source] * len(block)) if source is None else source.copy()
        )
        sources_[sources_ == None] = names.default_source  # noqa: E711 (elementwise)
        validate.texts(sources_, names.source, reasons)
        return _label_chunk(block, ids, answers, sources_, known_at, reasons.good), self.set_aside(
            block, reasons
        )

    def known_at(self, block: Block, ids: Any, reasons: validate.Reasons) -> Ints:
        """Since when each label was known: as the row says, so long after the event, or now."""
        name, now = self.config.labels.known_at, self.clock()
        if name in block.columns:
            return validate.instants(block.columns[name], name, self.config.schema_.timezone, now, reasons)
        if self.job.options.known_after is None:
            return np.full(len(block), now, dtype=np.int64)
        return self.after_event(ids, reasons)

    def after_event(self, ids: Any, reasons: validate.Reasons) -> Ints:
        """--known-after: event_time and so long after it."""
        times = batches.event_times(self.job.store, ids)
        reasons.add(
            times == NEVER, "its transaction is not here yet, so --known-after has nothing to count from"
        )
        assert self.job.options.known_after is not None
        return np.where(times == NEVER, 0, times + self.job.options.known_after)


class _AnswersAmong(_LabelRows):
    """Labels in a column of the transactions; rows without an answer say nothing."""

    def needed(self) -> list[str]:
        return [self.config.schema_.transaction_id, self.config.schema_.is_fraud]

    def make(self, block: Block) -> tuple[LabelChunk, list[Rejected]]:
        s = self.config.schema_
        reasons = validate.Reasons(len(block))
        ids = validate.ids(block.columns[s.transaction_id], s.transaction_id, reasons)
        answers = validate.answers(block.columns[s.is_fraud], s.is_fraud, reasons)
        rows = reasons.good & ~np.isnan(answers)
        known_at = self._known(ids, rows)
        sources_ = readers.as_objects([self.config.labels.default_source] * len(block))
        return _label_chunk(block, ids, answers, sources_, known_at, rows & (known_at != NEVER)), []

    def _known(self, ids: Any, rows: Any) -> Ints:
        """Rows that were set aside as transactions have no event, and their label none either."""
        if self.job.options.known_after is None:
            return np.full(len(rows), self.clock(), dtype=np.int64)
        times = batches.event_times(self.job.store, ids)
        return np.where(times == NEVER, NEVER, times + self.job.options.known_after)


def _label_chunk(block: Block, ids: Any, answers: Any, source: Any, known_at: Ints, good: Any) -> LabelChunk:
    return LabelChunk(block.row_number[good], ids[good], answers[good] == 1, source[good], known_at[good])


def _columns_of(job: _Job) -> set[str]:
    """Names of a source's columns."""
    if job.path is None:
        query = job.config.source[job.source.sql]
        first = next(
            iter(external.read_query(job.config.source_url(job.source.sql), query.query, query.timeout, 1))
        )
        return set(first[0])
    return set(readers.column_names(job.path, job.source.form, job.source.name))
