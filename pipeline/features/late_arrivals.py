"""
Excludes late-arriving rows from point-in-time sums.

The main computation counts every earlier row. This module handles only rows that became visible too late for some
query row, that is, rows that arrived out of order; on-time data costs nothing extra.
"""

import numpy as np
from numpy.typing import NDArray

from storage.frames import FOREVER, Ints


class LateArrivals:
    """
    Rows with the instant each became visible: sums over those not visible at an instant, and the last one that was.

    A wavelet matrix over the ranks of the instants (Claude, Navarro & Ordóñez 2015, *The wavelet matrix*),
    with prefix sums on every level: a slice of m rows with b different instants is summed in log2(b) steps,
    for all queries at once, however many rows are hidden from each.

    Parameters
    ----------
    instants
        (m,) when each row became visible, µs.
    values
        (m, k) values to sum.
    """

    def __init__(self, instants: Ints, values: Ints) -> None:
        self._instants = instants
        self._distinct, ranks = np.unique(instants, return_inverse=True)
        self._levels: list[tuple[int, Ints, Ints]] = []
        for bit in reversed(range(int(len(self._distinct) - 1).bit_length())):
            ones = (ranks >> bit) & 1 == 1
            zeros_before = _prefix((~ones).astype(np.int64))
            order = np.argsort(ones, kind="stable")
            ranks, values = ranks[order], values[order]
            self._levels.append((bit, zeros_before, _prefix(values)))
        self._last = _prefix(values)
        self._minima = [instants]

    def sums(self, first: Ints, end: Ints, as_of: Ints) -> Ints:
        """
        Sums of the values in [first, end) of the rows that became visible after `as_of`, (n_queries, k).
        """
        threshold = np.searchsorted(self._distinct, as_of, side="right")
        totals = np.zeros((len(first), self._last.shape[1]), dtype=np.int64)
        open_ = np.flatnonzero((first < end) & (threshold < len(self._distinct)))
        if len(open_):
            totals[open_] = self._sum_above(first[open_], end[open_], threshold[open_])
        return totals

    def _sum_above(self, first: Ints, end: Ints, threshold: Ints) -> Ints:
        """Sum rows whose rank is at or above the threshold, walking down the threshold's bits."""
        totals = np.zeros((len(first), self._last.shape[1]), dtype=np.int64)
        for bit, zeros_before, sums in self._levels:
            zeros = zeros_before[-1]
            first0, end0 = zeros_before[first], zeros_before[end]
            first1, end1 = zeros + first - first0, zeros + end - end0
            up = (threshold >> bit) & 1 == 1
            totals += np.where(up[:, None], 0, sums[end1] - sums[first1])
            first, end = np.where(up, first1, first0), np.where(up, end1, end0)
        return totals + self._last[end] - self._last[first]

    def last_visible(self, first: Ints, end: Ints, as_of: Ints) -> Ints:
        """The last row of [first, end) that was visible at `as_of`, −1 if none was."""
        last = end.copy()
        for size, minima in reversed(list(enumerate(self._tables(int((end - first).max(initial=1)))))):
            back = last - (1 << size)
            hidden = (back >= first) & (minima[np.maximum(back, 0)] > as_of)
            last = np.where(hidden, back, last)
        return np.where(last > first, last - 1, -1)

    def _tables(self, longest: int) -> list[Ints]:
        """Table s holds, for each row, the earliest instant among it and the 2**s − 1 rows after it."""
        while 1 << len(self._minima) <= longest:
            below, half = self._minima[-1], 1 << (len(self._minima) - 1)
            shifted = np.concatenate((below[half:], np.full(half, FOREVER)))[: len(below)]
            self._minima.append(np.minimum(below, shifted))
        return self._minima


def out_of_order(ingested_at: Ints, rows: Ints, as_of: Ints) -> NDArray[np.bool_] | None:
    """
    Which rows became visible later than the `as_of` of some later query row, (n,); None if there are none.

    Parameters
    ----------
    rows
        (q,) positions of the query rows, ascending; `as_of` is theirs.
    """
    earliest = np.full(len(ingested_at), FOREVER)
    earliest[rows] = as_of
    earliest = np.minimum.accumulate(earliest[::-1])[::-1]
    late: NDArray[np.bool_] = ingested_at > earliest
    return late if late.any() else None


def _prefix(values: Ints) -> Ints:
    """Sums of the first 0, 1, 2 … rows; int64 may wrap around, a difference of two sums wraps back."""
    sums = np.zeros((len(values) + 1, *values.shape[1:]), dtype=np.int64)
    np.cumsum(values, axis=0, out=sums[1:])
    return sums
