"""Report delays are estimated as if nothing were cut off, though the young are."""

import numpy as np
import pytest

from detectors.base import DetectorError
from detectors.evaluation.label_delay import delay_curve, nowcast


def reported(n=20_000, days=120, mean=10.0, seed=1):
    """Frauds over `days`, exponential delays, seen only if reported before the last day."""
    rng = np.random.default_rng(seed)
    event, delay = rng.uniform(0, days, n), np.minimum(rng.exponential(mean, n), 60)
    seen = event + delay <= days
    return delay[seen], (days - event)[seen], event, delay


def test_truncated_delays_are_estimated_without_bias():
    delay, observed, _, true = reported()
    curve = delay_curve(delay, observed)
    for day in (2, 5, 10, 20, 40):
        assert curve(day) == pytest.approx((true <= day).mean(), abs=0.015)
    naive = delay_curve(delay, np.full(len(delay), 1e9))
    assert naive(10) > (true <= 10).mean() + 0.02  # what counting as they come would say
    assert curve.quantile(0.5) == pytest.approx(np.median(true), rel=0.05)


def test_young_cohorts_are_filled_up():
    delay, observed, event, _ = reported()
    curve = delay_curve(delay, observed)
    age = 120 - event
    seen = np.array([((observed >= a) & (observed < a + 5)).sum() for a in (2, 5, 15, 30)])
    true = np.array([((age >= a) & (age < a + 5)).sum() for a in (2, 5, 15, 30)])
    filled = nowcast(curve, np.array([4.5, 7.5, 17.5, 32.5]), seen)
    assert filled.expected == pytest.approx(true, rel=0.12)
    assert seen[0] < 0.6 * true[0]


def test_without_truncation_it_is_the_empirical_distribution():
    delay = np.array([1.0, 2.0, 2.0, 5.0])
    curve = delay_curve(delay, np.full(4, 100.0))
    assert curve([0.5, 1, 2, 4.9, 5, 9]).tolist() == [0, 0.25, 0.75, 0.75, 1, 1]
    assert (curve.quantile(0.5), curve.quantile(0.75), curve.quantile(1.0)) == (2, 2, 5)


def test_no_delays_say_nothing_and_impossible_ones_are_refused():
    empty = delay_curve([], [])
    assert empty.n == 0
    assert np.isnan(empty.quantile(0.5))
    assert np.isnan(nowcast(empty, [3.0], [2.0]).expected[0])
    for delay, observed in (([-1.0], [5.0]), ([6.0], [5.0])):
        with pytest.raises(DetectorError, match="a delay must be"):
            delay_curve(delay, observed)
    with pytest.raises(DetectorError, match="one length"):
        delay_curve([1.0], [1.0, 2.0])
