"""Ranks of scores."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors import codec
from detectors.base import DetectorError
from detectors.inputs.ranks import RankScale


def scale_of(n=20_000, seed=0):
    return RankScale.fit(np.random.default_rng(seed).standard_normal(n))


def test_a_rank_is_the_share_of_training_rows_below():
    scores = np.random.default_rng(1).lognormal(size=20_000)
    ranks = RankScale.fit(scores).transform(scores)
    exact = (np.argsort(np.argsort(scores)) + 0.5) / len(scores)
    assert np.abs(ranks - exact).max() < 2e-3
    top = np.argsort(scores)[-200:]  # where flags are decided, ranks are exact
    np.testing.assert_allclose(ranks[top], exact[top], rtol=0, atol=1e-12)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=50, unique=True))
def test_a_higher_score_never_ranks_lower(scores):
    ordered = np.sort(np.array(scores))
    assert (np.diff(RankScale.fit(ordered[::2]).transform(ordered)) >= 0).all()


def test_distinct_scores_get_distinct_ranks():
    scores = np.sort(np.random.default_rng(2).standard_normal(5000))
    assert (np.diff(scale_of().transform(scores)) > 0).all()


def test_scores_beyond_the_training_still_rank_among_each_other():
    far = np.array([-1e8, -1e4, -100, -10, 0, 10, 100, 1e4, 1e8])
    ranks = scale_of().transform(far)
    assert (np.diff(ranks) > 0).all()
    assert ranks[0] > 0
    assert ranks[-1] < 1


@pytest.mark.parametrize("score", [-np.inf, -1e308, 1e308, np.inf])
def test_no_score_reaches_an_end_of_the_scale(score):
    assert 0 < scale_of().transform(score) < 1


def test_constant_scores_rank_in_the_middle():
    scale = RankScale.fit(np.full(100, 3.0))
    assert scale.transform([2.0, 3.0, 4.0]).tolist() == [0.25, 0.5, 0.75]


def test_a_weight_counts_like_so_many_rows():
    scores, weight = np.array([1.0, 2.0, 5.0]), np.array([1, 3, 2])
    probes = np.linspace(0, 7, 40)
    weighted = RankScale.fit(scores, weight).transform(probes)
    repeated = RankScale.fit(np.repeat(scores, weight)).transform(probes)
    assert np.argsort(weighted).tolist() == np.argsort(repeated).tolist()
    inside = (probes >= 1) & (probes <= 5)
    np.testing.assert_allclose(weighted[inside], repeated[inside], rtol=0, atol=1e-15)


def test_ranks_are_elementwise_and_survive_storage():
    scale = scale_of()
    scores = np.random.default_rng(4).standard_normal(1000) * 3
    ranks = scale.transform(scores)
    assert np.array([scale.transform([score])[0] for score in scores]).tobytes() == ranks.tobytes()
    again, _ = codec.unpack(RankScale, codec.pack(scale))
    assert again.transform(scores).tobytes() == ranks.tobytes()


@given(st.lists(st.floats(-1e100, 1e100), min_size=1, max_size=40), st.lists(st.floats(), max_size=40))
def test_ranks_are_those_of_the_plain_computation(learned, scores):
    scale, values = RankScale.fit(learned), np.array([*scores, *learned])
    knots, ranks, spread = scale.scores, scale.ranks, scale.spread
    above = np.clip(np.searchsorted(knots, values, side="right"), 1, max(len(knots) - 1, 1))
    low, high = knots[above - 1], knots[np.minimum(above, len(knots) - 1)]
    with np.errstate(all="ignore"):
        share = (np.clip(values, low, high) - low) / (high - low)
        inside = ranks[above - 1] + share * (ranks[np.minimum(above, len(knots) - 1)] - ranks[above - 1])
        inside = np.where(np.isnan(values), np.nan, inside if len(knots) > 1 else ranks[0])
        below = ranks[0] / (1.0 + (knots[0] - values) / spread)
        beyond = 1.0 - (1.0 - ranks[-1]) / (1.0 + (values - knots[-1]) / spread)
    plain = np.where(values < knots[0], below, np.where(values > knots[-1], beyond, inside))
    plain = np.clip(plain, np.nextafter(0.0, 1.0), np.nextafter(1.0, 0.0))
    np.testing.assert_array_equal(scale.transform(values), plain)


@pytest.mark.parametrize("scores", [[], [[1.0]], [1.0, np.nan], [np.inf]])
def test_impossible_scores_are_refused(scores):
    with pytest.raises(DetectorError, match="finite scores in one dimension"):
        RankScale.fit(scores)
