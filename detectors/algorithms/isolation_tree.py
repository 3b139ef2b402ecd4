"""
Random trees of an isolation forest, compiled: node for node those that scikit-learn grows.

scikit-learn takes a millisecond a tree to check parameters and to build objects, and a tenth of that to grow it. Here are the rules
of its `ExtraTreeRegressor(max_features=1)` without missing values and weights: the same draws (xorshift, Marsaglia 2003), the same
order of nodes, the same care for constant columns. The tests compare both.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detectors.base import Floats, Ints
from detectors.compilation import compiled

LEAF = -1
DRAWS = 2**31 - 1  # the largest draw
NARROWEST = np.float32(1e-7)  # a column whose range is no wider is constant
PURE = float(np.finfo(np.float64).eps)  # a node whose targets vary less is not split


@dataclass(frozen=True)
class GrownTree:
    """
    One tree, by node; a child lies behind its parent.

    Attributes
    ----------
    children_left, children_right
        (n_nodes,) −1 for a leaf.
    feature, threshold
        (n_nodes,) a row goes left if its value of the column is at most the threshold.
    n_node_samples
        (n_nodes,) rows that the tree was grown on.
    depths
        (n_nodes,) splits above the node.
    """

    children_left: Ints
    children_right: Ints
    feature: Ints
    threshold: Floats
    n_node_samples: Ints
    depths: Ints

    @property
    def node_count(self) -> int:
        """Nodes, leaves included."""
        return len(self.feature)

    @property
    def max_depth(self) -> int:
        """Splits on the longest branch."""
        return int(self.depths.max())


def grow_tree(rows: NDArray[np.float32], targets: Floats, max_depth: int, state: int) -> GrownTree:
    """
    Grow one tree on all rows, (n, n_features), n ≥ 1.

    Parameters
    ----------
    targets
        (n,) random numbers; nodes of equal ones are not split.
    state
        What the draws begin with; for scikit-learn's `random_state=seed` it is `RandomState(seed).randint(DRAWS)`.
    """
    left, right, feature, depths, counts, threshold = _grow(rows, targets, max_depth, state)
    return GrownTree(left, right, feature, threshold, counts, depths)


@compiled
def draw(state: int) -> int:
    """The state after one draw of xorshift; the draw is its lower 31 bits."""
    state = state if state != 0 else 1
    state ^= (state << 13) & 0xFFFFFFFF
    state ^= state >> 17
    state ^= (state << 5) & 0xFFFFFFFF
    return state


@compiled
def _grow(
    rows: NDArray[np.float32], targets: Floats, max_depth: int, state: int
) -> tuple[Ints, Ints, Ints, Ints, Ints, Floats]:
    """Left and right child, column, depth, rows and threshold of each node; a branch to the left is grown before one to the right."""
    n, n_features = rows.shape
    left, right, feature = np.full(2 * n, LEAF), np.full(2 * n, LEAF), np.zeros(2 * n, np.int64)
    depths, counts, threshold = np.zeros(2 * n, np.int64), np.zeros(2 * n, np.int64), np.zeros(2 * n)
    samples, values = np.arange(n), np.empty(n, np.float32)
    columns, constant = np.arange(n_features), np.zeros(n_features, np.int64)
    # Of each node that waits: first and last row, depth, parent, whether it is the left child, number of constant columns.
    waiting, variances, top = np.zeros((max_depth + 2, 6), np.int64), np.zeros(max_depth + 2), 1
    waiting[0] = (0, n, 0, LEAF, 0, 0)
    total, squares = _sums(targets, samples, 0, n)
    variances[0] = squares / n - (total / n) ** 2
    node = -1
    while top > 0:
        top, node = top - 1, node + 1
        start, end, depth, parent, is_left, inherited = waiting[top]
        counts[node], depths[node] = end - start, depth
        if parent != LEAF:
            (left if is_left else right)[parent] = node
        if depth >= max_depth or end - start < 2 or variances[top] <= PURE:
            continue
        column, cut, found, state = _cut(rows, samples[start:end], values, columns, inherited, state)
        columns[:inherited] = constant[:inherited]
        constant[inherited:found] = columns[inherited:found]
        if column == LEAF:
            continue
        feature[node], threshold[node] = column, cut
        total, squares = _sums(targets, samples, start, end)  # before the rows change their places
        middle = start + _part(samples[start:end], values, cut)
        before, after = _variances(targets, samples, start, middle, end, total, squares)
        waiting[top] = (middle, end, depth + 1, node, 0, found)
        waiting[top + 1] = (start, middle, depth + 1, node, 1, found)
        variances[top], variances[top + 1] = after, before
        top += 2
    n_nodes = node + 1
    return (
        left[:n_nodes], right[:n_nodes], feature[:n_nodes], depths[:n_nodes], counts[:n_nodes], threshold[:n_nodes],
    )  # fmt: skip


@compiled
def _cut(
    rows: NDArray[np.float32],
    samples: Ints,
    values: NDArray[np.float32],
    columns: Ints,
    inherited: int,
    state: int,
) -> tuple[int, float, int, int]:
    """
    The column and the threshold of a node, the number of its constant columns, and the state after the draws.

    The `inherited` constant columns of its ancestors are the first of `columns`; those that it finds follow them. `values` gets the rows'
    values of the column. LEAF if all columns are constant.
    """
    found, last, drawn = inherited, len(columns), 0
    while last > found:
        state = draw(state)
        place = drawn + (state & DRAWS) % (last - (found - inherited) - drawn)
        if place < inherited:
            columns[drawn], columns[place] = columns[place], columns[drawn]
            drawn += 1
            continue
        place += found - inherited
        column = columns[place]
        smallest = largest = rows[samples[0], column]
        for i in range(len(samples)):
            values[i] = rows[samples[i], column]
            smallest, largest = min(smallest, values[i]), max(largest, values[i])
        if largest <= np.float32(smallest + NARROWEST):
            columns[place], columns[found] = columns[found], column
            found += 1
            continue
        columns[last - 1], columns[place] = column, columns[last - 1]
        state = draw(state)
        low, high = np.float64(smallest), np.float64(largest)
        cut = (high - low) * np.float64(state & DRAWS) / np.float64(DRAWS) + low
        return column, (low if cut == high else cut), found, state
    return LEAF, 0.0, found, state


@compiled
def _part(samples: Ints, values: NDArray[np.float32], cut: float) -> int:
    """Put the rows that are at most the threshold in front; returns their number."""
    middle, back = 0, len(samples)
    while middle < back:
        if np.float64(values[middle]) <= cut:
            middle += 1
        else:
            back -= 1
            values[middle], values[back] = values[back], values[middle]
            samples[middle], samples[back] = samples[back], samples[middle]
    return middle


@compiled
def _sums(targets: Floats, samples: Ints, start: int, end: int) -> tuple[float, float]:
    """Sum of the targets and of their squares."""
    total = squares = 0.0
    for i in range(start, end):
        target = targets[samples[i]]
        total += target
        squares += target * target
    return total, squares


@compiled
def _variances(
    targets: Floats, samples: Ints, start: int, middle: int, end: int, total: float, squares: float
) -> tuple[float, float]:
    """Variances of the targets before and after the cut, by scikit-learn's order of sums, which decides on the last bit."""
    before, squares_before = _sums(targets, samples, start, middle)
    if middle - start > end - middle:
        before = total
        for i in range(end - 1, middle - 1, -1):
            before -= targets[samples[i]]
    n_before, n_after = float(middle - start), float(end - middle)
    return (
        squares_before / n_before - (before / n_before) ** 2,
        (squares - squares_before) / n_after - ((total - before) / n_after) ** 2,
    )
