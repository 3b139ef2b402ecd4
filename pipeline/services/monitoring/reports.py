"""Reports on a span of time, as documents: the HTML page, one of its charts as an image, and the summary as text."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Lock
from typing import Literal

from pipeline.errors import InputError, NotReady
from pipeline.rendering import charts, html_page
from pipeline.rendering.elements import Chart, ReportSection
from pipeline.rendering.report_data import ReportData
from pipeline.reporting import report, summary
from pipeline.schedule import grid
from pipeline.schedule.run_context import LIVE
from pipeline.services.monitoring.quality import refresh_quality
from pipeline.services.session import Session
from storage.database.column_types import as_micros
from storage.frames import MINUTE
from storage.ingest import history
from storage.queries.report_counts import newest_changes
from storage.runs import ledger

Note = Callable[[str], None]  # gets a sentence about what the document lacks
DEFAULT_LENGTH = timedelta(weeks=8)
COUNTS_AGE_MAX = 5 * MINUTE
Scheme = Literal["light", "dark"]
ChartWidth = Literal["wide", "narrow"]
WIDTHS: dict[ChartWidth, int] = {"wide": charts.IMAGE_WIDTH, "narrow": charts.NARROW_WIDTH}


def _ignore(_sentence: str) -> None:
    """A note that nobody reads."""


@dataclass(frozen=True)
class ReportRequest:
    """
    What to report on: payments of [start, end), with what was known at `as_of`; aware datetimes.

    Attributes
    ----------
    start
        Eight weeks before the end if missing.
    end
        The end of the newest window with transactions that the policy has scored if missing.
    as_of
        Now if missing.
    """

    start: datetime | None = None
    end: datetime | None = None
    as_of: datetime | None = None
    policy: str = "live"


@dataclass(frozen=True)
class ChartRequest:
    """One chart of a report as an image; `option` is the feature or metric of a chart that shows one of several."""

    name: str
    image_format: Literal["png", "svg"]
    option: str = ""
    report: ReportRequest = ReportRequest()


@dataclass(frozen=True)
class ChartDescription:
    """The name of a chart, and what it shows."""

    name: str
    description: str


def list_charts() -> list[ChartDescription]:
    """The charts of a report, in its order."""
    return [ChartDescription(name, description) for name, (_, description) in report.CHARTS.items()]


def render_page(session: Session, request: ReportRequest, note: Note = _ignore) -> bytes:
    """
    The report as one HTML page (UTF-8) that needs no network.

    Raises
    ------
    InputError
        The span is empty, or the chart libraries are not installed.
    NotReady
        The request names no end, and the policy has scored nothing yet.
    """
    charts.require_chart_libraries()
    return report.render_html(_load(session, request, note)).encode()


def render_chart(session: Session, request: ChartRequest, note: Note = _ignore) -> bytes:
    """
    One chart as PNG or SVG.

    Raises
    ------
    InputError
        As for a page; or there is no such chart or option.
    NotReady
        As for a page; or there are no data for the chart.
    """
    charts.require_chart_libraries()
    return report.render_chart(
        _load(session, request.report, note), request.name, request.image_format, request.option
    )


def render_summary(session: Session, request: ReportRequest, note: Note = _ignore) -> bytes:
    """
    The summary as one page of text (UTF-8), 80 columns wide.

    Raises
    ------
    InputError, NotReady
        As for a page, which alone needs chart libraries.
    """
    return "\n".join(summary.summary_lines(_load(session, request, note))).encode()


@dataclass(frozen=True)
class _Counted:
    """What was counted of a span, the state of the database it was counted in, and what was made of it by its names."""

    state: tuple[object, ...]
    data: ReportData
    parts: dict[tuple[str, ...], bytes]
    sections: dict[str, ReportSection] = field(default_factory=dict)
    charts: dict[str, Chart] = field(default_factory=dict)

    def section(self, name: str) -> ReportSection:
        """A section of the report."""
        if name not in self.sections:
            self.sections[name] = report.SECTIONS[name](self.data)
        return self.sections[name]

    def chart(self, name: str) -> Chart:
        """A chart of such a section, for all of its pictures."""
        if name not in self.charts:
            found = (make() for make in self.section(report.CHARTS[name][0]).charts)
            self.charts.update((chart.name, chart) for chart in found)
        if name not in self.charts:
            raise NotReady(f"chart {name} has no data", code="chart_without_data")
        return self.charts[name]


class NewestReport:
    """
    The newest eight weeks of the live policy for the parts of pages, with quality as it was measured last.

    All parts share what was counted: for `COUNTS_AGE_MAX` at most, and only as long as no label, verdict, batch or run is new.
    What they show says as of when it was counted.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._counted: _Counted | None = None

    def section(self, session: Session, name: str) -> bytes:
        """
        A section as a part of a page (UTF-8).

        Raises
        ------
        InputError
            There is no such section.
        NotReady
            The live policy has scored nothing yet.
        """
        if name not in report.SECTIONS:
            raise InputError(
                f"there is no section {name!r}", remedy=f"choose one of {', '.join(report.SECTIONS)}"
            )
        return self._part(session, (name,), lambda counted: _section_html(counted, name))

    def chart(self, session: Session, name: str, scheme: Scheme, width: ChartWidth) -> bytes:
        """
        A chart of such a section as SVG, in the colours of a light or a dark page and for a wide or a narrow one.

        Raises
        ------
        InputError
            There is no such chart, or the chart libraries are not installed.
        NotReady
            There are no data for the chart, or the live policy has scored nothing yet.
        """
        charts.require_chart_libraries()
        if name not in report.CHARTS:
            raise InputError(
                f"there is no chart {name!r}",
                remedy=f"choose one of {', '.join(report.CHARTS)}",
                code="no_such_chart",
            )
        colours = charts.DARK if scheme == "dark" else charts.LIGHT
        return self._part(
            session,
            (name, scheme, width),
            lambda counted: charts.render_image(
                [counted.chart(name)], "svg", colours=colours, width=WIDTHS[width]
            ),
        )

    def _part(self, session: Session, name: tuple[str, ...], make: Callable[[_Counted], bytes]) -> bytes:
        with self._lock:
            span, now = _resolve_span(session, ReportRequest()), session.now
            state, counted = (*span, *newest_changes(session.store)), self._counted
            if counted is None or counted.state != state or now - counted.data.scope.as_of >= COUNTS_AGE_MAX:
                data = ReportData.load(session.store, session.config, LIVE, *span, now)
                counted = self._counted = _Counted(state, data, {})
            if name not in counted.parts:
                counted.parts[name] = make(counted)
            return counted.parts[name]


def _section_html(counted: _Counted, name: str) -> bytes:
    return html_page.render_section(counted.section(name), counted.data.scope.as_of).encode()


def _load(session: Session, request: ReportRequest, note: Note) -> ReportData:
    start, end = _resolve_span(session, request)
    as_of = session.now if request.as_of is None else as_micros(request.as_of)
    if request.as_of is None:
        measured = refresh_quality(session, request.policy)
        if measured.error:
            note(measured.not_measured)
    return ReportData.load(session.store, session.config, request.policy, start, end, as_of)


def _newest_scored(session: Session, policy: str) -> int | None:
    """The end of the newest window scored; windows after the last transaction, which are empty, do not count."""
    done, span = ledger.newest_done(session.store, policy, "score"), history.span(session.store)
    if done is None or span is None:
        return None
    schedule = session.config.schedule
    newest = grid.floor(schedule.window, schedule.timezone, span[1])
    return min(done, grid.following(schedule.window, schedule.timezone, newest))


def _resolve_span(session: Session, request: ReportRequest) -> tuple[int, int]:
    """The span in µs, with the defaults in place."""
    end = _newest_scored(session, request.policy) if request.end is None else as_micros(request.end)
    if end is None:
        raise NotReady(
            f"no window of policy {request.policy} has been scored yet",
            remedy="score some first, or name the span",
            code="nothing_scored",
        )
    start = (
        end - DEFAULT_LENGTH // timedelta(microseconds=1)
        if request.start is None
        else as_micros(request.start)
    )
    if start >= end:
        raise InputError(
            "the span is empty",
            remedy="its start must be before its end, which is not part of it",
            code="empty_span",
        )
    return start, end
