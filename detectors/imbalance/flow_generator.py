"""
Synthetic fraud rows by flow matching, in seconds on a CPU, and checks of their fidelity.

A flow maps noise to frauds: on the straight path from a noise row x₀ to a fraud row x₁ the velocity is x₁ − x₀,
and a regressor per column learns its mean at (xₜ, t). Integrating the learned velocities from new noise gives new rows
(Lipman et al. 2023, Flow matching for generative modeling; Jolicoeur-Martineau et al. 2024, Generating and imputing
tabular data via diffusion and flow-based gradient-boosted trees; they fit a model per time step, here time is a feature).

It is used by `compare` only: synthetic rows hold no information beyond the frauds they were learned from.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from detectors.base import SEED, DetectorError, Floats, NotFitted, as_rows, as_training_rows

FRAUDS_MIN = 10  # fewer would be copied
PAIRS = 8_000  # pairs of a noise row and a fraud on which velocities are learned
STEPS = 12  # of Euler's method from noise to row
LEVELS = 20  # a column with at most so many values is discrete: only its own values are generated
ROWS_MAX = 3_000  # distinct rows; larger samples repeat them
TREES = {
    "n_estimators": 40,
    "num_leaves": 15,
    "learning_rate": 0.15,
    "min_child_samples": 10,
    "verbosity": -1,
}
NEAR = 0.05  # quantile of the distances between neighbouring frauds, within which a synthetic row counts as a copy


@dataclass(frozen=True)
class Fidelity:
    """
    How similar synthetic rows are to the real rows that they were learned from.

    Attributes
    ----------
    copy_rate
        Share of synthetic rows that are closer to a real fraud than all but `NEAR` of the real frauds are to each other:
        about `NEAR` for a good generator, about 1 for one that copies.
    detection_auc
        Out-of-fold area under the ROC curve of a classifier that separates real from synthetic rows: 0.5 if it cannot, 1 if it
        always can (detection test).
    """

    copy_rate: float
    detection_auc: float


class FlowGenerator:
    """
    Learn the distribution of fraud rows and sample from it.

    Values stay within the range of the real ones; discrete columns, with at most `LEVELS` values or named categorical, only take
    real values. It needs dozens of frauds to generalise. Synthetic rows must never be used for evaluation.

    Parameters
    ----------
    seed
        The same seed and rows give the same synthetic rows.
    threads
        Threads of LightGBM.
    """

    def __init__(self, seed: int = SEED, threads: int = 1) -> None:
        self.seed = seed
        self.threads = threads
        self._columns: list[_FlowColumn] = []
        self._velocities: list[Any] = []  # a regressor for each dimension of the flow
        self._generated: Floats = np.empty((0, 0))

    def fit(self, X: ArrayLike, categorical: Sequence[int] = ()) -> Self:
        """
        Learn from fraud rows (n_frauds, n_features).

        Parameters
        ----------
        categorical
            Indices of categorical columns: each value becomes a dimension of its own (one-hot).

        Raises
        ------
        DetectorError
            There are fewer than `FRAUDS_MIN` rows.
        """
        rows = as_rows(X)
        if len(rows) < FRAUDS_MIN:
            raise DetectorError(
                f"a generator needs {FRAUDS_MIN} frauds or more, got {len(rows)}", remedy="use over or smote"
            )
        self._columns = [_FlowColumn.of(values, place in categorical) for place, values in enumerate(rows.T)]
        ends = np.hstack(
            [column.to_flow(values) for column, values in zip(self._columns, rows.T, strict=True)]
        )
        rng = np.random.default_rng(self.seed)
        frauds = ends[rng.permutation(np.arange(PAIRS) % len(ends))]
        noise = rng.standard_normal(frauds.shape)
        moment = rng.random((PAIRS, 1))
        between = np.hstack([(1 - moment) * noise + moment * frauds, moment])
        self._velocities = [self._regressor(between, velocity) for velocity in (frauds - noise).T]
        self._generated = np.empty((0, rows.shape[1]))
        return self

    def sample(self, n: int) -> Floats:
        """Generate `n` rows, (n, n_features)."""
        if not self._columns:
            raise NotFitted("the generator is not fitted", remedy="call fit first")
        distinct = min(n, ROWS_MAX)
        if len(self._generated) < distinct:
            self._generated = self._generate(distinct)
        return np.resize(self._generated[:distinct], (n, len(self._columns)))

    def _generate(self, n: int) -> Floats:
        at = np.random.default_rng(self.seed + 1).standard_normal((n, len(self._velocities)))
        for step in range(STEPS):
            here = np.hstack([at, np.full((len(at), 1), step / STEPS)])
            at = at + np.column_stack([self._predict(booster, here) for booster in self._velocities]) / STEPS
        generated, start = np.empty((len(at), len(self._columns))), 0
        for place, column in enumerate(self._columns):
            generated[:, place] = column.from_flow(at[:, start : start + column.width])
            start += column.width
        return generated

    def _regressor(self, rows: Floats, velocity: Floats) -> Any:
        import lightgbm

        data = lightgbm.Dataset(rows, velocity, params={"verbosity": -1, "max_bin": 63})
        parameters = {
            "objective": "l2", "deterministic": True, "force_row_wise": True, "num_threads": self.threads,
            "seed": self.seed, "max_bin": 63, **{k: v for k, v in TREES.items() if k != "n_estimators"},
        }  # fmt: skip
        return lightgbm.train(parameters, data, num_boost_round=int(TREES["n_estimators"]))

    def _predict(self, booster: Any, rows: Floats) -> Floats:
        return np.asarray(booster.predict(rows, num_threads=self.threads), dtype=np.float64)


def fidelity(real: ArrayLike, generated: ArrayLike, seed: int = SEED) -> Fidelity:
    """
    Compare synthetic rows with the real ones, both (n, n_features) with two rows or more.

    Distances are computed on columns divided by the standard deviation of the real rows.
    """
    from sklearn.neighbors import NearestNeighbors

    rows, synthetic = as_training_rows(real), as_rows(generated)
    spread = rows.std(axis=0)
    scale = np.where(spread > 1e-12, spread, 1.0)
    nearest = NearestNeighbors(n_neighbors=2).fit(rows / scale)
    own = nearest.kneighbors(rows / scale)[0][:, 1]
    to_real = nearest.kneighbors(synthetic / scale, n_neighbors=1)[0][:, 0]
    within = max(float(np.quantile(own, NEAR)), 1e-9)
    return Fidelity(float((to_real <= within).mean()), _detection_auc(rows, synthetic, seed))


def _detection_auc(real: Floats, generated: Floats, seed: int) -> float:
    """Two-fold AUC of a random forest; folds alternate in the time order of the real rows."""
    from detectors.algorithms.random_forest import RandomForest
    from detectors.evaluation.metrics import auc_roc

    rng = np.random.default_rng(seed)
    same = generated[rng.permutation(len(generated))[: len(real)]]
    rows, y = np.vstack([real, same]), np.repeat([1.0, 0.0], [len(real), len(same)])
    half = np.concatenate([np.arange(len(real)) % 2, np.arange(len(same)) % 2])
    if min(len(real), len(same)) < 4:
        return float("nan")
    score = np.empty(len(rows))
    for test in (0, 1):
        forest = RandomForest(n_trees=50, min_leaf=5, seed=seed).fit(rows[half != test], y[half != test])
        score[half == test] = forest.anomaly_score(rows[half == test])
    auc = auc_roc(y, score)
    return max(auc, 1 - auc)


@dataclass(frozen=True)
class _FlowColumn:
    """The transform of one column to the space of the flow, where values are about normal, and its inverse."""

    values: Floats  # distinct, ascending
    places: Floats  # transformed values, ascending; empty for a category
    levels: bool  # whether only real values are generated
    width: int  # number of dimensions

    @classmethod
    def of(cls, column: Floats, category: bool) -> "_FlowColumn":
        from scipy.special import ndtri

        values, where = np.unique(column, return_inverse=True)
        if category:
            return cls(values, np.empty(0), levels=True, width=len(values))
        mass = np.bincount(where)
        middle = (np.cumsum(mass) - mass / 2) / mass.sum()
        return cls(values, np.asarray(ndtri(middle)), levels=len(values) <= LEVELS, width=1)

    def to_flow(self, column: Floats) -> Floats:
        place = np.searchsorted(self.values, column)
        if len(self.places):
            return self.places[place].reshape(-1, 1)
        return np.where(place[:, None] == np.arange(self.width), 2.0, -2.0 / max(self.width - 1, 1))

    def from_flow(self, at: Floats) -> Floats:
        if not len(self.places):
            return np.asarray(self.values[np.argmax(at, axis=1)])
        if self.levels:
            borders = (self.places[1:] + self.places[:-1]) / 2
            return np.asarray(self.values[np.searchsorted(borders, at[:, 0])])
        values: Floats = np.interp(at[:, 0], self.places, self.values)
        return values
