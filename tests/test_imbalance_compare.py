"""`compare` on arrays: in order of time whatever the order of the rows, and errors that name the argument."""

import numpy as np
import pandas as pd
import pytest

from detectors.base import DetectorError
from detectors.imbalance import backtest
from detectors.imbalance.compare import compare
from detectors.imbalance.results import FLAG_NOTHING, MOVED_THRESHOLD
from detectors.imbalance.techniques import FittedTechnique, Technique

DAYS = 40


def payments(n: int = 3000, seed: int = 1):  # type: ignore[no-untyped-def]
    """Features, labels, days and cards of payments; fraud is far out in the first column."""
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.04).astype(float)
    X = rng.normal(size=(n, 3))
    X[y == 1, 0] += 3.0
    X[::11, 1] = np.nan
    time = np.datetime64("2026-01-01", "us") + (np.sort(rng.random(n)) * DAYS * 86_400e6).astype(
        "timedelta64[us]"
    )
    return X, y, time, rng.integers(0, 500, n)


def reads_fraud(learned: list[tuple[int, int]]) -> Technique:
    """Ranks by the first column, and notes how many rows and frauds each fit knows."""

    def fit(training):  # type: ignore[no-untyped-def]
        learned.append((len(training.mature), training.frauds))
        return FittedTechnique(lambda rows: rows.X[:, 0] - 4.0)

    return Technique("first column", "test", fit)


@pytest.fixture
def learned(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    fits: list[tuple[int, int]] = []
    monkeypatch.setattr(backtest, "TECHNIQUES", (reads_fraud(fits),))
    return fits


def test_trainings_know_what_was_known_and_tests_come_after_them(learned) -> None:
    X, y, time, _ = payments()
    found = compare(X, y, time, label_time=time + np.timedelta64(5, "D"), folds=2)
    begin, end = time[0].astype(np.int64), time[-1].astype(np.int64) + 1
    assert [(fold.start, fold.end) for fold in found.folds] == [
        (int(begin + (end - begin) * at), int(begin + (end - begin) * (at + 0.25))) for at in (0.5, 0.75)
    ]
    for fold, fitted in zip(found.folds, learned[::2], strict=True):
        known = time.astype(np.int64) + 5 * 86_400_000_000 <= fold.start
        assert (fold.training_rows, fold.training_frauds) == fitted == (known.sum(), y[known].sum())
        tested = (time.astype(np.int64) >= fold.start) & (time.astype(np.int64) < fold.end)
        assert (fold.test_rows, fold.test_frauds) == (tested.sum(), y[tested].sum())


def test_the_order_of_the_rows_and_the_form_of_the_arguments_change_nothing(learned) -> None:
    X, y, time, card = payments()
    text = compare(X, y, time, entities=card).to_frame()
    mixed = np.random.default_rng(3).permutation(len(y))
    frame = pd.DataFrame(X, columns=["a", "b", "c"]).iloc[mixed]
    names = pd.Series(card).map("card {}".format).iloc[mixed]
    since = (time - np.datetime64("2026-01-01", "us")) / np.timedelta64(1, "s")
    for times in (
        pd.Series(time).iloc[mixed],
        pd.Series(time).dt.tz_localize("UTC").iloc[mixed],
        np.datetime_as_string(time[mixed]),
        since[mixed],  # days begin at midnight, as they do in the datetimes
    ):
        again = compare(frame, pd.Series(y).iloc[mixed], times, entities=names).to_frame()
        pd.testing.assert_frame_equal(again, text, check_exact=True)


def test_rows_without_a_label_are_neither_learned_nor_tested(learned) -> None:
    X, y, time, _ = payments()
    y[::3] = np.nan
    found = compare(X, y, time, folds=1)
    assert found.folds[0].test_rows + found.folds[0].training_rows == np.count_nonzero(~np.isnan(y))


def test_the_result_is_a_table_with_intervals_a_frame_and_a_sentence() -> None:
    X, y, time, card = payments()
    calls: list[tuple[str, int, int]] = []
    found = compare(
        X, y, time, entities=card, techniques=["no balancing", "HBOS"], folds=1, per_day=5, max_rows=900,
        progress=lambda *call: calls.append(call),
    )  # fmt: skip
    assert calls == [("no balancing", 1, 2), ("HBOS", 2, 2)]
    names = [result.technique for result in found.results]
    assert names[0] == FLAG_NOTHING
    assert set(names[1:]) == {
        MOVED_THRESHOLD,
        "no balancing, threshold 0.5",
        "no balancing, threshold 0.1",
        "HBOS",
    }
    assert found.folds[0].training_rows == 900
    frame = found.to_frame()
    assert list(frame.columns) == ["technique", "metric", "value", "lower", "upper"]
    moved = frame[frame["technique"] == MOVED_THRESHOLD].set_index("metric")
    assert {"ap", "f1", "mcc", "cost", "savings", "precision_at_k", "recall_0.5"} <= set(moved.index)
    assert moved.loc["ap", "lower"] < moved.loc["ap", "value"] < moved.loc["ap", "upper"]
    assert moved.loc["ap", "value"] > 0.3
    assert "seconds" not in moved.index  # detectors have no clock
    table = str(found).splitlines()
    assert table[0].split()[:3] == ["technique", "AP", "AP"]
    assert [line.split("  ")[0] for line in table[1:6]] == names
    assert "ranks best" in found.sentence
    assert found.sentence in table
    assert "k = 5 highest scores" in table[-1]


def test_a_missed_fraud_costs_the_given_ratio(learned) -> None:
    X, y, time, _ = payments()
    nothing = {
        ratio: compare(X, y, time, cost_ratio=ratio).results[0].evaluation.metrics["cost"].value
        for ratio in (10.0, 50.0)
    }
    assert nothing[50.0] == 5 * nothing[10.0] > 0


CASES = [
    # change of the arguments → what the error says
    ({"X": np.zeros(9)}, r"X must have the shape \(n_samples, n_features\), got \(9,\)"),
    ({"X": pd.DataFrame({"amount": [1.0], "shop": ["a"]})}, "X must hold numbers only, and these columns do not: shop"),
    ({"X": [["a"]]}, "X must hold numbers only: turn text"),
    ({"y": np.zeros(5)}, r"y has shape \(5,\), the 3,000 rows of X need \(3000,\)"),
    ({"y": np.full(3000, 2.0)}, "y must be 1 for fraud, 0 for genuine or NaN for unlabelled in every row, got 2 in row 0"),
    ({"y": ["fraud"] * 3000}, "y must be 1 for fraud"),
    ({"y": np.zeros(3000)}, r"y has too few frauds: .* the 3 test spans have 0, 0, 0, with 0, 0, 0 known before them"),
    ({"time": np.zeros(3000)}, "time is the same in every row"),
    ({"time": np.zeros(7)}, r"time has shape \(7,\)"),
    ({"time": np.where(np.arange(3000) == 4, np.nan, 1.0)}, "time is missing in row 4"),
    ({"time": np.array(["2026-01-01", "NaT"] * 1500, dtype="datetime64[s]")}, "time is missing in row 1"),
    ({"time": ["yesterday"] * 3000}, "time must be datetimes, or numbers of seconds"),
    ({"time": np.zeros(3000, dtype=bool)}, "time must be datetimes, or numbers of seconds, got bool"),
    ({"label_time": np.zeros(7)}, r"label_time has shape \(7,\)"),
    ({"entities": np.zeros(7)}, r"entities has shape \(7,\)"),
    ({"techniques": "magic"}, "no technique is called 'magic'"),
    ({"techniques": ["magic"]}, "no technique is called 'magic': choose among no balancing"),
    ({"folds": 0}, "folds, max_rows and per_day must be 1 or more, got 0, 60000 and None"),
    ({"cost_ratio": -1.0}, "costs must be finite and not negative"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), CASES)
def test_an_error_names_the_argument_and_what_is_wrong_with_it(change, message) -> None:
    X, y, time, card = payments()
    arguments = {"X": X, "y": y, "time": time, "entities": card, "techniques": ["HBOS"]} | change
    with pytest.raises(DetectorError, match=message):
        compare(**arguments)


def test_labels_that_come_too_late_for_a_training_are_missed_in_its_error() -> None:
    X, y, time, _ = payments()
    with pytest.raises(
        DetectorError, match=r"have \d+, with 0 known before them: pass more rows, or fewer folds"
    ):
        compare(X, y, time, label_time=time + np.timedelta64(30, "D"), folds=1)


def test_trainings_hold_the_newest_known_rows_and_no_later_or_known_fraud(monkeypatch) -> None:
    fits = []

    def fit(training):
        fits.append(training)
        return FittedTechnique(lambda rows: rows.X[:, 0] - 4.0)

    monkeypatch.setattr(backtest, "TECHNIQUES", (Technique("first column", "test", fit),))
    X, y, time, _ = payments()
    told = time + np.timedelta64(5, "D")
    told[::50] = time[0]  # a label may be known before its row, as of a card that is on a list
    found = compare(X, y, time, label_time=told, folds=2, max_rows=900)
    at = time.astype(np.int64)
    for fold, training, past in zip(found.folds, fits[::2], fits[1::2], strict=True):
        before = at < fold.start
        known = before & (told.astype(np.int64) <= fold.start)
        assert training.mature.time.tolist() == at[known][-900:].tolist()
        assert training.usual.time.tolist() == at[before & ~(known & (y == 1))].tolist()
        assert np.isnan(training.usual.y).all()
        assert past.mature.time.tolist() == at[known][-900:][:675].tolist()
        assert past.usual.time.max() < training.usual.time.max()
