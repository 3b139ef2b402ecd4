import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.spatial.distance import jensenshannon

from detectors.base import ArtefactError, DetectorError, State
from detectors.drift import Reference, compare, jensen_shannon, psi

RNG = np.random.default_rng(0)
NORMAL = RNG.normal(size=(5000, 1))
NAN, INF = float("nan"), float("inf")


def drift(before, after):
    """PSI and Jensen–Shannon of one column against another."""
    before, after = (np.asarray(column, dtype=float).reshape(-1, 1) for column in (before, after))
    return tuple(found.value for found in compare(Reference.fit(before, ["x"]), after))


@pytest.mark.parametrize("seed", range(5))
def test_jensen_shannon_is_the_square_of_scipys_distance_in_bits(seed):
    p, q = np.random.default_rng(seed).integers(0, 50, (2, 12))
    assert jensen_shannon(p, q) == pytest.approx(jensenshannon(p, q, base=2) ** 2)


def test_psi_is_the_sum_over_bins_up_to_its_added_row():
    p, q = np.array([4000, 3000, 3000]), np.array([5000, 2000, 3000])
    shares = (p / 10_000, q / 10_000)
    expected = sum((after - before) * math.log(after / before) for before, after in zip(*shares, strict=True))
    assert psi(p, q) == pytest.approx(expected, rel=1e-3)


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


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ([], [1.0], "the reference has no rows"),
        ([1.0], [], "the current sample has no rows"),
        ([], [], "the reference has no rows"),
    ],
)
def test_an_empty_sample_has_no_drift_and_says_why(before, after, why):
    reference = Reference.fit(np.array(before).reshape(-1, 1), ["x"])
    for found in compare(reference, np.array(after).reshape(-1, 1)):
        assert math.isnan(found.value)
        assert found.why == why
        assert (found.n_reference, found.n_current) == (len(before), len(after))


odd_floats = st.one_of(st.floats(), st.sampled_from([NAN, INF, -INF, 0.0, -0.0, 1.0]))
matrices = arrays(np.float64, st.tuples(st.integers(0, 40), st.just(3)), elements=odd_floats)


@settings(deadline=None, derandomize=True)
@given(matrices, matrices)
def test_nothing_in_the_data_makes_a_comparison_fail(before, after):
    reference = Reference.fit(before, "abc")
    for found in compare(reference, after):
        assert math.isfinite(found.value) == (found.why == "")
    for sketch in reference.sketches:
        assert sketch.n == len(before)
        assert len(sketch.counts) <= 43
        assert (np.diff(sketch.cuts) > 0).all()
    assert all(found.value <= 1e-9 for found in compare(reference, before) if not found.why)


@settings(deadline=None, derandomize=True)
@given(
    arrays(
        np.float64, array_shapes(min_dims=1, max_dims=1, min_side=1, max_side=200), elements=st.floats(-9, 9)
    )
)
def test_every_value_of_the_reference_falls_between_its_outer_bins(column):
    sketch = Reference.fit(column.reshape(-1, 1), ["x"]).sketches[0]
    assert sketch.counts[0] == sketch.counts[-2] == sketch.counts[-1] == 0
    assert sketch.counts.sum() == len(column)


def test_deciles_hold_a_tenth_each():
    sketch = Reference.fit(NORMAL, ["x"]).sketches[0]
    assert sketch.counts.tolist() == [0, *[500] * 10, 0, 0]


def test_a_value_repeated_through_several_deciles_is_one_bin():
    column = np.concatenate((np.zeros(6000), np.abs(RNG.normal(size=4000))))
    sketch = Reference.fit(column.reshape(-1, 1), ["x"]).sketches[0]
    assert sketch.counts.tolist() == [0, 6000, 1000, 1000, 1000, 1000, 0, 0]


def test_the_missing_share_is_known():
    sketches = Reference.fit([[1.0, NAN], [NAN, NAN]], ["x", "y"]).sketches
    assert [sketch.missing_share for sketch in sketches] == [0.5, 1.0]
    assert math.isnan(Reference.fit(np.empty((0, 1)), ["x"]).sketches[0].missing_share)


def test_features_are_compared_each_by_both_metrics_in_order():
    reference = Reference.fit(RNG.normal(size=(100, 2)), ["amount", "count"])
    found = compare(reference, RNG.normal(size=(50, 2)))
    assert [(one.index, one.feature, one.metric) for one in found] == [
        (0, "amount", "psi"),
        (0, "amount", "jensen_shannon"),
        (1, "count", "psi"),
        (1, "count", "jensen_shannon"),
    ]


def test_a_joined_reference_keeps_each_samples_size():
    features = Reference.fit(RNG.normal(size=(100, 2)), ["amount", "count"])
    both = features.joined(Reference.fit(RNG.random((30, 1)), ["score"]))
    current = RNG.normal(size=(50, 3))
    found = compare(both, current)
    assert [one.n_reference for one in found] == [100, 100, 100, 100, 30, 30]
    assert found[:4] == compare(features, current[:, :2])


@pytest.mark.parametrize("n", [0, 1, 5, 3000])
def test_a_stored_reference_is_the_same(n):
    X = RNG.normal(size=(n, 4))
    X[:, 1] = np.round(X[:, 1])
    X[: n // 2, 2] = NAN
    reference = Reference.fit(X, "abcd").joined(Reference.fit(X[:, :1], ["score"]))
    again = Reference.from_state(reference.state())
    current = RNG.normal(size=(500, 5))
    assert again.names == reference.names
    assert compare(again, current) == compare(reference, current) or n == 0
    assert all(array.dtype.kind in "fi" for array in reference.state().arrays.values())


def test_a_reference_without_features_is_stored_too():
    assert Reference.from_state(Reference.fit(np.empty((5, 0)), []).state()).names == ()


def test_a_damaged_reference_is_refused():
    state = Reference.fit(NORMAL, ["x"]).state()
    arrays = {**state.arrays, "cuts": state.arrays["cuts"][1:]}
    with pytest.raises(ArtefactError, match="do not fit"):
        Reference.from_state(State(state.meta, arrays))


@pytest.mark.parametrize("X", [np.zeros((5, 2)), np.zeros(5), np.zeros((0, 0))])
def test_other_columns_than_the_references_are_refused(X):
    with pytest.raises(DetectorError, match="1 feature"):
        compare(Reference.fit(NORMAL, ["x"]), X)


def test_chance_alone_stays_under_the_alarm_level_in_small_windows():
    reference = Reference.fit(RNG.normal(size=(20_000, 1)), ["x"])
    worst = max(compare(reference, RNG.normal(size=(200, 1)))[0].value for _ in range(500))
    assert worst < 0.25


def test_six_million_values_are_compared_in_a_moment():
    X = np.random.default_rng(0).random((200_000, 30))
    reference = Reference.fit(X[:60_000], [f"feature {i}" for i in range(30)])
    start = time.perf_counter()
    compare(reference, X)
    assert time.perf_counter() - start < 2  # about 0.2 s on a quiet machine
