"""LODA: PyOD draws projections and counts along them, a compiled loop reads them."""

import warnings
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detectors.base import Floats, NotFitted, State, as_rows, as_training_rows, as_weights, row_sums
from detectors.isolation_forest import thin
from detectors.scaling import SoftScale
from detectors.tree_kernel import compiled

LEAST = 0.5  # rows that an empty bin, and what lies outside all bins, is taken to hold


class LODA:
    """
    Score a row by how rare it is along many sparse random directions.

    Sees rare combinations of a few columns at a time, quickly. Coarse: rows that fall into the same bins of all
    directions tie.

    The score is the mean of −ln p over PyOD's projections and histograms of columns scaled by `SoftScale`. Two things
    differ from PyOD 3.6: a value reads its own bin, where PyOD reads the one above it, and an empty bin counts as half a
    row, where PyOD's 10⁻¹² makes a gap between usual values rarer than anything outside.

    Parameters
    ----------
    n_cuts
        Directions, each over √n_features columns.
    n_bins
        Bins of equal width along each.
    max_rows
        Rows that histograms are made of; more are thinned evenly in their order.
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
    supervised: ClassVar[bool] = False
    additive: ClassVar[bool] = True

    def __init__(self, n_cuts: int = 200, n_bins: int = 20, max_rows: int = 50_000, seed: int = 7) -> None:
        self.n_cuts = n_cuts
        self.n_bins = n_bins
        self.max_rows = max_rows
        self.seed = seed
        self._scale: SoftScale | None = None
        self._cuts: Floats = np.empty((0, 0))  # (n_cuts, n_features)
        self._limits: Floats = np.empty((0, 0))  # (n_cuts, n_bins + 1)
        self._surprise: Floats = np.empty((0, 0))  # (n_cuts, n_bins + 2), outside bins first and last
        self._usual: Floats = np.empty(0)  # (n_cuts,) mean surprise of the training rows

    def fit(self, X: ArrayLike, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None) -> Self:  # noqa: ARG002
        """
        Count training rows along random directions; labels are not looked at.

        A row of weight w is w times as likely to be kept by the thinning; a weight of 0 keeps it out.

        Raises
        ------
        DetectorError
            Fewer than 2 rows, or a value that is not finite.
        """
        rows = as_training_rows(X)
        rows = rows[thin(as_weights(sample_weight, len(rows)), self.max_rows, self.seed)]
        self._scale = SoftScale.fit(rows)
        pyod = _fit_pyod(self._scale.transform(rows), self.n_cuts, self.n_bins, self.seed)
        least = LEAST / len(rows)
        shares = np.pad(pyod.histograms_, ((0, 0), (1, 1)))
        self._surprise = np.ascontiguousarray(-np.log(np.maximum(shares, least)))
        self._cuts, self._limits = np.ascontiguousarray(pyod.projections_), _widened(pyod.limits_)
        self._usual = (pyod.histograms_ * self._surprise[:, 1:-1]).sum(axis=1)
        return self

    def anomaly_score(self, X: ArrayLike) -> Floats:
        """Mean surprise over the directions, (n_samples,); higher = rarer."""
        return _walk(self._scaled(X), self._cuts, self._limits, self._surprise)

    def explain(self, X: ArrayLike) -> Floats:
        """Each column's share of score − base_score, (n_samples, n_features)."""
        return _credit(self._scaled(X), self._cuts, self._limits, self._surprise, self._usual)

    @property
    def base_score(self) -> float:
        """The training rows' mean score."""
        self._fitted()
        return float(row_sums(self._usual.reshape(1, -1))[0]) / self.n_cuts

    def state(self) -> State:
        """Scale, directions and histograms."""
        arrays = self._fitted().arrays() | {
            "cuts": self._cuts, "limits": self._limits, "surprise": self._surprise, "usual": self._usual,
        }  # fmt: skip
        names = ("n_cuts", "n_bins", "max_rows", "seed")
        return State({name: getattr(self, name) for name in names}, arrays)

    @classmethod
    def from_state(cls, state: State) -> Self:
        """The detector that `state` was taken from; it scores bit for bit alike."""
        detector = cls(**state.meta)
        detector._scale = SoftScale.from_arrays(state.arrays)
        for name in ("cuts", "limits", "surprise", "usual"):
            setattr(detector, f"_{name}", np.ascontiguousarray(state.arrays[name]))
        return detector

    def _fitted(self) -> SoftScale:
        if self._scale is None:
            raise NotFitted("the directions are not drawn yet: call fit first")
        return self._scale

    def _scaled(self, X: ArrayLike) -> Floats:
        scale = self._fitted()
        return np.ascontiguousarray(scale.transform(as_rows(X, len(scale.mean))))


def _fit_pyod(rows: Floats, n_cuts: int, n_bins: int, seed: int) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of PyOD's own imports
        from pyod.models.loda import LODA as PyODLODA  # noqa: N811
    return PyODLODA(n_bins=n_bins, n_random_cuts=n_cuts, random_state=seed).fit(rows)


def _widened(limits: Floats) -> Floats:
    """Room for rounding: the outermost training rows lie inside, however their projections are summed."""
    room = (limits[:, -1] - limits[:, 0]) * 1e-9
    wide = np.array(limits, order="C")
    wide[:, 0] -= room
    wide[:, -1] += room
    return wide


@compiled
def _bin(value: float, limits: NDArray[np.float64]) -> int:
    """0 below all bins, 1 … n their places, n + 1 above all."""
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
def _walk(X: Floats, cuts: Floats, limits: Floats, surprise: Floats) -> Floats:
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
def _credit(X: Floats, cuts: Floats, limits: Floats, surprise: Floats, usual: Floats) -> Floats:
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
