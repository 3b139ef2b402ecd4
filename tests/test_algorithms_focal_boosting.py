"""Focal loss against finite differences, log loss, and a world whose probabilities are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import approx_fprime
from scipy.special import expit, logit

from detectors.algorithms.focal_boosting import (
    FocalBoosting,
    best_constant,
    curvature,
    gradient,
    hessian,
    loss,
    posterior_logit,
)
from detectors.evaluation.metrics import average_precision

MARGINS = np.linspace(-12, 12, 97)
BOTH = (np.concatenate([MARGINS, MARGINS]), np.repeat([0.0, 1.0], len(MARGINS)))
SETTINGS = pytest.mark.parametrize(("alpha", "gamma"), [(0.5, 0.0), (0.25, 2.0), (0.9, 1.0), (0.5, 5.0)])


@SETTINGS
def test_the_derivatives_are_those_of_the_loss(alpha, gamma):
    z, y = BOTH
    step = 1e-5
    first = (loss(z + step, y, alpha, gamma) - loss(z - step, y, alpha, gamma)) / (2 * step)
    second = (gradient(z + step, y, alpha, gamma) - gradient(z - step, y, alpha, gamma)) / (2 * step)
    assert gradient(z, y, alpha, gamma) == pytest.approx(first, abs=1e-9)
    assert curvature(z, y, alpha, gamma) == pytest.approx(second, abs=1e-9)


def test_without_gamma_it_is_log_loss():
    z, y = BOTH
    assert 2 * gradient(z, y, 0.5, 0.0) == pytest.approx(expit(z) - y, abs=1e-12)
    assert posterior_logit(z, 0.5, 0.0) == pytest.approx(z, abs=1e-9)
    assert posterior_logit(z, 0.8, 0.0) == pytest.approx(z - np.log(4), abs=1e-9)


def test_the_curvature_is_negative_where_rare_fraud_starts_and_the_hessian_is_not():
    p = np.array([0.001, 0.02, 0.05])
    assert (curvature(logit(p), np.ones(3), 0.5, 2.0) < 0).all()
    assert curvature(logit(np.array([0.07])), np.ones(1), 0.5, 2.0)[0] > 0
    z, y = BOTH
    assert (hessian(z, y, 0.5, 2.0) > 0).all()


@SETTINGS
@pytest.mark.parametrize("share", [1e-5, 0.003, 0.3])
def test_the_constant_is_where_the_loss_is_least_and_the_posterior_gives_the_share_back(alpha, gamma, share):
    best = best_constant(share, alpha, gamma)

    def expected(z):
        return (
            share * loss(z, np.ones(1), alpha, gamma)[0] + (1 - share) * loss(z, np.zeros(1), alpha, gamma)[0]
        )

    around = [expected(np.array([best + shift])) for shift in (-0.05, 0.0, 0.05)]
    assert around[1] <= min(around)
    assert abs(approx_fprime(np.array([best]), expected, 1e-6)[0]) < 1e-5
    assert expit(posterior_logit(np.array([best]), alpha, gamma))[0] == pytest.approx(share, rel=1e-6)


@given(st.floats(-480, 480), st.floats(1e-3, 20), st.floats(0.01, 0.99), st.floats(0, 5))
def test_a_higher_margin_is_a_higher_probability(z, more, alpha, gamma):
    low, high = posterior_logit(np.array([z, z + more]), alpha, gamma)
    assert np.isfinite([low, high]).all()
    assert high > low


def test_probabilities_are_recovered_from_trees():
    rng = np.random.default_rng(5)
    X = rng.integers(0, 4, (40_000, 1)).astype(float)
    truth = np.array([0.002, 0.01, 0.05, 0.3])[X[:, 0].astype(int)]
    y = (rng.random(len(X)) < truth).astype(float)
    detector = FocalBoosting(
        positive_weight=1 / 3, overrides={"num_iterations": 400, "feature_fraction": 1.0}
    ).fit(X, y)
    seen = [y[X[:, 0] == k].mean() for k in range(4)]
    found = detector.fraud_probability(np.arange(4.0)[:, None])
    assert found == pytest.approx(seen, rel=0.15)
    trees = detector.fitted
    margin = trees.predict(np.arange(4.0)[:, None], 1, raw_score=True) + trees.start
    under_confident = expit(margin)
    assert abs(logit(under_confident[0])) < abs(logit(found[0])) - 1


def test_it_learns_where_frauds_are_few():
    rng = np.random.default_rng(8)
    X = rng.standard_normal((20_000, 6))
    y = (rng.random(len(X)) < expit(2.5 * X[:, 0] + 1.5 * X[:, 1] - 9)).astype(float)
    half = len(X) // 2
    assert 30 < y[:half].sum() < 200
    detector = FocalBoosting().fit(X[:half], y[:half])
    assert average_precision(y[half:], detector.anomaly_score(X[half:])) > 15 * y[half:].mean()
