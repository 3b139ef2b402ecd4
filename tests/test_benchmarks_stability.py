"""The choice keeps its mind while what it measures drifts around a bound, and the measuring of that can fail."""

import numpy as np
import pytest

from benchmarks import stability

PATHS = 120


@pytest.mark.parametrize("bound", stability.BOUNDS, ids=lambda bound: bound.name)
@pytest.mark.parametrize("drift", stability.DRIFTS)
def test_noise_adds_no_changes_of_strategy(bound, drift):
    told = stability.told(bound, drift, noise=0.05, paths=PATHS, seed=11)
    assert told.calm
    assert told.changes <= told.crossings_of_drift


@pytest.mark.parametrize("bound", stability.BOUNDS, ids=lambda bound: bound.name)
def test_without_hysteresis_it_does(bound):
    told = stability.told(bound, "turnover", noise=0.10, paths=PATHS, seed=11)
    assert told.restless_without > 0.5
    assert told.changes < told.changes_without / 3


CROSSED = [
    # path → crossings of 10
    ([8, 9, 9, 8], 0),
    ([8, 10, 11, 12], 1),  # at the bound is above it
    ([8, 11, 9, 12], 3),
    ([12, 11, 10], 0),
]


@pytest.mark.parametrize(("path", "crossings"), CROSSED)
def test_crossings_are_counted_one_by_one(path, crossings):
    assert stability.crossed(np.array(path, dtype=float), 10) == crossings


@pytest.mark.parametrize("bound", stability.BOUNDS, ids=lambda bound: bound.name)
def test_every_bound_is_one_that_the_first_choice_changes_at(bound):
    below, at = (
        stability.strategies(np.array([frauds]), bound)[0] for frauds in (bound.frauds - 1, bound.frauds)
    )
    assert below != at
