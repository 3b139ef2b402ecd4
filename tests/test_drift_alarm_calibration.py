"""From which value on drift is an alarm, by what the reference does against itself."""

import numpy as np
import pytest

from detectors import codec
from detectors.drift.alarm_calibration import (
    THRESHOLD_MIN,
    AlarmCalibration,
    MetricHistory,
    NullDistribution,
    calibrate,
)
from detectors.drift.histograms import ColumnHistogram
from detectors.drift.metrics import SCALES
from detectors.drift.reference_windows import ReferenceWindows

RNG = np.random.default_rng(3)


def tracks(n_tracks, n_windows, rng=RNG):
    """Independent normal deviations with effects that always count."""
    ones = np.ones(n_windows)
    return [
        MetricHistory(f"feature {k}", "ks", 0.1 + 0.02 * rng.normal(size=n_windows), ones, 60_000, 3_000)
        for k in range(n_tracks)
    ]


@pytest.mark.parametrize("n_windows", [60, 400])
@pytest.mark.parametrize("rate", [0.1, 1.0])
def test_windows_that_are_like_the_reference_alarm_no_more_often_than_was_asked(n_windows, rate):
    found = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        calibration = calibrate(tracks(50, n_windows, rng), n_windows, 7.0, 0.05)
        limit = [
            calibration.limits(f"feature {k}", "ks", calibration.threshold(rate), 0, 60_000, 3_000)[1]
            for k in range(50)
        ]
        later = 0.1 + 0.02 * rng.normal(size=(3_000, 50))
        found.append((later > np.array(limit)).any(axis=1).mean() * 7)
    assert 0.05 * rate < np.mean(found) < 1.3 * rate


def test_a_lower_rate_sets_a_higher_bar():
    calibration = calibrate(tracks(50, 60), 60, 7.0, 0.05)
    assert (
        calibration.threshold(2.0)
        < calibration.threshold(0.5)
        < calibration.threshold(0.1)
        < calibration.threshold(0.01)
    )
    assert AlarmCalibration(max_deviations=np.zeros(60)).threshold(7.0) == THRESHOLD_MIN


def test_what_never_counts_and_what_is_too_small_do_not_move_the_bar():
    base = calibrate(tracks(5, 60, np.random.default_rng(1)), 60, 7.0, 0.05)
    wild = 100 * RNG.normal(size=60) ** 2
    others = [
        MetricHistory("muted", "ks", wild, np.ones(60), 60_000, 3_000, can_alarm=False),
        MetricHistory("tiny", "ks", wild, np.full(60, 0.01), 60_000, 3_000),
    ]
    more = calibrate([*tracks(5, 60, np.random.default_rng(1)), *others], 60, 7.0, 0.05)
    assert more.threshold(0.1) == base.threshold(0.1)
    assert ("muted", "ks") in more.nulls


def apart(metric, deviation, effect=1.0, n_reference=60_000, n_current=3_000, can_alarm=True):
    return MetricHistory(
        "x", metric, deviation, np.full(len(deviation), effect), n_reference, n_current, can_alarm
    )


@pytest.mark.parametrize(("metric", "scale"), [("ks", 0.1), ("missing", 0.1), ("payments", 0.1)])
def test_the_scale_is_the_standard_deviation_of_what_is_normal(metric, scale):
    deviation = 3.0 + scale * np.random.default_rng(5).normal(size=2_000)
    null = calibrate([apart(metric, deviation)], 2_000, 7.0, 0.05).nulls["x", metric]
    assert null.center == pytest.approx(3.0, abs=0.01)
    assert null.scale == pytest.approx(scale, rel=0.07)
    seldom = calibrate([apart(metric, deviation, can_alarm=False)], 2_000, 7.0, 0.05).nulls["x", metric]
    assert seldom.scale == pytest.approx(null.scale * (1 + 10 / 2_000))


def test_shares_and_volumes_may_fall_and_distances_cannot():
    """One window far below the others raises the bar where less is drift, and not where it is merely more alike."""
    deviation = np.random.default_rng(2).normal(size=60)
    deviation[17] = -30.0
    bars = {
        name: calibrate([apart(name, deviation)], 60, 7.0, 0.05) for name in ("missing", "payments", "ks")
    }
    assert (
        bars["missing"].max_deviations[17]
        == bars["payments"].max_deviations[17]
        == pytest.approx(5.0, abs=0.5)
    )
    assert bars["ks"].max_deviations[17] == 0.0


@pytest.mark.parametrize(
    ("metric", "floor"),
    [
        ("ks", 0.25 * (1 / 400 + 1 / 100) ** 0.5),
        ("missing", 0.5 * (1 / 400 + 1 / 100) ** 0.5),
        ("payments", 0.02),
        ("complete_lag", 3.0),
    ],
)
def test_what_never_moved_is_still_given_the_room_of_chance(metric, floor):
    calibration = calibrate([apart(metric, np.zeros(8), 1.0, 400, 100)], 8, 7.0, 0.05)
    assert calibration.is_calibrated  # eight windows are just enough
    assert calibration.nulls["x", metric].scale == pytest.approx(floor)
    assert not calibrate([apart(metric, np.zeros(7), 1.0, 400, 100)], 7, 7.0, 0.05).nulls


def test_a_short_reference_sets_no_threshold():
    calibration = calibrate(tracks(5, 5), 5, 7.0, 0.05)
    assert not calibration.is_calibrated
    assert np.isnan(calibration.limits("feature 1", "ks", 4.0, 0, 100, 100)).all()


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ("psi", 0.2), ("jensen_shannon", 0.03), ("ks", 0.1), ("wasserstein", 0.4), ("wasserstein", 0.01),
        ("missing", 0.3), ("payments", 1200.0), ("per_entity", 1.5), ("median_delay", 12.0), ("complete_lag", 3.0),
    ],
)  # fmt: skip
def test_every_scale_is_left_as_it_was_entered(metric, value):
    assert SCALES[metric].back(SCALES[metric].to(value)) == pytest.approx(value)


def test_smaller_samples_are_given_more_room_and_larger_ones_no_less():
    null = NullDistribution(0.1, 0.02, 60_000, 3_000)
    assert null.inflation(60_000, 300) == pytest.approx(10**0.5, rel=0.1)
    assert null.inflation(60_000, 30_000) == null.inflation(60_000, 3_000) == 1
    calibration = AlarmCalibration(
        {("x", "ks"): null, ("x", "missing"): NullDistribution(0.0, 0.02, 60_000, 3_000)}, np.ones(60)
    )
    assert calibration.limits("x", "ks", 4, 0, 60_000, 300)[1] > 0.18
    low, high = calibration.limits("x", "missing", 4, 0.2, 60_000, 3_000)
    assert low < 0.2 < high


def test_a_stored_calibration_is_the_same():
    calibration = calibrate(tracks(5, 60), 60, 7.0, 0.05)
    again, _ = codec.unpack(AlarmCalibration, codec.pack(calibration))
    assert again.nulls == dict(calibration.nulls)
    assert again.threshold(0.1) == calibration.threshold(0.1)
    empty, _ = codec.unpack(AlarmCalibration, codec.pack(AlarmCalibration()))
    assert not empty.is_calibrated


def grid_of(days, per_day, **more):
    cell = np.repeat(np.arange(days), per_day)
    return ReferenceWindows(cell, [f"w{day % 7}" for day in range(days)], [False] * days, **more)


def test_a_window_is_compared_with_the_days_that_are_not_close_to_it():
    grid = grid_of(30, 2, gap=3)
    cells = ColumnHistogram.numeric(np.arange(60.0)).count_each(np.arange(60.0), grid.cell, 30)
    ends = grid.ends()
    first = grid.first(ends, 1)
    assert (ends - first == 1).all()
    current, rest = grid.current(cells, first, ends), grid.rest(cells, first, ends)
    assert current.n.tolist() == [2] * 30
    assert rest.n[0] == 60 - 2 * 4  # itself and three days after it
    assert rest.n[15] == 60 - 2 * 7
    near = grid.rest(cells, first, ends, span=5)
    assert near.n[15] == 10


def test_small_windows_are_pooled_with_those_before_them_and_the_first_ones_cannot_be():
    grid = grid_of(10, 4)
    first = grid.first(grid.ends(), min_rows=10)
    assert first[:2].tolist() == [-1, -1]
    assert (np.arange(10)[2:] - first[2:] == 2).all()


def test_holidays_are_left_out():
    grid = grid_of(28, 1)
    special = [day == 3 for day in range(28)]
    assert 4 not in ReferenceWindows(grid.cell, grid.season, special).ends()


def test_windows_of_a_week_move_along_by_a_day():
    grid = grid_of(21, 1, width=7)
    assert grid.ends().tolist() == list(range(7, 22))
    assert (grid.ends() - grid.first(grid.ends(), 1) == 7).all()


def test_hours_of_months_are_thinned():
    assert len(grid_of(2_000, 1).ends()) == 600
