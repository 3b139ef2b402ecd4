"""
How new rows reach a daemon: queries it polls and folders it watches, read by the same ingest as files.

Nothing here needs a transaction of its own to be exactly-once. Rows that are read twice are duplicates, a file is
recognised by its content, and what is remembered (how far a query was read, which files were taken) is written
after the batch is visible: a kill in between only makes the next tick look again.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from pipeline.config.config import Config
from pipeline.config.sections import SourceSection, WatchSection
from pipeline.errors import InputError
from pipeline.ingest import ingest
from pipeline.ingest.ingest import IngestReport, Options
from pipeline.ingest.sources import Cursor, Source
from storage.database.database import Store
from storage.errors import Busy, Unreachable
from storage.frames import HOUR
from storage.ingest import batches, feed_state
from storage.ingest.feed_state import WatchedFile

Clock = Callable[[], int]
UNFINISHED = (".tmp", ".part", ".partial", ".crdownload", ".swp")  # names under which files are being written
COMPLETE_EVERY = HOUR  # a label feed without news says so at most so often: batches stay few


@dataclass(frozen=True)
class FeedReport:
    """What one feed brought: a report, or the sentence that says why it brought nothing."""

    feed: str
    report: IngestReport | None = None
    error: str | None = None


def poll(store: Store, config: Config, clock: Clock) -> list[FeedReport]:
    """Read every query with `poll` and every watched folder; one that fails does not keep the others."""
    found: list[FeedReport] = []
    for name, source in sorted(config.source.items()):
        if source.poll:
            found += _told(f"source.{name}", _query(store, config, name, source, clock))
    for name, folder in sorted(config.watch.items()):
        found += _told(f"watch.{name}", _folder(store, config, name, folder, clock))
    return found


def _told(feed: str, work: Iterator[FeedReport]) -> Iterator[FeedReport]:
    try:
        yield from work
    except (InputError, Unreachable, Busy) as error:
        yield FeedReport(feed, error=str(error))


def _query(
    store: Store, config: Config, name: str, section: SourceSection, clock: Clock
) -> Iterator[FeedReport]:
    feed = f"source.{name}"
    cursor = None
    if section.cursor:
        newest = feed_state.cursor(store, feed)
        cursor = Cursor(section.cursor, None if newest is None else newest - section.overlap)
    source = Source(feed, sql=name, cursor=cursor)
    batch_id = None
    for report in _read(store, config, section.kind, source, clock):
        batch_id = report.batch_id or batch_id
        yield FeedReport(feed, report)
        if section.kind == "labels" and report.nothing_new:
            _say_complete(store, feed, clock())
    if cursor is not None and cursor.newest is not None:
        feed_state.save_cursor(store, feed, cursor.newest, clock(), batch_id)


def _folder(
    store: Store, config: Config, name: str, section: WatchSection, clock: Clock
) -> Iterator[FeedReport]:
    feed, folder = f"watch.{name}", Path(section.folder)
    if not folder.is_dir():
        raise InputError(
            f"{feed}.folder is {section.folder}, which is no folder: create it or correct the path"
        )
    known = feed_state.files(store, feed)
    for path in sorted(folder.glob(section.pattern)):
        if _complete(path, section.settle, clock()):
            yield from _file(store, config, feed, section, path, known.get(str(path)), clock)


def _complete(path: Path, settle: int, now: int) -> bool:
    """Whether nobody seems to write to the file any more."""
    hidden = path.name.startswith(".") or path.suffix in UNFINISHED
    return not hidden and path.is_file() and path.stat().st_mtime_ns // 1000 + settle <= now


def _file(
    store: Store,
    config: Config,
    feed: str,
    section: WatchSection,
    path: Path,
    known: WatchedFile | None,
    clock: Clock,
) -> Iterator[FeedReport]:
    """Take a file that is new or has changed; one that is refused is tried again when it changes."""
    stat = path.stat()
    if known is not None and (known.size, known.modified_ns) == (stat.st_size, stat.st_mtime_ns):
        return
    batch_id, refused = None, None
    try:
        for given in ingest.sources(config, section.kind, [str(path)], None, None):
            for report in _read(store, config, section.kind, given, clock):
                batch_id = report.batch_id or report.same_as or batch_id
                yield FeedReport(feed, report)
    except InputError as error:
        refused = str(error)
        yield FeedReport(feed, error=refused)
    status = "done" if refused is None else "failed"
    seen = WatchedFile(str(path), stat.st_size, stat.st_mtime_ns, status, clock(), batch_id, refused)
    feed_state.save_file(store, feed, seen)


def _read(store: Store, config: Config, kind: str, source: Source, clock: Clock) -> Iterator[IngestReport]:
    work = ingest.ingest_transactions if kind == "transactions" else ingest.ingest_labels
    return work(store, config, [source], clock=clock, options=Options())


def _say_complete(store: Store, feed: str, now: int) -> None:
    """No news is news for labels: silence up to now may be read once transactions mature."""
    newest = feed_state.newest_labels(store)
    if newest is not None and now - newest < COMPLETE_EVERY:
        return
    with batches.begin(store, "labels", feed, batches.history_is_open(store), now, feed) as loading:
        loading.finish(now, sha256(f"{feed} {now}".encode()).hexdigest(), now)
