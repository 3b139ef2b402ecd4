"""Reports still to come: what is expected on average, and how often the interval holds the truth."""

import numpy as np
import pytest
from numpy.typing import NDArray

from detectors.evaluation.label_delay import DelayCurve, delay_curve
from detectors.evaluation.report_forecast import Forecast, ReportGroups, forecast_reports

DAYS, PER_DAY, MONTH = 180, 1_000.0, 30
Floats = NDArray[np.float64]


def groups(reports: Floats, amount: Floats, squares: Floats, observed: Floats, due: Floats) -> ReportGroups:
    return ReportGroups(
        *(np.atleast_1d(np.asarray(part, dtype=float)) for part in (reports, amount, squares, observed, due))
    )


def simulated(rng: np.random.Generator, rate: float) -> tuple[Floats, Floats, Floats]:
    """Day, delay and amount of each fraud of a half year; a fraud takes 20 days to be reported on average."""
    day = np.repeat(np.arange(DAYS) + 0.5, rng.poisson(rate, DAYS))
    return day, rng.exponential(20, len(day)), rng.lognormal(4, 1, len(day))


def month_groups(day: Floats, delay: Floats, amount: Floats, curve: DelayCurve) -> ReportGroups:
    """Months of 30 days, of which the newest has just ended."""
    reported = day + delay <= DAYS
    month = (day[reported] // MONTH).astype(int)
    share = curve(DAYS - (np.arange(DAYS) + 0.5)).reshape(-1, MONTH).sum(axis=1) * PER_DAY
    sums = (np.bincount(month, amount[reported] ** power, DAYS // MONTH) for power in (0, 1, 2))
    return ReportGroups(*sums, share, MONTH * PER_DAY - share)


@pytest.mark.parametrize("rate", [0.5, 5.0])  # frauds a day
def test_the_interval_holds_what_comes_as_often_as_it_says(rate: float) -> None:
    rng = np.random.default_rng(1)
    counts, amounts, errors = [], [], []
    for _ in range(80):
        day, delay, amount = simulated(rng, rate)
        seen = day + delay <= DAYS
        curve = delay_curve(delay[seen], DAYS - day[seen])
        months = month_groups(day, delay, amount, curve)
        pool = groups(*(part.sum(keepdims=True) for part in vars(months).values()))
        forecast = forecast_reports(months, pool, 0.9)
        missing = (day[~seen] // MONTH).astype(int)
        counts.append(held(forecast.reports, np.bincount(missing, minlength=DAYS // MONTH)))
        amounts.append(held(forecast.amount, np.bincount(missing, amount[~seen], DAYS // MONTH)))
        errors.append(forecast.reports.expected[-1] - np.sum(missing == DAYS // MONTH - 1))
    # of 300 such worlds 87 to 96 % of the counts are held, and 86 to 92 % of the amounts
    assert 0.82 <= np.mean(counts) <= 0.98
    assert 0.82 <= np.mean(amounts) <= 0.98
    assert abs(np.mean(errors)) < 3 * np.std(errors) / np.sqrt(len(errors)) + 0.5


def held(forecast: Forecast, truth: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Of the newest two months; nearly all of the others has been reported."""
    inside = (forecast.lower <= truth) & (truth <= forecast.upper)
    return np.asarray(inside[-2:])


def test_a_group_without_reports_has_the_rate_of_all_and_its_interval_grows_with_what_is_due() -> None:
    pool = groups(100, 5_000, 300_000, 1e5, 0)
    one = forecast_reports(groups([0, 0], [0, 0], [0, 0], [0, 0], [1e4, 1e3]), pool, 0.9)
    np.testing.assert_allclose(one.reports.expected, [10, 1])  # 100 in 100,000 payments
    np.testing.assert_allclose(one.amount.expected, [500, 50])  # 50 each
    assert one.reports.upper[0] > one.reports.upper[1] > 1


def test_where_nothing_is_due_nothing_is_expected() -> None:
    pool = groups(100, 5_000, 300_000, 1e5, 0)
    done = forecast_reports(groups(7, 350, 20_000, 1e4, 0), pool, 0.9)
    for part in (done.reports, done.amount):
        assert (part.expected, part.lower, part.upper) == (0, 0, 0)


def test_a_forecast_is_never_below_what_is_reported() -> None:
    pool = groups(100, 5_000, 300_000, 1e5, 0)
    young = forecast_reports(groups(0, 0, 0, 10, 90), pool, 0.9)
    later = young.reports.plus(np.array([0.0]), np.array([3.0]))
    assert (later.expected, later.lower, later.upper) == (3, 3, 3)
