"""The check-up: what it finds in databases at every stage, and the line that the command line makes of it."""

from datetime import UTC, datetime

import pytest

from pipeline.cli.doctor import result_line
from pipeline.services.doctor import CheckResult, ModelFacts, StepFacts, check
from pipeline.services.session import Session
from storage.admin.undo import undo_run
from storage.database.database import Store
from storage.frames import DAY
from tests.support.databases import Opener
from tests.support.sql import execute, query
from tests.support.worlds import NOW, SMALL, TO


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
