from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from detectors import codec
from detectors.base import DetectorError
from detectors.evaluation.calibration import (
    Calibrator,
    fit_calibrator,
    reliability,
)

FORMS = [(5, "intercept"), (19, "intercept"), (20, "platt"), (199, "platt"), (200, "beta"), (999, "beta"),
         (1000, "isotonic"), (3000, "isotonic")]  # fmt: skip


def fold(frauds, seed=0, genuine_each=30, slope=1.7, shift=1.5):
    """Logits whose true probabilities are σ(slope · z + shift), with this many frauds and fixed genuine rows."""
    rng = np.random.default_rng(seed)
    z = rng.normal(-4, 2, 400_000)
    fraud = rng.random(len(z)) < expit(slope * z + shift)
    rows = np.concatenate((np.flatnonzero(fraud)[:frauds], np.flatnonzero(~fraud)[: frauds * genuine_each]))
    rows = np.sort(rows)
    return z[rows], fraud[rows].astype(float)


def calibration_error(p, y):
    """Expected calibration error: mean gap of the reliability bins, by their rows."""
    return sum(one.rows * abs(one.mean - one.rate) for one in reliability(p, y)) / len(y)


@pytest.mark.parametrize(("frauds", "kind"), FORMS)
def test_the_form_is_as_rich_as_the_frauds_bear(frauds, kind):
    z, y = fold(frauds)
    assert fit_calibrator(z, y).kind == kind


@pytest.mark.parametrize("frauds", [frauds for frauds, _ in FORMS])
@pytest.mark.parametrize("seed", range(3))
def test_a_calibrator_is_strictly_increasing_and_finite_at_extremes(frauds, seed):
    calibrator = fit_calibrator(*fold(frauds, seed))
    z = (
        np.unique(np.concatenate((np.arange(-3_000_000, 3_000_000, 100), np.arange(-120_000, 30_000, 3))))
        / 1e4
    )
    assert (np.diff(calibrator.logit(z)) > 0).all()
    assert (np.diff(calibrator.probability(z[z < 3])) > 0).all()
    extremes = calibrator.probability([-np.inf, -1e308, 1e308, np.inf])
    assert ((extremes > 0) & (extremes < 1)).all()
    assert np.isnan(calibrator.probability([np.nan])).all()


def test_scores_that_rank_backwards_are_flattened_not_turned():
    z, y = fold(300)
    for rows in (slice(None), slice(0, 600)):
        calibrator = fit_calibrator(-z[rows], y[rows])
        assert (np.diff(calibrator.logit(np.linspace(-20, 20, 1001))) > 0).all()


@pytest.mark.parametrize("frauds", [frauds for frauds, _ in FORMS])
def test_a_row_is_calibrated_alike_alone_and_among_others(frauds):
    z, y = fold(frauds)
    calibrator = fit_calibrator(z, y)
    together = calibrator.probability(z[:97])
    assert [calibrator.probability(z[i : i + 1])[0] for i in range(97)] == together.tolist()
    assert (calibrator.probability(z[96::-1])[::-1] == together).all()


@pytest.mark.parametrize("frauds", [frauds for frauds, _ in FORMS])
def test_a_stored_calibrator_is_the_same(frauds):
    z, y = fold(frauds)
    calibrator = fit_calibrator(z, y)
    again, _ = codec.unpack(Calibrator, codec.pack(calibrator))
    assert (again.probability(z) == calibrator.probability(z)).all()
    assert again.kind == calibrator.kind


@pytest.mark.parametrize(
    "form",
    [
        {"kind": "isotonic", "knots": np.array([[0.0, 1.0], [1.0, 0.0]])},
        {"kind": "platt", "low": -1.0, "high": -1.0},
        {"kind": "intercept", "shift": np.nan},
    ],
)
def test_a_calibrator_that_falls_is_refused(form):
    with pytest.raises(DetectorError, match="increasing"):
        Calibrator(**form)


@pytest.mark.parametrize("y", [[0, 0, 0], [1, 1, 1], []])
def test_one_class_leaves_the_classifiers_own_probabilities(y):
    z = np.linspace(-3, 3, len(y))
    calibrator = fit_calibrator(z, y)
    assert calibrator.kind == "identity"
    assert (calibrator.probability(z) == expit(z)).all()


@pytest.mark.parametrize("frauds", [3, 10, 19])
def test_the_level_meets_the_frauds_of_the_fold(frauds):
    z, y = fold(frauds)
    weight = np.where(y == 1, 1.0, 7.0)
    assert weight @ fit_calibrator(z, y, weight).probability(z) == pytest.approx(frauds)


def test_platts_form_is_scikit_learns_logistic_regression_on_platts_targets():
    z, y = fold(150)
    weight = np.where(y == 1, 1.0, 4.0)
    frauds, genuine = weight @ y, weight @ (1 - y)
    target = np.where(y == 1, (frauds + 1) / (frauds + 2), 1 / (genuine + 2))
    both = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(
        np.tile(z, 2).reshape(-1, 1),
        np.repeat([1, 0], len(z)),
        np.concatenate((weight * target, weight * (1 - target))),
    )
    calibrator = fit_calibrator(z, y, weight)
    assert calibrator.low == calibrator.high == pytest.approx(both.coef_[0, 0], rel=1e-4)
    assert calibrator.shift == pytest.approx(both.intercept_[0], rel=1e-4)


def test_the_beta_form_is_logistic_regression_on_both_log_probabilities():
    z, y = fold(600)
    target = np.where(y == 1, (y.sum() + 1) / (y.sum() + 2), 1 / ((1 - y).sum() + 2))
    p = expit(z)
    features = np.tile(np.stack([np.log(p), -np.log1p(-p)], axis=1), (2, 1))
    reference = LogisticRegression(C=np.inf, tol=1e-10, max_iter=5000).fit(
        features, np.repeat([1, 0], len(z)), np.concatenate((target, 1 - target))
    )
    calibrator = fit_calibrator(z, y)
    found = (calibrator.low, calibrator.high, calibrator.shift)
    assert found == pytest.approx((*reference.coef_[0], reference.intercept_[0]), rel=1e-3, abs=1e-3)


def test_separable_classes_keep_finite_slopes():
    z = np.concatenate((np.linspace(-9, -5, 3000), np.linspace(2, 5, 60)))
    y = np.repeat([0.0, 1.0], [3000, 60])
    calibrator = fit_calibrator(z, y)
    assert 1 < calibrator.low < 20
    assert calibrator.probability(z).max() < 1


@pytest.mark.parametrize("frauds", [30, 400, 2000])
def test_fresh_rows_come_true_as_often_as_said(frauds):
    calibrator = fit_calibrator(*fold(frauds, seed=1))
    z, y = fold(3000, seed=2)
    raw, calibrated = calibration_error(expit(z), y), calibration_error(calibrator.probability(z), y)
    assert calibrated < 0.45 * raw
    assert calibrated < 0.02
    assert log_loss(y, calibrator.probability(z)) < log_loss(y, expit(z))


def test_the_isotonic_form_follows_a_bend_that_the_beta_form_cannot():
    rng = np.random.default_rng(0)
    z = rng.uniform(-6, 4, 60_000)
    truth = expit(np.where(z < -1, 0.3 * z - 2.0, np.where(z < 1, 2 * (z + 1) - 2.3, 0.2 * (z - 1) + 1.7)))
    y = (rng.random(len(z)) < truth).astype(float)
    calibrator = fit_calibrator(z[:40_000], y[:40_000])
    beta = Calibrator("beta", calibrator.low, calibrator.high, calibrator.shift)
    fresh, came = z[40_000:], y[40_000:]
    assert calibrator.kind == "isotonic"
    assert np.abs(calibrator.probability(fresh) - truth[40_000:]).mean() < 0.02
    assert log_loss(came, calibrator.probability(fresh)) < log_loss(came, beta.probability(fresh)) - 0.002


def test_levels_that_hardly_differ_still_leave_no_ties():
    level = Calibrator("isotonic", knots=np.array([[-1.0, 1.0], [0.5, 0.5 + 1e-15]]))
    assert len(np.unique(level.probability(np.linspace(-1, 1, 1001)))) == 1001


def test_a_weight_counts_as_so_many_rows():
    z, y = fold(400)
    weight = np.where(y == 1, 1, np.arange(len(y)) % 3 + 1)
    repeated = fit_calibrator(np.repeat(z, weight), np.repeat(y, weight))
    weighted = fit_calibrator(z, y, weight)
    assert weighted.probability(z) == pytest.approx(repeated.probability(z), rel=1e-4)


@pytest.mark.parametrize("frauds", [10, 100, 500, 2000])
def test_sampled_genuine_rows_with_their_weights_give_the_unsampled_probabilities(frauds):
    z, y = fold(frauds, genuine_each=60)
    keep = (y == 1) | (np.random.default_rng(5).random(len(y)) < 0.25)
    sampled = fit_calibrator(z[keep], y[keep], np.where(y[keep] == 1, 1.0, 4.0))
    difference = sampled.logit(z[y == 1]) - fit_calibrator(z, y).logit(z[y == 1])
    assert np.abs(difference).mean() < 0.35


@pytest.mark.parametrize("n", [25, 250, 1200])
def test_scores_that_are_all_equal_still_get_a_level(n):
    y = np.repeat([1.0, 0.0], [n, 9 * n])
    assert fit_calibrator(np.full(len(y), -2.0), y).probability([-2.0]) == pytest.approx(0.1, abs=0.01)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 1500), st.integers(0, 10**6), st.floats(0.1, 30), st.booleans())
def test_any_fold_gives_an_increasing_calibrator(frauds, seed, scale, ties):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat([1.0, 0.0], [frauds, frauds + rng.integers(0, 3000)]))
    z = scale * (rng.normal(size=len(y)) + y * rng.normal())
    calibrator = fit_calibrator(np.round(z) if ties else z, y, rng.integers(1, 9, len(y)))
    assert (np.diff(calibrator.logit(np.linspace(-200, 200, 5001))) > 0).all()


@pytest.mark.parametrize(
    ("z", "y", "weight"),
    [
        ([1.0, np.nan], [0, 1], None),
        ([1.0, np.inf], [0, 1], None),
        ([1.0, 2.0], [0, 2], None),
        ([1.0, 2.0], [0, np.nan], None),
        ([1.0], [0, 1], None),
        ([1.0, 2.0], [0, 1], [1.0, -1.0]),
    ],
)
def test_what_cannot_be_calibrated_on_is_refused(z, y, weight):
    with pytest.raises(DetectorError):
        fit_calibrator(z, y, weight)


def test_rows_of_weight_zero_do_not_count():
    z, y = fold(10)
    weight = np.ones(len(y))
    weight[np.flatnonzero(y == 1)] = 0
    assert fit_calibrator(z, y, weight).kind == "identity"


def test_reliability_bins_are_of_equal_size():
    rng = np.random.default_rng(0)
    p = rng.beta(0.3, 30, 10_000)
    table = reliability(p, rng.random(10_000) < p, bins=10)
    assert len(table) == 10
    assert [one.rows for one in table] == pytest.approx([1000] * 10, abs=2)
    assert sum(one.rows for one in table) == 10_000
    assert all(one.upper < other.lower for one, other in pairwise(table))


def test_equal_probabilities_share_a_bin():
    table = reliability([0.1] * 50 + [0.2], [0.0] * 49 + [1.0, 0.0], bins=10)
    assert [(one.lower, one.rows, one.frauds) for one in table] == [(0.1, 50, 1), (0.2, 1, 0)]


def test_no_rows_have_no_bins():
    assert reliability([], []) == []


def test_a_probability_stays_a_probability_on_the_logit_scale():
    z, y = fold(2000)
    calibrator = fit_calibrator(z, y)
    assert logit(calibrator.probability(z)) == pytest.approx(calibrator.logit(z), rel=1e-6, abs=1e-6)
