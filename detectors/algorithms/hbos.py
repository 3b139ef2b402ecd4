"""HBOS: the histogram-based outlier score of PyOD, evaluated column by column."""

from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from detectors.algorithms.pyod_support import pyod_class
from detectors.algorithms.scaled_outlier import ScaledOutlier
from detectors.base import Floats, row_sums


class HBOS(ScaledOutlier):
    """
    Score a row by how rare each of its values is, as if columns were independent.

    The fastest of the outlier detectors, with exact contributions. It detects rare values, but not rare combinations of
    usual values, and rows in the same bins tie.

    The score is PyOD's `decision_function` on columns scaled by `SoftScale`: −Σ log₂(density + α).

    Parameters
    ----------
    n_bins
        Number of bins of equal width per column.
    max_rows
        Rows for the histograms; of more rows a systematic sample is used.
    seed
        Seed of the sampling.

    References
    ----------
    Goldstein & Dengel (2012), Histogram-based outlier score (HBOS).
    """

    name: ClassVar[str] = "hbos"
    additive: ClassVar[bool] = True
    PARAMETERS = ("n_bins", "max_rows", "seed")
    ARRAYS = ("edges", "surprise", "reach", "usual")

    def __init__(self, n_bins: int = 20, max_rows: int = 50_000, seed: int = 7) -> None:
        self.n_bins = n_bins
        self.max_rows = max_rows
        self.seed = seed
        self._edges: Floats = np.empty((0, 0))  # (n_features, n_bins + 1)
        self._surprise: Floats = np.empty((0, 0))  # (n_features, n_bins + 2), outside bins first and last
        self._reach: Floats = np.empty((0, 2))  # outer limits of the first and last bin of each column
        self._usual: Floats = np.empty(0)  # (n_features,) mean surprise of the training rows

    def anomaly_score(self, X: ArrayLike) -> Floats:
        """PyOD's decision_function of each scaled row, (n_samples,); higher = rarer."""
        return row_sums(self._surprises(X))

    def explain(self, X: ArrayLike) -> Floats:
        """Each column's surprise less that of a usual row, (n_samples, n_features)."""
        return self._surprises(X) - self._usual

    def _learn(self, scaled: Floats) -> float:
        model = pyod_class("hbos", "HBOS")(n_bins=self.n_bins).fit(scaled)
        surprise = -np.log2(model.hist_.T + model.alpha)
        rarest = surprise.max(axis=1, keepdims=True)
        self._surprise = np.ascontiguousarray(np.hstack([rarest, surprise, rarest]))
        self._edges = np.ascontiguousarray(model.bin_edges_.T)
        widths = np.diff(self._edges, axis=1)[:, [0, -1]] * model.tol
        self._reach = np.stack([self._edges[:, 0] - widths[:, 0], self._edges[:, -1] + widths[:, 1]], axis=1)
        self._usual = self._surprises_of(scaled).mean(axis=0)
        return float(self._usual.sum())

    def _surprises(self, X: ArrayLike) -> Floats:
        return self._surprises_of(self._scaled(X))

    def _surprises_of(self, scaled: Floats) -> Floats:
        """−log₂(density + α) of each value, (n_samples, n_features)."""
        surprises = np.empty_like(scaled)
        for column, edges in enumerate(self._edges):
            values = scaled[:, column]
            place = np.clip(np.searchsorted(edges, values, side="left"), 1, self.n_bins)
            place = np.where(values < self._reach[column, 0], 0, place)
            place = np.where(values > self._reach[column, 1], self.n_bins + 1, place)
            surprises[:, column] = self._surprise[column][place]
        return surprises
