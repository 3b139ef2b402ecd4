"""Costs, savings and decisions beside those of empulse, an independent implementation."""

import warnings

import numpy as np
import pytest

from detectors.evaluation.comparison import FoldPredictions, FoldRows, evaluate_technique
from detectors.evaluation.thresholds import cost_threshold

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    empulse = pytest.importorskip("empulse.metrics")
    from empulse.models import CSThresholdClassifier

RNG = np.random.default_rng(4)
Y = (RNG.random(4000) < 0.05).astype(int)
AMOUNT = RNG.exponential(80, 4000)
P = np.clip(0.05 + 0.4 * Y + 0.1 * RNG.standard_normal(4000), 0.001, 0.999)


@pytest.mark.parametrize("missed", [100.0, AMOUNT], ids=["constant", "amount"])
@pytest.mark.parametrize("cut", [0.02, 0.1, 0.5, 2.0])
def test_cost_and_savings_are_those_of_empulse(missed, cut):
    flags = cut <= P
    each = np.arange(len(Y))
    rows = FoldRows(Y.astype(float), np.broadcast_to(missed, len(Y)), each, each, np.zeros_like(each))
    metrics = evaluate_technique([rows], [FoldPredictions(P, flags, flags, flags, flags, P)], 3.0).metrics
    costs = {"fp_cost": 3.0, "fn_cost": missed}
    assert metrics["cost"].value == pytest.approx(empulse.cost_loss(Y, flags.astype(int), **costs))
    assert metrics["savings"].value == pytest.approx(empulse.savings_score(Y, flags.astype(int), **costs))


class Told:
    """A classifier that answers what it was given: only the decision is compared."""

    classes_ = np.array([0, 1])

    def fit(self, X, y):
        self.fitted_ = True
        return self

    def predict_proba(self, X):
        return np.column_stack([1 - X[:, 0], X[:, 0]])


def test_bayes_minimum_risk_decides_as_empulse_does():
    from sklearn.base import BaseEstimator, ClassifierMixin

    told = type("Estimator", (Told, ClassifierMixin, BaseEstimator), {})()
    X = P.reshape(-1, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = CSThresholdClassifier(told, calibrator=None, fp_cost=3.0, fn_cost=100.0, random_state=0)
        decided = theirs.fit(X, Y).predict(X, fp_cost=3.0, fn_cost=100.0)
    np.testing.assert_array_equal(decided, cost_threshold(100.0, 3.0) <= P)
