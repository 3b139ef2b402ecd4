"""HBOS: the histogram-based outlier score of PyOD, evaluated column by column."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from detectors.algorithms.pyod_support import pyod_class
from detectors.algorithms.scaled_outlier import FittedOnScale, ScaledOutlier
from detectors.algorithms.scaling import SoftScale
from detectors.base import LEARNED_MAX, SEED, Floats, require_arrays, require_fitted, row_sums


@dataclass(frozen=True)
class ColumnSurprises(FittedOnScale):
    """What HBOS has learned: the surprise of each bin of each column."""

    edges: Floats  # (n_features, n_bins + 1)
    surprise: Floats  # (n_features, n_bins + 2), outside bins first and last
    reach: Floats  # (n_features, 2) outer limits of the first and last bin of each column
    usual: Floats  # (n_features,) mean surprise of the training rows

    def __post_init__(self) -> None:
        n, bins = len(self.scale.mean), self.edges.shape[-1] - 1
        for part, width in ((self.edges, bins + 1), (self.surprise, bins + 2), (self.reach, 2)):
            require_arrays("HBOS", (n, width), part, at_most=LEARNED_MAX)
        require_arrays("HBOS", (n,), self.usual, at_most=LEARNED_MAX)


@dataclass(eq=False)
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
    n_bins: int = 20
    max_rows: int = 50_000
    seed: int = SEED
    fitted: ColumnSurprises | None = field(default=None, init=False, repr=False)

    def anomaly_score(self, X: ArrayLike) -> Floats:
        """PyOD's decision_function of each scaled row, (n_samples,); higher = rarer."""
        return row_sums(self._surprises(X))

    def explain(self, X: ArrayLike) -> Floats:
        """Each column's surprise less that of a usual row, (n_samples, n_features)."""
        return self._surprises(X) - require_fitted(self.fitted, self.name).usual

    def _learn(self, scale: SoftScale, scaled: Floats) -> ColumnSurprises:
        model = pyod_class("hbos", "HBOS")(n_bins=self.n_bins).fit(scaled)
        surprise = -np.log2(model.hist_.T + model.alpha)
        rarest = surprise.max(axis=1, keepdims=True)
        surprise = np.ascontiguousarray(np.hstack([rarest, surprise, rarest]))
        edges = np.ascontiguousarray(model.bin_edges_.T)
        widths = np.diff(edges, axis=1)[:, [0, -1]] * model.tol
        reach = np.stack([edges[:, 0] - widths[:, 0], edges[:, -1] + widths[:, 1]], axis=1)
        usual = _surprises_of(scaled, edges, surprise, reach).mean(axis=0)
        return ColumnSurprises(scale, float(usual.sum()), edges, surprise, reach, usual)

    def _surprises(self, X: ArrayLike) -> Floats:
        scaled, bins = self._scaled(X), require_fitted(self.fitted, self.name)
        return _surprises_of(scaled, bins.edges, bins.surprise, bins.reach)


def _surprises_of(scaled: Floats, edges: Floats, surprise: Floats, reach: Floats) -> Floats:
    """−log₂(density + α) of each value, (n_samples, n_features)."""
    surprises = np.empty_like(scaled)
    n_bins = edges.shape[1] - 1
    for column, values in enumerate(scaled.T):
        place = np.clip(np.searchsorted(edges[column], values, side="left"), 1, n_bins)
        place = np.where(values < reach[column, 0], 0, place)
        place = np.where(values > reach[column, 1], n_bins + 1, place)
        surprises[:, column] = surprise[column][place]
    return surprises
