"""PyOD's isolation forest, tree for tree: compiled kernels grow and walk it."""

from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from detectors.algorithms.isolation_tree import DRAWS, GrownTree, grow_tree
from detectors.algorithms.pyod_support import systematic_sample
from detectors.algorithms.tree_kernel import LARGEST, Forest, flatten, means_below
from detectors.base import (
    SEED,
    Floats,
    Ints,
    as_rows,
    as_training_rows,
    as_weights,
    require_finite,
    require_fitted,
    row_sums,
)

EULER = float(np.euler_gamma)
SEEDS = np.iinfo(np.int32).max  # scikit-learn draws the seeds of trees below this
# Rows per tree. A tree cannot distinguish values beyond the largest in its sample, and the rarest values matter most: 256, the
# paper's value, is too few here (average precision 0.246, 1024 rows: 0.289), and with 1024 a tenth of the largest amounts is
# not distinguished from merely large ones (`benchmarks/novelty.py`).
MAX_SAMPLES = 4096
CONTAMINATION = 0.1  # PyOD's default: this share of the training rows scores above 0
OFFSET_ROWS = 10_000  # about so many of them tell where that is: nothing depends on it


@dataclass(frozen=True)
class IsolationTrees:
    """What an isolation forest has learned."""

    forest: Forest
    n_features: int
    scale: float  # n_trees · c(rows per tree): a path sum of this scores 2^−1
    offset: float

    def __post_init__(self) -> None:
        self.forest.require_columns(self.n_features)
        require_finite("an isolation forest", self.scale, self.offset)

    def score(self, path_sums: Floats) -> Floats:
        """PyOD's decision_function of sums of path lengths over the trees, (n_samples,)."""
        # One row a tree has c(1) = 0 and, like scikit-learn, the score of an average path.
        mean = path_sums / self.scale if self.scale else np.ones_like(path_sums)
        return np.exp2(-mean) + self.offset

    @property
    def base_score(self) -> float:
        """The score of a path as long as the training rows' mean."""
        return float(self.score(np.array([self.forest.root_sum]))[0])

    def slope(self, saved: Floats) -> Floats:
        """Score gained for each unit of path saved, between the base and the row."""
        gained = self.score(self.forest.root_sum - saved) - self.base_score
        return np.divide(gained, saved, out=np.zeros_like(saved), where=np.abs(saved) > 1e-9)


@dataclass(eq=False)
class IsolationForest:
    """
    Score a row by how few random cuts isolate it.

    Finds rare combinations without labels. It does not detect fraud in dense regions, and correlated
    copies of a feature dominate the others.

    The score is PyOD's `decision_function`, 2^(−mean path length / c(rows per tree)) + offset, where PyOD sets
    the offset so that its `contamination` (0.1) of the training rows lie above 0. The offset moves all scores
    alike, and 0 is not used as a threshold.

    Parameters
    ----------
    n_trees
        More trees, less noise: 10 trees vary by ±0.155 average precision, 300 by ±0.01.
    max_rows
        Rows that trees draw from; of more rows a systematic sample is used.
    seed
        The same seed and rows give the same forest.

    Notes
    -----
    A split contributes the path length still to be expected before it (the training rows' mean) less that
    after it: positive where it isolates faster than usual, as in local DIFFI. Their sum, the path saved, is
    scaled to the difference in score, so contributions add up.

    References
    ----------
    Liu, Ting & Zhou (2008), Isolation Forest. Carletti, Terzi & Susto (2023), Interpretable anomaly
    detection with DIFFI. Palczewska et al. (2013), Interpreting random forest models using a feature
    contribution method.
    """

    name: ClassVar[str] = "isolation_forest"
    n_trees: int = 200
    max_rows: int = 50_000
    seed: int = SEED
    fitted: IsolationTrees | None = field(default=None, init=False, repr=False)

    def fit(self, X: ArrayLike, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None) -> Self:  # noqa: ARG002
        """
        Grow the forest on one thread; labels are ignored.

        A row of weight w is w times as likely to be sampled; a row of weight 0 is left out.

        Raises
        ------
        DetectorError
            There are fewer than 2 rows, or a value is not finite.
        """
        rows = as_training_rows(X)
        kept = systematic_sample(as_weights(sample_weight, len(rows)), self.max_rows, self.seed)
        learned = np.clip(rows[kept], -LARGEST, LARGEST)
        per_tree = min(MAX_SAMPLES, len(learned))
        trees = _grow(learned, self.n_trees, per_tree, self.seed)
        forest = flatten(trees, [_expected_path(tree) for tree in trees])
        scale = len(trees) * float(_average_path(np.array([per_tree]))[0])
        without = IsolationTrees(forest, rows.shape[1], scale, 0.0)
        some = np.ascontiguousarray(learned[:: -(-len(learned) // OFFSET_ROWS)])
        offset = float(np.percentile(-without.score(forest.sums(some)), 100 * CONTAMINATION))
        self.fitted = replace(without, offset=offset)
        return self

    def anomaly_score(self, X: ArrayLike) -> Floats:
        """PyOD's decision_function of each row, (n_samples,); higher = rarer."""
        trees = require_fitted(self.fitted, self.name)
        return trees.score(trees.forest.sums(as_rows(X, trees.n_features)))

    def explain(self, X: ArrayLike) -> Floats:
        """Each column's share of score − base_score, (n_samples, n_features); positive = isolates faster."""
        trees = require_fitted(self.fitted, self.name)
        saved = -trees.forest.contributions(as_rows(X, trees.n_features))
        return saved * trees.slope(row_sums(saved))[:, np.newaxis]

    @property
    def base_score(self) -> float:
        """The score of a path as long as the training rows' mean."""
        return require_fitted(self.fitted, self.name).base_score


def _grow(rows: Floats, n_trees: int, per_tree: int, seed: int) -> list[GrownTree]:
    """
    The trees of PyOD's forest with these rows and this seed, each grown on `per_tree` rows.

    PyOD's `IForest.fit` is scikit-learn's ensemble of random trees, of which nearly all the time goes into copying and checking
    parameters of each tree and into scoring all training rows twice: here each tree is grown by itself, with the same draws.
    """
    from sklearn.utils.random import sample_without_replacement

    n, n_features = rows.shape
    narrow = rows.astype(np.float32)
    max_depth = int(np.ceil(np.log2(max(per_tree, 2))))
    draws, trees = (
        np.random.RandomState(seed),
        [],
    )  # seeded again and again: a new one would cost more than a tree
    targets: Floats = np.asarray(draws.uniform(size=n))
    draws.seed(seed)
    for own in draws.randint(SEEDS, size=n_trees).tolist():
        draws.seed(own)
        draws.seed(draws.randint(SEEDS))
        state = int(draws.randint(DRAWS))
        draws.seed(own)
        # scikit-learn draws columns first; it takes all of them, in an order of no effect.
        sample_without_replacement(n_features, n_features, random_state=draws)
        drawn = np.sort(sample_without_replacement(n, per_tree, random_state=draws))
        trees.append(grow_tree(narrow[drawn], targets[drawn], max_depth, state))
    return trees


def _expected_path(tree: GrownTree) -> Floats:
    """
    Path length of each node of one tree, in splits.

    A leaf's is its depth plus c(n) for the n training rows it holds; an inner node's is the mean of its
    children's, by their training rows.
    """
    counts = tree.n_node_samples
    path: Floats = tree.depths + _average_path(counts)
    return means_below(path, counts, tree.children_left, tree.children_right)


def _average_path(counts: Ints) -> Floats:
    """c(n): mean path length in a tree of n rows (Liu et al. 2008, equation 1, exact at n ≤ 2)."""
    n = np.maximum(counts, 3).astype(np.float64)
    usual = 2.0 * (np.log(n - 1.0) + EULER) - 2.0 * (n - 1.0) / n
    return np.where(counts <= 1, 0.0, np.where(counts == 2, 1.0, usual))
