"""Where silence may mean genuine, by what was known at each instant: later versions, refunds and stops; both engines."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import insert

from pipeline.config.config import Config
from pipeline.features import history as feature_history
from pipeline.features.history import History
from storage.admin.undo import undo_batch
from storage.database import tables
from storage.database.database import Store
from storage.frames import DAY
from tests.support.databases import Opener
from tests.support.payments import PAYMENT_HEADER, START, time_text, write_csv
from tests.support.sql import query
from tests.support.worlds import SMALL, load

HEADER = f"{PAYMENT_HEADER},kind,original_id,status,currency"
DAYS = 12

# name, status and currency of a payment of 100, what became of it, and whether silence may speak from which day on.
# What became of it: (arrived on day, "version", status, amount), (arrived on day, "refund", id, amount, on day),
# (on day, "verdict", verdict, action).
CASES: list[tuple[str, str, str, list[tuple[object, ...]], dict[int, bool]]] = [
    ("approved", "approved", "EUR", [], {0: True}),
    ("declined", "declined", "EUR", [], {0: False}),
    # the newest version that is known decides
    ("pending then declined", "pending", "EUR", [(3, "version", "declined", 100)], {0: True, 3: False}),
    ("declined then approved", "declined", "EUR", [(3, "version", "approved", 100)], {0: False, 3: True}),
    (
        "pending approved blocked", "pending", "EUR",
        [(3, "version", "approved", 100), (6, "version", "blocked", 100)], {0: True, 6: False},
    ),
    # refunds
    ("refunded in full", "approved", "EUR", [(4, "refund", "r1", 100, 4)], {0: True, 4: False}),
    ("refunded in part", "approved", "EUR", [(4, "refund", "r2", 99.99, 4)], {0: True}),
    ("in two parts", "approved", "EUR", [(4, "refund", "r3", 40, 4), (7, "refund", "r4", -60, 7)], {0: True, 7: False}),
    ("a refund that arrived late", "approved", "EUR", [(8, "refund", "r5", 100, 4)], {0: True, 8: False}),
    ("what was settled is refunded", "approved", "EUR", [(2, "version", "approved", 60), (4, "refund", "r7", 60, 4)], {0: True, 4: False}),
    ("a refund that was corrected", "approved", "EUR", [(4, "refund", "r8", 100, 4), (6, "refund", "r8", 10, 4)], {0: True, 4: False, 6: True}),
    ("at another day's rate", "approved", "USD", [(4, "refund", "r9", 100, 4)], {0: True, 4: False}),  # 0.90, then 0.85
    ("in part in another currency", "approved", "USD", [(4, "refund", "r10", 50, 4)], {0: True}),
    # what people stopped
    ("blocked", "approved", "EUR", [(5, "verdict", "no_opinion", "blocked")], {0: True, 5: False}),
    ("refunded by a reviewer", "approved", "EUR", [(5, "verdict", "genuine", "refunded")], {0: True, 5: False}),
    ("called fraud", "approved", "EUR", [(5, "verdict", "fraud", "none")], {0: True, 5: False}),
    ("called genuine", "approved", "EUR", [(5, "verdict", "genuine", "contacted")], {0: True}),
    (
        "called fraud by mistake", "approved", "EUR",
        [(5, "verdict", "fraud", "none"), (7, "verdict", "retracted", "none")], {0: True, 5: False, 7: True},
    ),
    (
        "blocked by mistake", "approved", "EUR",
        [(5, "verdict", "fraud", "blocked"), (7, "verdict", "retracted", "none")], {0: True, 5: False, 7: True},
    ),
    (
        "called fraud again", "approved", "EUR",
        [(5, "verdict", "fraud", "none"), (7, "verdict", "retracted", "none"), (8, "verdict", "fraud", "none")],
        {0: True, 5: False, 7: True, 8: False},
    ),
]  # fmt: skip


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """With kinds, a status and rates of dollars that fall."""
    rates = tmp_path / "rates.csv"
    rates.write_text("date,currency,rate\n2025-01-01,USD,0.90\n2025-01-03,USD,0.85\n")
    own = {
        "kind": "kind", "original_id": "original_id", "categorical": ("status",), "currency": "currency",
        "rates": str(rates),
    }  # fmt: skip
    labels = SMALL.labels.model_copy(update={"never_by_silence": {"status": ("declined", "blocked")}})
    schema = SMALL.schema_.model_copy(update=own)
    return SMALL.model_copy(update={"schema_": schema, "labels": labels}, deep=True)


def row(name: str, at: int, amount: object, kind: str, original: str, status: str, currency: str) -> str:
    return f"{name},{time_text(at)},c1,m1,{amount},{kind},{original},{status},{currency}"


def fill(store: Store, config: Config, folder: Path) -> None:
    """Load the payments, and what became of them in the order in which it arrived."""
    arrivals: dict[int, list[str]] = defaultdict(list)
    verdicts = []
    for name, first, currency, changes, _ in CASES:
        arrivals[0].append(row(name, START, 100, "payment", "", first, currency))
        for day, what, *values in changes:
            assert isinstance(day, int)
            if what == "version":
                arrivals[day].append(row(name, START, values[1], "payment", "", str(values[0]), currency))
            elif what == "refund":
                at = START + int(str(values[2])) * DAY
                arrivals[day].append(row(str(values[0]), at, values[1], "refund", name, "approved", currency))
            else:
                verdict = dict(zip(("verdict", "action"), values, strict=True))
                verdicts.append({"transaction_id": name, "at": START + day * DAY, "by": "ana", **verdict})
    for day, rows in sorted(arrivals.items()):
        path = write_csv(folder / f"day{day}.csv", HEADER, rows)
        load(store, config, "transactions", path, now=START + day * DAY, history=False)
    with store.write() as connection:
        connection.execute(insert(tables.verdicts), sorted(verdicts, key=lambda verdict: verdict["at"]))


def loaded(store: Store, config: Config) -> History:
    return feature_history.load(store, config, START, START + DAY)


def by_name(history: History, silent: np.ndarray) -> dict[str, bool]:
    return dict(zip(history.transactions.transaction_id.tolist(), silent.tolist(), strict=True))


def test_silence_speaks_while_nothing_else_explains_it(
    opener: Opener, config: Config, tmp_path: Path
) -> None:
    store = opener(config)
    fill(store, config, tmp_path)
    history = loaded(store, config)
    for day in range(DAYS):
        expected = {
            name: [silent for at, silent in answers.items() if at <= day][-1]
            for name, _, _, _, answers in CASES
        }
        assert by_name(history, history.silence_at(START + day * DAY)) == expected, f"day {day}"
    # Features know the first version only, whatever came later.
    assert by_name(history, history.silence_ok) == {
        name: first != "declined" for name, first, _, _, _ in CASES
    }

    newest = query(store, "SELECT MAX(batch_id) FROM revisions")[0][0]
    undo_batch(store, newest, "mistake", "ana", START + 30 * DAY)
    again = loaded(store, config)
    assert by_name(again, again.silence_at(START + 11 * DAY))["pending approved blocked"]


def test_a_verdict_with_a_label_is_taken_back_with_it(opener: Opener, config: Config, tmp_path: Path) -> None:
    store = opener(config)
    rows = [row("t1", START, 10, "payment", "", "approved", "EUR")]
    load(store, config, "transactions", write_csv(tmp_path / "t.csv", HEADER, rows), now=START)
    for label_id, (day, says) in enumerate([(5, {"is_fraud": True}), (7, {"retracts": 1})], start=1):
        times = {"known_at": START + day * DAY, "recorded_at": START + day * DAY}
        label = {
            "label_id": label_id,
            "transaction_id": "t1",
            "source": "review",
            "by": "ana",
            **times,
            **says,
        }
        said = {
            "transaction_id": "t1",
            "at": START + day * DAY,
            "by": "ana",
            "action": "blocked",
            "label_id": label_id,
        }
        with store.write() as connection:
            connection.execute(insert(tables.labels), label)
            verdict = "fraud" if day == 5 else "retracted"
            connection.execute(insert(tables.verdicts), {**said, "verdict": verdict})
    history = loaded(store, config)
    silent = [bool(history.silence_at(START + day * DAY)[0]) for day in (4, 5, 6, 7, 9)]
    assert silent == [True, False, False, True, True]


def test_silence_is_by_the_first_version_where_nothing_came_later(
    opener: Opener, config: Config, tmp_path: Path
) -> None:
    store = opener(config)
    rows = [
        row(f"t{k}", START + k, 10, "payment", "", status, "EUR")
        for k, status in enumerate(("approved", "declined"))
    ]
    load(store, config, "transactions", write_csv(tmp_path / "t.csv", HEADER, rows), now=START)
    history = loaded(store, config)
    assert history.silence_at(START + DAY).tolist() == history.silence_ok.tolist() == [True, False]


def test_history_that_was_corrected_is_known_from_the_beginning(
    opener: Opener, config: Config, tmp_path: Path
) -> None:
    """As all rows of history: nobody knows when they came."""
    store = opener(config)
    for now, status in enumerate(("pending", "declined")):
        rows = [row("t1", START, 10, "payment", "", status, "EUR")]
        path = write_csv(tmp_path / f"{status}.csv", HEADER, rows)
        load(store, config, "transactions", path, now=START + now * DAY, history=True)
    assert loaded(store, config).silence_at(START).tolist() == [False]
