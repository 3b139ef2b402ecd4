"""Random forest: compiled kernels grow and walk the trees."""

from dataclasses import dataclass, field
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from detectors.algorithms.isolation_tree import DRAWS
from detectors.algorithms.probability_tree import BinnedColumns, ProbabilityTree, grow_tree
from detectors.algorithms.pyod_support import thin_genuine
from detectors.algorithms.tree_kernel import LARGEST, Forest, flatten
from detectors.base import (
    SEED,
    Floats,
    as_labels,
    as_positive_weight,
    as_rows,
    as_training_rows,
    as_weights,
    probability_of,
    require_finite,
    require_fitted,
    row_sums,
)

MAX_DEPTH = 8  # of each tree


@dataclass(frozen=True)
class ProbabilityTrees:
    """What a random forest has learned."""

    forest: Forest
    n_features: int
    log_weight: float  # of a fraud in training, undone in the score

    def __post_init__(self) -> None:
        self.forest.require_columns(self.n_features)
        require_finite("a random forest", self.log_weight)

    def score(self, sums: Floats) -> Floats:
        """Logit of the mean of the trees' probabilities with the training weight undone, (n_samples,)."""
        p = sums / len(self.forest.roots)
        return np.log(p) - np.log1p(-p) - self.log_weight

    @property
    def base_score(self) -> float:
        """The logit of the probability at the roots."""
        return float(self.score(np.array([self.forest.root_sum]))[0])

    def slope(self, gained: Floats) -> Floats:
        """Logits for each unit of probability, between the roots and the row."""
        difference = self.score(self.forest.root_sum + gained) - self.base_score
        return np.divide(difference, gained, out=np.zeros_like(gained), where=np.abs(gained) > 1e-12)


@dataclass(eq=False)
class RandomForest:
    """
    The mean of many trees, each grown on a bootstrap sample of rows, drawn by weight, with a random subset of columns at each split.

    Better than boosting with few frauds: averaging does not overfit single rows. It cannot extrapolate, and from a
    few hundred frauds on boosting ranks better.

    A leaf's probability is smoothed by one row of the base rate π, (weight of frauds + π) / (weight + 1), so
    that probabilities are never 0 or 1: logits stay finite, and a large leaf of genuine rows ranks below a small one.

    Parameters
    ----------
    n_trees
        Number of trees.
    min_leaf
        Minimum rows of a leaf. With 1, a single fraud can make a leaf: with 5 known frauds average precision on
        Handbook days before the test week is .20, with 3 rows a leaf .26; from 50 frauds on they are equal.
    max_genuine
        Maximum number of genuine rows; of more rows a weighted systematic sample is used. Three times as many take
        three times as long and rank no better.
    positive_weight
        Weight of a fraud in training, undone in the score. Default as in `as_positive_weight`.
    seed
        The same seed and rows give the same forest.

    Notes
    -----
    A split contributes the change of the probability at it (Palczewska et al. 2013, Interpreting random
    forest models using a feature contribution method); the sum is scaled to the difference in logits.
    """

    name: ClassVar[str] = "random_forest"
    n_trees: int = 100
    min_leaf: int = 3
    max_genuine: int = 20_000
    positive_weight: float | None = None
    seed: int = SEED
    fitted: ProbabilityTrees | None = field(default=None, init=False, repr=False)

    def fit(self, X: ArrayLike, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None) -> Self:
        """
        Grow the forest on one thread.

        Raises
        ------
        DetectorError
            The rows have only one class.
        """
        rows = as_training_rows(X)
        labels, weights = as_labels(y, len(rows)), as_weights(sample_weight, len(rows))
        weight = as_positive_weight(self.positive_weight, labels, weights)
        kept, weights = thin_genuine(labels, weights, self.max_genuine, self.seed)
        weights = np.where(labels[kept] == 1, weight, 1.0) * weights / weights.mean()
        trees = self._grow(np.clip(rows[kept], -LARGEST, LARGEST), labels[kept], weights)
        base_rate = float(weights @ labels[kept] / weights.sum())
        forest = flatten([tree.grown for tree in trees], [_smoothed(tree, base_rate) for tree in trees])
        self.fitted = ProbabilityTrees(forest, rows.shape[1], float(np.log(weight)))
        return self

    def anomaly_score(self, X: ArrayLike) -> Floats:
        """Logit of the probability of fraud with the training weight undone, (n_samples,)."""
        trees = require_fitted(self.fitted, self.name)
        return trees.score(trees.forest.sums(as_rows(X, trees.n_features)))

    def fraud_probability(self, X: ArrayLike) -> Floats:
        """Uncalibrated probability of fraud: the logistic of `anomaly_score`."""
        return probability_of(self.anomaly_score(X))

    def explain(self, X: ArrayLike) -> Floats:
        """Each column's share of score − base_score, (n_samples, n_features)."""
        trees = require_fitted(self.fitted, self.name)
        gained = trees.forest.contributions(as_rows(X, trees.n_features))
        return gained * trees.slope(row_sums(gained))[:, np.newaxis]

    @property
    def base_score(self) -> float:
        """The logit of the probability at the roots."""
        return require_fitted(self.fitted, self.name).base_score

    def _grow(self, rows: Floats, labels: Floats, weights: Floats) -> list[ProbabilityTree]:
        columns, fraud, draws = BinnedColumns.of(rows), labels == 1, np.random.RandomState(self.seed)
        n, n_features = rows.shape
        tried, below = max(1, int(np.sqrt(n_features))), np.cumsum(weights) / weights.sum()
        trees = []
        for _ in range(self.n_trees):
            gaps = np.cumsum(
                draws.standard_exponential(n + 1)
            )  # between n uniform numbers in order, which are found faster
            drawn = np.searchsorted(below[:-1], gaps[:-1] / gaps[-1], side="right")
            times = np.bincount(drawn, minlength=n).astype(np.float64)
            state = int(draws.randint(DRAWS))
            trees.append(grow_tree(columns, fraud, times, tried, MAX_DEPTH, self.min_leaf, state))
        return trees


def _smoothed(tree: ProbabilityTree, base_rate: float) -> Floats:
    """Smoothed probability of fraud at every node of one tree."""
    return np.asarray((tree.frauds + base_rate) / (tree.weight + 1.0), dtype=np.float64)
