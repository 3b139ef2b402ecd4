"""What each way of balancing does to rows, and that probabilities survive it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from detectors.algorithms.logistic import Logistic
from detectors.base import DetectorError
from detectors.evaluation.metrics import average_precision
from detectors.imbalance.resampling import METHODS, Resampled, resample

BALANCING = tuple(method for method in METHODS if method != "none")
CATEGORY = 2


def world(n=20_000, seed=4):
    rng = np.random.default_rng(seed)
    X = np.column_stack([rng.standard_normal((n, 2)), rng.integers(0, 4, n)])
    y = (rng.random(n) < expit(1.5 * X[:, 0] + X[:, 1] - 6)).astype(float)
    return X, y


def balanced(X, y, method, **more):
    return resample(X, y, method, categorical=[CATEGORY] if method == "smote_mixed" else (), **more)


@pytest.mark.parametrize("method", BALANCING)
@pytest.mark.parametrize("share", [0.05, 0.5])
def test_the_share_of_fraud_is_reached_and_what_was_done_is_counted(method, share):
    X, y = world()
    found = balanced(X, y, method, share=share)
    assert found.share == pytest.approx(share, abs=0.001)
    assert found.prior == y.mean()
    assert len(found.y) == len(y) - found.discarded + found.invented
    assert (found.discarded > 0) == ("under" in method)
    assert (found.invented > 0) == (method != "under")


@pytest.mark.parametrize("method", METHODS)
def test_no_genuine_row_is_made_up_and_every_fraud_stays(method):
    X, y = world(4000)
    found = balanced(X, y, method)
    genuine = {row.tobytes() for row in X[y == 0]}
    assert all(row.tobytes() in genuine for row in found.X[found.y == 0])
    frauds = {row.tobytes() for row in found.X[found.y == 1]}
    assert all(row.tobytes() in frauds for row in X[y == 1])


def test_copies_are_copies_and_synthetic_rows_lie_between_their_parents():
    X, y = world(4000)
    frauds = X[y == 1]
    copies = balanced(X, y, "over")
    known = {row.tobytes() for row in frauds}
    assert all(row.tobytes() in known for row in copies.X[copies.y == 1])
    made = balanced(X, y, "smote")
    new = np.array([row for row in made.X[made.y == 1] if row.tobytes() not in known])
    assert len(new) > 100
    assert (new >= frauds.min(axis=0)).all()
    assert (new <= frauds.max(axis=0)).all()
    mixed = balanced(X, y, "smote_mixed")
    assert set(np.unique(mixed.X[:, CATEGORY])) <= {0.0, 1.0, 2.0, 3.0}
    smoothed = balanced(X, y, "smoothed")
    fresh = [row for row in smoothed.X[smoothed.y == 1] if row.tobytes() not in known]
    assert len(fresh) >= smoothed.invented * 0.99


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_rows_and_inputs_stay(method):
    X, y = world(4000)
    before = X.tobytes(), y.tobytes()
    first, again = balanced(X, y, method), balanced(X, y, method)
    assert first.X.tobytes() == again.X.tobytes()
    assert (X.tobytes(), y.tobytes()) == before
    assert first.X.flags.c_contiguous


@pytest.mark.parametrize("method", METHODS)
def test_probabilities_mean_what_they_say_after_the_correction(method):
    X, y = world(60_000)
    half = len(X) // 2
    made = balanced(X[:half], y[:half], method)
    model = Logistic(positive_weight=1.0).fit(made.X, made.y)
    raw = model.anomaly_score(X[half:])
    p = expit(made.corrected(raw))
    assert p.mean() == pytest.approx(y[half:].mean(), rel=0.35)
    if method != "none":
        assert expit(raw).mean() > 5 * y.mean()
    assert average_precision(y[half:], made.corrected(raw)) == average_precision(y[half:], raw)


@settings(max_examples=50)
@given(st.floats(1e-4, 0.2), st.floats(0.3, 0.7), st.floats(0.001, 0.999))
def test_the_correction_is_bayes_rule(prior, share, p):
    made = Resampled(np.zeros((1, 1)), np.zeros(1), 0, 0, prior, share)
    score = np.log(p / (1 - p))
    fraud, genuine = p * prior / share, (1 - p) * (1 - prior) / (1 - share)
    assert expit(made.corrected([score]))[0] == pytest.approx(fraud / (fraud + genuine), rel=1e-9)


def test_data_that_is_balanced_already_is_left_as_it_is():
    X, y = world(2000)
    found = resample(X, y, "smote", share=0.001)
    assert found.X.tobytes() == X.tobytes()
    assert (found.discarded, found.invented) == (0, 0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"method": "magic"}, "choose one of none, under"),
        ({"method": "over", "share": 1.0}, "share must lie between 0 and 1"),
        ({"method": "smote_mixed"}, "indices of categorical columns"),
    ],
)
def test_what_cannot_be_done_is_refused(arguments, said):
    with pytest.raises(DetectorError, match=said):
        resample(*world(2000), **arguments)


def test_few_frauds_have_few_neighbours_and_one_has_none():
    X = np.random.default_rng(1).standard_normal((500, 2))
    y = np.zeros(500)
    y[:3] = 1
    assert resample(X, y, "smote").share == pytest.approx(0.5, abs=0.01)
    y[1:3] = 0
    with pytest.raises(DetectorError, match="got 1: use over"):
        resample(X, y, "smote")
