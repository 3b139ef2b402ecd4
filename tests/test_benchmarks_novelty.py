"""The benchmark of unlabelled fraud judges what it says it does."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.novelty import DELAY, PER_DAY, SHARES, WEEK, Cards, Found, as_lived, history_of, verdicts
from storage.frames import DAY, MONEY, Coded, Transactions

TEST_WEEK = 20 * DAY


@pytest.fixture
def cards():
    """One payment a day for 30 days, of scenarios 0, 1, 2, 3, 0, 1, …"""
    time = np.arange(30) * DAY
    ids = np.array([f"t{n:02}" for n in range(30)], dtype=object)
    column = Coded(np.zeros(30, dtype=np.int32), np.array(["x"], dtype=object))
    rows = Transactions(ids, time, time, np.full(30, MONEY), {"customer_id": column, "terminal_id": column})
    return Cards(rows, np.arange(30) % 4)


def test_a_new_fraud_is_not_there_before_the_test_week(cards):
    lived = as_lived(cards, TEST_WEEK, 3, "new")
    of_unknown = lived.transactions.event_time[lived.scenario == 3]
    assert len(of_unknown)
    assert (of_unknown >= TEST_WEEK).all()
    assert {1, 2} <= set(lived.scenario[lived.transactions.event_time < TEST_WEEK])


def test_an_unlabelled_fraud_is_there_and_nothing_lies_behind_the_test_week(cards):
    lived = as_lived(cards, TEST_WEEK, 3, "unlabelled")
    assert (lived.scenario == cards.scenario[: 20 + WEEK]).all()


def test_the_unknown_scenario_has_no_label_and_the_others_have_theirs_late(cards):
    history = history_of(cards, 3)
    labelled = np.isin(cards.transactions.transaction_id, history.labels.transaction_id)
    assert (labelled == np.isin(cards.scenario, (1, 2))).all()
    times = cards.transactions.event_time[labelled]
    assert (history.labels.available_at == times + DELAY * DAY).all()


VERDICTS = [
    # scenario, frauds, recall of the unknown without and with the share, loss → results
    (1, 30, 0.5, 0.95, 0.0, ["met", "met"]),
    (1, 30, 0.5, 0.89, 0.0, ["MISSED", "met"]),
    (1, 30, 0.5, 0.95, 0.02, ["met", "MISSED"]),
    (3, 700, 0.1, 0.2, 0.0, ["out of reach", "met"]),  # 70 flags find a tenth at most
    (2, 300, 0.0, 0.0, 0.0, ["met"]),  # no bar
]


@pytest.mark.parametrize(("scenario", "frauds", "without", "with_share", "lost", "results"), VERDICTS)
def test_bars_are_held_against_the_shipped_share(scenario, frauds, without, with_share, lost, results):
    def row(share):
        unknown, known = (without, 0.8) if share == 0 else (with_share, 0.8 - lost)
        return Found("new", scenario, 0, share, "threshold", unknown, known, PER_DAY, frauds)

    rows = [row(share) for share in SHARES]
    assert [bar["result"] for bar in verdicts(rows)] == results
    in_full = [
        replace(one, way="budget", unknown=1.0, known=0.9) for one in rows
    ]  # each way is held against them
    both = list(verdicts(rows + in_full))
    assert [bar["result"] for bar in both] == results + ["met"] * len(results)
    assert {bar["way"] for bar in both} == {"threshold", "budget"}
