"""INNE: PyOD samples the spheres, a compiled loop finds those that cover a row."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from detectors.algorithms.pyod_support import pyod_class
from detectors.algorithms.scaled_outlier import FittedOnScale, ScaledOutlier
from detectors.algorithms.scaling import SoftScale
from detectors.base import LEARNED_MAX, SEED, Floats, require_arrays, require_fitted
from detectors.compilation import compiled


@dataclass(frozen=True)
class Spheres(FittedOnScale):
    """What INNE has learned: spheres around sampled rows."""

    centres: Floats  # (n_samples, n_spheres, n_features)
    radii: Floats  # (n_samples, n_spheres) squared, ascending within a sample
    isolation: Floats  # (n_samples, n_spheres)
    usual: Floats  # (n_features,) medians of the scaled training rows

    def __post_init__(self) -> None:
        n = len(self.scale.mean)
        require_arrays("INNE", (*self.radii.shape[:2], n), self.centres, at_most=LEARNED_MAX)
        require_arrays("INNE", self.centres.shape[:2], self.radii, self.isolation, at_most=LEARNED_MAX)
        require_arrays("INNE", (n,), self.usual, at_most=LEARNED_MAX)


@dataclass(eq=False)
class INNE(ScaledOutlier):
    """
    Score a row by how isolated the neighbourhoods are that it falls into.

    Each of many small samples of rows spans spheres up to each row's nearest neighbour. A row outside all spheres of a
    sample has the maximal score there; inside one, its score is how much smaller the sphere of the nearest neighbour is. It
    detects local outliers, isolation forests only global ones. It is slower than the other detectors here; rows outside all
    spheres of all samples tie.

    The score is PyOD's `decision_function` on columns scaled by `SoftScale`.

    Parameters
    ----------
    n_samples
        Number of small samples.
    max_samples
        Rows per sample, each the centre of a sphere. PyOD's default is 8.
    max_rows
        Rows that samples are drawn from; of more rows a systematic sample is used.
    seed
        The same seed and rows give the same spheres.

    Notes
    -----
    A column contributes the decrease of the score if the column has its median value. Contributions do not add up if
    columns interact.

    References
    ----------
    Bandaragoda et al. (2018), Isolation-based anomaly detection using nearest-neighbor ensembles.
    """

    name: ClassVar[str] = "inne"
    n_samples: int = 200
    max_samples: int = 8
    max_rows: int = 50_000
    seed: int = SEED
    fitted: Spheres | None = field(default=None, init=False, repr=False)

    def anomaly_score(self, X: ArrayLike) -> Floats:
        """PyOD's decision_function of each scaled row, (n_samples,); higher = rarer."""
        scaled, at = self._scaled(X), require_fitted(self.fitted, self.name)
        return _isolation_of(scaled, at.centres, at.radii, at.isolation)

    def explain(self, X: ArrayLike) -> Floats:
        """Decrease of the score if a column has its median value, (n_samples, n_features)."""
        scaled, at = self._scaled(X), require_fitted(self.fitted, self.name)
        return _contributions(scaled, at.centres, at.radii, at.isolation, at.usual)

    def _learn(self, scale: SoftScale, scaled: Floats) -> Spheres:
        model = _sample_spheres(scaled, self.n_samples, min(self.max_samples, len(scaled)), self.seed)
        order = np.argsort(
            model._centroids_radius, axis=1, kind="stable"
        )  # the first sphere that covers a row is the smallest
        radii = np.take_along_axis(model._centroids_radius, order, axis=1)
        isolation = np.take_along_axis(model._ratio, order, axis=1)
        centres = np.ascontiguousarray(np.take_along_axis(model._centroids, order[:, :, None], axis=1))
        sampled = scaled[:: max(1, len(scaled) // 1000)]
        base = float(_isolation_of(sampled, centres, radii, isolation).mean())
        return Spheres(scale, base, centres, radii, isolation, np.median(scaled, axis=0))


def _sample_spheres(rows: Floats, n_samples: int, max_samples: int, seed: int) -> Any:
    """PyOD's spheres without its training scores, which take minutes to compute in `fit`."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    model = pyod_class("inne", "INNE")(n_estimators=n_samples, max_samples=max_samples, random_state=seed)
    model.max_samples_ = max_samples
    with threadpool_limits(1):
        return model._fit(rows)


@compiled
def _isolation_of(X: Floats, centres: Floats, radii: Floats, isolation: Floats) -> Floats:
    total = np.zeros(X.shape[0])
    for i in range(X.shape[0]):
        for sample in range(centres.shape[0]):
            score = 1.0
            for sphere in range(centres.shape[1]):
                far = 0.0
                for column in range(X.shape[1]):
                    step = X[i, column] - centres[sample, sphere, column]
                    far += step * step
                    if far > radii[sample, sphere]:
                        break
                if far <= radii[sample, sphere]:
                    score = isolation[sample, sphere]
                    break
            total[i] += score
        total[i] /= centres.shape[0]
    return total


@compiled
def _contributions(X: Floats, centres: Floats, radii: Floats, isolation: Floats, usual: Floats) -> Floats:
    """Decrease of each row's score if one column has its median value; distances are updated for that column."""
    n_samples, n_spheres, n_columns = centres.shape
    lost = np.zeros(X.shape)
    far = np.empty(n_spheres)
    for i in range(X.shape[0]):
        for sample in range(n_samples):
            score = 1.0
            for sphere in range(n_spheres - 1, -1, -1):
                far[sphere] = 0.0
                for column in range(n_columns):
                    step = X[i, column] - centres[sample, sphere, column]
                    far[sphere] += step * step
                if far[sphere] <= radii[sample, sphere]:
                    score = isolation[sample, sphere]
            for column in range(n_columns):
                without = 1.0
                for sphere in range(n_spheres):
                    step = X[i, column] - centres[sample, sphere, column]
                    other = usual[column] - centres[sample, sphere, column]
                    if far[sphere] - step * step + other * other <= radii[sample, sphere]:
                        without = isolation[sample, sphere]
                        break
                lost[i, column] += score - without
        for column in range(n_columns):
            lost[i, column] /= n_samples
    return lost
