"""Base class of the outlier detectors on scaled columns: sampling of training rows, scaling, serialization."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from detectors.algorithms.pyod_support import systematic_sample
from detectors.algorithms.scaling import SoftScale
from detectors.base import Floats, NotFitted, State, as_rows, as_training_rows, as_weights


class ScaledOutlier:
    """
    Base class of a PyOD outlier detector on columns scaled by `SoftScale`.

    A subclass lists its `PARAMETERS` and its fitted `ARRAYS`, each stored as an attribute with a leading underscore,
    and implements `_learn`.
    """

    name: ClassVar[str]
    supervised: ClassVar[bool] = False
    PARAMETERS: ClassVar[tuple[str, ...]]
    ARRAYS: ClassVar[tuple[str, ...]]

    max_rows: int
    seed: int
    _scale: SoftScale | None = None
    _base = 0.0

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
        self._base = self._learn(np.ascontiguousarray(scale.transform(rows)))
        self._scale = scale
        return self

    @property
    def base_score(self) -> float:
        """The training rows' mean score."""
        self._fitted()
        return self._base

    def state(self) -> State:
        """The scale, the parameters and the fitted arrays."""
        arrays = self._fitted().arrays() | {name: getattr(self, f"_{name}") for name in self.ARRAYS}
        parameters = {name: getattr(self, name) for name in self.PARAMETERS}
        return State({"parameters": parameters, "base": self._base}, arrays)

    @classmethod
    def from_state(cls, state: State) -> Self:
        """Restore the detector from its `state`; it scores the same to the bit."""
        parameters: Mapping[str, Any] = state.meta["parameters"]
        detector = cls(**parameters)
        detector._scale = SoftScale.from_arrays(state.arrays)
        detector._base = float(state.meta["base"])
        for name in cls.ARRAYS:
            setattr(detector, f"_{name}", np.ascontiguousarray(state.arrays[name]))
        return detector

    def _learn(self, scaled: Floats) -> float:
        """Fit the arrays to scaled rows and return the base score."""
        raise NotImplementedError

    def _fitted(self) -> SoftScale:
        if self._scale is None:
            raise NotFitted(f"{self.name} is not fitted: call fit first")
        return self._scale

    def _scaled(self, X: ArrayLike) -> Floats:
        scale = self._fitted()
        return np.ascontiguousarray(scale.transform(as_rows(X, len(scale.mean))))
