import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from detectors.base import DetectorError
from detectors.evaluation.comparison import bootstrap_weights
from detectors.evaluation.metrics import auc_roc, average_precision, percentile_interval


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


@pytest.mark.parametrize("y", [[], [0, 0, 0], [1, 1, 1]])
def test_one_class_has_no_ranking_and_says_so_without_a_warning(y):
    scores = np.arange(len(y), dtype=float)
    assert np.isnan(auc_roc(y, scores))
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
