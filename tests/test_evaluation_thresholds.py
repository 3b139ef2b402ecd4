import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, matthews_corrcoef

from detectors.base import DetectorError
from detectors.evaluation.metrics import cost
from detectors.evaluation.thresholds import (
    best_cost,
    best_f1,
    best_mcc,
    capacity_threshold,
    conformal_threshold,
    cost_threshold,
    fixed_threshold,
    flag,
)

INF = float("inf")
values = st.lists(st.integers(0, 12).map(float), min_size=1, max_size=40)


def test_a_hundred_reviews_for_a_missed_fraud_flag_from_one_in_101():
    assert cost_threshold(100, 1) == 1 / 101


@pytest.mark.parametrize(("missed", "review"), [(0, 0), (-1, 1), (1, -1), (INF, 1), (float("nan"), 1)])
def test_impossible_costs_are_refused(missed, review):
    with pytest.raises(DetectorError, match="costs must be finite"):
        cost_threshold(missed, review)


CAPACITY = [
    # values, weights, days, per day → threshold
    ([1, 2, 3, 4], None, 1, 2, 3),
    ([1, 2, 3, 4], None, 2, 1, 3),  # two flags in two days
    ([4, 3, 2, 1], None, 1, 2.9, 3),  # the third does not fit
    ([1, 2, 3, 4], None, 1, 0, INF),
    ([1, 2, 3, 4], None, 1, 4, -INF),  # all fit
    ([1, 2, 3, 4], None, 1, 1000, -INF),
    ([1, 3, 3, 3], None, 1, 2, np.nextafter(3, INF)),  # a tie over the limit stays unflagged
    ([1, 2, 2, 3], None, 1, 2, 3),
    ([1, 2, 3, 4], [1, 1, 5, 1], 1, 5, 4),  # a row that stands for five
    ([1, 2, 3, 4], [1, 1, 5, 1], 1, 6, 3),
    ([7], None, 1, 0.5, np.nextafter(7, INF)),
    ([], None, 1, 5, INF),  # an empty sample says nothing about the volume
    ([float("nan"), 1, 2], None, 1, 1, 2),
    ([-INF, INF, 0], None, 1, 1, INF),
]


@pytest.mark.parametrize(("sample", "weights", "days", "per_day", "threshold"), CAPACITY)
def test_the_lowest_threshold_within_the_daily_budget(sample, weights, days, per_day, threshold):
    assert capacity_threshold(sample, weights, days, per_day) == threshold


@settings(deadline=None, derandomize=True)
@given(values, st.floats(0, 10), st.floats(0.5, 9))
def test_flags_stay_within_the_budget_and_the_next_value_down_would_not(sample, per_day, days):
    threshold = capacity_threshold(sample, None, days, per_day)
    assert flag(sample, threshold).sum() <= per_day * days
    lower = [value for value in sample if value < threshold]
    if lower and per_day > 0:
        assert flag(sample, max(lower)).sum() > per_day * days


@pytest.mark.parametrize(
    ("days", "per_day"), [(0, 1), (-1, 1), (float("nan"), 1), (1, -1), (1, float("nan"))]
)
def test_a_budget_that_cannot_be_is_refused(days, per_day):
    with pytest.raises(DetectorError):
        capacity_threshold([1, 2], None, days, per_day)


def test_weights_of_another_length_are_refused():
    with pytest.raises(DetectorError, match="2 values need as many weights, got 1"):
        capacity_threshold([1, 2], [1], 1, 1)


@settings(deadline=None, derandomize=True)
@given(
    values.flatmap(
        lambda v: st.tuples(st.just(v), st.lists(st.integers(0, 1), min_size=len(v), max_size=len(v)))
    )
)
def test_sweeps_find_what_trying_every_threshold_finds(case):
    sample, y = np.array(case[0]), np.array(case[1])
    tried = [*sorted(set(sample)), INF]
    costs = [cost(y, flag(sample, t), 7.0, 2.0) for t in tried]
    assert best_cost(sample, y, 7.0, 2.0).value == pytest.approx(min(costs))
    if y.any():
        f1 = [f1_score(y, flag(sample, t), zero_division=0) for t in tried]
        assert best_f1(sample, y).value == pytest.approx(max(f1))
        assert f1_score(y, flag(sample, best_f1(sample, y).threshold)) == pytest.approx(max(f1))
    if 0 < y.sum() < len(y):
        mcc = [matthews_corrcoef(y, flag(sample, t)) for t in tried]
        assert best_mcc(sample, y).value == pytest.approx(max(mcc))


def test_amounts_as_costs_flag_the_dear_fraud_only():
    best = best_cost([0.9, 0.5, 0.4, 0.1], [1, 0, 0, 1], missed=[500, 0, 0, 1], review=1)
    assert (best.threshold, best.value) == (0.9, 1.0)


def test_flagging_nothing_is_best_when_reviews_are_dear():
    assert best_cost([0.9, 0.5], [0, 1], missed=1, review=10).threshold == INF


def test_of_equal_thresholds_the_strictest_wins():
    assert best_f1([3, 2, 1], [1, 0, 1]).threshold == 1  # 4/5 against 2/3
    assert best_f1([4, 3, 2, 1], [1, 0, 0, 1]).threshold == 4  # 2/3 both


@pytest.mark.parametrize("y", [[0, 0, 0], []])
def test_without_frauds_nothing_is_best_and_nothing_is_flagged(y):
    sample = np.arange(len(y), dtype=float)
    for best in (best_f1(sample, y), best_mcc(sample, y)):
        assert best.threshold == INF
        assert np.isnan(best.value)
    assert best_cost(sample, y, 100, 1).value == 0


def test_a_weight_counts_as_so_many_rows():
    sample, y = [3.0, 2.0, 2.0, 1.0], [1, 0, 1, 0]
    weighted = best_f1([3.0, 2.0, 2.0, 1.0], y, [2, 3, 1, 1])
    rows = np.repeat(np.arange(4), [2, 3, 1, 1])
    assert weighted == best_f1(np.array(sample)[rows], np.array(y)[rows])


def test_a_fixed_threshold_is_taken_as_it_is_unless_it_is_no_number():
    assert fixed_threshold(0.25) == 0.25
    with pytest.raises(DetectorError, match="got NaN"):
        fixed_threshold(float("nan"))


def test_a_value_at_the_threshold_is_flagged_and_nan_is_not():
    assert flag([0.1, 0.2, 0.3, np.nan], 0.2).tolist() == [False, True, True, False]


@pytest.mark.parametrize("share", [0.001, 0.01, 0.2])
@pytest.mark.parametrize("n", [50, 999, 5000])
def test_a_conformal_threshold_keeps_its_share_of_false_flags(share, n):
    rng = np.random.default_rng(3)
    kept = [
        (rng.standard_t(2, 2000) >= conformal_threshold(rng.standard_t(2, n), share)).mean()
        for _ in range(300)
    ]
    assert np.mean(kept) <= share + 3 * np.std(kept) / np.sqrt(300)
    if share * (n + 1) >= 5:
        assert np.mean(kept) > share / 2  # and is not idle


def test_a_conformal_threshold_needs_scores_enough_and_counts_exactly():
    scores = np.arange(99.0)
    assert conformal_threshold(scores, 0.005) == np.inf
    assert (scores >= conformal_threshold(scores, 0.01)).sum() == 0
    assert (scores >= conformal_threshold(scores, 0.05)).sum() == 4  # with a fresh one: 5 of 100
    assert conformal_threshold([], 0.5) == np.inf
    assert conformal_threshold([1.0, np.nan, 2.0], 0.34) > 2.0
    for wrong in (-0.1, 1.0, np.nan):
        with pytest.raises(DetectorError, match="share of false flags"):
            conformal_threshold(scores, wrong)
