import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, matthews_corrcoef

from detectors.base import DetectorError
from detectors.evaluation.cases import CASE, CaseRows
from detectors.evaluation.thresholds import (
    FLAGS_A_CASE,
    best_f1_threshold,
    best_mcc_threshold,
    capacity_threshold,
    cost_threshold,
)

INF = float("inf")
HOUR = CASE // 24
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
    assert (np.array(sample) >= threshold).sum() <= per_day * days
    lower = [value for value in sample if value < threshold]
    if lower and per_day > 0:
        assert (np.array(sample) >= max(lower)).sum() > per_day * days


CASES = [
    # (value, entity, hour) of each row, cases in a day → threshold
    ([(9, 1, 0), (8, 1, 5), (7, 2, 5), (6, 3, 5)], 2, 7),  # two flags of one entity are one case
    (
        [(9, 1, 0), (8, 1, 24), (7, 2, 5), (6, 3, 5)],
        2,
        8,
    ),  # … unless the second comes 24 hours after the first
    ([(9, 1, 0), (8, 1, 23), (7, 1, 25), (6, 2, 5)], 2, 7),  # a case is not prolonged by the flags in it
    (
        [(9, 1, 20), (8, 1, 30), (7, 1, 0), (6, 2, 0)],
        1,
        8,
    ),  # an earlier flag cuts the chain elsewhere: 0 and 30
    ([(9, 1, 0), (9, 1, 1), (9, 2, 0), (8, 3, 0)], 1, np.nextafter(9, INF)),  # a tie over the limit
    ([(9, 1, 0), (8, 2, 0)], 2, -INF),  # all fit
    ([(9, 1, 0), *((8, 1, 1) for _ in range(10))], 1, 9),  # but ten flags a case at most
    ([(9, 1, 0), *((8, 1, 1) for _ in range(9))], 1, -INF),
]


def rows_of(sample):
    """Values of (value, entity, hour), and the rows that cases are counted of."""
    values, entity, hour = (np.array(column) for column in zip(*sample, strict=True))
    return values.astype(float), CaseRows(entity, hour * HOUR)


@pytest.mark.parametrize(("sample", "per_day", "threshold"), CASES)
def test_the_lowest_threshold_within_a_budget_of_cases(sample, per_day, threshold):
    values, rows = rows_of(sample)
    assert capacity_threshold(values, None, 1, per_day, rows) == threshold


@pytest.mark.parametrize(("flags", "threshold"), [(0, INF), (1, 9), (2, 8), (2.9, 8), (3, 7), (INF, -INF)])
def test_flags_are_limited_however_few_cases_they_are(flags, threshold):
    values, rows = rows_of([(9, 1, 0), (8, 1, 1), (7, 1, 2), (6, 2, 0)])
    assert capacity_threshold(values, None, 1, 2, rows, flags_per_day=flags) == threshold
    with pytest.raises(DetectorError, match="cases and flags a day must be 0 or more"):
        capacity_threshold(values, None, 1, 2, rows, flags_per_day=-1)


def test_a_flag_in_a_case_of_another_channel_is_no_case_more():
    values, rows = rows_of([(9, 1, 0), (8, 2, 0), (7, 1, 1), (6, 3, 0)])
    flagged = values == 9
    novel = np.where(flagged, np.nan, values)
    assert capacity_threshold(novel, None, 1, 1, rows, flagged) == 7
    assert capacity_threshold(novel, None, 1, 1, rows) == 8  # by itself the third would be a case


def test_muted_rows_use_no_budget():
    values, rows = rows_of([(9, 1, 0), (8, 2, 0), (7, 3, 0), (6, 4, 0)])
    assert capacity_threshold(values, [0, 1, 0, 1], 1, 1, rows) == 8
    assert capacity_threshold(values, [0, 0, 0, 0], 1, 1, rows) == INF  # nothing says what the volume is


def counted(sample, threshold):
    """The number of cases by the words of the definition."""
    opened, cases = {}, 0
    for value, entity, hour in sorted(sample, key=lambda row: row[2]):
        if value >= threshold and hour - opened.get(entity, -24) >= 24:
            opened[entity], cases = hour, cases + 1
    return cases


case_samples = st.lists(
    st.tuples(st.integers(0, 8), st.integers(0, 3), st.integers(0, 90)), min_size=1, max_size=30
)


@settings(deadline=None, derandomize=True)
@given(case_samples, st.integers(1, 9))
def test_cases_stay_within_the_budget_and_at_the_next_value_down_would_not(sample, budget):
    values, rows = rows_of(sample)
    threshold = capacity_threshold(values, None, 1, budget, rows)
    assert int(rows.openers(values >= threshold).sum()) == counted(sample, threshold) <= budget
    lower = values[values < threshold]
    if len(lower):
        flags = int((values >= lower.max()).sum())
        assert max(counted(sample, lower.max()), flags / FLAGS_A_CASE) > budget


@settings(deadline=None, derandomize=True)
@given(values, st.floats(0, 10))
def test_rows_of_different_entities_have_the_threshold_of_flags(sample, per_day):
    rows = CaseRows(np.arange(len(sample)), np.zeros(len(sample), dtype=np.int64))
    assert capacity_threshold(sample, None, 1, per_day, rows) == capacity_threshold(sample, None, 1, per_day)


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
    if y.any():
        f1 = [f1_score(y, sample >= t, zero_division=0) for t in tried]
        assert f1_score(y, sample >= best_f1_threshold(sample, y)) == pytest.approx(max(f1))
    if 0 < y.sum() < len(y):
        mcc = [matthews_corrcoef(y, sample >= t) for t in tried]
        assert matthews_corrcoef(y, sample >= best_mcc_threshold(sample, y)) == pytest.approx(max(mcc))


def test_of_equal_thresholds_the_strictest_wins():
    assert best_f1_threshold([3, 2, 1], [1, 0, 1]) == 1  # 4/5 against 2/3
    assert best_f1_threshold([4, 3, 2, 1], [1, 0, 0, 1]) == 4  # 2/3 both


@pytest.mark.parametrize("y", [[0, 0, 0], []])
def test_without_frauds_nothing_is_best_and_nothing_is_flagged(y):
    sample = np.arange(len(y), dtype=float)
    assert best_f1_threshold(sample, y) == best_mcc_threshold(sample, y) == INF
