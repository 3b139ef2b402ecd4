"""
Reports that are still to come of payments that have happened, with an interval: Poisson counts of a Gamma rate.

Reports of a group of payments come as a Poisson process: of a payment with the rate λ by the age a with the probability
λ·F(a), F being the delay curve. What has been reported and what has not are then independent given λ (Lawless 1994,
Adjustments for reporting delays and the prediction of occurred but not reported events). With λ ~ Gamma, the number
still to come is a negative binomial; its sum of amounts is a compound of it, whose interval is that of the Gamma
distribution with the same mean and variance. That F itself is an estimate is not part of the interval.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from detectors.base import Floats

REPORTS_MIN = 30  # reports behind a delay curve; with fewer, its first days are little more than chance
PRIOR_REPORTS = 1.0  # so many reports the rate of all groups together counts for, in the rate of each


@dataclass(frozen=True)
class ReportGroups:
    """
    Groups of payments, arrays of one length.

    Attributes
    ----------
    reports
        Reports of the group until now.
    amount, squares
        Sum of their amounts, and of the squares of these.
    observed
        Σ F(age now) over the payments of the group: how many have been observed long enough.
    due
        Σ F(age at the end) − F(age now) over its payments: how many will be until the end.
    """

    reports: Floats
    amount: Floats
    squares: Floats
    observed: Floats
    due: Floats


@dataclass(frozen=True)
class Forecast:
    """Expected values with their intervals, arrays of one length."""

    expected: Floats
    lower: Floats
    upper: Floats

    def plus(self, values: Floats, at_least: Floats) -> "Forecast":
        """These added to values that are certain; nothing is below `at_least`."""
        parts = (np.maximum(part + values, at_least) for part in (self.expected, self.lower, self.upper))
        return Forecast(*parts)


@dataclass(frozen=True)
class ReportForecast:
    """Reports still to come until the end: how many, and the sum of their amounts."""

    reports: Forecast
    amount: Forecast


def forecast_reports(groups: ReportGroups, pool: ReportGroups, confidence: float) -> ReportForecast:
    """
    Reports still to come of each group.

    Parameters
    ----------
    pool
        One group of all payments that the rate, and the amounts of reports, are like: `PRIOR_REPORTS` of its reports
        count in each group. It has a report.
    confidence
        Of the intervals, such as 0.9.
    """
    total, observed = pool.reports.sum(), max(pool.observed.sum(), pool.reports.sum() * 1e-9)
    shape = groups.reports + PRIOR_REPORTS
    rate = shape / (groups.observed + PRIOR_REPORTS * observed / total)
    number = rate * groups.due
    mean = (groups.amount + PRIOR_REPORTS * pool.amount.sum() / total) / shape
    square = (groups.squares + PRIOR_REPORTS * pool.squares.sum() / total) / shape
    counts = _interval(number, number + number**2 / shape, confidence)
    whole = Forecast(counts.expected, np.floor(counts.lower), np.ceil(counts.upper))
    return ReportForecast(
        whole, _interval(number * mean, number * square + (number * mean) ** 2 / shape, confidence)
    )


def _interval(mean: Floats, variance: Floats, confidence: float) -> Forecast:
    """The mean, with the interval of a Gamma distribution of this mean and variance."""
    some = (mean > 0) & (variance > 0)
    scale = np.divide(variance, mean, out=np.ones_like(mean), where=some)
    shape = np.where(some, mean / scale, 1.0)
    tail = (1 - confidence) / 2
    ends = (stats.gamma.ppf(share, shape, scale=scale) for share in (tail, 1 - tail))
    lower, upper = (np.where(some, end, mean) for end in ends)
    return Forecast(mean, lower, upper)
