"""Payments that are scored while the caller waits: stored exactly once, and the same to the byte whenever they are looked at."""

import json
import threading
from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy import insert

from pipeline.errors import InputError
from pipeline.features import history as feature_history
from pipeline.runs.arrivals import ArrivalScorer, arrival_scorer
from pipeline.runs.backfill import backfill
from pipeline.runs.scoring_run import run
from pipeline.scoring.model_cache import ModelCache
from pipeline.services.runs.scoring import ScoreAnswer, ScoreRequest, UnknownField, score
from pipeline.services.session import Session
from storage.admin.undo import undo_batch
from storage.database import tables
from storage.database.column_types import as_datetime
from storage.database.database import Store
from storage.frames import DAY, HOUR, MINUTE, SECOND
from storage.ingest.arrivals import ArrivalBatch, add
from storage.runs import scoring_queue
from tests.support.commands import CONFIG, invoke
from tests.support.sql import query
from tests.support.worlds import FROM, SMALL, TO, load_arrivals
from tests.test_warm_history import chunk_of

NOON = TO + 12 * HOUR


def session(store: Store, now: int = NOON) -> Session:
    return Session(store, SMALL, "program", lambda: now)


def payment(name: str, time: int = NOON - HOUR, **others: object) -> dict[str, object]:
    known = {
        "customer_id": "c1",
        "terminal_id": "t1",
        "amount": 12.5,
        "event_time": as_datetime(time).isoformat(),
    }
    return {"transaction_id": name} | known | others


def stored(store: Store, *payments: dict[str, object], now: int = NOON) -> ScoreAnswer:
    with arrival_scorer(store, SMALL, now, "program") as scorer:
        return score(session(store, now), ScoreRequest(payments, store=True), scorer)


def looked_at(store: Store, *payments: dict[str, object], now: int = NOON) -> ScoreAnswer:
    return score(session(store, now), ScoreRequest(payments))


def counts(store: Store) -> list[tuple[int, ...]]:
    tables = ("transactions", "scores", "flags", "batches", "scoring_queue", "revisions", "runs")
    return [query(store, f"SELECT COUNT(*) FROM {table}")[0] for table in tables]


def test_a_dry_run_scores_and_writes_nothing(backfilled: Store) -> None:
    before = counts(backfilled)
    asked = payment("new-1", amount=9_000, customer_id="c2", terminal_id="m1"), payment("new-2", amount=20)
    large, small = looked_at(backfilled, *asked).payments
    assert large.status == small.status == "dry_run"
    assert large.flagged
    assert large.reasons
    assert large.score > small.score
    assert not small.flagged
    assert counts(backfilled) == before


def test_a_stored_payment_scores_as_in_a_dry_run_and_again_as_before(backfilled: Store) -> None:
    asked = payment("new-1", amount=9_000), payment("new-2", terminal_id="m5")
    dry = looked_at(backfilled, *asked).payments
    first = stored(backfilled, *asked).payments
    assert [each.status for each in first] == ["scored", "scored"]
    instants = {"arrived_at": None, "status": "dry_run"}
    assert [replace(each, **instants) for each in first] == [replace(each, **instants) for each in dry]
    again = stored(backfilled, *asked, now=NOON + DAY).payments
    assert [replace(each, status="scored") for each in again] == list(first)
    assert {each.status for each in again} == {"duplicate"}
    assert query(backfilled, "SELECT COUNT(*) FROM scores WHERE transaction_id LIKE 'new-%'") == [(2,)]
    assert query(backfilled, "SELECT COUNT(*) FROM flags WHERE transaction_id = 'new-1'") == [(1,)]


def test_the_past_is_the_same_to_the_byte_whatever_comes_later(backfilled: Store, tmp_path) -> None:
    """A payment that arrives later, but happened before it, is not in its features: not in a training, not in a rescore."""
    model_id = stored(backfilled, payment("new-1", amount=80)).payments[0].model_id
    before = query(backfilled, "SELECT score, outlier_score FROM scores WHERE transaction_id = 'new-1'")
    late = [f"late-{n},{as_datetime(NOON - (2 + n) * HOUR).isoformat()},c1,m7,70" for n in range(6)]
    header = "transaction_id,event_time,customer_id,terminal_id,amount"
    load_arrivals(backfilled, tmp_path, "transactions", header, late, NOON + SECOND)
    features = raw_of(backfilled, "new-1")
    span = {"start": TO, "end": TO + DAY, "as_of": TO + 2 * DAY}
    backfill(backfilled, SMALL, **span, policy="again", by="test", model_id=model_id)
    again = query(
        backfilled,
        "SELECT score, outlier_score FROM scores WHERE transaction_id = 'new-1' AND policy = 'again'",
    )
    assert again == before
    backfilled_late = "UPDATE transactions SET arrived_at = NULL, arrived_promotion = NULL"
    with backfilled.write() as connection:
        connection.exec_driver_sql(backfilled_late)
    assert not np.array_equal(features, raw_of(backfilled, "new-1"))  # it would have known them an hour later


def raw_of(store: Store, name: str) -> "np.ndarray":
    history = feature_history.load(store, SMALL, TO - SMALL.lookback, TO + 2 * DAY)
    rows = history.positions(np.array([name], dtype=object), TO - DAY, TO + 2 * DAY)
    return feature_history.raw_matrix(history, rows, feature_history.feature_catalogue(SMALL), SMALL)


def test_a_process_that_dies_after_storing_loses_nothing(backfilled: Store, monkeypatch) -> None:
    dry = looked_at(backfilled, payment("new-1", amount=9_000)).payments[0]

    def die(*_args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.runs.arrivals.score_history", die)
        with pytest.raises(KeyboardInterrupt):
            stored(backfilled, payment("new-1", amount=9_000))
    assert query(backfilled, "SELECT COUNT(*) FROM scores WHERE transaction_id = 'new-1'") == [(0,)]
    run(backfilled, SMALL, as_of=TO + DAY + 2 * HOUR, policy="live", by="test")
    after = query(backfilled, "SELECT score FROM scores WHERE transaction_id = 'new-1'")
    assert after == [(dry.score,)]


def test_a_training_that_is_due_but_unfinished_leaves_the_model_in_force(backfilled: Store) -> None:
    """The promotion of a training that ends later is not among those that a payment knew."""
    first = stored(backfilled, payment("new-1")).payments[0]
    with backfilled.write() as connection:
        connection.exec_driver_sql(
            "INSERT INTO promotions SELECT policy, seq + 1, effective_from, (SELECT MIN(model_id) FROM promotions), "
            "'test', 'test', promoted_at FROM promotions ORDER BY seq DESC LIMIT 1"
        )
    later = stored(backfilled, payment("new-2")).payments[0]
    assert later.model_id != first.model_id
    history = feature_history.load(backfilled, SMALL, TO, TO + DAY)
    models = ModelCache(backfilled, SMALL, "live").models_of(history.transactions)
    found = dict(zip(history.transactions.transaction_id, models.tolist(), strict=True))
    assert (found["new-1"], found["new-2"]) == (first.model_id, later.model_id)


def test_one_bad_payment_fails_no_other(backfilled: Store) -> None:
    answer = looked_at(
        backfilled,
        payment("new-1"),
        payment("new-2", amount="much"),
        payment("new-3", event_time=as_datetime(NOON + SECOND).isoformat()),
        payment("new-1", amount=3),
        payment("new-4", time=FROM - 30 * DAY),
        payment("new-5", customer_id=None, terminal_id=None),
    )
    assert [each.status for each in answer.payments] == ["dry_run", *["rejected"] * 5]
    errors = [each.error or "" for each in answer.payments]
    for error, part in zip(errors, ("", "amount", "ahead", "same id", "no model", "who paid"), strict=True):
        assert part in error
    assert [each.transaction_id for each in answer.payments] == [
        "new-1",
        "new-2",
        "new-3",
        "new-1",
        "new-4",
        "new-5",
    ]


def test_other_content_is_a_revision_and_changes_no_score(backfilled: Store) -> None:
    first = stored(backfilled, payment("new-1", amount=40)).payments[0]
    second = stored(backfilled, payment("new-1", amount=41)).payments[0]
    assert second.status == "revised"
    assert second.score == first.score
    assert query(backfilled, "SELECT transaction_id, revision FROM revisions") == [("new-1", 1)]
    assert stored(backfilled, payment("new-1", amount=41)).payments[0].status == "duplicate"


def test_nothing_can_be_scored_without_a_payment_a_column_or_with_too_many(backfilled: Store) -> None:
    for payments in ((), (payment("a"),) * 1_001):
        with pytest.raises(InputError, match="1 to 1,000"):
            looked_at(backfilled, *payments)
    with pytest.raises(InputError, match="amount"):
        looked_at(backfilled, {key: value for key, value in payment("a").items() if key != "amount"})


def test_an_old_history_is_called_stale(backfilled: Store) -> None:
    assert not looked_at(backfilled, payment("a"), now=NOON).is_stale
    assert looked_at(backfilled, payment("a", time=NOON), now=NOON + 5 * DAY).is_stale


def test_what_is_stored_on_arrival_does_not_make_history_fresh(backfilled: Store) -> None:
    now = NOON + 5 * DAY
    before = looked_at(backfilled, payment("a", time=now), now=now)
    with arrival_scorer(backfilled, SMALL, now, "program") as scorer:
        for name in ("new-1", "new-2"):
            answer = score(session(backfilled, now), ScoreRequest((payment(name, time=now),), True), scorer)
            assert (answer.is_stale, answer.history_through) == (True, before.history_through)
    assert before.is_stale
    assert looked_at(backfilled, payment("b", time=now), now=now).is_stale


def test_a_field_that_nobody_asked_for_is_named(backfilled: Store) -> None:
    answer = looked_at(backfilled, payment("a", custmer_id="c1"), payment("b", note="x"), payment("c", custmer_id="c2"))  # fmt: skip
    assert answer.unknown_fields == (UnknownField("custmer_id", "customer_id"), UnknownField("note", None))
    assert looked_at(backfilled, payment("a")).unknown_fields == ()


def test_values_that_are_no_text_and_card_numbers_are_refused(backfilled: Store) -> None:
    answer = stored(
        backfilled,
        payment("new-1", customer_id=["c1"]),
        payment("new-2", customer_id="4111 1111 1111 1111"),
        payment("new-3", terminal_id={"id": "m1"}),
        payment("new-4"),
        payment("new-5", amount="much"),
    )
    assert [each.status for each in answer.payments] == ["rejected", "rejected", "rejected", "scored", "rejected"]  # fmt: skip
    errors = [each.error or "" for each in answer.payments]
    for error, part in zip(errors, ("customer_id holds a list", "customer_id holds a card number", "terminal_id holds a list or an object", "", "amount"), strict=True):  # fmt: skip
        assert part in error
    assert [each.transaction_id for each in answer.payments] == [f"new-{n}" for n in range(1, 6)]


def test_rejected_payments_of_a_stored_score_are_kept_with_their_reasons(backfilled: Store) -> None:
    with arrival_scorer(backfilled, SMALL, NOON, "program") as scorer:
        for names in (("bad-1", "new-1"), ("bad-2",)):
            payments = [payment(name, amount="4111111111111111x" if "bad" in name else 3) for name in names]
            score(session(backfilled), ScoreRequest(payments, store=True), scorer)
    rows = query(
        backfilled,
        "SELECT row_number, row, reason FROM rejected_rows WHERE reason LIKE 'amount%' ORDER BY row_number",
    )
    assert [json.loads(row)["transaction_id"] for _, row, _ in rows] == ["bad-1", "bad-2"]
    assert "4111111111111111" not in str(rows)
    assert [number for number, *_ in rows] == [1, 3]
    sums = query(backfilled, "SELECT SUM(read), SUM(accepted), SUM(rejected) FROM batches WHERE on_arrival")
    assert sums == [(3, 1, 2)]
    looked_at(backfilled, payment("bad-3", amount="much"))
    assert len(query(backfilled, "SELECT 1 FROM rejected_rows WHERE reason LIKE 'amount%'")) == 2


def test_a_dry_run_says_that_an_id_is_stored(backfilled: Store) -> None:
    stored(backfilled, payment("new-1"))
    known, new = looked_at(backfilled, payment("new-1"), payment("new-2")).payments
    assert (known.status, new.status) == ("known", "dry_run")


def test_the_command_prints_all_that_the_api_answers(backfilled: Store, tmp_path) -> None:
    if backfilled.dialect != "sqlite":
        pytest.skip("the command opens a database of its own")
    (tmp_path / "config.toml").write_text(CONFIG, encoding="utf-8")
    large = json.dumps(payment("new-1", amount=9_000, time=TO - HOUR, colour="red"))
    (tmp_path / "payments.jsonl").write_text(f"{large}\n", encoding="utf-8")
    url = {"FRAUDWATCH_STORAGE__URL": str(backfilled.engine.url)}
    outcome = invoke(tmp_path, "score", "payments.jsonl", "--format", "json", **url)
    assert outcome.code == 0, outcome.err
    (row,) = json.loads(outcome.out)
    assert row["status"] == "dry_run"
    assert {"code", "text", "share"} <= row["reasons"][0].keys()
    assert row["model_id"]
    assert row["arrived_at"]
    assert 'no field is called "colour"' in outcome.err
    (tmp_path / "bad.jsonl").write_text('{"transaction_id": "a", "event_time": "x", "amount": 1}', encoding="utf-8")  # fmt: skip
    assert invoke(tmp_path, "score", "bad.jsonl", **url).code == 1


def test_payments_that_come_together_are_stored_once_and_each_caller_gets_its_own(backfilled: Store) -> None:
    answers: dict[int, ScoreAnswer] = {}
    with arrival_scorer(backfilled, SMALL, NOON, "program") as scorer:

        def call(number: int) -> None:
            asked = ScoreRequest((payment("same", amount=9_000), payment(f"own-{number}")), store=True)
            answers[number] = score(session(backfilled), asked, scorer)

        threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(answers) == 8
    assert sum(answer.payments[0].status == "scored" for answer in answers.values()) == 1
    assert {answer.payments[0].score for answer in answers.values()} == {answers[0].payments[0].score}
    assert all(answer.payments[1].transaction_id == f"own-{number}" for number, answer in answers.items())
    assert query(backfilled, "SELECT COUNT(*) FROM scores WHERE transaction_id LIKE 'own-%'") == [(8,)]
    assert query(backfilled, "SELECT COUNT(*) FROM flags WHERE transaction_id = 'same'") == [(1,)]
    sums = "SELECT SUM(read), SUM(accepted) FROM batches WHERE on_arrival"
    assert query(backfilled, sums) == [(9, 9)]


def test_a_window_that_was_scored_on_arrival_is_done_and_its_drift_measured(backfilled: Store) -> None:
    stored(backfilled, *[payment(f"new-{n}", time=NOON - n * SECOND) for n in range(30)])
    before = query(backfilled, "SELECT transaction_id, score FROM scores WHERE transaction_id LIKE 'new-%'")
    run(backfilled, SMALL, as_of=TO + DAY + 2 * HOUR, policy="live", by="test")
    after = query(backfilled, "SELECT transaction_id, score FROM scores WHERE transaction_id LIKE 'new-%'")
    assert after == before
    sql = "SELECT COUNT(*) FROM drift_metrics WHERE metric = 'payments' AND value >= 30"
    assert query(backfilled, sql)[0][0] >= 1


def test_a_scorer_without_a_run_stores_nothing(backfilled: Store) -> None:
    with pytest.raises(AssertionError, match="arrival_scorer"):
        score(
            session(backfilled), ScoreRequest((payment("a"),), store=True), ArrivalScorer(backfilled, SMALL)
        )


def test_an_id_that_is_being_loaded_is_not_called_known(backfilled: Store) -> None:
    """The ingest may fail, and then nothing is stored of it."""
    with backfilled.write() as connection:
        loading = insert(tables.batches).values(
            kind="transactions", source="x", status="loading", history=False, holder="x", started_at=NOON
        )
        (batch_id,) = connection.execute(loading).inserted_primary_key or ()
        row = {
            "transaction_id": "new-1",
            "event_time": NOON - HOUR,
            "amount": 3,
            "amount_base": 3,
            "batch_id": batch_id,
        }
        connection.execute(insert(backfilled.transactions).values(**row))
    first, second = stored(backfilled, payment("new-1"), payment("new-2")).payments
    assert (first.status, second.status) == ("rejected", "scored")
    assert "send it again" in (first.error or "")


def test_payments_of_one_batch_are_visible_and_due_each_from_its_own_arrival_on(backfilled: Store) -> None:
    batch = ArrivalBatch("live", "scored on arrival", "a test")
    rows = [chunk_of([f"new-{k}"], [NOON - MINUTE], ["c1"], ["t1"], 5.0) for k in (1, 2)]
    first = add(backfilled, batch, None, rows[0], NOON)
    second = add(backfilled, batch, first.batch_id, rows[1], NOON + MINUTE)
    assert second.batch_id == first.batch_id
    visible = query(
        backfilled, "SELECT transaction_id, ingested_at FROM visible_transactions WHERE transaction_id LIKE 'new-%'"
    )  # fmt: skip
    instants = {name: str(at)[:19] for name, at in visible}
    assert instants == {f"new-{k + 1}": f"{as_datetime(NOON + k * MINUTE):%Y-%m-%d %H:%M:%S}" for k in (0, 1)}

    def due(as_of: int) -> list[str]:
        ids = scoring_queue.queued(backfilled, "live", as_of, allowed_lateness=DAY).transaction_id
        return [name for name in ids.tolist() if name.startswith("new-")]

    # Nobody waits for late rows before a payment is scored on arrival.
    assert [due(NOON - 1), due(NOON), due(NOON + MINUTE)] == [[], ["new-1"], ["new-1", "new-2"]]


def test_payments_that_come_after_their_batch_was_undone_are_in_another(backfilled: Store) -> None:
    with arrival_scorer(backfilled, SMALL, NOON, "program") as scorer:
        score(session(backfilled), ScoreRequest((payment("new-1"),), store=True), scorer)
        (batch_id,) = query(backfilled, "SELECT MAX(batch_id) FROM batches")[0]
        undo_batch(backfilled, batch_id, "a test", "ann", NOON)
        (again,) = score(session(backfilled), ScoreRequest((payment("new-1"),), store=True), scorer).payments
    assert again.status == "scored"
    assert query(backfilled, "SELECT COUNT(*) FROM visible_transactions WHERE transaction_id = 'new-1'") == [
        (1,)
    ]
