"""Logistic regression on softly standardised columns, frauds weighted."""

from dataclasses import dataclass, field
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from detectors.algorithms.scaling import SoftScale
from detectors.base import (
    LEARNED_MAX,
    DetectorError,
    Floats,
    as_labels,
    as_positive_weight,
    as_rows,
    as_training_rows,
    as_weights,
    probability_of,
    require_arrays,
    require_finite,
    require_fitted,
    row_sums,
)

STRENGTH = 0.1  # inverse of the L2 penalty, scikit-learn's C


@dataclass(frozen=True)
class Coefficients:
    """What a logistic regression has learned."""

    scale: SoftScale
    coefficients: Floats  # (n_features,)
    intercept: float  # with the training weight undone

    def __post_init__(self) -> None:
        require_arrays(
            "a logistic regression", (len(self.scale.mean),), self.coefficients, at_most=LEARNED_MAX
        )
        require_finite("a logistic regression", self.intercept)


@dataclass(eq=False)
class Logistic:
    """
    A linear model of the logit.

    It learns from few frauds, extrapolates, and its contributions are exact. It models no interactions of columns and no
    effects that are not monotonic.

    Columns are scaled by `SoftScale`, so that heavy tails do not dominate.

    Parameters
    ----------
    positive_weight
        Weight of a fraud in training, undone in the score. Default as in `as_positive_weight`.

    Notes
    -----
    A column contributes its coefficient × its standardised value; `base_score` is the intercept, the score of
    an average row.
    """

    name: ClassVar[str] = "logistic"
    positive_weight: float | None = None
    fitted: Coefficients | None = field(default=None, init=False, repr=False)

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
        coefficients, intercept = _fit(scale.transform(rows), labels, weights, weight)
        self.fitted = Coefficients(scale, coefficients, intercept - float(np.log(weight)))
        return self

    def anomaly_score(self, X: ArrayLike) -> Floats:
        """Logit of the probability of fraud with the training weight undone, (n_samples,)."""
        return row_sums(self.explain(X), self.base_score)

    def fraud_probability(self, X: ArrayLike) -> Floats:
        """Uncalibrated probability of fraud: the logistic of `anomaly_score`."""
        return probability_of(self.anomaly_score(X))

    def explain(self, X: ArrayLike) -> Floats:
        """Coefficient × standardised value, (n_samples, n_features)."""
        learned = require_fitted(self.fitted, self.name)
        scale = learned.scale
        return scale.transform(as_rows(X, len(scale.mean))) * learned.coefficients

    @property
    def base_score(self) -> float:
        """The intercept with the training weight undone."""
        return require_fitted(self.fitted, self.name).intercept


def _fit(Z: Floats, labels: Floats, weights: Floats, positive_weight: float) -> tuple[Floats, float]:
    """Coefficients and intercept by Newton's method, whose result hardly depends on the stopping rule."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    weight = np.where(labels == 1, positive_weight, 1.0) * weights / weights.mean()
    model = LogisticRegression(C=STRENGTH, solver="newton-cholesky", max_iter=200)
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            model.fit(Z, labels, sample_weight=weight)
        except ConvergenceWarning as warning:
            raise DetectorError(f"logistic regression did not converge: {warning}") from warning
    return model.coef_[0].astype(np.float64), float(model.intercept_[0])
