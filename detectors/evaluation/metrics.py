"""
Metrics of scores and flags; they agree with scikit-learn's.

If a metric is undefined, for one class or no rows, its value is NaN: no warning, and no zero that could be misread as a bad
result. y is 1 for fraud and 0 for genuine; a weight is the number of transactions that a row represents.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detectors.base import DetectorError, Floats

Days = NDArray[np.generic]
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


@dataclass(frozen=True)
class Confusion:
    """Weighted confusion matrix of flags and labels; rates are NaN where their denominator is 0."""

    tp: float
    fp: float
    fn: float
    tn: float

    @property
    def precision(self) -> float:
        """Share of frauds among the flagged; NaN when nothing is flagged."""
        return _share(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """Share of the frauds that are flagged; NaN without frauds."""
        return _share(self.tp, self.tp + self.fn)

    @property
    def specificity(self) -> float:
        """Share of the genuine that are not flagged; NaN without genuine rows."""
        return _share(self.tn, self.tn + self.fp)

    @property
    def accuracy(self) -> float:
        """Share of correct decisions; not informative where fraud is rare."""
        return _share(self.tp + self.tn, self.tp + self.fp + self.fn + self.tn)

    @property
    def balanced_accuracy(self) -> float:
        """Mean of recall and specificity; NaN for one class, 0.5 if all or no rows are flagged."""
        return (self.recall + self.specificity) / 2

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 when all frauds are missed, NaN without frauds."""
        return _share(2 * self.tp, 2 * self.tp + self.fp + self.fn) if self.tp + self.fn > 0 else NAN

    @property
    def mcc(self) -> float:
        """Matthews correlation coefficient; 0 if all or no rows are flagged, NaN for one class of labels."""
        return float(mcc_of(*(np.array([x]) for x in (self.tp, self.fp, self.fn, self.tn)))[0])


@dataclass(frozen=True)
class TopK:
    """Precision and recall of reviewing the k highest scores a day."""

    precision: float  # mean over days of the share of frauds among the k
    recall: float  # share of all frauds that are among them


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


def auc_roc(y: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Area under the ROC curve: probability that a fraud outranks a genuine row, ties count half; NaN for one class."""
    counts = cumulative_counts(y, scores, weights)
    if counts.positives == 0 or counts.negatives == 0:
        return NAN
    below = (
        counts.negatives - (counts.fp[1:] + counts.fp[:-1]) / 2
    )  # genuine rows below, half of the equal ones
    return float(np.sum(np.diff(counts.tp) * below) / counts.positives / counts.negatives)


def card_precision_at_k(
    scores: ArrayLike,
    y: ArrayLike,
    entity: ArrayLike,
    day: ArrayLike,
    k: int = 100,
    *,
    drop_detected: bool = True,
) -> float:
    """
    Share of compromised entities among the k most suspicious ones of a day, mean over days.

    An entity's score of the day is its highest; it is compromised with one fraud that day. With `drop_detected`
    a compromised entity among the k is removed from later days: its card is blocked. A day with fewer than
    k entities still counts over k. Equal scores rank in the order of the entities.

    Parameters
    ----------
    scores, y, entity, day
        (n,); `day` sorts in time.

    Returns
    -------
    float
        NaN without rows.

    References
    ----------
    Le Borgne, Siblini, Lebichot & Bontempi (2022), *Reproducible Machine Learning for Credit Card Fraud
    Detection*, chapter 4.3, card precision top-k.
    """
    labels, values, _ = _checked(y, scores, None)
    _, codes = np.unique(np.asarray(entity), return_inverse=True)
    days = np.asarray(day)
    detected = np.zeros(len(labels), dtype=np.bool_)  # by entity code
    daily = []
    for date in np.unique(days):
        rows = np.flatnonzero((days == date) & ~detected[codes])
        caught = _compromised_on_top(values[rows], labels[rows], codes[rows], k)
        daily.append(len(caught) / k)
        detected[caught] = drop_detected
    return float(np.mean(daily)) if daily else NAN


def daily_top_k(y: ArrayLike, scores: ArrayLike, day: ArrayLike, k: int) -> TopK:
    """Precision and recall of the k highest scores of each day; ties rank in the order of the rows."""
    labels, values, _ = _checked(y, scores, None)
    days = np.asarray(day)
    counts = []
    for date in np.unique(days):
        rows = np.flatnonzero(days == date)
        counts.append(float(labels[rows[np.argsort(-values[rows], kind="stable")[:k]]].sum()))
    precision = float(np.mean(counts)) / k if counts else NAN
    return TopK(precision, _share(float(sum(counts)), float(labels.sum())))


def confusion(y: ArrayLike, flagged: ArrayLike, weights: ArrayLike | None = None) -> Confusion:
    """The confusion matrix of flags and labels."""
    labels, flags, weight = _checked(y, flagged, weights)
    fraud, flagged_rows = labels == 1, flags != 0
    return Confusion(
        tp=float(weight[fraud & flagged_rows].sum()),
        fp=float(weight[~fraud & flagged_rows].sum()),
        fn=float(weight[fraud & ~flagged_rows].sum()),
        tn=float(weight[~fraud & ~flagged_rows].sum()),
    )


def always_genuine(y: ArrayLike, weights: ArrayLike | None = None) -> Confusion:
    """The confusion matrix of the trivial classifier that never flags: high accuracy, F1 and MCC of 0."""
    return confusion(y, np.zeros(len(np.asarray(y))), weights)


def cost(
    y: ArrayLike,
    flagged: ArrayLike,
    missed: ArrayLike,
    review: float,
    weights: ArrayLike | None = None,
) -> float:
    """
    Total cost of flags: `missed` for each unflagged fraud, `review` for each flagged genuine row.

    `missed` is one number or (n,), e.g. amounts. A flag on a fraud costs nothing, as in `cost_threshold`.
    """
    labels, flags, weight = _checked(y, flagged, weights)
    each = np.where(labels == 1, (flags == 0) * np.asarray(missed, np.float64), (flags != 0) * review)
    return float(np.sum(weight * each))


def savings(
    y: ArrayLike,
    flagged: ArrayLike,
    missed: ArrayLike,
    review: float,
    weights: ArrayLike | None = None,
) -> float:
    """
    1 − cost / cost of the cheaper trivial classifier (flag nothing or flag all); NaN when that one costs nothing.

    1 is perfect, 0 no better than the trivial classifier, negative worse (Bahnsen, Aouada & Ottersten 2015,
    *Example-dependent cost-sensitive decision trees*).
    """
    rows = len(np.asarray(y))
    trivial = min(cost(y, np.full(rows, answer), missed, review, weights) for answer in (0.0, 1.0))
    return 1 - cost(y, flagged, missed, review, weights) / trivial if trivial > 0 else NAN


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


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else NAN


def _compromised_on_top(
    values: Floats, labels: Floats, codes: NDArray[np.int64], k: int
) -> NDArray[np.int64]:
    entities, place = np.unique(codes, return_inverse=True)
    highest = np.full(len(entities), -np.inf)
    np.maximum.at(highest, place, values)
    compromised = np.bincount(place, weights=labels, minlength=len(entities)) > 0
    top = np.argsort(-highest, kind="stable")[:k]
    caught: NDArray[np.int64] = entities[top[compromised[top]]]
    return caught


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
        raise DetectorError("a row without a score cannot be evaluated: leave rows with NaN out")
    return labels, values, weight
