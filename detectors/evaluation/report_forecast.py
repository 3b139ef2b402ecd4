"""
Reports that are still to come of payments that have happened, with an interval: Poisson counts of a Gamma rate.

Reports of a group of payments come as a Poisson process: of a payment with the rate λ by the age a with the probability
λ·F(a), F being the delay curve. What has been reported and what has not are then independent given λ (Lawless 1994,
Adjustments for reporting delays and the prediction of occurred but not reported events). With λ ~ Gamma, the number
still to come is a negative binomial; the sum of their amounts is a compound of it. Both intervals are those of 0, with
its probability, and a Gamma distribution with the same mean and variance; that the mean amount is an estimate is part of
them, that F is one is not.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from detectors.base import Floats

REPORTS_MIN = 30  # reports behind a delay curve; with fewer, its first days are little more than chance
PRIOR_REPORTS = 1.0  # so many reports the rate of all groups together counts for, in the rate of each
PRIOR_AMOUNTS = 10.0  # the same for the amounts of reports, of which a few large ones are most


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
        All payments together, with a report or more: `PRIOR_REPORTS` and `PRIOR_AMOUNTS` of its reports count in each
        group.
    confidence
        Of the intervals, such as 0.9.
    """
    total, observed = pool.reports.sum(), max(pool.observed.sum(), pool.reports.sum() * 1e-9)
    shape = groups.reports + PRIOR_REPORTS
    rate = shape / (groups.observed + PRIOR_REPORTS * observed / total)
    number = rate * groups.due
    known = groups.reports + PRIOR_AMOUNTS
    mean = (groups.amount + PRIOR_AMOUNTS * pool.amount.sum() / total) / known
    square = (groups.squares + PRIOR_AMOUNTS * pool.squares.sum() / total) / known
    none = np.exp(-shape * np.log1p(number / shape))  # the probability that no report comes
    counts = _interval(number, number + number**2 / shape, none, confidence)
    whole = Forecast(counts.expected, np.floor(counts.lower), np.ceil(counts.upper))
    of_mean = np.maximum(square - mean**2, 0) / known  # the mean amount is an estimate
    variance = number * square + (number * mean) ** 2 / shape + number**2 * of_mean
    return ReportForecast(whole, _interval(number * mean, variance, none, confidence))


def _interval(mean: Floats, variance: Floats, none: Floats, confidence: float) -> Forecast:
    """The mean, with the interval of 0 at the probability `none` and of a Gamma distribution that gives the rest."""
    some = (mean > 0) & (variance > 0)
    share = np.where(some, 1 - none, 1.0)
    middle = np.where(some, mean / share, 1.0)
    spread = np.where(some, (variance + mean**2) / share - middle**2, 1.0)
    tail = (1 - confidence) / 2
    ends = (
        stats.gamma.ppf(np.clip((end - none) / share, 0, 1), middle**2 / spread, scale=spread / middle)
        for end in (tail, 1 - tail)
    )
    lower, upper = (np.where(some, end, mean) for end in ends)
    return Forecast(mean, lower, upper)
