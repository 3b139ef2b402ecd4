"""Compiled trees of a random forest beside scikit-learn's."""

import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier

from detectors.algorithms import probability_tree
from detectors.algorithms.probability_tree import BinnedColumns, ProbabilityTree, grow_tree
from detectors.algorithms.tree_kernel import flatten
from detectors.base import Floats

DEPTH, LEAF_ROWS = 8, 3


def rows(n: int, seed: int, frauds: float = 0.2) -> tuple[Floats, Floats, Floats]:
    """Columns with many values, few values, ties and one value; labels; weights, some of which are 0."""
    rng = np.random.default_rng(seed)
    X = rng.lognormal(size=(n, 6))
    X[:, 1], X[:, 2], X[:, 3] = X[:, 1].round(), rng.integers(0, 2, n), 7.0
    y = (X[:, 0] * X[:, 4] > np.quantile(X[:, 0] * X[:, 4], 1 - frauds)) ^ (rng.random(n) < 0.05)
    return X, y.astype(np.float64), rng.integers(0, 9, n).astype(np.float64)


def own(X: Floats, y: Floats, weight: Floats, max_features: int, state: int = 1) -> ProbabilityTree:
    return grow_tree(BinnedColumns.of(X), y == 1, weight, max_features, DEPTH, LEAF_ROWS, state)


def share(tree: ProbabilityTree, X: Floats) -> Floats:
    return flatten([tree.grown], [tree.frauds / tree.weight]).sums(X)


@pytest.mark.parametrize("n", [40, 3_000])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_tree_that_tries_all_columns_is_scikit_learns(n: int, seed: int) -> None:
    X, y, weight = rows(n, seed)
    tree = own(X, y, weight, X.shape[1])
    theirs = DecisionTreeClassifier(max_depth=DEPTH, min_samples_leaf=LEAF_ROWS, random_state=0)
    theirs.fit(X, y, sample_weight=weight)
    assert tree.grown.node_count > 4
    assert (tree.weight[0], tree.frauds[0]) == (weight.sum(), weight @ y)
    for some in (
        X[weight > 0],
        rows(500, seed + 10)[0],
    ):  # where columns split alike, either may take another
        assert np.mean(np.isclose(share(tree, some), theirs.predict_proba(some)[:, 1])) > 0.98


def test_small_and_large_nodes_find_the_same_splits() -> None:
    X, y, weight = rows(2_000, 4)
    columns = BinnedColumns.of(X)
    kept, total, frauds = np.arange(len(X)), float(weight.sum()), float(weight @ y)
    for column in range(X.shape[1]):
        node = kept, y == 1, weight, total, frauds, LEAF_ROWS
        of_bins = np.zeros((3, columns.sizes[column]))
        counted = probability_tree._best_of_counted(columns.bins[column], of_bins, *node)
        by_order = probability_tree._best_of_sorted(columns.bins[column], *node)
        assert counted == pytest.approx(by_order)


def test_a_column_of_more_values_than_bins_has_bins_of_equally_many_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(probability_tree, "BINS", 16)
    X, y, weight = rows(3_000, 5)
    columns = BinnedColumns.of(X)
    assert columns.sizes.max() == 16
    assert np.ptp(np.bincount(columns.bins[0])) <= 1
    tree = grow_tree(columns, y == 1, weight, X.shape[1], DEPTH, LEAF_ROWS, 1)
    leaves = flatten([tree.grown], [np.arange(tree.grown.node_count, dtype=np.float64)])
    reached = np.bincount(leaves.sums(X[weight > 0]).astype(int), minlength=tree.grown.node_count)
    at_leaf = tree.grown.children_left < 0
    assert np.array_equal(reached[at_leaf], tree.grown.n_node_samples[at_leaf])


def test_trees_of_other_draws_differ_and_of_the_same_draws_are_equal() -> None:
    X, y, weight = rows(500, 6)
    first, again, other = (own(X, y, weight, 2, state) for state in (5, 5, 6))
    assert np.array_equal(first.grown.threshold, again.grown.threshold)
    assert not np.array_equal(first.grown.threshold, other.grown.threshold)


@pytest.mark.parametrize("frauds", [0.0, 1.0])
def test_rows_of_one_class_are_one_leaf(frauds: float) -> None:
    X, _, weight = rows(200, 7)
    tree = own(X, np.full(200, frauds), weight, 2)
    assert tree.grown.node_count == 1
    assert tree.frauds / tree.weight == pytest.approx([frauds])
