"""
Making up fraud rows by flow matching, on a CPU in seconds, and checking what was made.

A flow carries noise to frauds: along the straight way from a noise row x₀ to a fraud row x₁ the velocity is x₁ − x₀,
and a regressor per column learns its mean at (xₜ, t). Following the learned velocities from fresh noise gives fresh rows
(Lipman et al. 2023, Flow matching for generative modeling; Jolicoeur-Martineau et al. 2024, Generating and imputing
tabular data via diffusion and flow-based gradient-boosted trees, who fit a model a time step where here the time is a feature).

Off by default: made-up rows know nothing that the frauds they were learned from do not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detectors.base import DetectorError, Floats, NotFitted, as_rows, as_training_rows

FRAUDS_MIN = 10  # fewer are copied rather than learned from
PAIRS = 8_000  # of a noise row and a fraud that velocities are learned from
STEPS = 12  # of Euler's method from noise to row
LEVELS = 20  # a column with so few values has levels, and no value between two of them is made
ROWS_MAX = 3_000  # made one by one; what is asked beyond that repeats them
TREES = {
    "n_estimators": 40,
    "num_leaves": 15,
    "learning_rate": 0.15,
    "min_child_samples": 10,
    "verbosity": -1,
}
NEAR = 0.05  # quantile of the frauds' own distances to their neighbours, within which a made row is a copy


@dataclass(frozen=True)
class Fidelity:
    """
    How made rows compare with the real ones they were learned from.

    Attributes
    ----------
    copy_rate
        Share of made rows nearer to a real fraud than all but `NEAR` of real frauds are to each other; a good
        generator has about `NEAR`, a copying one about 1.
    told_apart
        Area under the ROC curve of a classifier, fitted on one half and judged on the other, that tells real from made:
        0.5 cannot, 1 always can.
    """

    copy_rate: float
    told_apart: float


class FlowGenerator:
    """
    Learn the distribution of fraud rows and draw from it.

    Values stay within those seen; columns with at most `LEVELS` values, and those named categorical, only take seen ones.
    It needs dozens of frauds to say more than they do, and what it makes is no evidence: never judge on made rows.

    Parameters
    ----------
    seed
        The same seed and rows make the same rows.
    threads
        Of LightGBM.
    """

    def __init__(self, seed: int = 7, threads: int = 1) -> None:
        self.seed = seed
        self.threads = threads
        self._columns: list[_Column] = []
        self._velocities: list[Any] = []  # a regressor for each dimension of the flow
        self._made: Floats = np.empty((0, 0))

    def fit(self, X: ArrayLike, categorical: Sequence[int] = ()) -> Self:
        """
        Learn from fraud rows (n_frauds, n_features).

        Parameters
        ----------
        categorical
            Places of columns whose values are names: each value becomes a dimension of its own.

        Raises
        ------
        DetectorError
            Fewer than `FRAUDS_MIN` rows.
        """
        rows = as_rows(X)
        if len(rows) < FRAUDS_MIN:
            raise DetectorError(
                f"a generator learns from {FRAUDS_MIN} frauds or more, got {len(rows)}: use over or smote"
            )
        self._columns = [_Column.of(values, place in categorical) for place, values in enumerate(rows.T)]
        ends = np.hstack([column.forth(values) for column, values in zip(self._columns, rows.T, strict=True)])
        rng = np.random.default_rng(self.seed)
        drawn = ends[rng.permutation(np.arange(PAIRS) % len(ends))]
        noise = rng.standard_normal(drawn.shape)
        moment = rng.random((PAIRS, 1))
        between = np.hstack([(1 - moment) * noise + moment * drawn, moment])
        self._velocities = [self._regressor(between, way) for way in (drawn - noise).T]
        self._made = np.empty((0, rows.shape[1]))
        return self

    def sample(self, n: int) -> Floats:
        """Make `n` rows, (n, n_features)."""
        if not self._columns:
            raise NotFitted("the generator has learned nothing yet: call fit first")
        distinct = min(n, ROWS_MAX)
        if len(self._made) < distinct:
            self._made = self._draw(distinct)
        return np.resize(self._made[:distinct], (n, len(self._columns)))

    def _draw(self, n: int) -> Floats:
        at = np.random.default_rng(self.seed + 1).standard_normal((n, len(self._velocities)))
        for step in range(STEPS):
            here = np.hstack([at, np.full((len(at), 1), step / STEPS)])
            at = at + np.column_stack([self._predict(one, here) for one in self._velocities]) / STEPS
        made, start = np.empty((len(at), len(self._columns))), 0
        for place, column in enumerate(self._columns):
            made[:, place] = column.back(at[:, start : start + column.width])
            start += column.width
        return made

    def _regressor(self, rows: Floats, way: Floats) -> Any:
        import lightgbm

        data = lightgbm.Dataset(rows, way, params={"verbosity": -1, "max_bin": 63})
        parameters = {
            "objective": "l2", "deterministic": True, "force_row_wise": True, "num_threads": self.threads,
            "seed": self.seed, "max_bin": 63, **{k: v for k, v in TREES.items() if k != "n_estimators"},
        }  # fmt: skip
        return lightgbm.train(parameters, data, num_boost_round=int(TREES["n_estimators"]))

    def _predict(self, booster: Any, rows: Floats) -> Floats:
        return np.asarray(booster.predict(rows, num_threads=self.threads), dtype=np.float64)


def fidelity(real: ArrayLike, made: ArrayLike, seed: int = 7) -> Fidelity:
    """
    Compare made rows with the real ones, both (n, n_features) with two rows or more.

    Distances are between columns scaled to the real rows' deviation.
    """
    from sklearn.neighbors import NearestNeighbors

    rows, others = as_training_rows(real), as_rows(made)
    spread = rows.std(axis=0)
    scale = np.where(spread > 1e-12, spread, 1.0)
    nearest = NearestNeighbors(n_neighbors=2).fit(rows / scale)
    own = nearest.kneighbors(rows / scale)[0][:, 1]
    to_real = nearest.kneighbors(others / scale, n_neighbors=1)[0][:, 0]
    within = max(float(np.quantile(own, NEAR)), 1e-9)
    return Fidelity(float((to_real <= within).mean()), _told_apart(rows, others, seed))


def _told_apart(real: Floats, made: Floats, seed: int) -> float:
    """Halves are taken alternately of the real rows' time order; each half of both kinds judges once."""
    from detectors.algorithms.random_forest import RandomForest
    from detectors.evaluation.metrics import auc_roc

    rng = np.random.default_rng(seed)
    same = made[rng.permutation(len(made))[: len(real)]]
    rows, y = np.vstack([real, same]), np.repeat([1.0, 0.0], [len(real), len(same)])
    half = np.concatenate([np.arange(len(real)) % 2, np.arange(len(same)) % 2])
    if min(len(real), len(same)) < 4:
        return float("nan")
    score = np.empty(len(rows))
    for one in (0, 1):
        forest = RandomForest(n_trees=50, min_leaf=5, seed=seed).fit(rows[half != one], y[half != one])
        score[half == one] = forest.anomaly_score(rows[half == one])
    found = auc_roc(y, score)
    return max(found, 1 - found)


@dataclass(frozen=True)
class _Column:
    """The way of one column into the flow's space, where values spread about as noise does, and back."""

    values: Floats  # distinct, ascending
    places: Floats  # where the flow sees each, ascending; empty for a category
    levels: bool  # only values that were seen
    width: int  # dimensions

    @classmethod
    def of(cls, column: Floats, category: bool) -> "_Column":
        from scipy.special import ndtri

        values, where = np.unique(column, return_inverse=True)
        if category:
            return cls(values, np.empty(0), levels=True, width=len(values))
        mass = np.bincount(where)
        middle = (np.cumsum(mass) - mass / 2) / mass.sum()
        return cls(values, np.asarray(ndtri(middle)), levels=len(values) <= LEVELS, width=1)

    def forth(self, column: Floats) -> Floats:
        place = np.searchsorted(self.values, column)
        if len(self.places):
            return self.places[place].reshape(-1, 1)
        return np.where(place[:, None] == np.arange(self.width), 2.0, -2.0 / max(self.width - 1, 1))

    def back(self, at: Floats) -> Floats:
        if not len(self.places):
            return np.asarray(self.values[np.argmax(at, axis=1)])
        if self.levels:
            borders = (self.places[1:] + self.places[:-1]) / 2
            return np.asarray(self.values[np.searchsorted(borders, at[:, 0])])
        found: NDArray[np.float64] = np.interp(at[:, 0], self.places, self.values)
        return found
