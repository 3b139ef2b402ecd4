"""
Decision thresholds: the value from which on a transaction is flagged.

The rule is the same everywhere: flag when value ≥ threshold. A threshold belongs to the model; it is set on
held-out values, never on the batch it is applied to.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from detectors.base import Bools, DetectorError, Floats, Ints
from detectors.evaluation.cases import CaseRows
from detectors.evaluation.metrics import CumulativeCounts, cumulative_counts, mcc_of, ratio

# An entity with thousands of payments a day, such as a shop, would make one case of all of them. So a budget allows at most
# this many flags for each case; fraud on one customer has two or three a day.
FLAGS_A_CASE = 10


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


def capacity_threshold(
    values: ArrayLike,
    weights: ArrayLike | None,
    days: float,
    per_day: float,
    rows: CaseRows | None = None,
    flagged: Bools | None = None,
    flags_per_day: float = np.inf,
) -> float:
    """
    The lowest threshold that keeps expected cases and flags a day within their limits; without `rows` each flag is a case.

    Equal values are flagged together or not at all, so a tie across the limit stays unflagged. The threshold
    is a value of the sample, or the number just above the highest value if even that has too many cases.

    A case counts as many transactions as its first flag represents. If these differ, the number of cases may fall at a
    lower threshold; then the result is one with which cases fit while they do not at the next lower value.

    Parameters
    ----------
    values
        (n,) decision values of held-out rows; NaN is never flagged.
    weights
        (n,) how many transactions each represents; None = 1. The flag of a row with weight 0 is in no case.
    days
        Length of the sample in days: weights over days is the daily volume.
    per_day
        Expected cases a day.
    rows
        Entities and times of the n rows.
    flagged
        (n,) rows that another channel flags anyway: only the cases that come in addition to theirs count.
    flags_per_day
        Expected flags a day, however few cases they are.

    Returns
    -------
    float
        −inf when the whole volume fits; inf when a limit is 0 and for an empty sample, whose volume is unknown.

    Raises
    ------
    DetectorError
        `days` is not positive, or a limit is negative or NaN.
    """
    if not days > 0:
        raise DetectorError(f"a daily volume needs a sample of more than 0 days, got {days}")
    if not min(per_day, flags_per_day) >= 0:
        raise DetectorError(f"cases and flags a day must be 0 or more, got {per_day} and {flags_per_day}")
    sample, weight = _sample(values, weights)
    usable = np.flatnonzero(~np.isnan(sample) & (weight > 0))
    if min(per_day, flags_per_day) == 0 or len(usable) == 0:
        return float(np.inf)
    order = usable[np.argsort(-sample[usable], kind="stable")]
    ranked = sample[order]
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # the last of equal values
    flags = _flags(weight[order])
    cases = flags if rows is None else _cases(rows, weight, order, flagged)
    fitting = min(
        bisect_right(ends, flags_per_day * days, key=flags), bisect_right(ends, per_day * days, key=cases)
    )
    if fitting == len(ends):
        return float(-np.inf)
    return float(ranked[ends[fitting - 1]] if fitting else np.nextafter(ranked[0], np.inf))


def _flags(weight: Floats) -> Callable[[int], float]:
    """How many flags there are on the rows up to a place."""
    return np.cumsum(weight).__getitem__


def _cases(rows: CaseRows, weight: Floats, order: Ints, flagged: Bools | None) -> Callable[[int], float]:
    """How many cases the flags on the rows up to a place of the order add."""
    others = (np.zeros(len(weight), dtype=bool) if flagged is None else flagged) & (weight > 0)
    of_others = weight[rows.openers(others)].sum()

    def load(last: int) -> float:
        together, added = others.copy(), order[: last + 1]
        together[added] = True
        cases = weight[rows.openers(together)].sum() - of_others
        return float(max(cases, weight[added].sum() / FLAGS_A_CASE))

    return load


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


def _sample(values: ArrayLike, weights: ArrayLike | None) -> tuple[Floats, Floats]:
    sample = np.asarray(values, dtype=np.float64)
    weight = np.ones(len(sample)) if weights is None else np.asarray(weights, dtype=np.float64)
    if weight.shape != sample.shape:
        raise DetectorError(f"{len(sample)} values need as many weights, got {len(weight)}")
    return sample, weight
