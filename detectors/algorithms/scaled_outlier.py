"""Base class of the outlier detectors on scaled columns: sampling and scaling of training rows."""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from detectors.algorithms.pyod_support import systematic_sample
from detectors.algorithms.scaling import SoftScale
from detectors.base import Floats, as_rows, as_training_rows, as_weights, require_fitted


@dataclass(frozen=True)
class FittedOnScale:
    """What an outlier detector has learned: its scale, the training rows' mean score, and what subclasses add."""

    scale: SoftScale
    base: float


class ScaledOutlier:
    """
    Base class of a PyOD outlier detector on columns scaled by `SoftScale`.

    A subclass has the fields `max_rows`, `seed` and `fitted`, and implements `_learn`.
    """

    name: ClassVar[str]
    max_rows: int
    seed: int
    fitted: FittedOnScale | None

    def fit(self, X: ArrayLike, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None) -> Self:  # noqa: ARG002
        """
        Fit to training rows; labels are ignored.

        A row of weight w is w times as likely to be among the `max_rows` sampled; a row of weight 0 is left out.

        Raises
        ------
        DetectorError
            There are fewer than 2 rows, or a value is not finite.
        """
        rows = as_training_rows(X)
        rows = rows[systematic_sample(as_weights(sample_weight, len(rows)), self.max_rows, self.seed)]
        scale = SoftScale.fit(rows)
        self.fitted = self._learn(scale, np.ascontiguousarray(scale.transform(rows)))
        return self

    @property
    def base_score(self) -> float:
        """The training rows' mean score."""
        return require_fitted(self.fitted, self.name).base

    def _learn(self, scale: SoftScale, scaled: Floats) -> FittedOnScale:
        """Fit to scaled rows."""
        raise NotImplementedError

    def _scaled(self, X: ArrayLike) -> Floats:
        scale = require_fitted(self.fitted, self.name).scale
        return np.ascontiguousarray(scale.transform(as_rows(X, len(scale.mean))))
