"""
The windows of a reference, and for each window the remaining rows that it is compared with.

A reference is divided into cells: windows of the schedule, or days if windows are longer. A window is one cell, or as many
days as it lasts; if it holds too few rows it is pooled with the cells before it, as in production. The remaining rows leave
out the days around a window, because neighbouring days are alike and a production window does not follow its reference
immediately.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from detectors.base import Ints
from detectors.drift.histograms import BinnedSample

WINDOWS_MAX = 600  # of more windows an evenly spaced subset is used


@dataclass(frozen=True)
class ReferenceWindows:
    """
    The cells of a reference, and the windows that they form.

    Attributes
    ----------
    cell
        (n,) the cell of each row, ascending.
    season
        (n_cells,) the season of each cell, such as its weekday and hour.
    special
        (n_cells,) cells that are excluded from the usual ones: holidays.
    width, gap
        Cells per window, and cells left out on either side of it.
    windows_per_week
        Windows per week.
    """

    cell: Ints
    season: Sequence[str]
    special: Sequence[bool]
    width: int = 1
    gap: int = 7
    windows_per_week: float = 7.0

    @property
    def n_cells(self) -> int:
        """Number of cells of the reference."""
        return len(self.season)

    def take(self, rows: Any) -> "ReferenceWindows":
        """The same cells over a subset of the rows."""
        return replace(self, cell=self.cell[rows])

    def ends(self) -> Ints:
        """(k,) the cell after each window, at most `WINDOWS_MAX`; windows with special cells are left out."""
        cumulative = np.concatenate(([0], np.cumsum(np.asarray(self.special, dtype=np.int64))))
        ends = np.arange(self.width, self.n_cells + 1)
        plain = ends[cumulative[ends] == cumulative[ends - self.width]] if len(ends) else ends
        if len(plain) > WINDOWS_MAX:
            plain = plain[np.linspace(0, len(plain) - 1, WINDOWS_MAX).astype(np.int64)]
        return plain

    def first(self, ends: Ints, min_rows: int) -> Ints:
        """(k,) the first cell of each window, including the cells pooled before it; −1 if there are too few rows before it."""
        cumulative = np.concatenate(([0], np.cumsum(np.bincount(self.cell, minlength=self.n_cells))))
        enough = np.searchsorted(cumulative, cumulative[ends] - min_rows, side="right") - 1
        return np.minimum(enough, ends - self.width)

    def current(self, cells: BinnedSample, first: Ints, ends: Ints) -> BinnedSample:
        """(k, b) the counts of each window; `cells` is (n_cells, b)."""
        return _between(_cumulative(cells), np.maximum(first, 0), ends)

    def rest(self, cells: BinnedSample, first: Ints, ends: Ints, span: int | None = None) -> BinnedSample:
        """
        (k, b) the counts that each window is compared with.

        Parameters
        ----------
        span
            Number of cells, if only the nearest ones outside the gap are used.
        """
        cumulative, first = _cumulative(cells), np.maximum(first, 0)
        low, high = np.maximum(first - self.gap, 0), np.minimum(ends + self.gap, self.n_cells)
        if span is None:
            return BinnedSample(cumulative.counts[-1], cumulative.gaps[-1]) - _between(cumulative, low, high)
        before, after = np.maximum(low - span, 0), np.minimum(high + span, self.n_cells)
        use_before = low - before >= after - high
        return _between(cumulative, np.where(use_before, before, high), np.where(use_before, low, after))


def _cumulative(cells: BinnedSample) -> BinnedSample:
    """Cumulative sums along the cells, with a leading zero."""
    return BinnedSample(_padded(cells.counts), _padded(cells.gaps))


def _padded(values: Any) -> Any:
    return np.concatenate((np.zeros((1, values.shape[1]), values.dtype), np.cumsum(values, axis=0)))


def _between(cumulative: BinnedSample, first: Ints, end: Ints) -> BinnedSample:
    return BinnedSample(cumulative.counts[end], cumulative.gaps[end]) - BinnedSample(
        cumulative.counts[first], cumulative.gaps[first]
    )
