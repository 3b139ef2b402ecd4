"""The terms of the report: the tables of docs/glossary.md, which the package brings along."""

import re
from collections.abc import Iterator
from importlib.resources import files

from pipeline.rendering.elements import ReportSection, Table
from pipeline.rendering.report_data import ReportData

COLUMNS = ("term", "meaning")


def section(_data: ReportData) -> ReportSection:
    """One collapsed table a heading of the glossary."""
    text = files("pipeline.rendering").joinpath("glossary.md").read_text(encoding="utf-8")
    sentences = ("The terms of fraudwatch, as docs/glossary.md explains them.",)
    return ReportSection("terms", "Terms", sentences, tables=list(tables(text)))


def tables(text: str) -> Iterator[Table]:
    """The headings of the glossary with the first two columns of their tables, without Markdown."""
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        title, _, body = part.partition("\n")
        lines = [line.strip("| ") for line in body.splitlines() if line.startswith("|")]
        cells = [[plain(cell) for cell in line.split(" | ")] for line in lines[2:]]
        yield Table(title.strip(), COLUMNS, [row[:2] for row in cells], collapsed=True)


def plain(text: str) -> str:
    """Text without backticks, emphasis and links."""
    return re.sub(r"\[([^\]]*)\]\([^)]*\)|[`*]", lambda match: match[1] or "", text)
