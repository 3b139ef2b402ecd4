"""The check-up: what it finds in databases at every stage, and the line that the command line makes of it."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.cli.data import ingest_lines
from pipeline.cli.monitoring.doctor import result_line
from pipeline.config.config import MODEL_KEY
from pipeline.services.data.ingest import IngestRequest, ingest
from pipeline.services.monitoring.doctor import CheckResult, EntityFacts, ModelFacts, StepFacts, check, repair
from pipeline.services.session import Session
from storage.admin.undo import undo_run
from storage.database.column_types import as_datetime
from storage.database.database import Store
from storage.frames import DAY
from storage.queries.status import labels_without_transaction
from storage.runs import runs, scoring_queue, workers
from tests.support.databases import Opener, with_url
from tests.support.payments import LABEL_HEADER, PAYMENT_HEADER, write_csv
from tests.support.sql import count, execute, query
from tests.support.worlds import FROM, NOW, SMALL, TO, load


def session_of(store: Store, now: int = NOW) -> Session:
    return Session(store, SMALL, "ann", clock=lambda: now)


def checked(store: Store, now: int = NOW) -> dict[str, CheckResult]:
    return {result.subject: result for result in check(session_of(store, now), "live")}


def test_an_empty_database_fails_by_what_is_missing(opener: Opener) -> None:
    results = checked(opener(SMALL))
    assert {subject: result.code for subject, result in results.items() if result.failed} == {
        "transactions": "none_stored", "model": "never_trained", "flags": "nothing_scored"
    }  # fmt: skip
    lines = [result_line(result) for result in results.values()]
    assert "✗ transactions: none stored: run fraudwatch ingest transactions FILE first" in lines
    assert (
        "✗ model: none (cold start); no training has run yet: fraudwatch run or fraudwatch backfill" in lines
    )


def test_a_monitor_at_work_passes(backfilled: Store) -> None:
    results = checked(backfilled)
    assert not any(result.failed for result in results.values())
    assert results["steps"].facts == StepFacts(windows_done=21, windows_open=0, others_open=0)
    assert results["newest_training"].code == "promoted"
    (newest,) = query(backfilled, "SELECT MAX(event_time) FROM transactions")[0]
    assert f"newest {str(newest)[:19]}" in result_line(results["transactions"])
    assert result_line(results["steps"]) == "✓ windows: 21 scored"


def test_payments_that_only_a_backfill_scores_are_named_with_the_command(first_week: Store) -> None:
    (scored_until,) = query(first_week, "SELECT MAX(window_end) FROM ledger WHERE kind = 'score'")[0]
    scoring_queue.set_starts_at(first_week, "live", FROM + 9 * DAY)
    assert "unscored" not in checked(first_week)  # what was loaded as history was left out on purpose
    execute(first_week, "UPDATE batches SET history = FALSE")
    (left_out,) = [result for result in check(session_of(first_week), "live") if result.subject == "unscored"]
    n = count(first_week, f"transactions WHERE event_time >= '{scored_until}'") - count(
        first_week, "scoring_queue"
    )
    assert result_line(left_out) == (
        f"✗ payments: {n} are not scored and will not be by themselves, because the newest backfill ends before the schedule "
        "begins: fraudwatch backfill --from 2025-01-27T00:00Z --to 2025-01-29T00:00Z"
    )
    execute(
        first_week,
        f"DELETE FROM scores WHERE transaction_id IN (SELECT transaction_id FROM transactions WHERE event_time >= '{as_datetime(FROM + 6 * DAY)}')",
    )
    execute(
        first_week,
        f"UPDATE ledger SET status = 'pending' WHERE kind = 'score' AND window_end = '{scored_until}'",
    )
    interrupted, _ = [
        result for result in check(session_of(first_week), "live") if result.subject == "unscored"
    ]
    assert result_line(interrupted).endswith(
        "because a backfill was interrupted: fraudwatch backfill --from 2025-01-26T00:00Z --to 2025-01-27T00:00Z"
    )
    with workers.hold(first_week, "ann") as worker:
        run_id = runs.begin_run(first_week, "live", "backfill", NOW, "", 0, worker)
        for mine, codes in ((False, ["interrupted", "left_out"]), (True, ["left_out"])):
            if mine:  # the backfill that is at work gets to it
                execute(first_week, f"UPDATE ledger SET run_id = {run_id} WHERE status = 'pending'")
            found = [each for each in check(session_of(first_week), "live") if each.subject == "unscored"]
            assert [each.code for each in found] == codes


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM cases",
        "UPDATE cases SET loss = loss + 1",
        "UPDATE case_counts SET flags = flags + 1",
        "UPDATE flags SET case_id = 'another' WHERE status = 'open'",
        "UPDATE flags SET status = 'fraud' WHERE status = 'open'",  # past the functions that write cases
    ],
)
def test_cases_that_are_not_those_of_the_flags_fail_until_they_are_repaired(
    first_week: Store, change: str
) -> None:
    assert checked(first_week)["cases"].code == "as_flags"
    execute(first_week, change)
    found = checked(first_week)["cases"]
    assert found.failed
    assert "fraudwatch doctor --repair" in result_line(found)
    repair(session_of(first_week))
    assert checked(first_week)["cases"].code == "as_flags"
    repair(session_of(first_week))  # changes nothing
    assert query(first_week, "SELECT action, subject FROM audit") == [("repair", "cases")]


def test_after_an_undo_it_says_that_trainings_were_withdrawn_and_counts_windows_apart_from_other_steps(
    first_week: Store,
) -> None:
    before = checked(first_week)
    undo_run(first_week, 1, "wrong costs", "ann", NOW)
    after = checked(first_week)
    assert before["model"].facts == ModelFacts(1, "outlier", training_error=None, withdrawn=0)
    assert after["model"].facts == ModelFacts(0, None, training_error=None, withdrawn=1)
    assert (after["model"].code, after["model"].failed) == ("withdrawn", True)
    assert "no training has run" not in result_line(after["model"])
    kinds = dict(query(first_week, "SELECT kind, COUNT(*) FROM open_gaps GROUP BY kind"))
    others = sum(kinds.values()) - kinds["score"]
    assert others > 0
    assert after["steps"].facts == StepFacts(0, windows_open=kinds["score"], others_open=others)
    assert result_line(after["steps"]) == (
        f"✗ windows: 0 scored, {kinds['score']} not done; {others} other steps not done (fraudwatch gaps)"
    )


@pytest.mark.parametrize(("kind", "code"), [("train", "training_failed"), ("score", "never_trained")])
def test_only_the_error_of_a_training_explains_that_there_is_no_model(
    first_week: Store, kind: str, code: str
) -> None:
    execute(
        first_week,
        "DELETE FROM promotions",
        f"UPDATE ledger SET status = 'failed', error = 'it broke' WHERE kind = '{kind}'",
    )
    model = checked(first_week)["model"]
    assert model.code == code
    assert ("it broke" in result_line(model)) == (kind == "train")


def test_a_clock_that_is_behind_the_data_fails(loaded: Store) -> None:
    results = checked(loaded, TO - 3 * DAY)
    assert (results["clock"].code, results["clock"].failed) == ("behind_data", True)
    assert results["clock"].facts.now == datetime(2025, 2, 7, tzinfo=UTC)
    assert "set the clock" in result_line(results["clock"])
    assert not checked(loaded)["clock"].failed


def test_labels_of_unknown_ids_and_a_value_that_holds_much_of_an_entity_are_named(
    opener: Opener, tmp_path: Path
) -> None:
    store = opener(SMALL)
    customers = ["nobody"] * 3 + ["c1", "c2", "", "c3", "c4"]
    rows = [f"p{n},2025-01-0{1 + n}T00:00:00Z,{name},m{n},5" for n, name in enumerate(customers)]
    load(store, SMALL, "transactions", write_csv(tmp_path / "p.csv", PAYMENT_HEADER, rows))
    labels = [f"{name},1,2025-01-20T00:00:00Z,chargeback" for name in ("p1", "P2", "p0003")]
    request = IngestRequest(
        "labels", (str(write_csv(tmp_path / "l.csv", LABEL_HEADER, labels)),), history=True
    )
    (report,) = ingest(session_of(store), request)
    assert report.without_transaction == 2
    assert "  2 of them are for ids that no transaction has" in "\n".join(ingest_lines(report))
    assert labels_without_transaction(store) == 2
    results = checked(store)
    assert "2 are for ids that no transaction has" in result_line(results["labels"])
    assert not results["labels"].failed
    assert results["entities"].facts == EntityFacts("customer_id", "nobody", 3 / 7)
    assert "'nobody' is the customer_id of 43 % of the newest transactions" in result_line(
        results["entities"]
    )


def test_labels_of_which_none_has_a_transaction_fail(opener: Opener, tmp_path: Path) -> None:
    store = opener(SMALL)
    payment = write_csv(tmp_path / "p.csv", PAYMENT_HEADER, ["p1,2025-01-01T00:00:00Z,c1,m1,5"])
    label = write_csv(tmp_path / "l.csv", LABEL_HEADER, ["P1,1,2025-01-20T00:00:00Z,chargeback"])
    load(store, SMALL, "transactions", payment)
    load(store, SMALL, "labels", label)
    assert checked(store)["labels"].failed


def test_a_shared_database_without_the_key_of_its_models_fails(loaded: Store) -> None:
    config = with_url(SMALL, "postgresql://ann@db/fraud")
    assert "model_key" not in {each.subject for each in check(Session(loaded, config, "ann"), "live")}
    config._secrets.pop(MODEL_KEY)
    session = Session(loaded, config, "ann", clock=lambda: NOW)
    (failed,) = [each for each in check(session, "live") if each.subject == "model_key"]
    assert failed.failed
    assert "set FRAUDWATCH_MODEL_KEY" in result_line(failed)
