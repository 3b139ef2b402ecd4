"""
Trees of a random forest, compiled: they split by Gini impurity on binned columns.

scikit-learn sorts the rows of each node by each column that it tries, which is nearly all of its time. Here the values of a column are
numbered once for all trees. A large node counts its rows by number, a small one sorts the numbers. Columns with more than
`BINS` distinct values are divided into as many bins of equally many rows; otherwise a tree is as exact as scikit-learn's, with its rules:
the best split of `max_features` columns drawn at random, and of further ones while all of those were constant.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detectors.algorithms.isolation_tree import DRAWS, LEAF, GrownTree, draw
from detectors.base import Floats, Ints
from detectors.compilation import compiled

BINS = 65_536  # of a column at most: what uint16 can number
SORTED = 8  # a node with fewer than one row in so many bins sorts its rows


@dataclass(frozen=True)
class BinnedColumns:
    """Rows by the bins of their columns, (n_features, n), and the smallest and largest value of each bin, (n_features, n_bins)."""

    bins: NDArray[np.uint16]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    sizes: Ints  # (n_features,) number of bins

    @classmethod
    def of(cls, rows: Floats) -> "BinnedColumns":
        """The bins of rows (n, n_features), compared in float32."""
        n, n_features = rows.shape
        bins = np.empty((n_features, n), dtype=np.uint16)
        low, high = np.zeros((2, n_features, min(n, BINS)), dtype=np.float32)
        sizes = np.empty(n_features, dtype=np.int64)
        for column in range(n_features):
            values, place, counts = np.unique(
                rows[:, column].astype(np.float32), return_inverse=True, return_counts=True
            )
            of_value = np.arange(len(values))
            if len(values) > BINS:
                of_value = (np.cumsum(counts) - counts) * BINS // n
                of_value = np.unique(of_value, return_inverse=True)[1]
            first = np.flatnonzero(np.diff(of_value, prepend=-1))
            size = sizes[column] = len(first)
            bins[column] = of_value[place]
            low[column, :size] = values[first]
            high[column, :size] = values[np.append(first[1:], len(values)) - 1]
        return cls(bins, low, high, sizes)


@dataclass(frozen=True)
class ProbabilityTree:
    """A tree, and the weight of its rows and of its frauds at each node, (n_nodes,)."""

    grown: GrownTree
    weight: Floats
    frauds: Floats


def grow_tree(
    columns: BinnedColumns,
    fraud: NDArray[np.bool_],
    weight: Floats,
    max_features: int,
    max_depth: int,
    min_leaf: int,
    state: int,
) -> ProbabilityTree:
    """
    Grow one tree on the rows with a weight.

    Parameters
    ----------
    fraud, weight
        (n,) of the rows.
    min_leaf
        Minimum rows of a leaf.
    state
        What the draws of columns begin with.
    """
    samples = np.flatnonzero(weight > 0)
    left, right, feature, depths, counts, threshold, total, frauds = _grow(
        columns.bins, columns.low, columns.high, columns.sizes, fraud, weight, samples,
        max_features, max_depth, min_leaf, state,
    )  # fmt: skip
    return ProbabilityTree(GrownTree(left, right, feature, threshold, counts, depths), total, frauds)


@compiled
def _grow(
    bins: NDArray[np.uint16],
    low: NDArray[np.float32],
    high: NDArray[np.float32],
    sizes: Ints,
    fraud: NDArray[np.bool_],
    weight: Floats,
    samples: Ints,
    max_features: int,
    max_depth: int,
    min_leaf: int,
    state: int,
) -> tuple[Ints, Ints, Ints, Ints, Ints, Floats, Floats, Floats]:
    """Children, column, depth, rows, threshold, weight and frauds of each node; a branch to the left is grown before one to the right."""
    n = len(samples)
    most = min(2 * n, 2 ** (max_depth + 1))
    left, right, feature = np.full(most, LEAF), np.full(most, LEAF), np.zeros(most, np.int64)
    depths, counts, threshold = np.zeros(most, np.int64), np.zeros(most, np.int64), np.zeros(most)
    total, frauds = np.zeros(most), np.zeros(most)
    columns, tables = np.arange(len(sizes)), np.zeros((3, low.shape[1]))
    waiting, top = np.zeros((max_depth + 2, 5), np.int64), 1
    waiting[0] = (0, n, 0, LEAF, 0)  # first and last row, depth, parent, whether it is the left child
    node = -1
    while top > 0:
        top, node = top - 1, node + 1
        start, end, depth, parent, is_left = waiting[top]
        counts[node], depths[node] = end - start, depth
        if parent != LEAF:
            (left if is_left else right)[parent] = node
        rows = samples[start:end]
        total[node], frauds[node] = _weights(rows, fraud, weight)
        genuine = total[node] - frauds[node]
        pure = min(frauds[node], genuine) <= 1e-12 * total[node]
        if depth >= max_depth or len(rows) < 2 * min_leaf or pure:
            continue
        column, cut, above, state = _best_split(
            bins, sizes, rows, fraud, weight, columns, tables, total[node], frauds[node],
            max_features, min_leaf, state,
        )  # fmt: skip
        if column == LEAF:
            continue
        middle = (np.float64(high[column, cut]) + np.float64(low[column, above])) / 2
        if np.float32(middle) >= low[column, above]:
            middle = np.float64(high[column, cut])
        feature[node], threshold[node] = column, middle
        parted = start + _part(rows, bins[column], cut)
        waiting[top] = (parted, end, depth + 1, node, 0)
        waiting[top + 1] = (start, parted, depth + 1, node, 1)
        top += 2
    k = node + 1
    return left[:k], right[:k], feature[:k], depths[:k], counts[:k], threshold[:k], total[:k], frauds[:k]


@compiled
def _weights(rows: Ints, fraud: NDArray[np.bool_], weight: Floats) -> tuple[float, float]:
    """The weight of rows, and of the frauds among them."""
    total = frauds = 0.0
    for i in range(len(rows)):
        total += weight[rows[i]]
        if fraud[rows[i]]:
            frauds += weight[rows[i]]
    return total, frauds


@compiled
def _best_split(
    bins: NDArray[np.uint16],
    sizes: Ints,
    rows: Ints,
    fraud: NDArray[np.bool_],
    weight: Floats,
    columns: Ints,
    tables: Floats,
    total: float,
    frauds: float,
    max_features: int,
    min_leaf: int,
    state: int,
) -> tuple[int, int, int, int]:
    """The column of the best split of a node, the bins below and above it, and the state after the draws; LEAF if there is none."""
    best, column, cut, above = 0.0, LEAF, 0, 0
    visited = differing = 0
    while visited < len(columns) and (visited < max_features or differing == 0):
        state = draw(state)
        place = visited + (state & DRAWS) % (len(columns) - visited)
        columns[visited], columns[place] = columns[place], columns[visited]
        tried = columns[visited]
        visited += 1
        if SORTED * len(rows) < sizes[tried]:
            found = _best_of_sorted(bins[tried], rows, fraud, weight, total, frauds, min_leaf)
        else:
            of_bins = tables[:, : sizes[tried]]
            found = _best_of_counted(bins[tried], of_bins, rows, fraud, weight, total, frauds, min_leaf)
        differing += found[3]
        if found[0] > best:
            best, column, cut, above = found[0], tried, found[1], found[2]
    return column, cut, above, state


@compiled
def _best_of_counted(
    of_column: NDArray[np.uint16],
    of_bins: Floats,
    rows: Ints,
    fraud: NDArray[np.bool_],
    weight: Floats,
    total: float,
    frauds: float,
    min_leaf: int,
) -> tuple[float, int, int, int]:
    """
    The best split of a column: its gain, the bins below and above it, and whether the column has more than one value.

    `of_bins` is room for the rows, weight and frauds of each bin, (3, n_bins).
    """
    of_bins[:] = 0.0
    for i in range(len(rows)):
        row = rows[i]
        here = of_column[row]
        of_bins[0, here] += 1
        of_bins[1, here] += weight[row]
        if fraud[row]:
            of_bins[2, here] += weight[row]
    best, at, above, previous = 0.0, 0, 0, LEAF
    below_rows, below, below_frauds = 0, 0.0, 0.0
    for here in range(of_bins.shape[1]):
        if of_bins[0, here] == 0:
            continue
        if previous != LEAF and below_rows >= min_leaf and len(rows) - below_rows >= min_leaf:
            gain = _gain(below, below_frauds, total, frauds)
            if gain > best:
                best, at, above = gain, previous, here
        below_rows += int(of_bins[0, here])
        below += of_bins[1, here]
        below_frauds += of_bins[2, here]
        if previous == LEAF and below_rows == len(rows):
            return 0.0, 0, 0, 0
        previous = here
    return best, at, above, 1


@compiled
def _best_of_sorted(
    of_column: NDArray[np.uint16],
    rows: Ints,
    fraud: NDArray[np.bool_],
    weight: Floats,
    total: float,
    frauds: float,
    min_leaf: int,
) -> tuple[float, int, int, int]:
    """As `_best_of_counted`."""
    n = len(rows)
    keys = np.empty(n, np.int64)
    for i in range(n):
        keys[i] = np.int64(of_column[rows[i]]) << 32 | rows[i]
    keys.sort()
    if keys[0] >> 32 == keys[n - 1] >> 32:
        return 0.0, 0, 0, 0
    best, at, above, below, below_frauds = 0.0, 0, 0, 0.0, 0.0
    for i in range(n):
        here = keys[i] >> 32
        if min_leaf <= i <= n - min_leaf and here != keys[i - 1] >> 32:
            gain = _gain(below, below_frauds, total, frauds)
            if gain > best:
                best, at, above = gain, keys[i - 1] >> 32, here
        row = keys[i] & 0xFFFFFFFF
        below += weight[row]
        if fraud[row]:
            below_frauds += weight[row]
    return best, at, above, 1


@compiled
def _gain(below: float, below_frauds: float, total: float, frauds: float) -> float:
    """By how much a split lowers the Gini impurity of a node, times its weight."""
    above, above_frauds = total - below, frauds - below_frauds
    if below <= 0.0 or above <= 0.0:
        return 0.0
    apart = below_frauds / below - above_frauds / above
    return 2.0 * below * above / total * apart * apart


@compiled
def _part(rows: Ints, of_column: NDArray[np.uint16], cut: int) -> int:
    """Put the rows whose bin is at most the cut in front; returns their number."""
    middle, back = 0, len(rows)
    while middle < back:
        if of_column[rows[middle]] <= cut:
            middle += 1
        else:
            back -= 1
            rows[middle], rows[back] = rows[back], rows[middle]
    return middle
