"""
Boosted trees with focal loss in LightGBM: easy rows have less weight, and the probability is recovered afterwards.

Lin et al. 2017, Focal loss for dense object detection. With q = σ(z), and for a fraud p = q, a = α, for a genuine row
p = 1 − q, a = 1 − α, the loss is −a (1 − p)^γ ln p.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detectors.algorithms.boosting import BoostedTrees, Boosting, train_to_text
from detectors.base import (
    DetectorError,
    Floats,
    as_labels,
    as_positive_weight,
    as_training_rows,
    as_weights,
    require_fitted,
    row_sums,
)

GAMMA = 2.0  # how strongly easy rows are down-weighted; 0 is weighted log loss
MARGIN_MAX = 500.0  # σ(±500) is 0 or 1 to the last bit; beyond 700 exp overflows
HESSIAN_SHARE = 0.1  # of the Gauss–Newton term a u^γ p u, below which the Hessian is lifted


@dataclass(frozen=True)
class FocalTrees(BoostedTrees):
    """What boosting under focal loss has learned."""

    alpha: float = 0.5  # the loss's weight of a fraud
    start: float = 0.0  # the margin that training began with, which LightGBM's model leaves out

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (0 < self.alpha < 1 and np.isfinite(self.start)):
            raise DetectorError(
                f"alpha must be between 0 and 1, got {self.alpha}, and the start finite, got {self.start}"
            )

    def score(self, margin: Floats) -> Floats:
        """Logit of the probability that corresponds to margins, (n_samples,)."""
        return posterior_logit(margin, self.alpha, GAMMA)

    @property
    def base_margin(self) -> float:
        """The expected margin over the training rows."""
        return self.expected + self.start


@dataclass(eq=False)
class FocalBoosting(Boosting):
    """
    Boosted trees under focal loss.

    Its ranking was not better than that of weighted log loss at 100 and at 598 frauds. It is used by `compare` only.

    Parameters
    ----------
    positive_weight
        Weight w of a fraud, undone in the score; the paper's α is w / (1 + w). Default as in `as_positive_weight`.
    threads, seed, overrides
        As for `Boosting`.

    Notes
    -----
    The margin of the trees is not a logit: focal loss is minimal at another margin than the logit of the probability.
    `anomaly_score` is the logit of the posterior that corresponds to the margin, η / (1 − η) = −L₋'(z) / L₊'(z)
    (Charoenphakdee et al. 2021, On focal loss for class-posterior probability estimation). Contributions are TreeSHAP
    values of the margin, rescaled to the score row by row.
    """

    name: ClassVar[str] = "focal"
    fitted: FocalTrees | None = field(default=None, init=False, repr=False)

    def fit(self, X: ArrayLike, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None) -> Self:
        """
        Train the trees, starting from the best constant margin; deterministic.

        Raises
        ------
        DetectorError
            The rows have only one class.
        """
        rows = as_training_rows(X)
        labels, weights = as_labels(y, len(rows)), as_weights(sample_weight, len(rows))
        weight = as_positive_weight(self.positive_weight, labels, weights)
        alpha = weight / (1 + weight)
        share = float(weights @ labels / weights.sum())
        start = best_constant(share, alpha, GAMMA)
        at_start = np.full(len(rows), start)
        usual = float(np.average(hessian(at_start, labels, alpha, GAMMA), weights=weights))
        scale = (
            weights / weights.mean() * share * (1 - share) / usual
        )  # gives penalties the scale of log loss

        def objective(margin: NDArray[Any], _data: Any) -> tuple[Floats, Floats]:
            z = np.asarray(margin, dtype=np.float64)
            return (
                scale * gradient(z, labels, alpha, GAMMA),
                scale * hessian(z, labels, alpha, GAMMA),
            )

        training: dict[str, Any] = {"objective": objective}
        if (rows == rows[0]).all():  # with a custom objective LightGBM fails if all columns are constant
            training = {"objective": "binary", "boost_from_average": False, "learning_rate": 1e-300}
        text = train_to_text(rows, labels, weights, self._parameters(labels) | training, init_score=at_start)
        self.fitted = FocalTrees(text, alpha=alpha, start=start)
        return self

    def anomaly_score(self, X: ArrayLike) -> Floats:
        """Logit of the recovered probability of fraud, (n_samples,)."""
        trees = require_fitted(self.fitted, self.name)
        return trees.score(trees.predict(X, self.threads, raw_score=True) + trees.start)

    def explain(self, X: ArrayLike) -> Floats:
        """TreeSHAP values of the margin, rescaled to add up to the score, (n_samples, n_features)."""
        of_margin = super().explain(X)
        trees = require_fitted(self.fitted, self.name)
        base = trees.base_margin
        reached = base + row_sums(of_margin)
        moved = reached - base
        stretch = np.ones(len(moved))
        nonzero = moved != 0
        stretch[nonzero] = (trees.score(reached[nonzero]) - self.base_score) / moved[nonzero]
        return np.ascontiguousarray(of_margin * stretch[:, None])

    @property
    def base_score(self) -> float:
        """The score of the expected margin."""
        trees = require_fitted(self.fitted, self.name)
        return float(trees.score(np.array([trees.base_margin]))[0])


def loss(margin: Floats, y: Floats, alpha: float, gamma: float) -> Floats:
    """Focal loss of margins z, (n,), for y in {0, 1}."""
    log_p, log_u, weight = _parts(margin, y, alpha)
    return -weight * np.exp(gamma * log_u) * log_p


def gradient(margin: Floats, y: Floats, alpha: float, gamma: float) -> Floats:
    """Derivative of the loss: s a u^γ (γ p ln p − u), with s = ±1 and u = 1 − p."""
    log_p, log_u, weight = _parts(margin, y, alpha)
    p, u = np.exp(log_p), np.exp(log_u)
    return np.where(y == 1, 1.0, -1.0) * weight * np.exp(gamma * log_u) * (gamma * p * log_p - u)


def curvature(margin: Floats, y: Floats, alpha: float, gamma: float) -> Floats:
    """Second derivative of the loss: a p u^γ (γ ln p (u − γ p) + u (2γ + 1)); negative where a row is badly misclassified."""
    log_p, log_u, weight = _parts(margin, y, alpha)
    p, u = np.exp(log_p), np.exp(log_u)
    return weight * p * np.exp(gamma * log_u) * (gamma * log_p * (u - gamma * p) + u * (2 * gamma + 1))


def hessian(margin: Floats, y: Floats, alpha: float, gamma: float) -> Floats:
    """The second derivative, bounded below by a positive value, so that a Newton step decreases the loss."""
    log_p, log_u, weight = _parts(margin, y, alpha)
    least = HESSIAN_SHARE * weight * np.exp(log_p + log_u + gamma * log_u) + 1e-12
    return np.maximum(curvature(margin, y, alpha, gamma), least)


def posterior_logit(margin: Floats, alpha: float, gamma: float) -> Floats:
    """
    Logit of the probability of fraud for which a margin minimises the loss, (n,); strictly increasing.

    ln[(1 − α)/α] + ln(−L₋') − ln(−L₊') of the unweighted branches, computed in logarithms to avoid underflow.
    """
    log_q, log_r = _log_sigmoid(margin), _log_sigmoid(-np.asarray(margin))
    q, r = np.exp(log_q), np.exp(log_r)
    of_genuine = gamma * log_q + log_q + np.log1p(-gamma * r * _over(log_r, q))
    of_fraud = gamma * log_r + log_r + np.log1p(-gamma * q * _over(log_q, r))
    return np.asarray(np.log1p(-alpha) - np.log(alpha) + of_genuine - of_fraud)


def best_constant(share: float, alpha: float, gamma: float) -> float:
    """The constant margin of minimal loss at a share of fraud."""
    from scipy.optimize import brentq

    logit = np.log(share) - np.log1p(-share)
    root = brentq(
        lambda z: float(posterior_logit(np.array([z]), alpha, gamma)[0]) - logit, -MARGIN_MAX, MARGIN_MAX
    )
    return float(root)


def _over(log_of_rest: Floats, part: Floats) -> Floats:
    """ln(1 − part) / part, which tends to −1 where the part is 0."""
    small = part < 1e-300
    return np.where(small, -1.0, log_of_rest / np.where(small, 1.0, part))


def _parts(margin: Floats, y: Floats, alpha: float) -> tuple[Floats, Floats, Floats]:
    """ln p, ln(1 − p) and the weight of the row's class."""
    toward = np.where(y == 1, margin, -margin)
    return _log_sigmoid(toward), _log_sigmoid(-toward), np.where(y == 1, alpha, 1 - alpha)


def _log_sigmoid(z: Floats) -> Floats:
    from scipy.special import log_expit

    return np.asarray(log_expit(np.clip(z, -MARGIN_MAX, MARGIN_MAX)))
