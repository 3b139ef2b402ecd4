"""HBOS: PyOD's histograms, read column by column."""

import warnings
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from detectors.base import Floats, NotFitted, State, as_rows, as_training_rows, as_weights, row_sums
from detectors.isolation_forest import thin
from detectors.scaling import SoftScale


class HBOS:
    """
    Score a row by how rare each of its values is, as if columns were independent.

    The fastest of the outlier detectors, with exact reasons. It sees rare values, never rare combinations of usual
    ones, and rows that fall into the same bins tie.

    The score is PyOD's `decision_function` on columns scaled by `SoftScale`: −Σ log₂(density + α).

    Parameters
    ----------
    n_bins
        Bins of equal width a column.
    max_rows
        Rows that histograms are made of; more are thinned evenly in their order.
    seed
        Of the thinning.

    References
    ----------
    Goldstein & Dengel (2012), Histogram-based outlier score (HBOS).
    """

    name: ClassVar[str] = "hbos"
    supervised: ClassVar[bool] = False
    additive: ClassVar[bool] = True

    def __init__(self, n_bins: int = 20, max_rows: int = 50_000, seed: int = 7) -> None:
        self.n_bins = n_bins
        self.max_rows = max_rows
        self.seed = seed
        self._scale: SoftScale | None = None
        self._edges: Floats = np.empty((0, 0))  # (n_features, n_bins + 1)
        self._surprise: Floats = np.empty((0, 0))  # (n_features, n_bins + 2), outside bins first and last
        self._reach: Floats = np.empty(
            (0, 2)
        )  # how far below and above its edges a column's outer bins reach
        self._usual: Floats = np.empty(0)  # (n_features,) mean surprise of the training rows

    def fit(self, X: ArrayLike, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None) -> Self:  # noqa: ARG002
        """
        Count training rows; labels are not looked at.

        A row of weight w is w times as likely to be kept by the thinning; a weight of 0 keeps it out.

        Raises
        ------
        DetectorError
            Fewer than 2 rows, or a value that is not finite.
        """
        rows = as_training_rows(X)
        rows = rows[thin(as_weights(sample_weight, len(rows)), self.max_rows, self.seed)]
        scale = SoftScale.fit(rows)
        scaled = scale.transform(rows)
        pyod = _fit_pyod(scaled, self.n_bins)
        surprise = -np.log2(pyod.hist_.T + pyod.alpha)
        rarest = surprise.max(axis=1, keepdims=True)
        self._surprise = np.ascontiguousarray(np.hstack([rarest, surprise, rarest]))
        self._edges = np.ascontiguousarray(pyod.bin_edges_.T)
        widths = np.diff(self._edges, axis=1)[:, [0, -1]] * pyod.tol
        self._reach = np.stack([self._edges[:, 0] - widths[:, 0], self._edges[:, -1] + widths[:, 1]], axis=1)
        self._scale = scale
        self._usual = self._surprises(rows).mean(axis=0)
        return self

    def anomaly_score(self, X: ArrayLike) -> Floats:
        """PyOD's decision_function of each scaled row, (n_samples,); higher = rarer."""
        return row_sums(self._surprises(X))

    def explain(self, X: ArrayLike) -> Floats:
        """Each column's surprise less that of a usual row, (n_samples, n_features)."""
        return self._surprises(X) - self._usual

    @property
    def base_score(self) -> float:
        """The training rows' mean score."""
        self._fitted()
        return float(self._usual.sum())

    def state(self) -> State:
        """Scale and histograms."""
        arrays = self._fitted().arrays() | {
            "edges": self._edges, "surprise": self._surprise, "reach": self._reach, "usual": self._usual,
        }  # fmt: skip
        return State({"n_bins": self.n_bins, "max_rows": self.max_rows, "seed": self.seed}, arrays)

    @classmethod
    def from_state(cls, state: State) -> Self:
        """The detector that `state` was taken from; it scores bit for bit alike."""
        detector = cls(**state.meta)
        detector._scale = SoftScale.from_arrays(state.arrays)
        for name in ("edges", "surprise", "reach", "usual"):
            setattr(detector, f"_{name}", state.arrays[name])
        return detector

    def _fitted(self) -> SoftScale:
        if self._scale is None:
            raise NotFitted("the histograms are empty: call fit first")
        return self._scale

    def _surprises(self, X: ArrayLike) -> Floats:
        """−log₂(density + α) of each value, (n_samples, n_features)."""
        scale = self._fitted()
        scaled = scale.transform(as_rows(X, len(scale.mean)))
        found = np.empty_like(scaled)
        for column, edges in enumerate(self._edges):
            values = scaled[:, column]
            place = np.clip(np.searchsorted(edges, values, side="left"), 1, self.n_bins)
            place = np.where(values < self._reach[column, 0], 0, place)
            place = np.where(values > self._reach[column, 1], self.n_bins + 1, place)
            found[:, column] = self._surprise[column][place]
        return found


def _fit_pyod(rows: Floats, n_bins: int) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of PyOD's own imports
        from pyod.models.hbos import HBOS as PyODHBOS  # noqa: N811
    return PyODHBOS(n_bins=n_bins).fit(rows)
