"""Training rows are drawn by their ids."""

import numpy as np

from pipeline import hash_sampling

IDS = np.array([f"t{n}" for n in range(20_000)], dtype=object)


def test_a_draw_is_spread_evenly_and_keeps_to_the_limit() -> None:
    rows, weight = hash_sampling.sample_rows(hash_sampling.uniform(IDS), limit=5000)
    assert 4700 < len(rows) < 5300
    assert np.isclose(weight.sum(), len(IDS), rtol=0.06)
    assert np.all(np.diff(np.histogram(rows, bins=10)[0]) < 150)


def test_frauds_are_always_drawn_and_stand_for_themselves() -> None:
    frauds = np.zeros(len(IDS), dtype=bool)
    frauds[::1000] = True
    rows, weight = hash_sampling.sample_rows(hash_sampling.uniform(IDS), limit=1000, always=frauds)
    assert frauds[rows].sum() == 20
    assert set(weight[frauds[rows]]) == {1.0}
    assert np.isclose(weight.sum(), len(IDS), rtol=0.1)


def test_a_draw_belongs_to_the_id_not_to_its_place() -> None:
    reversed_draw = hash_sampling.uniform(IDS[::-1])[::-1]
    assert np.array_equal(hash_sampling.uniform(IDS), reversed_draw)


def test_a_small_sample_is_taken_whole() -> None:
    rows, weight = hash_sampling.sample_rows(hash_sampling.uniform(IDS[:50]), limit=1000)
    assert list(rows) == list(range(50))
    assert set(weight) == {1.0}
