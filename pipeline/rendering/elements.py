"""The elements of a page; a section names missing data instead of showing an empty chart."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

VegaSpec = dict[str, Any]


@dataclass(frozen=True)
class Chart:
    """
    A chart of a section.

    Attributes
    ----------
    name
        Its name for `--chart` and its anchor in the page.
    alt
        What the chart shows, as text for screen readers.
    draw
        Makes `spec`; not called where only the texts are shown.
    note
        How to read the chart, as text beneath its title.
    options
        Values that the reader may choose from; the choice sets the chart's parameter `selected`.
    drives
        The chart whose `selected` is set to the `option` of a mark that is clicked in this one.
    """

    name: str
    title: str
    alt: str
    draw: Callable[[], VegaSpec]
    note: str = ""
    options: Sequence[str] = ()
    drives: str = ""

    @cached_property
    def spec(self) -> VegaSpec:
        """Vega-Lite with colours as CSS variables of the page (`charts.with_colours` replaces them)."""
        return self.draw()


@dataclass(frozen=True)
class Table:
    """Rows of text; columns in `right_aligned` hold numbers; a collapsed table opens on a click."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    right_aligned: frozenset[str] = frozenset()
    collapsed: bool = False


@dataclass(frozen=True)
class Tile:
    """A key figure at the top of a section."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class ReportSection:
    """
    A heading with its content.

    Attributes
    ----------
    missing
        Data that are not there yet, and what to do about it.
    charts
        Functions that make the charts, since a page of text needs none and no chart library.
    """

    name: str
    title: str
    sentences: Sequence[str] = ()
    missing: Sequence[str] = ()
    tiles: Sequence[Tile] = ()
    charts: Sequence[Callable[[], Chart]] = ()
    tables: Sequence[Table] = ()
    points: Sequence[str] = ()


@dataclass(frozen=True)
class ReportPage:
    """Sections under a heading; `title` is the window's, `name` the monitor's."""

    title: str
    name: str
    heading: str
    subtitle: str
    sections: Sequence[ReportSection]
    footer: str = ""
