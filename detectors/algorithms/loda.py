"""LODA: PyOD samples random projections and their histograms, a compiled loop evaluates them."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from detectors.algorithms.pyod_support import pyod_class
from detectors.algorithms.scaled_outlier import FittedOnScale, ScaledOutlier
from detectors.algorithms.scaling import SoftScale
from detectors.base import LEARNED_MAX, SEED, Floats, require_arrays, require_fitted
from detectors.compilation import compiled

EMPTY_BIN_ROWS = 0.5  # rows that an empty bin, and the space outside all bins, is assumed to hold


@dataclass(frozen=True)
class Projections(FittedOnScale):
    """What LODA has learned: directions and the surprise of each of their bins."""

    cuts: Floats  # (n_cuts, n_features)
    limits: Floats  # (n_cuts, n_bins + 1)
    surprise: Floats  # (n_cuts, n_bins + 2), outside bins first and last
    usual: Floats  # (n_cuts,) mean surprise of the training rows

    def __post_init__(self) -> None:
        n, bins = len(self.cuts), max(1, self.limits.shape[-1] - 1)
        require_arrays("LODA", (n, len(self.scale.mean)), self.cuts, at_most=LEARNED_MAX)
        require_arrays("LODA", (n, bins + 1), self.limits, at_most=LEARNED_MAX)
        require_arrays("LODA", (n, bins + 2), self.surprise, at_most=LEARNED_MAX)
        require_arrays("LODA", (n,), self.usual, at_most=LEARNED_MAX)


@dataclass(eq=False)
class LODA(ScaledOutlier):
    """
    Score a row by how rare it is along many sparse random directions.

    Detects rare combinations of a few columns at a time, quickly. It is coarse: rows in the same bins of all
    directions tie.

    The score is the mean of −ln p over PyOD's projections and histograms of columns scaled by `SoftScale`. Two things
    differ from PyOD 3.6: a value reads its own bin, where PyOD reads the one above it, and an empty bin counts as half a
    row, where PyOD's 10⁻¹² makes a gap between usual values rarer than anything outside.

    Parameters
    ----------
    n_cuts
        Number of directions, each over √n_features columns.
    n_bins
        Number of bins of equal width along each direction.
    max_rows
        Rows for the histograms; of more rows a systematic sample is used.
    seed
        The same seed and rows give the same directions.

    Notes
    -----
    A direction's surprise beyond the training rows' mean is credited to its columns by their shares of |w · x|.

    References
    ----------
    Pevný (2016), Loda: lightweight on-line detector of anomalies.
    """

    name: ClassVar[str] = "loda"
    n_cuts: int = 200
    n_bins: int = 20
    max_rows: int = 50_000
    seed: int = SEED
    fitted: Projections | None = field(default=None, init=False, repr=False)

    def anomaly_score(self, X: ArrayLike) -> Floats:
        """Mean surprise over the directions, (n_samples,); higher = rarer."""
        scaled, at = self._scaled(X), require_fitted(self.fitted, self.name)
        return _mean_surprise(scaled, at.cuts, at.limits, at.surprise)

    def explain(self, X: ArrayLike) -> Floats:
        """Each column's share of score − base_score, (n_samples, n_features)."""
        scaled, at = self._scaled(X), require_fitted(self.fitted, self.name)
        return _contributions(scaled, at.cuts, at.limits, at.surprise, at.usual)

    def _learn(self, scale: SoftScale, scaled: Floats) -> Projections:
        settings = {"n_bins": self.n_bins, "n_random_cuts": self.n_cuts, "random_state": self.seed}
        model = pyod_class("loda", "LODA")(**settings).fit(scaled)
        shares = np.pad(model.histograms_, ((0, 0), (1, 1)))
        surprise = np.ascontiguousarray(-np.log(np.maximum(shares, EMPTY_BIN_ROWS / len(scaled))))
        cuts, limits = np.ascontiguousarray(model.projections_), _widened(model.limits_)
        usual = (model.histograms_ * surprise[:, 1:-1]).sum(axis=1)
        return Projections(scale, float(usual.mean()), cuts, limits, surprise, usual)


def _widened(limits: Floats) -> Floats:
    """Widen the outer bins by the rounding error, so that all training rows lie inside."""
    room = (limits[:, -1] - limits[:, 0]) * 1e-9
    wide = np.array(limits, order="C")
    wide[:, 0] -= room
    wide[:, -1] += room
    return wide


@compiled
def _bin(value: float, limits: Floats) -> int:
    """Index of a bin: 0 below all bins, 1 … n inside, n + 1 above all."""
    if value < limits[0]:
        return 0
    if value > limits[-1]:
        return len(limits)
    low, high = 0, len(limits) - 2
    while low < high:
        middle = (low + high) // 2
        if value < limits[middle + 1]:
            high = middle
        else:
            low = middle + 1
    return low + 1


@compiled
def _mean_surprise(X: Floats, cuts: Floats, limits: Floats, surprise: Floats) -> Floats:
    total = np.zeros(X.shape[0])
    for i in range(X.shape[0]):
        for cut in range(cuts.shape[0]):
            at = 0.0
            for column in range(X.shape[1]):
                if cuts[cut, column] != 0.0:
                    at += cuts[cut, column] * X[i, column]
            total[i] += surprise[cut, _bin(at, limits[cut])]
        total[i] /= cuts.shape[0]
    return total


@compiled
def _contributions(X: Floats, cuts: Floats, limits: Floats, surprise: Floats, usual: Floats) -> Floats:
    credit = np.zeros(X.shape)
    for i in range(X.shape[0]):
        for cut in range(cuts.shape[0]):
            at = reach = 0.0
            used = 0
            for column in range(X.shape[1]):
                if cuts[cut, column] != 0.0:
                    at += cuts[cut, column] * X[i, column]
                    reach += abs(cuts[cut, column] * X[i, column])
                    used += 1
            gained = (surprise[cut, _bin(at, limits[cut])] - usual[cut]) / cuts.shape[0]
            for column in range(X.shape[1]):
                if cuts[cut, column] != 0.0:
                    share = abs(cuts[cut, column] * X[i, column]) / reach if reach > 0.0 else 1.0 / used
                    credit[i, column] += gained * share
    return credit
