"""
How good scores and flags are, by measures that are exact and agree with scikit-learn's.

Where a measure is undefined, for one class or no rows, its value is NaN, never a warning and never a zero
that could be read as bad. y is 1 for fraud and 0 for genuine; weights say how many transactions a row stands
for.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detectors.base import DetectorError, Floats

Days = NDArray[np.generic]
NAN = float("nan")


@dataclass(frozen=True)
class Steps:
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
    """Flags against the truth, as weights; shares are NaN where nothing is there to take them of."""

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
        """Share of right answers, which says little where fraud is rare."""
        return _share(self.tp + self.tn, self.tp + self.fp + self.fn + self.tn)

    @property
    def balanced_accuracy(self) -> float:
        """Mean of recall and specificity; NaN for one class, 0.5 for a constant answer."""
        return (self.recall + self.specificity) / 2

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 when all frauds are missed, NaN without frauds."""
        return _share(2 * self.tp, 2 * self.tp + self.fp + self.fn) if self.tp + self.fn > 0 else NAN

    @property
    def mcc(self) -> float:
        """Matthews correlation; 0 for a constant answer, NaN when the truth is of one class."""
        return float(mcc_of(*(np.array([x]) for x in (self.tp, self.fp, self.fn, self.tn)))[0])


@dataclass(frozen=True)
class TopK:
    """What a reviewer of the k highest scores a day finds."""

    precision: float  # mean over days of the share of frauds among the k
    recall: float  # share of all frauds that are among them


def steps(y: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> Steps:
    """
    Cumulative counts over the scores from the highest down; equal scores are one step.

    Raises
    ------
    DetectorError
        Unequal lengths, labels other than 0 and 1, or a score that is NaN.
    """
    labels, values, weight = _checked(y, scores, weights)
    order = np.argsort(-values, kind="stable")
    ranked = values[order]
    ends = (
        np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) if len(ranked) else np.empty(0, np.int64)
    )
    tp = np.cumsum((weight * labels)[order])[ends]
    fp = np.cumsum((weight * (1 - labels))[order])[ends]
    return Steps(np.append(np.inf, ranked[ends]), np.append(0.0, tp), np.append(0.0, fp))


def average_precision(y: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Σ (R_n − R_{n−1}) P_n over distinct scores; NaN without frauds, 1 without genuine rows."""
    found = steps(y, scores, weights)
    if found.positives == 0:
        return NAN
    gained = np.diff(found.tp) / found.positives
    return float(np.sum(gained * ratio(found.tp, found.tp + found.fp)[1:], where=gained > 0))


def auc_roc(y: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Probability that a fraud outranks a genuine row, ties counting half; NaN for one class."""
    found = steps(y, scores, weights)
    if found.positives == 0 or found.negatives == 0:
        return NAN
    below = found.negatives - (found.fp[1:] + found.fp[:-1]) / 2  # genuine rows below, half of the equal ones
    return float(np.sum(np.diff(found.tp) * below) / found.positives / found.negatives)


def card_precision_at_k(
    scores: ArrayLike,
    y: ArrayLike,
    entity: ArrayLike,
    day: ArrayLike,
    k: int = 100,
    *,
    drop_found: bool = True,
) -> float:
    """
    Share of compromised entities among the k most suspicious ones of a day, mean over days.

    An entity's score of the day is its highest; it is compromised with one fraud that day. With `drop_found`
    an entity found among the k does not take part on later days: its card is blocked. A day with fewer than
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
    found = np.zeros(len(labels), dtype=np.bool_)  # by entity code
    daily = []
    for one in np.unique(days):
        rows = np.flatnonzero((days == one) & ~found[codes])
        caught = _compromised_on_top(values[rows], labels[rows], codes[rows], k)
        daily.append(len(caught) / k)
        found[caught] = drop_found
    return float(np.mean(daily)) if daily else NAN


def top_k_a_day(y: ArrayLike, scores: ArrayLike, day: ArrayLike, k: int) -> TopK:
    """Precision and recall of the k highest scores of each day; ties rank in the order of the rows."""
    labels, values, _ = _checked(y, scores, None)
    days = np.asarray(day)
    counts = []
    for one in np.unique(days):
        rows = np.flatnonzero(days == one)
        counts.append(float(labels[rows[np.argsort(-values[rows], kind="stable")[:k]]].sum()))
    precision = float(np.mean(counts)) / k if counts else NAN
    return TopK(precision, _share(float(sum(counts)), float(labels.sum())))


def confusion(y: ArrayLike, flagged: ArrayLike, weights: ArrayLike | None = None) -> Confusion:
    """Count flags against the truth."""
    labels, flags, weight = _checked(y, flagged, weights)
    fraud, flagged_rows = labels == 1, flags != 0
    return Confusion(
        tp=float(weight[fraud & flagged_rows].sum()),
        fp=float(weight[~fraud & flagged_rows].sum()),
        fn=float(weight[fraud & ~flagged_rows].sum()),
        tn=float(weight[~fraud & ~flagged_rows].sum()),
    )


def always_genuine(y: ArrayLike, weights: ArrayLike | None = None) -> Confusion:
    """The monitor that never flags: high accuracy, F1 and MCC of 0."""
    return confusion(y, np.zeros(len(np.asarray(y))), weights)


def cost(
    y: ArrayLike,
    flagged: ArrayLike,
    missed: ArrayLike,
    review: float,
    weights: ArrayLike | None = None,
) -> float:
    """
    What flags cost: `missed` for each unflagged fraud, `review` for each flagged genuine row.

    `missed` is one number or (n,), e.g. amounts. A flag on a fraud is free, as in the cost threshold.
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
    1 − cost / the cheaper of flagging nothing and flagging all; NaN when that one is free.

    1 is perfect, 0 no better than the trivial monitor, negative worse (Bahnsen, Aouada & Ottersten 2015,
    *Example-dependent cost-sensitive decision trees*).
    """
    rows = len(np.asarray(y))
    trivial = min(cost(y, np.full(rows, answer), missed, review, weights) for answer in (0.0, 1.0))
    return 1 - cost(y, flagged, missed, review, weights) / trivial if trivial > 0 else NAN


def percentiles(samples: Floats, confidence: float) -> tuple[float, float]:
    """
    Ends of the percentile interval of what resamples gave, (r,); NaN where fewer than half of them gave anything.

    References
    ----------
    Efron & Tibshirani (1993), An introduction to the bootstrap, chapter 13.
    """
    known = samples[~np.isnan(samples)]
    if len(known) < len(samples) / 2:
        return NAN, NAN
    lower, upper = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(lower), float(upper)


def mcc_of(tp: Floats, fp: Floats, fn: Floats, tn: Floats) -> Floats:
    """Matthews correlation of counts, elementwise; 0 for constant answers, NaN for one class of truth."""
    real, given = (tp + fn) * (tn + fp), (tp + fp) * (tn + fn)
    found = np.where(given > 0, ratio(tp * tn - fp * fn, np.sqrt(real) * np.sqrt(given)), 0.0)
    return np.asarray(np.where(real > 0, found, NAN), dtype=np.float64)


def ratio(part: ArrayLike, whole: ArrayLike) -> Floats:
    """Elementwise part / whole, NaN where whole is 0."""
    over, under = np.broadcast_arrays(np.asarray(part, np.float64), np.asarray(whole, np.float64))
    found = np.full(over.shape, NAN)
    np.divide(over, under, out=found, where=under != 0)
    return found


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
        raise DetectorError("a row without a score cannot be judged: leave rows with NaN out")
    return labels, values, weight
