"""Logistic regression on softly standardised columns, frauds weighted."""

from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from detectors.algorithms.scaling import SoftScale
from detectors.base import (
    DetectorError,
    Floats,
    NotFitted,
    State,
    as_labels,
    as_positive_weight,
    as_rows,
    as_training_rows,
    as_weights,
    probability_of,
    row_sums,
)


class Logistic:
    """
    A linear model of the logit.

    It learns from few frauds, extrapolates, and its contributions are exact. It models no interactions of columns and no
    effects that are not monotonic.

    Columns are scaled by `SoftScale`, so that heavy tails do not dominate.

    Parameters
    ----------
    strength
        Inverse of the L2 penalty, scikit-learn's C.
    positive_weight
        Weight of a fraud in training, undone in the score. Default as in `as_positive_weight`.

    Notes
    -----
    A column contributes its coefficient × its standardised value; `base_score` is the intercept, the score of
    an average row.
    """

    name: ClassVar[str] = "logistic"
    supervised: ClassVar[bool] = True
    additive: ClassVar[bool] = True

    def __init__(self, strength: float = 0.1, positive_weight: float | None = None) -> None:
        self.strength = strength
        self.positive_weight = positive_weight
        self._scale: SoftScale | None = None
        self._coefficients: Floats = np.empty(0)
        self._base = 0.0

    def fit(self, X: ArrayLike, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None) -> Self:
        """
        Fit on one thread.

        Raises
        ------
        DetectorError
            The rows have only one class, or the fit did not converge.
        """
        rows = as_training_rows(X)
        labels, weights = as_labels(y, len(rows)), as_weights(sample_weight, len(rows))
        weight = as_positive_weight(self.positive_weight, labels, weights)
        scale = SoftScale.fit(rows)
        self._coefficients, intercept = _fit(scale.transform(rows), labels, weights, weight, self.strength)
        self._scale = scale
        self._base = intercept - float(np.log(weight))
        return self

    def anomaly_score(self, X: ArrayLike) -> Floats:
        """Logit of the probability of fraud with the training weight undone, (n_samples,)."""
        return row_sums(self.explain(X), self._base)

    def fraud_probability(self, X: ArrayLike) -> Floats:
        """Uncalibrated probability of fraud: the logistic of `anomaly_score`."""
        return probability_of(self.anomaly_score(X))

    def explain(self, X: ArrayLike) -> Floats:
        """Coefficient × standardised value, (n_samples, n_features)."""
        scale = self._fitted()
        return scale.transform(as_rows(X, len(scale.mean))) * self._coefficients

    @property
    def base_score(self) -> float:
        """The intercept with the training weight undone."""
        self._fitted()
        return self._base

    def state(self) -> State:
        """Scales and coefficients."""
        meta = {"base": self._base, "strength": self.strength, "positive_weight": self.positive_weight}
        return State(meta, self._fitted().arrays() | {"coefficients": self._coefficients})

    @classmethod
    def from_state(cls, state: State) -> Self:
        """Restore the regression from its `state`; it scores the same to the bit."""
        detector = cls(state.meta["strength"], state.meta["positive_weight"])
        detector._scale = SoftScale.from_arrays(state.arrays)
        detector._coefficients = state.arrays["coefficients"]
        detector._base = float(state.meta["base"])
        return detector

    def _fitted(self) -> SoftScale:
        if self._scale is None:
            raise NotFitted("the logistic regression has no coefficients yet: call fit first")
        return self._scale


def _fit(
    Z: Floats, labels: Floats, weights: Floats, positive_weight: float, strength: float
) -> tuple[Floats, float]:
    """Coefficients and intercept by Newton's method, whose result hardly depends on the stopping rule."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    weight = np.where(labels == 1, positive_weight, 1.0) * weights / weights.mean()
    model = LogisticRegression(C=strength, solver="newton-cholesky", max_iter=200)
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            model.fit(Z, labels, sample_weight=weight)
        except ConvergenceWarning as warning:
            raise DetectorError(f"logistic regression did not converge: {warning}") from warning
    return model.coef_[0].astype(np.float64), float(model.intercept_[0])
