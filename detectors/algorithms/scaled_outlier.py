"""What outlier detectors on softly scaled columns share: drawing training rows, scaling, storing."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from detectors.algorithms.pyod_support import thin
from detectors.algorithms.scaling import SoftScale
from detectors.base import Floats, NotFitted, State, as_rows, as_training_rows, as_weights


class ScaledOutlier:
    """
    An outlier detector of PyOD's on columns scaled by `SoftScale`.

    A subclass names its `PARAMETERS` and the `ARRAYS` it learns, each kept as an attribute with a leading underscore,
    and says in `_learn` what it learns from scaled rows.
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
        Learn from training rows; labels are not looked at.

        A row of weight w is w times as likely to be kept by the thinning to `max_rows`; a weight of 0 keeps it out.

        Raises
        ------
        DetectorError
            Fewer than 2 rows, or a value that is not finite.
        """
        rows = as_training_rows(X)
        rows = rows[thin(as_weights(sample_weight, len(rows)), self.max_rows, self.seed)]
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
        """The scale and what was learned."""
        arrays = self._fitted().arrays() | {name: getattr(self, f"_{name}") for name in self.ARRAYS}
        parameters = {name: getattr(self, name) for name in self.PARAMETERS}
        return State({"parameters": parameters, "base": self._base}, arrays)

    @classmethod
    def from_state(cls, state: State) -> Self:
        """The detector that `state` was taken from; it scores bit for bit alike."""
        parameters: Mapping[str, Any] = state.meta["parameters"]
        detector = cls(**parameters)
        detector._scale = SoftScale.from_arrays(state.arrays)
        detector._base = float(state.meta["base"])
        for name in cls.ARRAYS:
            setattr(detector, f"_{name}", np.ascontiguousarray(state.arrays[name]))
        return detector

    def _learn(self, scaled: Floats) -> float:
        """Learn the arrays from scaled rows; returns the base score."""
        raise NotImplementedError

    def _fitted(self) -> SoftScale:
        if self._scale is None:
            raise NotFitted(f"{self.name} has learned nothing yet: call fit first")
        return self._scale

    def _scaled(self, X: ArrayLike) -> Floats:
        scale = self._fitted()
        return np.ascontiguousarray(scale.transform(as_rows(X, len(scale.mean))))
