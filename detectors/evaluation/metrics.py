"""
Metrics of scores and flags; they agree with scikit-learn's.

If a metric is undefined, for one class or no rows, its value is NaN: no warning, and no zero that could be misread as a bad
result. y is 1 for fraud and 0 for genuine; a weight is the number of transactions that a row represents.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from detectors.base import DetectorError, Floats

NAN = float("nan")


@dataclass(frozen=True)
class CumulativeCounts:
    """Frauds and genuine rows at or above each distinct score, highest first; the first step flags none."""

    threshold: Floats  # (k + 1,) inf, then the distinct scores
    tp: Floats  # (k + 1,) weight of frauds at or above
    fp: Floats  # (k + 1,) weight of genuine rows at or above

    @property
    def positives(self) -> float:
        """Weight of all frauds."""
        return float(self.tp[-1])

    @property
    def negatives(self) -> float:
        """Weight of all genuine rows."""
        return float(self.fp[-1])


def cumulative_counts(y: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> CumulativeCounts:
    """
    Cumulative counts of frauds and genuine rows over descending scores; equal scores are one step.

    Raises
    ------
    DetectorError
        Lengths differ, labels are neither 0 nor 1, or a score is NaN.
    """
    labels, values, weight = _checked(y, scores, weights)
    order = np.argsort(-values, kind="stable")
    ranked = values[order]
    ends = (
        np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) if len(ranked) else np.empty(0, np.int64)
    )
    tp = np.cumsum((weight * labels)[order])[ends]
    fp = np.cumsum((weight * (1 - labels))[order])[ends]
    return CumulativeCounts(np.append(np.inf, ranked[ends]), np.append(0.0, tp), np.append(0.0, fp))


def average_precision(y: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Average precision, Σ (R_n − R_{n−1}) P_n over distinct scores; NaN without frauds, 1 without genuine rows."""
    counts = cumulative_counts(y, scores, weights)
    if counts.positives == 0:
        return NAN
    gained = np.diff(counts.tp) / counts.positives
    return float(np.sum(gained * ratio(counts.tp, counts.tp + counts.fp)[1:], where=gained > 0))


def auc_roc(y: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve: probability that a fraud outranks a genuine row, ties count half; NaN for one class."""
    counts = cumulative_counts(y, scores)
    if counts.positives == 0 or counts.negatives == 0:
        return NAN
    below = (
        counts.negatives - (counts.fp[1:] + counts.fp[:-1]) / 2
    )  # genuine rows below, half of the equal ones
    return float(np.sum(np.diff(counts.tp) * below) / counts.positives / counts.negatives)


def percentile_interval(samples: Floats, confidence: float) -> tuple[float, float]:
    """
    Bootstrap percentile confidence interval from resamples (r,); NaN if fewer than half of them are defined.

    References
    ----------
    Efron & Tibshirani (1993), An introduction to the bootstrap, chapter 13.
    """
    defined = samples[~np.isnan(samples)]
    if len(defined) < len(samples) / 2:
        return NAN, NAN
    lower, upper = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(lower), float(upper)


def mcc_of(tp: Floats, fp: Floats, fn: Floats, tn: Floats) -> Floats:
    """Matthews correlation coefficient of counts, elementwise; 0 for constant flags, NaN for one class of labels."""
    actual, flagged = (tp + fn) * (tn + fp), (tp + fp) * (tn + fn)
    mcc = np.where(flagged > 0, ratio(tp * tn - fp * fn, np.sqrt(actual) * np.sqrt(flagged)), 0.0)
    return np.asarray(np.where(actual > 0, mcc, NAN), dtype=np.float64)


def ratio(part: ArrayLike, whole: ArrayLike) -> Floats:
    """Elementwise part / whole, NaN where whole is 0."""
    numerator, denominator = np.broadcast_arrays(np.asarray(part, np.float64), np.asarray(whole, np.float64))
    quotient = np.full(numerator.shape, NAN)
    np.divide(numerator, denominator, out=quotient, where=denominator != 0)
    return quotient


def _checked(y: ArrayLike, scores: ArrayLike, weights: ArrayLike | None) -> tuple[Floats, Floats, Floats]:
    labels, values = np.asarray(y, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    weight = np.ones(len(labels)) if weights is None else np.asarray(weights, dtype=np.float64)
    if not labels.shape == values.shape == weight.shape:
        raise DetectorError(
            f"labels, scores and weights need one length, got {labels.shape}, {values.shape}, {weight.shape}"
        )
    if not np.isin(labels, (0.0, 1.0)).all():
        raise DetectorError("y must be 1 for fraud or 0 for genuine in every row")
    if np.isnan(values).any():
        raise DetectorError("a row without a score cannot be evaluated", remedy="leave rows with NaN out")
    return labels, values, weight
