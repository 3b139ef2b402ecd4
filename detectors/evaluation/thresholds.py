"""
Decision thresholds: the value from which on a transaction is flagged.

The rule is the same everywhere: flag when value ≥ threshold. A threshold belongs to the model; it is set on
held-out values, never on the batch it is applied to.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detectors.base import DetectorError, Floats
from detectors.evaluation.metrics import CumulativeCounts, cumulative_counts, mcc_of, ratio


@dataclass(frozen=True)
class BestThreshold:
    """The best threshold on a sample, and its metric there."""

    threshold: float  # inf = flag nothing
    value: float  # NaN where the metric is undefined on the sample


def flag(values: ArrayLike, threshold: float) -> NDArray[np.bool_]:
    """Which values are flagged; NaN is never flagged."""
    return np.asarray(values, dtype=np.float64) >= threshold


def fixed_threshold(threshold: float) -> float:
    """
    A threshold set by the user; +inf flags nothing, −inf flags all.

    Raises
    ------
    DetectorError
        The threshold is NaN, which would silently flag nothing.
    """
    if np.isnan(threshold):
        raise DetectorError("a threshold must be a number, got NaN")
    return float(threshold)


def cost_threshold(missed: float, review: float) -> float:
    """
    Cost-optimal probability threshold, C_fp / (C_fp + C_fn).

    Flag when p · missed ≥ (1 − p) · review; 100 : 1 gives 1/101 (Elkan 2001, *The foundations of
    cost-sensitive learning*). It holds for calibrated probabilities, after training weights are undone.

    Raises
    ------
    DetectorError
        A cost is negative or not finite, or both are zero.
    """
    if not (np.isfinite(missed) and np.isfinite(review) and min(missed, review) >= 0 and missed + review > 0):
        raise DetectorError(f"costs must be finite and not negative, got missed {missed} and review {review}")
    return review / (review + missed)


@dataclass(frozen=True)
class Costs:
    """
    Costs of a missed fraud and of a review, and the decision rule that they imply.

    Flag when the expected loss is at least the cost of the review (Bayes minimum risk): constant costs compare the
    probability with a threshold, amount-dependent costs compare the expected loss p · amount.
    """

    missed_fraud: float  # in reviews
    review: float  # in the base currency
    missed: Literal["constant", "amount"]

    @property
    def threshold(self) -> float:
        """The decision value from which on a review is worth its cost."""
        return self.review if self.missed == "amount" else cost_threshold(self.missed_fraud, 1.0)

    def decision_value(self, probability: Floats, amount: Floats) -> Floats:
        """The value that is compared with the threshold, (n,)."""
        return probability * np.maximum(amount, 0.0) if self.missed == "amount" else probability

    def at_stake(self, amount: Floats) -> Floats:
        """Cost of each transaction if it is a missed fraud, (n,), in the base currency."""
        if self.missed == "amount":
            return np.maximum(amount, 0.0)
        return np.full(len(amount), self.missed_fraud * self.review)


def capacity_threshold(values: ArrayLike, weights: ArrayLike | None, days: float, per_day: float) -> float:
    """
    The lowest threshold that keeps expected flags a day within `per_day`.

    Equal values are flagged together or not at all, so a tie across the limit stays unflagged. The threshold
    is a value of the sample, or the number just above the highest value if even that has too many flags.

    Parameters
    ----------
    values
        (n,) decision values of held-out rows; NaN is never flagged.
    weights
        (n,) how many transactions each represents; None = 1.
    days
        Length of the sample in days: weights over days is the daily volume.
    per_day
        Expected flags a day.

    Returns
    -------
    float
        −inf when the whole volume fits; inf when `per_day` is 0 and for an empty sample, whose volume is unknown.

    Raises
    ------
    DetectorError
        `days` is not positive, or `per_day` is negative or NaN.
    """
    if not days > 0:
        raise DetectorError(f"a daily volume needs a sample of more than 0 days, got {days}")
    if not per_day >= 0:
        raise DetectorError(f"flags a day must be 0 or more, got {per_day}")
    sample, weight = _without_nan(values, weights)
    if per_day == 0 or len(sample) == 0:
        return float(np.inf)
    if weight.sum() <= per_day * days:
        return float(-np.inf)
    return _lowest_within(sample, weight, per_day * days)


def conformal_threshold(genuine: ArrayLike, false_flags: float) -> float:
    """
    The lowest threshold that flags at most this share of genuine transactions, for any distribution of scores.

    Split conformal: flag when fewer than α (n + 1) of n calibration scores are as high, itself counted. A fresh genuine
    score that is exchangeable with them is then flagged with probability at most α, without any assumption about scores;
    drift breaks it, as does a calibration sample with much unlabelled fraud, which only makes it stricter.

    Parameters
    ----------
    genuine
        (n,) scores of held-out genuine transactions; NaN is left out.
    false_flags
        α, the share of genuine transactions that may be flagged, in [0, 1).

    Returns
    -------
    float
        The number just above a calibration score; inf when n is too small for α: 1/(n + 1) > α.

    Raises
    ------
    DetectorError
        α outside [0, 1).

    References
    ----------
    Bates, Candès, Lei, Romano & Sesia (2023), Testing for outliers with conformal p-values.
    """
    if not 0 <= false_flags < 1:
        raise DetectorError(f"a share of false flags lies in [0, 1), got {false_flags}")
    scores, _ = _without_nan(genuine, None)
    above = (
        int(np.floor(false_flags * (len(scores) + 1))) - 1
    )  # calibration scores that may lie at or above it
    if above < 0:
        return float(np.inf)
    return float(np.nextafter(np.sort(scores)[::-1][above], np.inf))


def best_f1(values: ArrayLike, y: ArrayLike, weights: ArrayLike | None = None) -> BestThreshold:
    """The threshold with the highest F1 over every distinct value; NaN without frauds."""
    counts = cumulative_counts(y, values, weights)
    total = np.where(counts.positives > 0, counts.tp + counts.fp + counts.positives, 0.0)
    return _highest(counts, ratio(2 * counts.tp, total))


def best_mcc(values: ArrayLike, y: ArrayLike, weights: ArrayLike | None = None) -> BestThreshold:
    """The threshold with the highest Matthews correlation over every distinct value; NaN for one class."""
    counts = cumulative_counts(y, values, weights)
    missed = counts.positives - counts.tp
    return _highest(counts, mcc_of(counts.tp, counts.fp, missed, counts.negatives - counts.fp))


def best_cost(
    values: ArrayLike,
    y: ArrayLike,
    missed: ArrayLike,
    review: float,
    weights: ArrayLike | None = None,
) -> BestThreshold:
    """
    The threshold with the lowest cost over every distinct value and flagging nothing.

    Parameters
    ----------
    missed
        Cost of a missed fraud, one number or (n,), e.g. amounts.
    review
        Cost of a flag on a genuine transaction.
    """
    labels = np.asarray(y, dtype=np.float64)
    weight = np.ones(len(labels)) if weights is None else np.asarray(weights, dtype=np.float64)
    counts = cumulative_counts(labels, values, weight)
    saved = cumulative_counts(labels, values, weight * np.asarray(missed, dtype=np.float64))
    cost = (saved.positives - saved.tp) + counts.fp * review
    best = int(np.argmin(cost))
    return BestThreshold(float(counts.threshold[best]), float(cost[best]))


def _highest(counts: CumulativeCounts, metric: Floats) -> BestThreshold:
    """The threshold with the highest metric; the strictest of equal ones."""
    if np.isnan(metric).all():
        return BestThreshold(float(np.inf), float(np.nan))
    best = int(np.nanargmax(metric))
    return BestThreshold(float(counts.threshold[best]), float(metric[best]))


def _lowest_within(sample: Floats, weight: Floats, limit: float) -> float:
    order = np.argsort(-sample, kind="stable")
    ranked, flags = sample[order], np.cumsum(weight[order])
    last_of_ties = np.append(ranked[1:] != ranked[:-1], True)
    fits = np.flatnonzero(last_of_ties & (flags <= limit))
    if len(fits) == 0:
        return float(np.nextafter(ranked[0], np.inf))
    return float(ranked[fits[-1]])


def _without_nan(values: ArrayLike, weights: ArrayLike | None) -> tuple[Floats, Floats]:
    sample = np.asarray(values, dtype=np.float64)
    weight = np.ones(len(sample)) if weights is None else np.asarray(weights, dtype=np.float64)
    if weight.shape != sample.shape:
        raise DetectorError(f"{len(sample)} values need as many weights, got {len(weight)}")
    known = ~np.isnan(sample)
    return sample[known], weight[known]
