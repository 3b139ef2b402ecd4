"""
Label delay: the distribution of reporting delays under right truncation, and a nowcast of recent frauds.

A fraud is observed only once it is reported, so recent transactions show only their fast reports. The raw distribution of
delays would make reporting look faster than it is; every delay is therefore weighted against the delays that could have
been observed as well.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from detectors.base import Bools, DetectorError, Floats

AT_RISK_MIN = 5  # minimum number of delays behind a step of the curve
SHARE_MIN = (
    1 / 3
)  # a reported fraud stands for three at most: a smaller share is measured too badly to divide by


@dataclass(frozen=True)
class DelayCurve:
    """
    F: the share of frauds reported within a delay, among those reported within `longest`.

    Attributes
    ----------
    delay
        (k,) ascending; any unit.
    share
        (k,) F at each, ascending to 1.
    longest
        The longest delay that could be observed; F is conditional on it.
    n
        Number of delays in the estimate.
    """

    delay: Floats
    share: Floats
    longest: float
    n: int

    def __call__(self, delay: ArrayLike) -> Floats:
        """F of each delay."""
        place = np.searchsorted(self.delay, np.asarray(delay, dtype=np.float64), side="right")
        return np.append(0.0, self.share)[place]

    def quantile(self, share: float) -> float:
        """The delay within which this share is reported; NaN without delays."""
        if not len(self.delay):
            return float("nan")
        return float(self.delay[np.searchsorted(self.share, share - 1e-12)])


def delay_curve(delay: ArrayLike, observed: ArrayLike) -> DelayCurve:
    """
    Estimate F from reported frauds under right truncation.

    Parameters
    ----------
    delay
        (n,) from a fraud to its report; not negative.
    observed
        (n,) from that fraud to now: the longest delay that could have been observed.

    Notes
    -----
    F(d) = Π over delays dⱼ > d of 1 − mⱼ / Yⱼ, with mⱼ reports of exactly dⱼ and Yⱼ reports of at most dⱼ among frauds
    observed for at least dⱼ: the product-limit estimator in reverse time (Lagakos, Barraj & De Gruttola 1988,
    Nonparametric analysis of truncated survival data, with application to AIDS). It begins where Yⱼ is `AT_RISK_MIN`
    or more.

    Raises
    ------
    DetectorError
        A delay is negative or longer than its observation time.
    """
    d, t = np.asarray(delay, dtype=np.float64), np.asarray(observed, dtype=np.float64)
    if d.shape != t.shape or d.ndim != 1:
        raise DetectorError(f"delays and observation times need one length, got {d.shape} and {t.shape}")
    if (d < 0).any() or (d > t).any():
        raise DetectorError("a delay must be 0 or more, and no longer than the observation time of its fraud")
    values, reports = np.unique(d, return_counts=True)
    at_risk = np.searchsorted(np.sort(d), values, side="right") - np.searchsorted(
        np.sort(t), values, side="left"
    )
    supported = np.flatnonzero(at_risk >= min(AT_RISK_MIN, len(d)))
    if not len(supported):
        return DelayCurve(np.empty(0), np.empty(0), 0.0, 0)
    last = supported[-1] + 1  # the longest delay that enough frauds were observed for
    stays = 1.0 - reports[:last] / np.maximum(at_risk[:last], 1)
    after = np.append(np.cumprod(stays[:0:-1])[::-1], 1.0)
    return DelayCurve(values[:last], after, float(values[last - 1]), len(d))


@dataclass(frozen=True)
class Nowcast:
    """Reported and expected frauds of recent cohorts; NaN where F is 0."""

    reported: Floats
    expected: Floats


def nowcast(curve: DelayCurve, age: ArrayLike, reported: ArrayLike) -> Nowcast:
    """
    Expected frauds of cohorts by their age, nₐ / F(a).

    Parameters
    ----------
    age
        (n,) age of each cohort, in the curve's unit.
    reported
        (n,) frauds of it reported so far.
    """
    share = curve(age)
    counts = np.asarray(reported, dtype=np.float64)
    expected = np.full(len(counts), np.nan)
    np.divide(counts, share, out=expected, where=share > 0)
    return Nowcast(counts, expected)


def tail_weights(curve: DelayCurve, age: ArrayLike, reported: Bools, genuine: Bools) -> Floats:
    """
    Weights of rows, (n,), that count the frauds not reported yet: 1 / F(a) for a reported fraud of age a.

    The missing ones are among the rows that count as genuine; these share the weight that the frauds gain, so that the total stays n.
    All weights are 1 where F of every age is 1, and without delays.

    Parameters
    ----------
    age
        (n,) age of each row, in the curve's unit.
    reported, genuine
        (n,) frauds that came with a delay, and rows that silence may hide a fraud in.
    """
    ages = np.asarray(age, dtype=np.float64)
    weight = np.ones(len(ages))
    if not curve.n:
        return weight
    weight[reported] = 1 / np.maximum(curve(ages[reported]), SHARE_MIN)
    missing, rows = float(weight.sum()) - len(ages), int(np.count_nonzero(genuine))
    weight[genuine] = max(0.0, 1 - missing / rows) if rows else 1.0
    return weight
