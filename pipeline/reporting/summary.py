"""The summary: one page of text, taken from the sections of the report."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from pipeline.rendering import text_page
from pipeline.rendering.elements import ReportPage, ReportSection
from pipeline.rendering.report_data import ReportData
from pipeline.reporting.report import SECTIONS


@dataclass(frozen=True)
class Excerpt:
    """
    What the summary takes from a section: all but charts and tables.

    Attributes
    ----------
    rows
        So many rows of each table are taken.
    without
        Columns that are left out.
    missing
        Whether missing data are named if the section has anything else.
    """

    section: str
    rows: int = 0
    without: frozenset[str] = frozenset()
    missing: bool = True


EXCERPTS = (
    Excerpt("outcome", rows=8),
    Excerpt("rates", rows=4, missing=False),
    Excerpt("attention"),
    Excerpt("choices", rows=5, without=frozenset({"reason"})),
    Excerpt("curves"),
    Excerpt("quality", missing=False),
    Excerpt("payments", rows=3),
)


def summary_lines(data: ReportData) -> Iterator[str]:
    """The lines of the summary."""
    sections = [_shorten(SECTIONS[excerpt.section](data), excerpt) for excerpt in EXCERPTS]
    name = data.config.monitor.name
    yield from text_page.render(ReportPage(name, name, "fraud summary", data.subtitle, sections))


def _shorten(section: ReportSection, excerpt: Excerpt) -> ReportSection:
    tables = []
    for table in section.tables if excerpt.rows else ():
        places = [place for place, name in enumerate(table.columns) if name not in excerpt.without]
        rows = [[row[place] for place in places] for row in table.rows[: excerpt.rows]]
        tables.append(replace(table, columns=[table.columns[place] for place in places], rows=rows))
    missing = section.missing if excerpt.missing or not section.sentences else ()
    return replace(section, tables=tables, missing=missing)
