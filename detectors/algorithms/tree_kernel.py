"""
Compiled evaluation of decision forests that are flattened into arrays.

The trees of a forest are stored one after the other. The children of a node are adjacent, so that a comparison
gives an index instead of a branch that the processor has to predict. A leaf is its own child on both sides, so
that a traversal may take more steps than the branch has nodes and needs no test for a leaf. Eight rows are
traversed at once to hide memory latency.

Rows are compared in float32, as scikit-learn does: `float32(x) <= threshold` for a float64 threshold means
the same as for the largest float32 not above it, which is what is stored. Each row adds its trees' values in
the order of the trees, so scores are equal to the bit in any batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.base import DetectorError, Floats, require_arrays
from detectors.compilation import compiled

LARGEST = 1e38  # scikit-learn's trees are float32; a column's range must fit, too
BLOCK = 512  # rows per block: a tree stays in the cache for all of them


@dataclass(frozen=True)
class Forest:
    """
    Trees with a value at every node, leaves included.

    Attributes
    ----------
    feature
        (n_nodes,) column a node splits on, 0 for a leaf.
    threshold
        (n_nodes,) float32; a row goes left if its value is at most this. 0 for a leaf.
    child
        (2 n_nodes,) left and right child of each node, counted over all trees; a leaf itself, twice.
    value
        (n_nodes,) value of a row that ends here.
    roots
        (n_trees,) first node of each tree.
    depth
        (n_trees,) longest branch of each tree, in splits.
    """

    feature: NDArray[np.uint32]
    threshold: NDArray[np.float32]
    child: NDArray[np.uint32]
    value: Floats
    roots: NDArray[np.uint32]
    depth: NDArray[np.uint32]

    def __post_init__(self) -> None:
        n = len(self.feature)
        require_arrays("a forest", (n,), self.feature, self.threshold, self.value, at_most=LARGEST)
        require_arrays("a forest", (2 * n,), self.child)
        require_arrays("a forest", (len(self.roots),), self.roots, self.depth)
        left, right = self.child[::2], self.child[1::2]
        here = np.arange(n, dtype=np.uint32)
        proper = ((left > here) & (right > here)) | ((left == here) & (right == here))
        inside = n > 0 and len(self.roots) > 0 and int(self.child.max()) < n and int(self.roots.max()) < n
        if not (inside and proper.all()):
            raise DetectorError(
                "the nodes of a forest are no trees: a child lies behind its parent, or is a leaf itself"
            )
        if not np.array_equal(_heights(self.child)[self.roots], self.depth):
            raise DetectorError("the depths of a forest are not those of its trees")

    def require_columns(self, n_features: int) -> None:
        """Raise DetectorError if a node splits on a column that rows of so many features do not have."""
        if int(self.feature.max()) >= n_features:
            raise DetectorError(f"a forest splits on column {int(self.feature.max())} of {n_features}")

    def sums(self, X: Floats) -> Floats:
        """Sum over the trees of the value at the leaf each row ends in, (n_samples,)."""
        return _sums(X, self.feature, self.threshold, self.child, self.value, self.roots, self.depth)

    def contributions(self, X: Floats) -> Floats:
        """
        Change of value along the branches, credited to the column of each split, (n_samples, n_features).

        A row's contributions add up to `sums` less the sum of the roots' values (Palczewska et al. 2013,
        Interpreting random forest models using a feature contribution method).
        """
        return _contributions(X, self.feature, self.threshold, self.child, self.value, self.roots, self.depth)

    @property
    def root_sum(self) -> float:
        """Sum of the roots' values: the value of `sums` before any split."""
        return float(self.value[self.roots].sum())


def flatten(trees: Sequence[Any], values: Sequence[Floats]) -> Forest:
    """
    Flatten trees with the attributes of scikit-learn's (`estimator.tree_`) into one `Forest`.

    Parameters
    ----------
    values
        For each tree, the value of each of its nodes.
    """
    sizes = np.array([tree.node_count for tree in trees])
    roots = np.cumsum(sizes) - sizes
    leaf = np.concatenate([tree.children_left < 0 for tree in trees])
    here = np.arange(sizes.sum())
    left, right = (
        np.where(
            leaf, here, np.concatenate([getattr(tree, side) for tree in trees]) + np.repeat(roots, sizes)
        )
        for side in ("children_left", "children_right")
    )
    thresholds = np.concatenate([tree.threshold for tree in trees])
    return Forest(
        feature=np.where(leaf, 0, np.concatenate([tree.feature for tree in trees])).astype(np.uint32),
        threshold=_float32_at_most(np.where(leaf, 0.0, thresholds)),
        child=np.column_stack([left, right]).ravel().astype(np.uint32),
        value=np.concatenate(values).astype(np.float64),
        roots=roots.astype(np.uint32),
        depth=np.array([tree.max_depth for tree in trees], dtype=np.uint32),
    )


def _float32_at_most(thresholds: Floats) -> NDArray[np.float32]:
    """The largest float32 that is not above each threshold."""
    nearest = thresholds.astype(np.float32)
    below = np.nextafter(nearest, np.float32(-np.inf))
    return np.where(nearest.astype(np.float64) > thresholds, below, nearest)


@compiled
def means_below(
    values: Floats, counts: NDArray[np.int64], left: NDArray[np.int64], right: NDArray[np.int64]
) -> Floats:
    """
    Values of the nodes of one tree, (n_nodes,), with an inner node's replaced by its children's mean, weighted by their counts.

    A child lies behind its parent; that of a leaf is negative.
    """
    means = values.copy()
    for node in range(len(means) - 1, -1, -1):
        if left[node] >= 0:
            both = counts[left[node]] * means[left[node]] + counts[right[node]] * means[right[node]]
            means[node] = both / counts[node]
    return means


@compiled
def _step(node: np.uint32, x: np.float32, threshold: np.float32) -> np.uint32:
    """Index of the next node in `child`."""
    return np.uint32(2) * node + np.uint32(x > threshold)


@compiled
def _heights(child: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Splits on the longest branch below each node; children lie behind their parents."""
    n = len(child) // 2
    heights = np.zeros(n, dtype=np.uint32)
    for node in range(n - 1, -1, -1):
        if child[2 * node] != node:
            heights[node] = 1 + max(heights[child[2 * node]], heights[child[2 * node + 1]])
    return heights


@compiled
def _sums(
    X: Floats,
    feature: NDArray[np.uint32],
    threshold: NDArray[np.float32],
    child: NDArray[np.uint32],
    value: Floats,
    roots: NDArray[np.uint32],
    depth: NDArray[np.uint32],
) -> Floats:
    n_rows, n_features = X.shape
    total = np.zeros(n_rows)
    block = np.empty((min(BLOCK, n_rows), n_features), dtype=np.float32)
    for start in range(0, n_rows, BLOCK):
        size = min(BLOCK, n_rows - start)
        for i in range(size):
            for j in range(n_features):
                block[i, j] = np.float32(X[start + i, j])
        for tree in range(len(roots)):
            root = roots[tree]
            steps = depth[tree]
            first = 0
            while first + 8 <= size:
                eight = block[first : first + 8]
                a = b = c = d = e = f = g = h = root
                for _ in range(steps):
                    a = child[_step(a, eight[0, feature[a]], threshold[a])]
                    b = child[_step(b, eight[1, feature[b]], threshold[b])]
                    c = child[_step(c, eight[2, feature[c]], threshold[c])]
                    d = child[_step(d, eight[3, feature[d]], threshold[d])]
                    e = child[_step(e, eight[4, feature[e]], threshold[e])]
                    f = child[_step(f, eight[5, feature[f]], threshold[f])]
                    g = child[_step(g, eight[6, feature[g]], threshold[g])]
                    h = child[_step(h, eight[7, feature[h]], threshold[h])]
                total[start + first] += value[a]
                total[start + first + 1] += value[b]
                total[start + first + 2] += value[c]
                total[start + first + 3] += value[d]
                total[start + first + 4] += value[e]
                total[start + first + 5] += value[f]
                total[start + first + 6] += value[g]
                total[start + first + 7] += value[h]
                first += 8
            for i in range(first, size):
                node = root
                while child[2 * node] != node:
                    node = child[_step(node, block[i, feature[node]], threshold[node])]
                total[start + i] += value[node]
    return total


@compiled
def _contributions(
    X: Floats,
    feature: NDArray[np.uint32],
    threshold: NDArray[np.float32],
    child: NDArray[np.uint32],
    value: Floats,
    roots: NDArray[np.uint32],
    depth: NDArray[np.uint32],
) -> Floats:
    total = np.zeros(X.shape)
    for i in range(X.shape[0]):
        for tree in range(len(roots)):
            node = roots[tree]
            for _ in range(depth[tree]):
                column = feature[node]
                below = child[_step(node, np.float32(X[i, column]), threshold[node])]
                total[i, column] += value[below] - value[node]
                node = below
    return total
