"""
Feeds of the daemon: polled queries and watched folders, loaded by the same ingest as files.

Feeds are idempotent without a transaction of their own: rows that are read twice are duplicates, and a file is
identified by its content. The state of a feed (cursor of a query, files already ingested) is saved after the batch is
visible; if the process is killed in between, the next tick reads the same rows again.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from pipeline.config.config import Config
from pipeline.config.sections import SourceSection, WatchSection
from pipeline.errors import InputError
from pipeline.ingest import ingest, waiting_rows
from pipeline.ingest.currencies.rate_sources import RatesReport, ingest_rates
from pipeline.ingest.ingest_report import IngestReport, NothingAcceptedError, Options
from pipeline.ingest.sources import Cursor, Source, sources
from storage.database.database import Store
from storage.errors import Busy, Unreachable
from storage.frames import HOUR
from storage.ingest import batches, feed_state
from storage.ingest.feed_state import WatchedFile

Clock = Callable[[], int]
UNFINISHED_SUFFIXES = (
    ".tmp",
    ".part",
    ".partial",
    ".crdownload",
    ".swp",
)  # of files that are still being written
COMPLETENESS_INTERVAL = HOUR  # between empty label batches of a feed, to keep the number of batches small


@dataclass(frozen=True)
class FeedReport:
    """
    The result of polling one feed: an ingest report, one of rates, or the error as a sentence.

    Rows that waited for a rate and have one now are the feed "waiting rows".
    """

    feed: str
    report: IngestReport | None = None
    error: str | None = None
    rates: RatesReport | None = None


def poll(store: Store, config: Config, clock: Clock) -> list[FeedReport]:
    """
    Ingest every polled query and watched folder; a feed that fails does not stop the others.

    Rates are read first, then rows that waited for one are taken up.
    """
    polls: list[tuple[str, str, Iterator[FeedReport]]] = []
    for name, source in sorted(config.source.items()):
        if source.poll:
            polls.append((source.kind, f"source.{name}", _poll_query(store, config, name, source, clock)))
    for name, folder in sorted(config.watch.items()):
        polls.append((folder.kind, f"watch.{name}", _poll_folder(store, config, name, folder, clock)))
    rates = [poll for poll in polls if poll[0] == "rates"]
    waiting = ("transactions", waiting_rows.SOURCE, _take_up(store, config, clock))
    others = [poll for poll in polls if poll[0] != "rates"]
    return [report for _, feed, poll in (*rates, waiting, *others) for report in _report_failures(feed, poll)]


def _take_up(store: Store, config: Config, clock: Clock) -> Iterator[FeedReport]:
    for report in waiting_rows.take_up(store, config, clock):
        yield FeedReport(waiting_rows.SOURCE, report)


def _report_failures(feed: str, reports: Iterator[FeedReport]) -> Iterator[FeedReport]:
    try:
        yield from reports
    except (InputError, Unreachable, Busy) as error:
        yield FeedReport(feed, error=str(error))


def _poll_query(
    store: Store, config: Config, name: str, section: SourceSection, clock: Clock
) -> Iterator[FeedReport]:
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


def _poll_folder(
    store: Store, config: Config, name: str, section: WatchSection, clock: Clock
) -> Iterator[FeedReport]:
    feed, folder = f"watch.{name}", Path(section.folder)
    if not folder.is_dir():
        raise InputError(
            f"{feed}.folder is {section.folder}, which is not a folder",
            remedy="create it or correct the path",
            code="no_file",
        )
    earlier = feed_state.files(store, feed)
    for path in sorted(folder.glob(section.pattern)):
        if _is_complete(path, section.settle_time, clock()):
            yield from _ingest_file(store, config, feed, section, path, earlier.get(str(path)), clock)


def _is_complete(path: Path, settle_time: int, now: int) -> bool:
    """Whether the file has not changed for `settle_time` (µs) and is not hidden or temporary."""
    hidden = path.name.startswith(".") or path.suffix in UNFINISHED_SUFFIXES
    return not hidden and path.is_file() and path.stat().st_mtime_ns // 1000 + settle_time <= now


def _ingest_file(
    store: Store,
    config: Config,
    feed: str,
    section: WatchSection,
    path: Path,
    earlier: WatchedFile | None,
    clock: Clock,
) -> Iterator[FeedReport]:
    """Ingest a file that is new or has changed; a file that failed is tried again once it changes."""
    stat = path.stat()
    if earlier is not None and (earlier.size, earlier.modified_ns) == (stat.st_size, stat.st_mtime_ns):
        return
    batch_id, error_text = None, None
    try:
        for source in sources(config, section.kind, [str(path)], None, None):
            for poll in _read(store, config, section.kind, feed, source, clock):
                yield poll
                if poll.report is None:
                    continue
                batch_id = poll.report.batch_id or poll.report.same_as or batch_id
                if poll.report.fails:
                    raise NothingAcceptedError([poll.report.source])
    except InputError as error:
        error_text = str(error)
        yield FeedReport(feed, error=error_text)
    status = "done" if error_text is None else "failed"
    current = WatchedFile(str(path), stat.st_size, stat.st_mtime_ns, status, clock(), batch_id, error_text)
    feed_state.save_file(store, feed, current)


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
