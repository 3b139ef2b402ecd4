"""The Handbook's protocol, beside a plain computation of it."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.handbook import card_precision_at_k


def handbook_card_precision(frame, k):
    """The published protocol, day by day in pandas."""
    found, daily = set(), []
    for _, day in frame.groupby("day"):
        left = day[~day["card"].isin(found)]
        cards = (
            left.groupby("card")[["score", "y"]].max().sort_values("score", ascending=False, kind="stable")
        )
        caught = cards.head(k)
        caught = caught[caught["y"] == 1]
        daily.append(len(caught) / k)
        found |= set(caught.index)
    return np.mean(daily)


@pytest.mark.parametrize("k", [1, 5, 100])
@pytest.mark.parametrize("seed", range(3))
def test_card_precision_follows_the_handbook(seed, k):
    rng = np.random.default_rng(seed)
    y = (rng.random(2000) < 0.1).astype(float)
    scores = np.round(rng.normal(size=2000) + y, 1)
    frame = pd.DataFrame(
        {"score": scores, "y": y, "card": rng.integers(0, 60, 2000), "day": rng.integers(0, 7, 2000)}
    )
    expected = handbook_card_precision(frame, k)
    assert card_precision_at_k(
        scores, y, frame["card"].to_numpy(), frame["day"].to_numpy(), k
    ) == pytest.approx(expected)
    named = frame["card"].map("card {:03}".format).to_numpy()
    assert card_precision_at_k(scores, y, named, frame["day"].to_numpy(), k) == pytest.approx(expected)


def test_a_card_once_found_takes_no_place_on_later_days():
    scores, card, day = np.array([0.9, 0.9, 0.5]), np.array(["a", "a", "b"]), np.array([1, 2, 2])
    assert card_precision_at_k(scores, np.ones(3), card, day, k=1) == 1.0  # a, then b
    assert (
        card_precision_at_k(scores, np.array([0.0, 1, 1]), card, day, k=1) == 0.5
    )  # a was not compromised yet


def test_card_precision_of_no_rows_is_undefined():
    none = np.empty(0)
    assert np.isnan(card_precision_at_k(none, none, none, none.astype(np.int64), k=1))
