"""Logistic regression on softly standardised columns, frauds weighted."""

from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

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

FURTHEST = 1e12  # spreads from the centre; beyond lies only what would overflow


class Logistic:
    """
    Add up what each column says, linearly.

    Learns from few frauds, extrapolates, and its reasons are exact. It sees no combination of columns and no
    effect that first rises and then falls.

    Columns are centred at their median and divided by their mean distance from it; distances then grow like
    their square root, sign(z)(√(1 + 2|z|) − 1), so that heavy tails count without ruling, and no two values
    tie as they would if clipped. Only exactly rounded operations are used: any machine gives the same bits.

    Parameters
    ----------
    strength
        Inverse of the L2 penalty, scikit-learn's C.
    positive_weight
        Weight of a fraud in training, undone in the score; `as_positive_weight` says the default.

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
        self._arrays: dict[str, Floats] | None = None
        self._base = 0.0

    def fit(self, X: ArrayLike, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None) -> Self:
        """
        Fit on one thread.

        Raises
        ------
        DetectorError
            Not both classes among the rows, or the fit did not converge.
        """
        rows = as_training_rows(X)
        labels, weights = as_labels(y, len(rows)), as_weights(sample_weight, len(rows))
        weight = as_positive_weight(self.positive_weight, labels, weights)
        scales = _scales(rows)
        coefficients, intercept = _fit(_standardised(rows, scales), labels, weights, weight, self.strength)
        self._arrays = scales | {"coefficients": coefficients}
        self._base = intercept - float(np.log(weight))
        return self

    def anomaly_score(self, X: ArrayLike) -> Floats:
        """Logit of the probability of fraud, weight undone, (n_samples,)."""
        return row_sums(self.explain(X), self._base)

    def fraud_probability(self, X: ArrayLike) -> Floats:
        """The logistic of `anomaly_score`."""
        return probability_of(self.anomaly_score(X))

    def explain(self, X: ArrayLike) -> Floats:
        """Coefficient × standardised value, (n_samples, n_features)."""
        arrays = self._fitted()
        return _standardised(as_rows(X, len(arrays["mean"])), arrays) * arrays["coefficients"]

    @property
    def base_score(self) -> float:
        """The intercept, weight undone."""
        self._fitted()
        return self._base

    def state(self) -> State:
        """Scales and coefficients."""
        meta = {"base": self._base, "strength": self.strength, "positive_weight": self.positive_weight}
        return State(meta, dict(self._fitted()))

    @classmethod
    def from_state(cls, state: State) -> Self:
        """The regression that `state` was taken from; it scores bit for bit alike."""
        detector = cls(state.meta["strength"], state.meta["positive_weight"])
        detector._arrays = dict(state.arrays)
        detector._base = float(state.meta["base"])
        return detector

    def _fitted(self) -> dict[str, Floats]:
        if self._arrays is None:
            raise NotFitted("the logistic regression has no coefficients yet: call fit first")
        return self._arrays


def _scales(rows: Floats) -> dict[str, Floats]:
    """Centre and spread of each column, then mean and deviation of what the square root leaves."""
    centre = np.median(rows, axis=0)
    spread = _or_one(np.abs(rows - centre).mean(axis=0))
    soft = _soft(rows, centre, spread)
    return {
        "centre": centre,
        "spread": spread,
        "mean": soft.mean(axis=0),
        "deviation": _or_one(soft.std(axis=0)),
    }


def _or_one(scale: Floats) -> Floats:
    """A constant column has no scale; a tiny one would blow up rounding errors."""
    return np.where(np.isfinite(scale) & (scale > 1e-9), scale, 1.0)


def _soft(rows: Floats, centre: Floats, spread: Floats) -> Floats:
    with np.errstate(over="ignore"):  # the clip catches it
        z = np.clip((rows - centre) / spread, -FURTHEST, FURTHEST)
    return np.sign(z) * (np.sqrt(1.0 + 2.0 * np.abs(z)) - 1.0)


def _standardised(rows: Floats, scales: dict[str, Floats]) -> Floats:
    soft = _soft(rows, scales["centre"], scales["spread"])
    return (soft - scales["mean"]) / scales["deviation"]


def _fit(
    Z: Floats, labels: Floats, weights: Floats, positive_weight: float, strength: float
) -> tuple[Floats, float]:
    """Coefficients and intercept; Newton's method, whose result hardly depends on how it stops."""
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
