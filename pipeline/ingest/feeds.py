"""
Feeds of the daemon: polled queries and watched folders, loaded by the same ingest as files.

Feeds are idempotent without a transaction of their own: rows that are read twice are duplicates, and a file is
identified by its content. The state of a feed (cursor of a query, files already ingested) is saved after the batch is
visible; if the process is killed in between, the next tick reads the same rows again.

An error of a file or a query belongs to its feed, whatever it is: it is stored as the state of the file and of the feed, and
the others are read all the same. Only an error of the monitor's own database ends the poll.
"""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from hashlib import sha256
from os import stat_result
from pathlib import Path
from stat import S_ISREG

from pipeline.config.config import Config
from pipeline.config.sections import SourceSection, WatchSection
from pipeline.errors import InputError
from pipeline.expected_errors import bug_in, error_code, storable_text
from pipeline.files import display_name
from pipeline.ingest import ingest, waiting_rows
from pipeline.ingest.currencies.rate_sources import RatesReport, ingest_rates
from pipeline.ingest.ingest_report import IngestReport, NothingAcceptedError, Options
from pipeline.ingest.sources import Cursor, Source, sources
from storage.database.database import Store
from storage.errors import DATABASE_ERRORS, Busy, Locked
from storage.frames import HOUR
from storage.ingest import batches, feed_state
from storage.ingest.feed_state import WatchedFile
from storage.runs import tick_steps

Clock = Callable[[], int]
READ_BY = ("schema", "format", "labels", "events", "watch")  # sections that decide how a file is read
UNFINISHED_SUFFIXES = (
    ".tmp",
    ".part",
    ".partial",
    ".crdownload",
    ".swp",
)  # of files that are still being written
COMPLETENESS_INTERVAL = HOUR  # between empty label batches of a feed, to keep the number of batches small
UNREADABLE = "unreadable"
# codes of errors of the disk, of permissions, or of the file schema.rates, which end without a change of the file
AWAY = {"rates": (UNREADABLE, "no_file")} | dict.fromkeys(
    ("transactions", "labels"), (UNREADABLE, "no_file", "bad_rates")
)
NEVER = -1  # size of a file that is to be tried again although it has not changed
NAMED_MAX = 3  # refused files that the state of a feed names


@dataclass(frozen=True)
class FeedReport:
    """
    The result of polling one feed: an ingest report, one of rates, or the error as a sentence.

    Rows that waited for a rate and have one now are the feed "waiting rows". `bug` is the error if nobody expects it.
    """

    feed: str
    report: IngestReport | None = None
    error: str | None = None
    rates: RatesReport | None = None
    bug: Exception | None = None


@dataclass(frozen=True)
class FeedFailure:
    """Why a feed is not in order: a code for programs and a sentence."""

    code: str
    error: str


FeedPoll = Generator[FeedReport, None, FeedFailure | None]


def feed_names(config: Config) -> list[str]:
    """The names of all feeds, under which their states are stored."""
    polled = [f"source.{name}" for name, source in config.source.items() if source.poll]
    return [*sorted(polled), *(f"watch.{name}" for name in sorted(config.watch)), waiting_rows.SOURCE]


def poll(store: Store, config: Config, clock: Clock) -> Iterator[FeedReport]:
    """
    Ingest every polled query and watched folder; a feed that fails does not stop the others.

    Rates are read first, then rows that waited for one are taken up.

    Raises
    ------
    StorageError
        The monitor's own database is away, or another process has taken over.
    """
    polls: list[tuple[str, str, FeedPoll]] = []
    for name, source in sorted(config.source.items()):
        if source.poll:
            polls.append((source.kind, f"source.{name}", _poll_query(store, config, name, source, clock)))
    for name, folder in sorted(config.watch.items()):
        polls.append((folder.kind, f"watch.{name}", _poll_folder(store, config, name, folder, clock)))
    rates = [poll for poll in polls if poll[0] == "rates"]
    waiting = ("transactions", waiting_rows.SOURCE, _take_up(store, config, clock))
    others = [poll for poll in polls if poll[0] != "rates"]
    for _, feed, reports in (*rates, waiting, *others):
        yield from _recorded(store, feed, reports, clock)


def _recorded(store: Store, feed: str, reports: FeedPoll, clock: Clock) -> Iterator[FeedReport]:
    """The reports of a feed, with its errors; how it ended is stored, unless another ingest is at work."""
    try:
        failure = yield from reports
    except Exception as error:  # noqa: BLE001 (an error of a feed, even a bug, must not stop the others)
        if isinstance(error, Busy) and not isinstance(error, Locked):
            yield FeedReport(feed, error=str(error))
            return
        report = _failed(feed, error)
        yield report
        failure = FeedFailure(error_code(error), report.error or "")
    tick_steps.record(store, feed, clock(), *((failure.error, failure.code) if failure else ()))


def _failed(feed: str, error: Exception) -> FeedReport:
    """The report of an error; one of the monitor's own database is raised."""
    if isinstance(error, DATABASE_ERRORS):
        raise error
    return FeedReport(feed, error=storable_text(error), bug=bug_in(error))


def _take_up(store: Store, config: Config, clock: Clock) -> FeedPoll:
    for report in waiting_rows.take_up(store, config, clock):
        yield FeedReport(waiting_rows.SOURCE, report)
    return None


def _poll_query(store: Store, config: Config, name: str, section: SourceSection, clock: Clock) -> FeedPoll:
    feed = f"source.{name}"
    cursor = None
    if section.cursor:
        newest = feed_state.cursor(store, feed)
        cursor = Cursor(section.cursor, None if newest is None else newest - section.overlap)
    source = Source(feed, sql=name, cursor=cursor)
    batch_id = None
    for poll in _read(store, config, section.kind, feed, source, clock):
        yield poll
        if poll.report is None:
            continue
        batch_id = poll.report.batch_id or batch_id
        if section.kind == "labels" and poll.report.nothing_new:
            _record_completeness(store, feed, clock())
    if cursor is not None and cursor.newest is not None:
        feed_state.save_cursor(store, feed, cursor.newest, clock(), batch_id)
    return None


def _poll_folder(store: Store, config: Config, name: str, section: WatchSection, clock: Clock) -> FeedPoll:
    """Ingest the files of a folder; it fails while it has a file that was refused and has not changed since."""
    feed = f"watch.{name}"
    earlier = feed_state.files(store, feed)
    refused = []
    for path in _matching(feed, section):
        state = yield from _poll_file(store, config, feed, section, path, earlier, clock)
        refused += [state] if state is not None and state.status == "failed" else []
    if not refused:
        return None
    named = "; ".join(file.error or file.path for file in refused[:NAMED_MAX])
    more = f"; and {len(refused) - NAMED_MAX:,} more" if len(refused) > NAMED_MAX else ""
    return FeedFailure("refused_files", f"{len(refused):,} refused: {named}{more}")


def _matching(feed: str, section: WatchSection) -> list[Path]:
    folder = Path(section.folder)
    if not folder.is_dir():
        raise InputError(
            f"{feed}.folder is {section.folder}, which is not a folder",
            remedy="create it or correct the path",
            code="no_file",
        )
    try:
        next(folder.iterdir(), None)  # `glob` takes a folder that it may not read for an empty one
        return sorted(folder.glob(section.pattern))
    except OSError as error:
        raise InputError(
            f"{feed}.folder is {section.folder}, which cannot be read ({error.strerror})", code=UNREADABLE
        ) from error


def _poll_file(
    store: Store,
    config: Config,
    feed: str,
    section: WatchSection,
    path: Path,
    earlier: dict[str, WatchedFile],
    clock: Clock,
) -> Generator[FeedReport, None, WatchedFile | None]:
    """
    Ingest a file that is new or has changed; returns its state, None while it is not complete.

    A file that failed is tried again once it or the settings change, or at every poll if the disk or its permissions were to blame.
    """
    name = display_name(path)
    before, size, modified = earlier.get(name), NEVER, 0
    reading = config.hash(*READ_BY)
    batch_id, sentence = None, None
    try:
        stat = _stat(path)
        if stat is None or not _is_complete(path, stat, section.settle_time, clock()):
            return before
        size, modified = stat.st_size, stat.st_mtime_ns
        same = before is not None and (before.size, before.modified_ns) == (size, modified)
        if before is not None and same and (before.status == "done" or before.config_hash == reading):
            return before
        batch_id = yield from _ingest_file(store, config, feed, section, path, clock)
    except Exception as error:  # noqa: BLE001 (an error of a file, even a bug, must not stop the others)
        report = _failed(feed, error)
        sentence = _naming(name, report.error or "")
        if error_code(error) in AWAY[section.kind]:
            size = NEVER
        yield FeedReport(feed, error=sentence, bug=report.bug)
    status = "done" if sentence is None else "failed"
    current = WatchedFile(name, size, modified, status, clock(), batch_id, sentence, reading)
    feed_state.save_file(store, feed, current)
    return current


def _naming(name: str, error: str) -> str:
    return error if name in error else f"{name}: {error}"


def _stat(path: Path) -> stat_result | None:
    """The state of a file; None if it was taken away since the folder was listed, or is a folder, a pipe or the like."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{display_name(path)} cannot be read: {error.strerror}", code=UNREADABLE) from error
    return found if S_ISREG(found.st_mode) else None


def _is_complete(path: Path, stat: stat_result, settle_time: int, now: int) -> bool:
    """Whether the file has not changed for `settle_time` (µs) and is not hidden or temporary."""
    hidden = path.name.startswith(".") or path.suffix in UNFINISHED_SUFFIXES
    return not hidden and stat.st_mtime_ns // 1000 + settle_time <= now


def _ingest_file(
    store: Store, config: Config, feed: str, section: WatchSection, path: Path, clock: Clock
) -> Generator[FeedReport, None, int | None]:
    """Ingest a file; returns its batch."""
    batch_id = None
    for source in sources(config, section.kind, [str(path)], None, None):
        for poll in _read(store, config, section.kind, feed, source, clock):
            yield poll
            if poll.report is None:
                continue
            batch_id = poll.report.batch_id or poll.report.same_as or batch_id
            if poll.report.fails:
                raise NothingAcceptedError([poll.report.source], next(iter(poll.report.reasons), None))
    return batch_id


def _read(
    store: Store, config: Config, kind: str, feed: str, source: Source, clock: Clock
) -> Iterator[FeedReport]:
    if kind == "rates":
        for rates in ingest_rates(store, config, [source], clock=clock):
            yield FeedReport(feed, rates=rates)
        return
    ingest_source = ingest.ingest_transactions if kind == "transactions" else ingest.ingest_labels
    for report in ingest_source(store, config, [source], clock=clock, options=Options(repeat_rejected=False)):
        yield FeedReport(feed, report)


def _record_completeness(store: Store, feed: str, now: int) -> None:
    """Add an empty label batch: labels are complete up to now although there are no new ones."""
    newest = feed_state.newest_labels(store)
    if newest is not None and now - newest < COMPLETENESS_INTERVAL:
        return
    with batches.begin(store, "labels", feed, batches.history_is_open(store), now, feed) as loader:
        loader.finish(now, sha256(f"{feed} {now}".encode()).hexdigest(), now)
