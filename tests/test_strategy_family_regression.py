"""Outlier detection that known frauds have taught which families matter."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from detectors.base import DetectorError
from detectors.evaluation.metrics import average_precision
from detectors.strategy.family_regression import COMMON, STRENGTH, FamilyRegression

TEAM = np.full(4, 0.25)


def drawn(frauds, n=5_000, seed=1):
    """Surprisals of four families, of which the first tells fraud; (S, y)."""
    rng = np.random.default_rng(seed)
    S, y = rng.exponential(size=(n, 4)), np.zeros(n)
    y[:frauds] = 1
    S[:frauds, 0] += rng.exponential(3.0, size=frauds)
    return S, y


def fitted(S, y):
    return FamilyRegression.fit(S, y, np.ones(len(y)), TEAM)


def test_frauds_raise_the_family_that_tells_them_the_more_the_more_there_are():
    test, y_test = drawn(200, seed=9)
    found = [average_precision(y_test, test @ TEAM)]
    found += [average_precision(y_test, fitted(*drawn(k)).score(test)) for k in (2, 20, 500)]
    assert found == sorted(found)
    assert found[-1] > found[0] + 0.1


def test_a_fraud_that_tells_nothing_leaves_the_combination_of_the_team():
    S, y = drawn(0)
    S[0], y[0] = S[1:].mean(axis=0), 1
    coefficients = fitted(S, y).coefficients
    assert np.allclose(coefficients / coefficients.sum(), TEAM, atol=0.05)


def test_the_estimate_is_the_maximum_a_posteriori():
    """Of many rows it is scikit-learn's, whose penalty of the same strength knows no prior but 0."""
    S, y = drawn(2_000, n=40_000)
    common = S @ TEAM
    rows = np.column_stack(
        [common * COMMON * np.sqrt(STRENGTH), S]
    )  # so that one penalty fits all coefficients
    other = LogisticRegression(C=1 / STRENGTH, tol=1e-8, max_iter=1000).fit(rows, y).coef_[0]
    expected = other[0] * COMMON * np.sqrt(STRENGTH) * TEAM + other[1:]
    assert np.allclose(fitted(S, y).coefficients, expected, atol=0.02)


def test_weights_stand_for_rows():
    S, y = drawn(20, n=500)
    twice = FamilyRegression.fit(np.tile(S, (2, 1)), np.tile(y, 2), np.ones(1000), TEAM)
    weighted = FamilyRegression.fit(S, y, np.full(500, 2.0), TEAM)
    assert np.allclose(twice.coefficients, weighted.coefficients, atol=1e-3)


def test_a_row_scores_the_same_to_the_bit_alone_or_in_a_batch_and_its_contributions_add_up():
    S, y = drawn(20)
    regression = fitted(S, y)
    scores = regression.score(S)
    assert all(regression.score(S[place : place + 1])[0] == scores[place] for place in range(50))
    assert np.allclose(regression.contributions(S).sum(axis=1), scores)


@pytest.mark.parametrize("y", [np.zeros(5_000), np.ones(5_000)])
def test_one_class_is_refused(y):
    with pytest.raises(DetectorError, match="both classes"):
        fitted(drawn(0)[0], y)
