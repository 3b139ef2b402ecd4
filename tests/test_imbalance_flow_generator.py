"""Made-up frauds look like frauds, are no copies, and can be checked."""

import numpy as np
import pytest

from detectors.base import DetectorError, NotFitted
from detectors.imbalance.flow_generator import FRAUDS_MIN, FlowGenerator, fidelity
from detectors.imbalance.resampling import resample

RNG = np.random.default_rng(2)
SIDE = RNG.choice([-3.0, 3.0], 300)
# Two clouds, a heavy tail, a column of three levels that follows the cloud, a category, a constant.
FRAUDS = np.column_stack(
    [
        SIDE + RNG.standard_normal(300) * 0.5,
        RNG.exponential(100, 300),
        np.where(SIDE > 0, RNG.integers(1, 3, 300), 0),
        np.where(SIDE > 0, 48_123.0, 7.0),
        np.full(300, 4.5),
    ]
)


@pytest.fixture(scope="module")
def made():
    return FlowGenerator().fit(FRAUDS, categorical=[3]).sample(600)


def test_made_rows_follow_the_frauds(made):
    assert made.shape == (600, 5)
    assert 0.35 < (made[:, 0] > 0).mean() < 0.65
    assert (np.abs(np.abs(made[:, 0]) - 3) < 1.5).mean() > 0.9  # in the clouds, not between them
    assert np.median(made[:, 1]) == pytest.approx(np.median(FRAUDS[:, 1]), rel=0.3)
    assert ((made[:, 0] > 0) == (made[:, 3] == 48_123.0)).mean() > 0.9  # columns keep together


def test_values_stay_within_those_seen(made):
    assert set(made[:, 2]) <= {0.0, 1.0, 2.0}
    assert set(made[:, 3]) == {7.0, 48_123.0}
    assert set(made[:, 4]) == {4.5}
    assert (made.min(axis=0) >= FRAUDS.min(axis=0)).all()
    assert (made.max(axis=0) <= FRAUDS.max(axis=0)).all()


def test_the_same_seed_makes_the_same_rows(made):
    assert FlowGenerator().fit(FRAUDS, categorical=[3]).sample(600).tobytes() == made.tobytes()
    assert FlowGenerator(seed=8).fit(FRAUDS, categorical=[3]).sample(600).tobytes() != made.tobytes()


def test_copies_and_fakes_are_found(made):
    of_flow = fidelity(FRAUDS, made)
    of_copies = fidelity(FRAUDS, FRAUDS[::-1])
    of_noise = fidelity(FRAUDS, RNG.standard_normal((300, 5)) * FRAUDS.std(axis=0))
    assert of_flow.copy_rate < 0.4
    assert of_copies.copy_rate == 1.0
    assert of_noise.detection_auc > 0.95
    assert of_flow.detection_auc < 0.8


def test_too_few_frauds_and_no_fit_are_refused():
    with pytest.raises(DetectorError, match=f"{FRAUDS_MIN} frauds or more, got 9"):
        FlowGenerator().fit(FRAUDS[:9])
    with pytest.raises(NotFitted):
        FlowGenerator().sample(3)


def test_generation_is_one_of_the_ways_to_balance():
    genuine = RNG.standard_normal((1000, 5))
    X, y = np.vstack([genuine, FRAUDS[:50]]), np.repeat([0.0, 1.0], [1000, 50])
    found = resample(X, y, "generative", share=0.5)
    assert found.y.mean() == 0.5
    assert (found.invented, found.discarded) == (950, 0)
    assert found.X[: len(X)].tobytes() == X.tobytes()
