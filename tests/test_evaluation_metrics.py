import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from detectors.base import DetectorError
from detectors.evaluation.comparison import bootstrap_weights
from detectors.evaluation.metrics import (
    always_genuine,
    auc_roc,
    average_precision,
    card_precision_at_k,
    confusion,
    cost,
    daily_top_k,
    percentile_interval,
    savings,
)


def sample(seed, n=400, ties=True):
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.1).astype(float)
    scores = rng.normal(size=n) + y
    return y, np.round(scores, 1) if ties else scores, rng.integers(1, 5, n).astype(float)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("ties", [True, False])
def test_ranking_measures_are_scikit_learns_with_ties_and_weights(seed, ties):
    y, scores, weights = sample(seed, ties=ties)
    assert average_precision(y, scores) == pytest.approx(sklearn_metrics.average_precision_score(y, scores))
    assert auc_roc(y, scores) == pytest.approx(sklearn_metrics.roc_auc_score(y, scores))
    weighted = sklearn_metrics.average_precision_score(y, scores, sample_weight=weights)
    assert average_precision(y, scores, weights) == pytest.approx(weighted)
    weighted = sklearn_metrics.roc_auc_score(y, scores, sample_weight=weights)
    assert auc_roc(y, scores, weights) == pytest.approx(weighted)


@pytest.mark.parametrize("seed", range(5))
def test_flag_measures_are_scikit_learns(seed):
    y, scores, weights = sample(seed)
    flagged = scores > 1
    found = confusion(y, flagged, weights)
    args = {"sample_weight": weights}
    assert found.precision == pytest.approx(sklearn_metrics.precision_score(y, flagged, **args))
    assert found.recall == pytest.approx(sklearn_metrics.recall_score(y, flagged, **args))
    assert found.accuracy == pytest.approx(sklearn_metrics.accuracy_score(y, flagged, **args))
    assert found.balanced_accuracy == pytest.approx(
        sklearn_metrics.balanced_accuracy_score(y, flagged, **args)
    )
    assert found.f1 == pytest.approx(sklearn_metrics.f1_score(y, flagged, **args))
    assert found.mcc == pytest.approx(sklearn_metrics.matthews_corrcoef(y, flagged, **args))


def test_always_genuine_is_accurate_and_worth_nothing():
    y = np.array([1.0] + [0.0] * 999)
    found = always_genuine(y)
    assert (found.accuracy, found.f1, found.mcc, found.balanced_accuracy) == (0.999, 0.0, 0.0, 0.5)
    assert np.isnan(found.precision)


@pytest.mark.parametrize("y", [[], [0, 0, 0], [1, 1, 1]])
def test_one_class_has_no_ranking_and_says_so_without_a_warning(y):
    scores = np.arange(len(y), dtype=float)
    found = confusion(y, scores > 1)
    assert np.isnan(auc_roc(y, scores))
    assert np.isnan(found.mcc)
    assert np.isnan(found.balanced_accuracy)
    assert np.isnan(found.recall) == (sum(y) == 0)
    assert np.isnan(found.f1) == (sum(y) == 0)
    assert np.isnan(average_precision(y, scores)) == (sum(y) == 0)


def test_all_scores_equal_rank_by_chance():
    y, _, _ = sample(1)
    assert auc_roc(y, np.zeros(len(y))) == 0.5
    assert average_precision(y, np.zeros(len(y))) == pytest.approx(y.mean())


def test_infinite_scores_are_ranked_and_nan_is_refused():
    assert auc_roc([1, 0, 0], [np.inf, 0, -np.inf]) == 1
    with pytest.raises(DetectorError, match="without a score"):
        auc_roc([1, 0], [np.nan, 0])


@pytest.mark.parametrize(("y", "scores"), [([1, 0], [1.0]), ([2, 0], [1.0, 2.0]), ([np.nan, 0], [1.0, 2.0])])
def test_labels_that_do_not_fit_are_refused(y, scores):
    with pytest.raises(DetectorError):
        average_precision(y, scores)


def handbook_card_precision(frame, k):
    """The published protocol, day by day in pandas."""
    found, daily = set(), []
    for _, day in frame.groupby("day"):
        left = day[~day["card"].isin(found)]
        cards = (
            left.groupby("card")[["score", "y"]].max().sort_values("score", ascending=False, kind="stable")
        )
        caught = cards.head(k)
        caught = caught[caught["y"] == 1]
        daily.append(len(caught) / k)
        found |= set(caught.index)
    return np.mean(daily)


@pytest.mark.parametrize("k", [1, 5, 100])
@pytest.mark.parametrize("seed", range(3))
def test_card_precision_follows_the_handbook(seed, k):
    y, scores, _ = sample(seed, n=2000)
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {"score": scores, "y": y, "card": rng.integers(0, 60, 2000), "day": rng.integers(0, 7, 2000)}
    )
    expected = handbook_card_precision(frame, k)
    assert card_precision_at_k(scores, y, frame["card"], frame["day"], k) == pytest.approx(expected)
    named = frame["card"].map("card {:03}".format).to_numpy()
    assert card_precision_at_k(scores, y, named, frame["day"], k) == pytest.approx(expected)


def test_a_card_once_found_takes_no_place_on_later_days():
    scores, y, card, day = [0.9, 0.9, 0.5], [1, 1, 1], ["a", "a", "b"], [1, 2, 2]
    assert card_precision_at_k(scores, y, card, day, k=1) == 1.0  # a, then b
    assert (
        card_precision_at_k([0.9, 0.9, 0.5], [1, 0, 1], card, day, k=1, drop_detected=False) == 0.5
    )  # a, then a


def test_card_precision_of_no_rows_is_undefined():
    assert np.isnan(card_precision_at_k([], [], [], []))


def test_the_top_of_each_day_is_judged():
    y, scores, day = [1, 0, 1, 0, 0, 1], [3, 2, 1, 3, 2, 1], [1, 1, 1, 2, 2, 2]
    found = daily_top_k(y, scores, day, k=2)
    assert (found.precision, found.recall) == (0.25, pytest.approx(1 / 3))
    assert np.isnan(daily_top_k([], [], [], 2).precision)


def test_cost_counts_missed_frauds_and_false_flags():
    y, flagged = [1, 1, 0, 0], [1, 0, 1, 0]
    assert cost(y, flagged, missed=100, review=1) == 101
    assert cost(y, flagged, missed=[5, 70, 5, 5], review=2) == 72
    assert cost(y, flagged, 100, 1, weights=[1, 2, 3, 4]) == 203


def test_savings_compare_with_the_cheaper_trivial_monitor():
    y = np.array([1, 1, 0, 0, 0])
    assert savings(y, y, 100, 1) == 1.0
    assert savings(y, np.ones(5), 100, 1) == 0.0  # flagging all is the cheaper trivial one: 3
    assert savings(y, np.zeros(5), 100, 1) == 1 - 200 / 3
    assert np.isnan(savings([0, 0], [1, 0], 100, 1))  # flagging nothing is free


def mean_interval(x, entity, seed=7):
    """Percentile interval of a mean, whole entities drawn."""
    weights = np.concatenate(list(bootstrap_weights(int(entity.max()) + 1, seed)))[:, entity]
    return percentile_interval(weights @ x / weights.sum(axis=1), 0.95)


def test_the_bootstrap_keeps_an_entitys_rows_together():
    rng = np.random.default_rng(0)
    y = (rng.random(2000) < 0.2).astype(float)
    same = np.repeat((rng.random(100) < 0.2).astype(float), 20)  # all rows of an entity alike
    entity = np.arange(2000) // 20
    assert np.ptp(mean_interval(same, entity)) > 2.5 * np.ptp(mean_interval(y, entity))


def test_the_bootstrap_covers_the_mean_and_repeats_itself():
    rng = np.random.default_rng(3)
    inside = 0
    for seed in range(100):
        x = rng.normal(size=100)
        lower, upper = mean_interval(x, np.arange(100), seed)
        inside += lower <= 0 <= upper
    assert 85 <= inside <= 99
    assert mean_interval(x, np.arange(100)) == mean_interval(x, np.arange(100))


def test_a_measure_that_is_mostly_undefined_has_no_interval():
    assert np.isnan(percentile_interval(np.array([0.1, 0.2, np.nan, np.nan, np.nan]), 0.95)).all()
    assert percentile_interval(np.array([0.1, 0.3, np.nan]), 0.5) == pytest.approx((0.15, 0.25))


@settings(deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(-3, 3)), min_size=1, max_size=60))
def test_ranking_measures_stay_within_0_and_1(rows):
    y, scores = np.array(rows, dtype=float).T
    for value in (average_precision(y, scores), auc_roc(y, scores)):
        assert np.isnan(value) or 0 <= value <= 1 + 1e-12
