"""What a report is made of; a section says what is missing instead of drawing an empty chart."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Spec = dict[str, Any]


@dataclass(frozen=True)
class Chart:
    """
    A picture of a section.

    Attributes
    ----------
    name
        What `--chart` calls it, and the page's anchor.
    alt
        What the picture shows, for whoever cannot see it.
    spec
        Vega-Lite, its colours as variables of the page (`look.concrete` makes them colours).
    picks
        Values that the reader may choose from; the chart's parameter `shown` follows.
    drives
        The chart whose `shown` becomes the `pick` of the mark that was clicked.
    """

    name: str
    title: str
    alt: str
    spec: Spec
    picks: Sequence[str] = ()
    drives: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of text; columns named in `right` hold numbers, and a folded one opens when asked."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: frozenset[str] = frozenset()
    folded: bool = False


@dataclass(frozen=True)
class Tile:
    """A number worth seeing first."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Section:
    """A heading and what belongs below it; `missing` says what is not there yet and what to do about it."""

    name: str
    title: str
    said: Sequence[str] = ()
    missing: Sequence[str] = ()
    tiles: Sequence[Tile] = ()
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    points: Sequence[str] = ()
