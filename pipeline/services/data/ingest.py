"""Ingest of transactions and labels from files, standard input, queries and feeds."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from pipeline.ingest import feeds, waiting_rows
from pipeline.ingest import ingest as ingesting
from pipeline.ingest.currencies.rate_sources import RatesReport, ingest_rates, rate_places
from pipeline.ingest.feeds import FeedReport
from pipeline.ingest.ingest_report import IngestReport, Kind, NothingAcceptedError, Options
from pipeline.ingest.sources import sources
from pipeline.progress import Progress
from pipeline.services.session import Session
from storage.database.column_types import MICROSECOND, as_datetime, as_micros
from storage.ingest.waiting_rows import list_waiting


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

    Before transactions, those that waited for a rate and have one by now are taken up.

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
    inputs = sources(session.config, request.kind, request.paths, request.query, request.file_format)
    load = ingesting.ingest_transactions if request.kind == "transactions" else ingesting.ingest_labels
    rejected: list[str] = []
    if request.kind == "transactions":
        yield from waiting_rows.take_up(session.store, session.config, session.clock)
    for report in load(
        session.store, session.config, inputs, clock=session.clock, options=options, progress=progress
    ):
        yield report
        rejected += [report.source] if report.fails else []
    if rejected:
        raise NothingAcceptedError(rejected)


@dataclass(frozen=True)
class RatesRequest:
    """
    Which rates to read.

    Attributes
    ----------
    paths
        Files, or "-" for standard input, with the columns date, currency and rate.
    query
        NAME of the query [source.NAME] of kind "rates", instead of files.
    file_format
        csv, parquet or jsonl; None to go by the name or content.
    """

    paths: tuple[str, ...] = ()
    query: str | None = None
    file_format: str | None = None


def load_rates(session: Session, request: RatesRequest) -> Iterator[RatesReport | IngestReport]:
    """
    Store the rates of each source and yield a report; then take up the transactions that waited for them.

    Raises
    ------
    InputError
        A source cannot be read, lacks a column or holds a row that is no rate; nothing of it is stored.
    Busy
        Another ingest is running.
    """
    inputs = sources(session.config, "rates", request.paths, request.query, request.file_format)
    yield from ingest_rates(session.store, session.config, inputs, clock=session.clock)
    yield from waiting_rows.take_up(session.store, session.config, session.clock)


@dataclass(frozen=True)
class WaitingRecord:
    """
    Payments that wait for a rate of their currency.

    Attributes
    ----------
    since
        When the first of them arrived.
    first_day
        The day of the earliest payment: a rate of this day or an earlier one is enough for all.
    places
        Where rates come from: the file of schema.rates, and names of sources and watched folders.
    """

    currency: str
    payments: int
    since: datetime
    first_day: date
    places: tuple[str, ...]


def waiting_payments(session: Session) -> tuple[WaitingRecord, ...]:
    """Return the payments that wait for a rate, by currency."""
    places = rate_places(session.config)
    return tuple(
        WaitingRecord(
            waiting.currency,
            waiting.payments,
            as_datetime(waiting.since),
            as_datetime(waiting.first_event).date(),
            places,
        )
        for waiting in list_waiting(session.store)
    )


def poll_feeds(session: Session) -> list[FeedReport]:
    """Read every polled query and watched folder; a feed that fails does not stop the others."""
    return list(feeds.poll(session.store, session.config, session.clock))
