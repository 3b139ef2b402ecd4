"""
The windows of a reference, and for each of them the rest that it is compared with.

A reference is cut into cells: windows of the schedule, or days where windows are longer. A window is one cell or as many
days as it lasts; where it holds too few rows the cells before it are pooled, as they are later. The rest leaves out the
days around a window, for neighbours look alike and the past that a window is held against does not end just before it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from detectors.base import Ints
from detectors.drift.histograms import Binned

WINDOWS_MAX = 600  # more are thinned evenly


@dataclass(frozen=True)
class Grid:
    """
    Attributes
    ----------
    cell
        (n,) the cell of each row, ascending.
    season
        (n_cells,) what a cell's time is called, such as the weekday and hour.
    special
        (n_cells,) cells that are no part of what is usual: holidays.
    width, gap
        Cells a window, and cells left out on either side of it.
    windows_per_week
        How often a window comes.
    seasonal
        Whether a window is compared with its own season only.
    """

    cell: Ints
    season: Sequence[str]
    special: Sequence[bool]
    width: int = 1
    gap: int = 7
    windows_per_week: float = 7.0
    seasonal: bool = False

    @property
    def n_cells(self) -> int:
        """How many cells the reference spans."""
        return len(self.season)

    def of(self, rows: Any) -> "Grid":
        """The same cells over some of the rows."""
        return Grid(
            self.cell[rows],
            self.season,
            self.special,
            self.width,
            self.gap,
            self.windows_per_week,
            self.seasonal,
        )

    def ends(self) -> Ints:
        """(k,) the cell after each window, at most `WINDOWS_MAX`; windows with special cells left out."""
        through = np.concatenate(([0], np.cumsum(np.asarray(self.special, dtype=np.int64))))
        ends = np.arange(self.width, self.n_cells + 1)
        plain = ends[through[ends] == through[ends - self.width]] if len(ends) else ends
        if len(plain) > WINDOWS_MAX:
            plain = plain[np.linspace(0, len(plain) - 1, WINDOWS_MAX).astype(np.int64)]
        return plain

    def first(self, ends: Ints, min_rows: int) -> Ints:
        """(k,) the first cell of each window with the cells pooled before it; −1 where the reference has too few."""
        through = np.concatenate(([0], np.cumsum(np.bincount(self.cell, minlength=self.n_cells))))
        enough = np.searchsorted(through, through[ends] - min_rows, side="right") - 1
        return np.minimum(enough, ends - self.width)

    def current(self, cells: Binned, first: Ints, ends: Ints) -> Binned:
        """(k, b) what each window holds; `cells` is (n_cells, b)."""
        return _between(_through(cells), np.maximum(first, 0), ends)

    def rest(self, cells: Binned, first: Ints, ends: Ints, span: int | None = None) -> Binned:
        """
        (k, b) what each window is compared with.

        Parameters
        ----------
        span
            Cells of a reference shorter than the whole: the nearest ones outside the gap.
        """
        through, first = _through(cells), np.maximum(first, 0)
        if self.seasonal and self.width == 1:
            of_season = _between(_through(self._by_season(cells)), first, ends)
            return of_season - _between(through, first, ends)
        low, high = np.maximum(first - self.gap, 0), np.minimum(ends + self.gap, self.n_cells)
        if span is None:
            return Binned(through.counts[-1], through.gaps[-1]) - _between(through, low, high)
        before, after = np.maximum(low - span, 0), np.minimum(high + span, self.n_cells)
        use_before = low - before >= after - high
        return _between(through, np.where(use_before, before, high), np.where(use_before, low, after))

    def _by_season(self, cells: Binned) -> Binned:
        """(n_cells, b) all rows of each cell's season."""
        _, code = np.unique(np.asarray(self.season), return_inverse=True)
        counts = np.zeros((code.max(initial=0) + 1, cells.counts.shape[1]), np.int64)
        gaps = np.zeros(counts.shape)
        np.add.at(counts, code, cells.counts)
        np.add.at(gaps, code, cells.gaps)
        return Binned(counts[code], gaps[code])


def _through(cells: Binned) -> Binned:
    """Cumulative sums along the cells, a zero first."""
    return Binned(_padded(cells.counts), _padded(cells.gaps))


def _padded(values: Any) -> Any:
    return np.concatenate((np.zeros((1, values.shape[1]), values.dtype), np.cumsum(values, axis=0)))


def _between(through: Binned, first: Ints, end: Ints) -> Binned:
    return Binned(through.counts[end], through.gaps[end]) - Binned(through.counts[first], through.gaps[first])
