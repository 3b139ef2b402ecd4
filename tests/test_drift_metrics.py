import math
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import stats
from scipy.spatial.distance import jensenshannon

from detectors import codec
from detectors.base import DetectorError
from detectors.drift.histograms import FINE_BINS, ColumnHistogram, ReferenceHistograms
from detectors.drift.metrics import (
    COLUMN_METRICS,
    chi_square,
    column_drifts,
    compare,
    cramers_v,
    jensen_shannon,
    kolmogorov_smirnov,
    ks_p_value,
    psi,
    total_variation,
    wasserstein,
)
from detectors.drift.scales import SHARE, to_angle, to_share

ALL = tuple(COLUMN_METRICS)
RNG = np.random.default_rng(0)
NORMAL = RNG.normal(size=(5000, 1))
NAN, INF = float("nan"), float("inf")


def drift(before, after):
    """PSI and Jensen–Shannon of one column against another."""
    before, after = (np.asarray(column, dtype=float).reshape(-1, 1) for column in (before, after))
    found = {one.metric: one.value for one in compare(ReferenceHistograms.fit(before, ["x"]), after, ALL)}
    return found["psi"], found["jensen_shannon"]


def test_only_the_named_metrics_are_measured_in_the_order_of_the_table():
    reference = ReferenceHistograms.fit(np.column_stack((NORMAL[:, 0], np.round(NORMAL[:, 0]))), "ab", ["b"])
    found = [
        (one.feature, one.metric) for one in compare(reference, np.zeros((9, 2)), ["unseen", "ks", "psi"])
    ]
    assert found == [("a", "psi"), ("a", "ks"), ("b", "psi"), ("b", "unseen")]
    assert compare(reference, np.zeros((9, 2)), []) == []


@pytest.mark.parametrize("seed", range(5))
def test_jensen_shannon_is_the_square_of_scipys_distance_in_bits(seed):
    p, q = np.random.default_rng(seed).integers(0, 50, (2, 12))
    assert jensen_shannon(p, q) == pytest.approx(jensenshannon(p, q, base=2) ** 2)


def test_psi_is_the_sum_over_bins_up_to_its_added_row():
    p, q = np.array([4000, 3000, 3000]), np.array([5000, 2000, 3000])
    shares = (p / 10_000, q / 10_000)
    expected = sum((after - before) * math.log(after / before) for before, after in zip(*shares, strict=True))
    assert psi(p, q) == pytest.approx(expected, rel=1e-3)


def test_total_variation_is_the_share_of_rows_that_moved():
    assert total_variation([4000, 3000, 3000, 0], [500, 200, 200, 100]) == pytest.approx(0.2)
    assert total_variation([4, 6], [40, 60]) == 0.0
    assert total_variation([4, 0], [0, 9]) == 1.0
    assert math.isnan(float(total_variation([0, 0], [0, 9])))


def test_small_changes_make_psi_about_five_and_a_half_times_the_divergence():
    p, q = np.array([10_000, 10_000, 10_000]), np.array([10_400, 9_800, 9_800])
    assert psi(p, q) / jensen_shannon(p, q) == pytest.approx(8 * math.log(2), rel=0.01)


@settings(deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=15))
def test_both_metrics_are_symmetric_not_negative_and_zero_for_equal_counts(counts):
    p, q = np.array(counts).T
    if p.sum() and q.sum():
        assert psi(p, q) == pytest.approx(psi(q, p))
        assert psi(p, q) >= -1e-12
        assert psi(p, p) == 0
        assert 0 <= jensen_shannon(p, q) <= 1
        assert jensen_shannon(p, q) == pytest.approx(jensen_shannon(q, p))
        assert jensen_shannon(p, p) == pytest.approx(0, abs=1e-12)


MOVED = [
    # before, after → PSI between, divergence between
    (NORMAL, RNG.normal(size=5000), (0, 0.02), (0, 0.004)),  # another sample of the same
    (NORMAL, RNG.normal(size=200), (0, 0.2), (0, 0.03)),  # a small one
    (NORMAL, NORMAL + 0.5, (0.2, 0.35), (0.03, 0.08)),
    (NORMAL, NORMAL + 50, (5, 30), (0.99, 1)),  # a new range
    (NORMAL, -NORMAL - 50, (5, 30), (0.99, 1)),
    (NORMAL, np.full(100, NAN), (5, 30), (0.99, 1)),  # went missing
    (NORMAL, np.where(np.arange(5000) % 4 == 0, NAN, NORMAL[:, 0]), (1, 3), (0.1, 0.2)),
    (NORMAL, np.full(100, INF), (5, 30), (0.99, 1)),
    (np.zeros(100), np.zeros(7), (0, 0), (0, 0)),  # constant
    (np.zeros(100), np.ones(100), (5, 30), (1, 1)),  # another constant
    (np.zeros(100), np.full(100, 5e-324), (5, 30), (1, 1)),  # next to it
    (np.full(50, NAN), np.full(5, NAN), (0, 0), (0, 0)),  # never there
    (np.full(50, NAN), NORMAL, (5, 30), (1, 1)),  # appeared
    (np.full(50, INF), np.full(5, INF), (0, 0), (0, 0)),
    ([1.0], [1.0], (0, 0), (0, 0)),  # one row
    ([1.0], [2.0], (0.5, 3), (1, 1)),
    (np.tile([1, 2, 3], 1000), np.tile([1, 2, 3], 50), (0, 1e-9), (0, 1e-9)),  # few values
    (np.tile([1, 3], 1000), np.tile([1, 2, 3], 500), (1, 5), (0.1, 0.4)),  # one of them new, in between
    (np.repeat([0, 1], [9000, 1000]), np.repeat([0, 1], [500, 500]), (0.5, 1), (0.1, 0.2)),
    (np.full(9, -np.finfo(float).max), np.full(9, np.finfo(float).max), (3, 30), (1, 1)),
]


@pytest.mark.parametrize(("before", "after", "psi_between", "js_between"), MOVED)
def test_drift_is_as_large_as_the_change(before, after, psi_between, js_between):
    stability, divergence = drift(before, after)
    assert psi_between[0] - 1e-12 <= stability <= psi_between[1] + 1e-12
    assert js_between[0] - 1e-12 <= divergence <= js_between[1] + 1e-12


DEGENERATE = [
    # before, after → what is said of the metrics that have no value
    ([], [1.0], {"the reference has no rows"}),
    ([1.0], [], {"the current sample has no rows"}),
    ([], [], {"the reference has no rows"}),
    ([1.0], [2.0], {"the reference is constant: there is no spread to measure a distance in"}),  # one row
    (np.ones(50), np.ones(9), {"the reference is constant: there is no spread to measure a distance in"}),
    (np.ones(50), NORMAL, {"the reference is constant: there is no spread to measure a distance in"}),
    (NORMAL, np.ones(50), set()),  # became constant
    (np.full(50, NAN), NORMAL, {"every value of the reference is missing"}),
    (np.full(50, NAN), np.full(9, NAN), {"every value of the reference is missing"}),
    (NORMAL, np.full(9, NAN), {"every value is missing"}),
    (NORMAL, np.full(9, INF), {"there are infinite values, which are infinitely far away: see out_of_range"}),
    (np.full(50, -INF), [1.0], {"the reference is constant: there is no spread to measure a distance in"}),
    (
        np.append(NORMAL, INF),
        NORMAL,
        {"there are infinite values, which are infinitely far away: see out_of_range"},
    ),
    (np.tile([0.0, 1.0], 50), np.zeros(9), set()),  # one class only
    (
        np.repeat([0.0, 1.0], [1, 2]),
        [8.5e307],  # finite, but more standard deviations away than a float can hold
        {"there are infinite values, which are infinitely far away: see out_of_range"},
    ),
]


@pytest.mark.parametrize(("before", "after", "said"), DEGENERATE)
@pytest.mark.parametrize("categorical", [False, True])
def test_whatever_is_in_a_window_each_metric_has_a_value_or_says_why_not(before, after, said, categorical):
    before, after = (np.asarray(column, dtype=float).reshape(-1, 1) for column in (before, after))
    reference = ReferenceHistograms.fit(before, ["x"], ["x"] if categorical else [])
    found = compare(reference, after, ALL)
    applicable = [name for name in ALL if COLUMN_METRICS[name].applies_to(reference.histograms[0])]
    assert [one.metric for one in found] == applicable
    for one in found:
        assert math.isfinite(one.value) or one.suppressed_because
        assert (one.n_reference, one.n_current) == (len(before), len(after))
    if not categorical:
        assert {one.suppressed_because for one in found if one.suppressed_because} == said


def test_a_new_category_is_unseen_and_nothing_else_is():
    reference = ReferenceHistograms.fit(np.repeat([1.0, 2.0, NAN], [70, 25, 5]).reshape(-1, 1), ["c"], ["c"])
    current = np.repeat([1.0, 3.0], [90, 10]).reshape(-1, 1)
    found = {one.metric: one for one in compare(reference, current, ALL)}
    assert found["unseen"].value == pytest.approx(0.1)
    assert found["unseen"].before == 0
    assert found["missing"].value == 0
    assert found["missing"].before == pytest.approx(0.05)


odd_floats = st.one_of(st.floats(), st.sampled_from([NAN, INF, -INF, 0.0, -0.0, 1.0]))
matrices = arrays(np.float64, st.tuples(st.integers(0, 40), st.just(3)), elements=odd_floats)


@settings(deadline=None, derandomize=True)
@given(matrices, matrices)
def test_nothing_in_the_data_makes_a_comparison_fail(before, after):
    reference = ReferenceHistograms.fit(before, "abc", ["c"])
    for found in compare(reference, after, ALL):
        assert math.isfinite(found.value) or found.suppressed_because
    for sketch in reference.histograms:
        assert sketch.n == len(before)
        assert (np.diff(sketch.cuts) > 0).all()
    for found in compare(reference, before, ALL):
        assert found.suppressed_because or found.value <= 1e-9 or found.value == found.before


@settings(deadline=None, derandomize=True)
@given(
    arrays(
        np.float64, array_shapes(min_dims=1, max_dims=1, min_side=1, max_side=200), elements=st.floats(-9, 9)
    )
)
def test_every_value_of_the_reference_falls_between_its_outer_bins(column):
    counts = ColumnHistogram.numeric(column).binned.counts
    assert counts[0] == counts[-2] == counts[-1] == 0
    assert counts.sum() == len(column)


def test_deciles_hold_a_tenth_each():
    sketch = ColumnHistogram.numeric(NORMAL[:, 0])
    assert sketch.coarse(sketch.binned.counts).tolist() == [0, *[500] * 10, 0, 0]
    assert sketch.binned.counts.tolist() == [0, *[25] * FINE_BINS, 0, 0]


def test_a_value_repeated_through_several_deciles_is_one_bin():
    sketch = ColumnHistogram.numeric(np.concatenate((np.zeros(6000), np.abs(RNG.normal(size=4000)))))
    assert sketch.coarse(sketch.binned.counts).tolist() == [0, 6000, 1000, 1000, 1000, 1000, 0, 0]


def test_the_missing_share_is_known():
    histograms = ReferenceHistograms.fit([[1.0, NAN], [NAN, NAN]], ["x", "y"]).histograms
    assert [sketch.missing_share for sketch in histograms] == [0.5, 1.0]
    assert math.isnan(ReferenceHistograms.fit(np.empty((0, 1)), ["x"]).histograms[0].missing_share)


SAMPLES = [
    # before, after
    (RNG.normal(size=4000), RNG.normal(0.1, 1.1, size=3000)),
    (RNG.lognormal(size=4000), RNG.lognormal(0.05, size=700)),
    (RNG.poisson(3, size=4000).astype(float), RNG.poisson(4, size=500).astype(float)),  # few values: exact
    (RNG.normal(size=4000), RNG.normal(30, size=50)),  # a new range
    (np.repeat([0.0, 1.0], [900, 100]), np.repeat([0.0, 1.0], [60, 40])),
]


@pytest.mark.parametrize(("before", "after"), SAMPLES)
def test_distances_are_those_of_scipy(before, after):
    sketch = ColumnHistogram.numeric(before)
    current = sketch.count(after)
    expected = stats.ks_2samp(before, after, method="asymp")
    statistic = kolmogorov_smirnov(sketch.binned.counts, current.counts)
    assert expected.statistic - 1 / FINE_BINS - 1e-9 <= statistic <= expected.statistic + 1e-9
    assert ks_p_value(expected.statistic, len(before), len(after)) == pytest.approx(expected.pvalue, abs=0.02)
    distance = stats.wasserstein_distance(before, after) / before.std()
    assert wasserstein(sketch, sketch.binned, current) == pytest.approx(distance, rel=0.01, abs=0.006)


def test_chi_square_is_that_of_a_contingency_table():
    before, after = np.array([500, 300, 200, 0]), np.array([80, 90, 20, 10])
    table = stats.chi2_contingency([before, after], correction=False)
    assert chi_square(before, after) == pytest.approx(table.statistic)
    assert cramers_v(before, after) == pytest.approx(
        stats.contingency.association(np.stack((before, after)), method="cramer")
    )
    reference = ReferenceHistograms.fit(np.repeat(np.arange(4.0), before).reshape(-1, 1), ["c"], ["c"])
    found = compare(reference, np.repeat(np.arange(4.0), after).reshape(-1, 1), ALL)
    (told,) = [one for one in found if one.metric == "cramers_v"]
    assert told.p_value == pytest.approx(table.pvalue)
    assert told.detail == {"chi_square": pytest.approx(table.statistic), "degrees_of_freedom": 3}


def test_counts_of_two_windows_are_the_counts_of_both():
    reference = ReferenceHistograms.fit(np.column_stack((NORMAL[:, 0], np.round(NORMAL[:, 0]))), "ab", ["b"])
    first, second = RNG.normal(size=(70, 2)).round(1), RNG.normal(size=(30, 2)).round(1)
    together = reference.count(np.concatenate((first, second)))
    added = reference.count(first) + reference.count(second)
    assert (together.counts == added.counts).all()
    assert together.gaps == pytest.approx(added.gaps)


def test_cells_counted_at_once_are_those_counted_one_by_one():
    sketch, column = ColumnHistogram.numeric(NORMAL[:, 0]), RNG.normal(size=100)
    cell = np.arange(100) % 3
    each = sketch.count_each(column, cell, 3)
    for place in range(3):
        alone = sketch.count(column[cell == place])
        assert (each.counts[place] == alone.counts).all()
        assert each.gaps[place] == pytest.approx(alone.gaps)
    shapes = {
        one.metric: (one.value.shape, one.effect.shape)
        for one in column_drifts(sketch, sketch.binned, each, ALL)
    }
    assert set(shapes) >= {"psi", "jensen_shannon", "ks", "wasserstein", "missing", "out_of_range"}
    assert set(shapes.values()) == {((3,), (3,))}


def test_the_effect_of_a_share_counts_more_where_it_is_rare():
    assert SHARE.change(0.5, 0.55) == pytest.approx(0.05, rel=0.01)
    assert SHARE.change(0.0, 0.02) > 2 * SHARE.change(0.5, 0.52)
    assert to_share(to_angle(0.37)) == pytest.approx(0.37)


@pytest.mark.parametrize("n", [0, 1, 5, 3000])
def test_a_stored_reference_is_the_same(n):
    X = RNG.normal(size=(n, 4))
    X[:, 1] = np.round(X[:, 1])
    X[: n // 2, 2] = NAN
    reference = ReferenceHistograms.fit(X, "abcd", ["b"])
    again, _ = codec.unpack(ReferenceHistograms, codec.pack(reference))
    assert (again.names, len(again.histograms)) == (reference.names, 4)
    current = RNG.normal(size=(500, 4))
    told = [[repr(one) for one in compare(each, current, ALL)] for each in (again, reference)]
    assert told[0] == told[1]


def test_a_reference_without_features_is_stored_too():
    empty = ReferenceHistograms.fit(np.empty((5, 0)), [])
    assert codec.unpack(ReferenceHistograms, codec.pack(empty))[0] == empty


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole, one: replace(whole, names=("x", "y")),
        lambda whole, one: replace(whole, histograms=(replace(one, cuts=one.cuts[1:]),)),
        lambda whole, one: replace(whole, histograms=(replace(one, group=one.group[1:]),)),
        lambda whole, one: replace(whole, variants={"weekday": one.binned.counts[1:]}),
    ],
)
def test_a_reference_whose_parts_do_not_fit_is_refused(damage):
    whole = ReferenceHistograms.fit(NORMAL, ["x"])
    with pytest.raises(DetectorError, match="do not fit"):
        damage(whole, whole.histograms[0])


@pytest.mark.parametrize("X", [np.zeros((5, 2)), np.zeros(5), np.zeros((0, 0))])
def test_other_columns_than_the_references_are_refused(X):
    with pytest.raises(DetectorError, match="1 feature"):
        compare(ReferenceHistograms.fit(NORMAL, ["x"]), X, ALL)


def test_six_million_values_are_compared_in_a_moment():
    X = np.random.default_rng(0).random((200_000, 30))
    reference = ReferenceHistograms.fit(X[:60_000], [f"feature {i}" for i in range(30)])
    start = time.process_time()
    compare(reference, X, ALL)
    assert time.process_time() - start < 4  # about 0.6 s on a quiet machine
