"""
Decision thresholds: the value from which on a transaction is flagged.

The rule is the same everywhere: flag when value ≥ threshold. A threshold belongs to the model; it is set on
held-out values, never on the batch it is applied to.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from detectors.base import DetectorError, Floats
from detectors.evaluation.metrics import CumulativeCounts, cumulative_counts, mcc_of, ratio


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
    probability with a threshold, amount-dependent costs compare the expected loss p · amount, where the amount is what is at risk.
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


def best_f1_threshold(values: ArrayLike, y: ArrayLike) -> float:
    """The threshold with the highest F1, of equal ones the strictest; inf (flag nothing) without frauds."""
    counts = cumulative_counts(y, values)
    total = np.where(counts.positives > 0, counts.tp + counts.fp + counts.positives, 0.0)
    return _threshold_of_highest(counts, ratio(2 * counts.tp, total))


def best_mcc_threshold(values: ArrayLike, y: ArrayLike) -> float:
    """The threshold with the highest Matthews correlation, of equal ones the strictest; inf (flag nothing) for one class."""
    counts = cumulative_counts(y, values)
    missed = counts.positives - counts.tp
    return _threshold_of_highest(counts, mcc_of(counts.tp, counts.fp, missed, counts.negatives - counts.fp))


def _threshold_of_highest(counts: CumulativeCounts, metric: Floats) -> float:
    return float(np.inf) if np.isnan(metric).all() else float(counts.threshold[int(np.nanargmax(metric))])


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
