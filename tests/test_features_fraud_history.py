"""What was ever known of an entity's frauds: read by the index of fraud labels, whatever part of the history is loaded."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import event

from pipeline.features import history as feature_history
from pipeline.features.fraud_history import FraudHistory, KnownFraudCounts
from storage.admin.undo import undo_batch
from storage.database.database import Store
from storage.frames import DAY, HOUR, Coded, Labels, Transactions
from storage.ingest.history import load_frauds
from tests.support.databases import Opener
from tests.support.payments import LABEL_HEADER, PAYMENT_HEADER, START, time_text, write_csv
from tests.support.sql import query
from tests.support.worlds import SMALL, load

CONFIG = SMALL.model_copy(update={"schema_": SMALL.schema_.model_copy(update={"kind": "kind"})}, deep=True)
ASKED = {"n060": 60, "n100": 100, "n200": 200}  # payments of c1 at m9 on these days


def fill(store: Store, folder: Path) -> None:
    """Frauds of customer c1 on the first days, one of them taken back, one a refund; labels arrive two days later."""
    days = {"f000": 0, "f010": 10, "back": 20, "g000": 1} | ASKED
    rows = [f"{name},{time_text(START + day * DAY)},c1,m9,10,payment" for name, day in days.items()]
    rows += [f"other,{time_text(START)},c2,m8,10,payment", f"r000,{time_text(START)},c1,m9,10,refund"]
    write_csv(folder / "p.csv", f"{PAYMENT_HEADER},kind", rows)
    load(store, CONFIG, "transactions", folder / "p.csv", now=START + 300 * DAY)
    told = [f"{name},1,{time_text(START + (days.get(name, 0) + 2) * DAY)},chargeback" for name in
            ("f000", "f010", "back", "other", "r000")]  # fmt: skip
    told += [
        f"g000,0,{time_text(START + 3 * DAY)},chargeback",
        f"back,0,{time_text(START + 30 * DAY)},chargeback",
    ]
    load(store, CONFIG, "labels", write_csv(folder / "l.csv", LABEL_HEADER, told), now=START + 300 * DAY)


def known(store: Store, *, by_entity: bool) -> dict[str, tuple[float, float]]:
    """Known frauds of the customer of each payment that is asked for, and days since the last; read from its own lookback on."""
    features, found = feature_history.feature_catalogue(CONFIG), {}
    names = [
        features.raw_names.index(f"customer_id_{name}") for name in ("known_frauds", "seconds_since_fraud")
    ]
    for name, day in ASKED.items():
        start, end = START + day * DAY - CONFIG.lookback, START + day * DAY + HOUR
        entities = {"customer_id": ["c1"], "transaction_id": [name]} if by_entity else None
        history = feature_history.load(store, CONFIG, start, end, entities)
        assert len(history) == 1
        frauds, seconds = feature_history.raw_matrix(history, np.arange(1), features, CONFIG)[0, names]
        found[name] = (frauds, seconds * 1e6 / DAY)
    return found


@pytest.mark.parametrize("by_entity", [True, False])
def test_frauds_before_the_lookback_are_known(opener: Opener, tmp_path: Path, by_entity: bool) -> None:
    store = opener(CONFIG)
    fill(store, tmp_path)
    # The span is 180 days; a refund and a label that was taken back are no frauds.
    assert known(store, by_entity=by_entity) == {"n060": (2, 50), "n100": (2, 90), "n200": (0, 180)}
    labels = query(store, "SELECT batch_id FROM batches WHERE kind = 'labels'")[0][0]
    undo_batch(store, labels, "mistake", "ana", START + 301 * DAY)
    assert known(store, by_entity=by_entity) == dict.fromkeys(ASKED, (0, 180))


@pytest.mark.one_engine  # Postgres reads a table of a few rows as a whole
def test_frauds_are_found_by_the_index_of_their_labels(opener: Opener) -> None:
    store, said = opener(CONFIG), []
    event.listen(store.engine, "before_cursor_execute", lambda *call: said.append(call[2:4]))
    load_frauds(store, START, START + DAY, START)
    plans = []
    with sqlite3.connect(str(store.engine.url.database)) as file:
        for statement, values in said:
            if "labels" in statement:
                plans.append(str(file.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()))
    assert len(plans) == 2
    assert all("labels_of_fraud" in plan and "SCAN" not in plan for plan in plans)


def test_deleted_rows_are_not_asked_for() -> None:
    kept = CONFIG.retention.model_copy(update={"transactions": 300 * DAY})
    short = CONFIG.model_copy(update={"retention": kept})
    assert CONFIG.fraud_span == CONFIG.training.span == 180 * DAY
    assert short.fraud_span == 300 * DAY - 180 * DAY - 7 * DAY


def frauds(time: list[int], ingested_at: list[int], known_at: list[int]) -> FraudHistory:
    n = len(time)
    ids, at = np.array([f"f{k}" for k in range(n)], dtype=object), np.array(known_at) * HOUR
    column = Coded(np.zeros(n, dtype=np.int32), np.array(["c"], dtype=object))
    happened = np.array(time) * HOUR
    payments = Transactions(
        ids, happened, np.array(ingested_at) * HOUR, np.ones(n, dtype=np.int64), {"c": column}
    )
    source = Coded(np.zeros(n, dtype=np.int32), np.array(["chargeback"], dtype=object))
    labels = Labels.from_answers(np.arange(n), ids, np.ones(n, dtype=bool), source, at, at)
    return FraudHistory.of(payments, labels, ())


def test_a_fraud_counts_once_it_is_known_and_visible_and_until_the_span_is_over() -> None:
    """Of three frauds the last is known first, and the second arrives long after its label."""
    made = frauds(time=[0, 1, 2], ingested_at=[0, 9, 2], known_at=[6, 4, 3])
    hours = np.arange(14) * HOUR
    ids = np.array([f"t{k}" for k in range(14)], dtype=object)
    column = Coded(np.zeros(14, dtype=np.int32), np.array(["c"], dtype=object))
    found = KnownFraudCounts(made, ids, hours, hours + HOUR, span=12 * HOUR).of_entity("c", column)
    assert found.count.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 3, 2, 1]
    assert (found.since_last // HOUR).tolist() == [12, 12, 12, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]


def test_the_last_known_fraud_is_the_newest_of_many_overlapping_ones() -> None:
    rng = np.random.default_rng(3)
    time = np.sort(rng.integers(0, 200, 90)).tolist()
    delay = rng.integers(0, 60, 90)
    made = frauds(time, time, (np.array(time) + delay).tolist())
    hours = np.arange(200)
    ids = np.array([f"t{k:03}" for k in range(200)], dtype=object)
    column = Coded(np.zeros(200, dtype=np.int32), np.array(["c"], dtype=object))
    found = KnownFraudCounts(made, ids, hours * HOUR, hours * HOUR, span=50 * HOUR).of_entity("c", column)
    for hour in hours:
        known = [t for t, late in zip(time, delay, strict=True) if t + late <= hour < t + 50 and t <= hour]
        assert found.count[hour] == len(known)
        assert found.since_last[hour] == (hour - max(known) if known else 50) * HOUR
