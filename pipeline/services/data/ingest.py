"""Ingest of transactions and labels from files, standard input, queries and feeds."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from pipeline.ingest import feeds
from pipeline.ingest import ingest as ingesting
from pipeline.ingest.feeds import FeedReport
from pipeline.ingest.ingest import IngestReport, Kind, NothingAcceptedError, Options
from pipeline.progress import Progress
from pipeline.services.session import Session
from storage.database.column_types import MICROSECOND, as_micros


@dataclass(frozen=True)
class IngestRequest:
    """
    What to read.

    Attributes
    ----------
    paths
        Files, patterns of files, or "-" for standard input.
    query
        NAME of the query [source.NAME], instead of files.
    file_format
        csv, parquet, jsonl or excel; None to go by the name or content.
    history
        Whether rows count as known when they happened, or only from now on; None for history until a window is scored.
    known_after
        How long after the event its label became known.
    complete_through
        Until when labels are complete.
    """

    kind: Kind
    paths: tuple[str, ...] = ()
    query: str | None = None
    file_format: str | None = None
    history: bool | None = None
    known_after: timedelta | None = None
    complete_through: datetime | None = None


def ingest(
    session: Session, request: IngestRequest, progress: Progress | None = None
) -> Iterator[IngestReport]:
    """
    Load each source as one batch and yield its report; a source is loaded when its report is requested.

    Raises
    ------
    InputError
        A source cannot be read or lacks a column; neither it nor any later source becomes visible. Or, after the last
        report, every row of a source was rejected.
    Busy
        Another ingest is running.
    """
    after, through = request.known_after, request.complete_through
    options = Options(
        request.history,
        None if after is None else after // MICROSECOND,
        None if through is None else as_micros(through),
    )
    sources = ingesting.sources(
        session.config, request.kind, request.paths, request.query, request.file_format
    )
    load = ingesting.ingest_transactions if request.kind == "transactions" else ingesting.ingest_labels
    rejected: list[str] = []
    for report in load(
        session.store, session.config, sources, clock=session.clock, options=options, progress=progress
    ):
        yield report
        rejected += [report.source] if report.nothing_usable else []
    if rejected:
        raise NothingAcceptedError(rejected)


def poll_feeds(session: Session) -> list[FeedReport]:
    """Read every polled query and watched folder; a feed that fails does not stop the others."""
    return feeds.poll(session.store, session.config, session.clock)
