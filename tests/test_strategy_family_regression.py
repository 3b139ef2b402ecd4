"""Outlier detection that known frauds have taught which families matter."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from detectors.base import DetectorError
from detectors.evaluation.metrics import average_precision
from detectors.inputs.ranks import RankScale
from detectors.strategy.family_regression import COMMON_SD, STRENGTH, FamilyRegression
from detectors.strategy.outlier_team import TeamScores


def scores(S):
    """What a team of equal families says of rows with these surprisals."""
    return TeamScores(RankScale.fit(S.mean(axis=1)).transform(S.mean(axis=1)), S, S / 4)


def rows_of(said, chosen):
    return TeamScores(said.rank[chosen], said.families[chosen], said.parts[chosen])


def drawn(frauds, n=5_000, seed=1):
    """Surprisals of four families, of which the first tells fraud; (S, y)."""
    rng = np.random.default_rng(seed)
    S, y = rng.exponential(size=(n, 4)), np.zeros(n)
    y[:frauds] = 1
    S[:frauds, 0] += rng.exponential(3.0, size=frauds)
    return S, y


def fitted(S, y, view=None):
    return FamilyRegression.fit(scores(S), silent(S) if view is None else view, y, np.ones(len(y)))


def silent(S):
    """A feature that says nothing."""
    return np.zeros((len(S), 1))


def test_frauds_raise_the_family_that_tells_them_the_more_the_more_there_are():
    test, y_test = drawn(200, seed=9)
    found = [average_precision(y_test, test.mean(axis=1))]
    found += [
        average_precision(y_test, fitted(*drawn(k)).score(scores(test), silent(test))) for k in (2, 20, 500)
    ]
    assert found == sorted(found)
    assert found[-1] > found[0] + 0.1


def test_a_fraud_that_looks_usual_does_not_turn_the_order_of_the_team():
    S, y = drawn(0)
    S[0], y[0] = 0.01, 1
    regression = fitted(S, y)
    test, y_test = drawn(200, seed=9)
    found = average_precision(y_test, regression.score(scores(test), silent(test)))
    assert found > average_precision(y_test, test.mean(axis=1)) - 0.02
    assert regression.team > 0


def test_the_estimate_is_the_maximum_a_posteriori():
    """Of many rows it is scikit-learn's, whose one penalty fits all coefficients of columns that are scaled for it."""
    S, y = drawn(2_000, n=9_000)
    unit = COMMON_SD * np.sqrt(STRENGTH)
    rows = np.column_stack([scores(S).surprisal * unit, S])
    other = LogisticRegression(C=1 / STRENGTH, tol=1e-8, max_iter=1000).fit(rows, y).coef_[0]
    assert np.allclose(fitted(S, y).families, other[1:], atol=0.1)


def test_a_direction_is_learned_that_no_surprisal_tells():
    rng = np.random.default_rng(2)
    S, y = drawn(0, n=6_000)
    view = rng.normal(size=(6_000, 5))
    y[:60] = 1
    view[:60, 3] += 2.0  # not rare: the sign tells it
    regression = fitted(S[::2], y[::2], view[::2])
    assert regression.features.argmax() == 3
    score = regression.score(rows_of(scores(S), slice(1, None, 2)), view[1::2])
    assert average_precision(y[1::2], score) > 3 * average_precision(y[1::2], S[1::2].mean(axis=1))


def test_many_features_that_say_nothing_cost_little():
    test, y_test = drawn(200, seed=9)
    rng = np.random.default_rng(3)
    noise, of_test = rng.normal(size=(5_000, 100)), rng.normal(size=(5_000, 100))
    S, y = drawn(5)
    alone = average_precision(y_test, fitted(S, y).score(scores(test), silent(test)))
    assert average_precision(y_test, fitted(S, y, noise).score(scores(test), of_test)) > alone - 0.05


def test_weights_stand_for_rows():
    S, y = drawn(20, n=500)
    twice = FamilyRegression.fit(
        rows_of(scores(S), np.tile(np.arange(500), 2)), np.zeros((1000, 1)), np.tile(y, 2), np.ones(1000)
    )
    weighted = FamilyRegression.fit(scores(S), silent(S), y, np.full(500, 2.0))
    assert np.allclose(twice.families, weighted.families, atol=1e-3)


def test_of_more_rows_than_it_learns_from_a_sample_stands_for_all():
    S, y = drawn(40, n=60_000)
    assert np.allclose(fitted(S, y).families, fitted(S[:9_000], y[:9_000]).families, atol=0.25)


def test_a_row_scores_the_same_to_the_bit_alone_or_in_a_batch_and_its_contributions_add_up():
    S, y = drawn(20)
    view = np.random.default_rng(4).normal(size=(len(S), 3))
    regression = fitted(S, y, view)
    said = scores(S)
    logit = regression.score(said, view)
    alone = (regression.score(rows_of(said, slice(n, n + 1)), view[n : n + 1])[0] for n in range(50))
    assert list(alone) == logit[:50].tolist()
    parts = regression.of_families(said).sum(axis=1) + regression.of_features(view).sum(axis=1)
    assert np.allclose(parts, logit)


@pytest.mark.parametrize("y", [np.zeros(5_000), np.ones(5_000)])
def test_one_class_is_refused(y):
    with pytest.raises(DetectorError, match="both classes"):
        fitted(drawn(0)[0], y)
