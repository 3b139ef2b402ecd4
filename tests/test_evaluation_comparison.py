"""Measures with intervals: equal to the plain definitions, paired, and honest about what is undefined."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    matthews_corrcoef,
    roc_auc_score,
)

from detectors.base import DetectorError
from detectors.evaluation import metrics
from detectors.evaluation.comparison import (
    DAY,
    FoldPredictions,
    FoldRows,
    RankingCurve,
    daily_flags,
    difference,
    evaluate_technique,
    false_flag_rates,
)


def fold(n=3000, seed=1, skill=2.0, ties=False, rate=0.03):
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < rate).astype(float)
    score = rng.standard_normal(n) + skill * y
    if ties:
        score = np.round(score)
    time = np.sort(rng.integers(0, 7 * DAY, n))
    rows = FoldRows(
        y, rng.exponential(50, n), rng.integers(0, 200, n), time, time // DAY, rng.integers(0, 3, n)
    )
    return rows, score


def answer(rows, score, said=True):
    p = 1 / (1 + np.exp(-score))
    return FoldPredictions(
        score, score > 1.5, score > 1.6, score > 1.0, daily_flags(score, rows.day, 20),
        p if said else np.full(len(p), np.nan),
    )  # fmt: skip


@pytest.mark.parametrize("ties", [False, True])
def test_measures_are_those_of_scikit_learn_and_of_our_own_definitions(ties):
    rows, score = fold(ties=ties)
    given_ = answer(rows, score)
    found = {
        name: one.value for name, one in evaluate_technique([rows], [given_], review=2.0).metrics.items()
    }
    assert found["ap"] == pytest.approx(average_precision_score(rows.y, score), abs=1e-12)
    assert found["auc"] == pytest.approx(roc_auc_score(rows.y, score), abs=1e-12)
    assert found["f1"] == pytest.approx(f1_score(rows.y, score > 1.5))
    assert found["mcc"] == pytest.approx(matthews_corrcoef(rows.y, score > 1.6))
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(rows.y, score > 1.5))
    assert found["accuracy"] == pytest.approx(accuracy_score(rows.y, score > 1.5))
    top = [np.argsort(np.where(rows.day == day, -score, np.inf), kind="stable")[:20] for day in range(7)]
    caught = rows.y[np.concatenate(top)].sum()
    assert (found["precision_at_k"], found["recall_at_k"]) == pytest.approx(
        (caught / 140, caught / rows.y.sum())
    )
    assert found["recall_0.5"] == pytest.approx((score[rows.y == 1] >= 0).mean())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 3)), min_size=1, max_size=30))
def test_weighted_curves_agree_with_the_plain_ones(cases):
    score, y, weight = (np.array(column, dtype=float) for column in zip(*cases, strict=True))
    times = weight.astype(int)
    ap, auc = RankingCurve(y, score).ap_and_auc(weight.astype(np.float32).reshape(1, -1))
    assert ap[0] == pytest.approx(metrics.average_precision(y, score, weight), nan_ok=True, abs=1e-9)
    assert auc[0] == pytest.approx(
        metrics.auc_roc(np.repeat(y, times), np.repeat(score, times)), nan_ok=True, abs=1e-9
    )


def test_intervals_hold_the_value_and_narrow_with_data():
    few, many = (
        evaluate_technique([rows], [answer(rows, score)], 1.0) for rows, score in (fold(1000), fold(8000))
    )
    widths = [one.metrics["ap"].upper - one.metrics["ap"].lower for one in (few, many)]
    assert few.metrics["ap"].lower < few.metrics["ap"].value < few.metrics["ap"].upper
    assert widths[1] < widths[0]


def test_differences_are_paired():
    rows, score = fold(8000)
    noise = np.random.default_rng(9).standard_normal(len(score))
    better, same, worse = (
        evaluate_technique([rows], [answer(rows, s)], 1.0)
        for s in (score, score + 0.01 * noise, score + 2 * noise)
    )
    clear = difference(better, worse, "ap")
    assert clear.lower > 0
    close = difference(better, same, "ap")
    assert close.upper - close.lower < 0.2 * (better.metrics["ap"].upper - better.metrics["ap"].lower)


def test_rankings_are_averaged_over_folds_and_counts_summed():
    (a, score_a), (b, score_b) = fold(seed=1), fold(seed=2)
    both = evaluate_technique([a, b], [answer(a, score_a), answer(b, 5 * score_b)], 1.0).metrics
    each = [
        evaluate_technique([rows], [answer(rows, s)], 1.0).metrics
        for rows, s in ((a, score_a), (b, 5 * score_b))
    ]
    assert both["ap"].value == pytest.approx(np.mean([one["ap"].value for one in each]))
    assert both["cost"].value == pytest.approx(sum(one["cost"].value for one in each))


def test_what_is_undefined_is_nan_and_a_fold_without_fraud_does_not_count():
    rows, score = fold()
    empty = FoldRows(np.zeros(5), np.ones(5), np.arange(5), np.zeros(5, int), np.zeros(5, int))
    found = evaluate_technique(
        [rows, empty], [answer(rows, score, said=False), answer(empty, np.zeros(5))], 1.0
    ).metrics
    assert found["ap"].value == pytest.approx(metrics.average_precision(rows.y, score))
    assert np.isnan(found["recall_0.5"].value)
    with pytest.raises(DetectorError, match="there is none in the test spans"):
        evaluate_technique([empty], [answer(empty, np.zeros(5))], 1.0)


def test_delay_counts_from_an_entitys_first_fraud_to_its_first_flagged_one():
    time = np.array([0, 1, 3, 4, 5]) * DAY
    rows = FoldRows(np.array([1.0, 1, 1, 0, 1]), np.ones(5), np.array([0, 0, 0, 1, 2]), time, time // DAY)
    flags = np.array([False, False, True, True, False])
    found = evaluate_technique(
        [rows], [FoldPredictions(np.arange(5.0), flags, flags, flags, flags, np.zeros(5))], 1.0
    ).metrics
    assert found["detection_delay"].value == 3.0
    assert found["entities_caught"].value == 0.5


def test_false_flags_are_told_by_group():
    rows, score = fold()
    rates = false_flag_rates([rows], [answer(rows, score)])
    genuine = rows.y == 0
    flags = daily_flags(score, rows.day, 20)
    assert rates[1] == pytest.approx(
        (flags[genuine & (rows.group == 1)].mean(), (genuine & (rows.group == 1)).sum())
    )
