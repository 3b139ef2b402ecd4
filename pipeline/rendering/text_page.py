"""Render a page as plain text for a terminal; charts are left out."""

import textwrap
from collections.abc import Iterator, Sequence

from pipeline.rendering.elements import ReportPage, ReportSection, Table, Tile

WIDTH = 80  # characters of a line
GAP = "  "  # between two columns
INDENT = "      "  # before the last column of a table that is too wide: it goes under its row


def render(page: ReportPage) -> Iterator[str]:
    """The page line by line."""
    yield from _wrapped(f"{page.name}: {page.heading}")
    yield from _wrapped(page.subtitle)
    for section in page.sections:
        yield from _section(section)
    if page.footer:
        yield ""
        yield from page.footer.splitlines()


def _section(section: ReportSection) -> Iterator[str]:
    yield from ("", section.title, "─" * len(section.title))
    text = [line for sentence in (*section.sentences, *section.missing) for line in _wrapped(sentence)]
    text += [line for point in section.points for line in _wrapped(point, "- ", "  ")]
    parts = [list(_tiles(section.tiles)), text, *(list(_table(table)) for table in section.tables)]
    for place, part in enumerate(filter(None, parts)):
        yield from ["", *part] if place else part


def _tiles(tiles: Sequence[Tile]) -> Iterator[str]:
    labels = max((len(tile.label) for tile in tiles), default=0)
    values = max((len(tile.value) for tile in tiles), default=0)
    for tile in tiles:
        yield GAP.join((tile.label.ljust(labels), tile.value.rjust(values), tile.note)).rstrip()


def _table(table: Table) -> Iterator[str]:
    yield from _wrapped(table.caption)
    widths = [_width(table, place) for place in range(len(table.columns))]
    too_wide = sum(widths) + len(GAP) * (len(widths) - 1) > WIDTH
    below = too_wide and table.columns[-1] not in table.right_aligned
    in_line = len(widths) - below
    names = [textwrap.wrap(name, width) for name, width in zip(table.columns[:in_line], widths, strict=False)]
    height = max(len(name) for name in names)
    for at in range(height):
        yield _line(table, widths, [([""] * (height - len(name)) + name)[at] for name in names])
    yield GAP.join("─" * width for width in widths[:in_line])
    for row in table.rows:
        yield _line(table, widths, row[:in_line])
        if below:
            yield from _wrapped(row[-1], INDENT, INDENT)


def _width(table: Table, place: int) -> int:
    """The longest cell or word of the name of a column."""
    return max(map(len, [*(row[place] for row in table.rows), *table.columns[place].split()]))


def _line(table: Table, widths: Sequence[int], cells: Sequence[str]) -> str:
    aligned = (
        cell.rjust(width) if name in table.right_aligned else cell.ljust(width)
        for name, width, cell in zip(table.columns, widths, cells, strict=False)
    )
    return GAP.join(aligned).rstrip()


def _wrapped(text: str, first: str = "", others: str = "") -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=others,
        break_long_words=False,
        break_on_hyphens=False,
    )
