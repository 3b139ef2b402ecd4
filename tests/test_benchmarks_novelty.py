"""The benchmark of unlabelled fraud judges what it says it does."""

import numpy as np
import pytest

from benchmarks.novelty import (
    DELAY,
    PER_DAY,
    SHARES,
    WEEK,
    Cards,
    Found,
    as_lived,
    excesses,
    history_of,
    upper_half,
    verdicts,
)
from benchmarks.worlds import Fields
from storage.frames import DAY, MONEY, Coded, Transactions

TEST_WEEK = 20 * DAY


@pytest.fixture
def cards():
    """One payment a day for 30 days, of kinds 0, 1, 2, 3, 0, 1, …"""
    time = np.arange(30) * DAY
    ids = np.array([f"t{n:02}" for n in range(30)], dtype=object)
    column = Coded(np.zeros(30, dtype=np.int32), np.array(["x"], dtype=object))
    rows = Transactions(ids, time, time, np.full(30, MONEY), {"customer_id": column, "terminal_id": column})
    return Cards("handbook", rows, np.arange(30) % 4, Fields(("customer_id", "terminal_id")), TEST_WEEK)


def test_a_new_fraud_is_not_there_before_the_test_week(cards):
    lived = as_lived(cards, 3, "new")
    of_unknown = lived.transactions.event_time[lived.kind == 3]
    assert len(of_unknown)
    assert (of_unknown >= TEST_WEEK).all()
    assert {1, 2} <= set(lived.kind[lived.transactions.event_time < TEST_WEEK])


def test_an_unlabelled_fraud_is_there_and_nothing_lies_behind_the_test_week(cards):
    lived = as_lived(cards, 3, "unlabelled")
    assert (lived.kind == cards.kind[: 20 + WEEK]).all()


@pytest.mark.parametrize(("unknown", "known"), [(3, (1, 2)), (None, (1, 2, 3))])
def test_the_unknown_kind_has_no_label_and_the_others_have_theirs_late(cards, unknown, known):
    history = history_of(cards, unknown)
    labelled = np.isin(cards.transactions.transaction_id, history.labels.transaction_id)
    assert (labelled == np.isin(cards.kind, known)).all()
    times = cards.transactions.event_time[labelled]
    assert (history.labels.available_at == times + DELAY * DAY).all()


VERDICTS = [
    # kind, frauds, recall of the unknown without and with the share, loss → results
    ("1", 30, 0.5, 0.95, 0.0, ["met", "met"]),
    ("1", 30, 0.5, 0.89, 0.0, ["MISSED", "met"]),
    ("1", 30, 0.5, 0.95, 0.02, ["met", "MISSED"]),
    ("3", 700, 0.1, 0.2, 0.0, ["out of reach", "met"]),  # 70 flags find a tenth at most
    ("2", 300, 0.0, 0.0, 0.0, ["met"]),  # no bar
]


@pytest.mark.parametrize(("kind", "frauds", "without", "with_share", "lost", "results"), VERDICTS)
def test_bars_are_held_against_the_shipped_share(kind, frauds, without, with_share, lost, results):
    per_day = PER_DAY["handbook"]

    def row(share, way):
        unknown, known = (without, 0.8) if share == 0 else (with_share, 0.8 - lost)
        if way == "budget":
            unknown, known = 1.0, 0.9
        return Found("handbook", "new", kind, share, way, unknown, known, per_day, share * per_day, frauds)

    rows = [row(share, "threshold") for share in SHARES]
    assert [bar["result"] for bar in verdicts(rows)] == results
    both = list(verdicts(rows + [row(share, "budget") for share in SHARES]))  # each way is held against them
    assert [bar["result"] for bar in both] == results + ["met"] * len(results)


def test_the_share_of_novelty_is_that_of_all_weeks_together():
    weeks = [{"world": "w", "flags": 100, "novelty": 15}, {"world": "w", "flags": 100, "novelty": 9}]
    assert [bar["result"] for bar in excesses(weeks)] == ["met"]
    assert [bar["result"] for bar in excesses([*weeks, {"world": "w", "flags": 10, "novelty": 9}])] == [
        "MISSED"
    ]


def test_the_loss_in_the_upper_half_of_the_flags():
    loss = np.array([0.0, 30.0, 0.0, 10.0])
    assert upper_half(np.array([4.0, 3.0, 2.0, 1.0]), loss) == 30.0
    assert upper_half(np.array([1.0, 3.0, 2.0, 4.0]), loss) == 40.0
