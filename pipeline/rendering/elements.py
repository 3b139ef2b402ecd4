"""The elements of a report; a section names missing data instead of showing an empty chart."""

from collections.abc import Sequence
from dataclasses import dataclass
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
    spec
        Vega-Lite with colours as CSS variables of the page (`charts.with_colours` replaces them).
    options
        Values that the reader may choose from; the choice sets the chart's parameter `selected`.
    drives
        The chart whose `selected` is set to the `option` of a mark that is clicked in this one.
    """

    name: str
    title: str
    alt: str
    spec: VegaSpec
    options: Sequence[str] = ()
    drives: str = ""


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
    """A heading with its content; `missing` names data that are not there yet and what to do about it."""

    name: str
    title: str
    sentences: Sequence[str] = ()
    missing: Sequence[str] = ()
    tiles: Sequence[Tile] = ()
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    points: Sequence[str] = ()
