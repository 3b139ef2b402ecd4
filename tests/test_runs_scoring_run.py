"""From files to flags, on both engines: the main job end to end, and that every way of running agrees."""

from datetime import date
from pathlib import Path

import numpy as np
import pytest

from detectors.model.artifact import seal
from detectors.registry import DETECTORS, detector_class
from pipeline.config.sections import OutlierSection
from pipeline.errors import NotReady
from pipeline.rendering.report_data import ReportData, total
from pipeline.runs.backfill import backfill
from pipeline.runs.scoring_run import run, train_once
from pipeline.schedule.run_context import Step, pending
from pipeline.scoring.model_cache import load_model, seal_of
from storage.database.database import Store
from storage.errors import Unknown
from storage.frames import DAY, HOUR
from storage.models import models
from storage.queries.choices import choice_page
from storage.queries.flags import FlagFilter, flag_page
from storage.queries.models import model_page
from storage.runs import ledger, scoring_queue
from tests.support.databases import Opener
from tests.support.payments import LABEL_HEADER, PAYMENT_HEADER, START, payments, write_csv
from tests.support.reviews import answer
from tests.support.sql import FLAGS, RUN_TABLES, SCORES, forget, query
from tests.support.worlds import FROM, NOW, SMALL, TO, backfill_live, load, load_both


def test_planted_fraud_is_flagged_with_reasons_and_the_strategy_moves_on(backfilled: Store) -> None:
    counted = ReportData.load(backfilled, SMALL, "live", FROM, TO, NOW).daily
    scored, frauds = total(counted, "n"), total(counted, "n", is_fraud=True)
    assert scored == query(backfilled, "SELECT COUNT(*) FROM scores")[0][0] > 1000
    assert total(counted, "n", is_fraud=True, flagged=True) > 0.6 * frauds > 0
    assert len(np.unique([row[1] for row in query(backfilled, SCORES)])) > 0.9 * scored
    strategies = [row["strategy"] for row in choice_page(backfilled, "live").rows]
    assert strategies[-1] == "outlier"
    assert strategies[0] in {"blend", "classification"}
    flag = flag_page(backfilled, "live", FlagFilter(), 1).rows[0]
    assert flag["reasons"]
    assert all(reason["text"] and reason["code"] for reason in flag["reasons"])
    of_the_calendar = "SELECT COUNT(*), SUM(CASE WHEN alarm THEN 1 ELSE 0 END) FROM drift_metrics WHERE feature LIKE 'week%'"
    assert query(backfilled, of_the_calendar)[0][0] > 0
    assert query(backfilled, of_the_calendar)[0][1] == 0


RANKING = [name for name, known in DETECTORS.items() if known.additive and not known.supervised]


@pytest.mark.parametrize("name", RANKING)
def test_every_outlier_detector_trains_scores_explains_and_is_stored(name: str, loaded: Store) -> None:
    config = SMALL.model_copy(update={"outlier": OutlierSection(detector=name)})
    backfill(loaded, config, start=FROM, end=FROM + 4 * DAY, as_of=NOW, policy="live", by="test")
    scores = [row[0] for row in query(loaded, "SELECT outlier_score FROM scores")]
    assert len(scores) > 200
    assert len(set(scores)) > 50  # rows in the same bins tie
    flags = flag_page(loaded, "live", FlagFilter()).rows
    assert flags
    assert all(reason["text"] and 0 <= reason["share"] <= 1 for flag in flags for reason in flag["reasons"])
    artifact = models.load_artifact(loaded, 1)
    model = load_model(loaded, config, 1)
    assert seal(model.to_bytes(), seal_of(config, 1)) == artifact
    members = model.detector.fitted().parts.outliers.members
    assert {type(member.detector) for member in members} == {detector_class(name)}
    assert len(members) > 5


@pytest.mark.one_engine
def test_a_backfill_in_pieces_writes_what_one_piece_writes(backfilled: Store) -> None:
    whole = query(backfilled, SCORES), query(backfilled, FLAGS)
    forget(backfilled, *RUN_TABLES)
    for start, end in [(0, 3), (3, 11), (11, 12), (12, 21)]:
        backfill_live(backfilled, FROM + start * DAY, FROM + end * DAY)
    assert (query(backfilled, SCORES), query(backfilled, FLAGS)) == whole


def test_scheduled_runs_write_what_a_backfill_writes(backfilled: Store) -> None:
    whole = query(backfilled, SCORES), query(backfilled, FLAGS)
    forget(backfilled, *RUN_TABLES, "backfilled_spans")
    scoring_queue.set_starts_at(backfilled, "live", FROM)
    for day in (1, 2, 5, 6, 14, 21):
        run(backfilled, SMALL, as_of=FROM + day * DAY + 2 * HOUR, policy="live", by="test")
    assert (query(backfilled, SCORES), query(backfilled, FLAGS)) == whole
    assert scoring_queue.queued(backfilled, "live", NOW, 0).transaction_id.size == 0


def test_work_that_begins_in_the_middle_of_a_week_is_scored_by_the_training_before_it(loaded: Store) -> None:
    scoring_queue.set_starts_at(loaded, "live", FROM + 3 * DAY)
    tally = run(loaded, SMALL, as_of=FROM + 5 * DAY + 2 * HOUR, policy="live", by="test")
    assert (tally.windows, tally.no_model) == (2, 0)
    assert tally.scored > 50
    assert [e.window_end for e in ledger.entries(loaded, "live", "train", status="done")] == [FROM]


@pytest.mark.one_engine
def test_a_training_that_knows_nothing_new_leaves_the_model_before_it(loaded: Store) -> None:
    long_after = TO + 32 * DAY
    scoring_queue.set_starts_at(loaded, "live", FROM + 3 * DAY)
    assert not run(loaded, SMALL, as_of=long_after, policy="live", by="test").failures
    trainings = ledger.entries(loaded, "live", "train", status="done")
    last = max(e.window_end for e in trainings if "model_id" in (e.counts or {}))
    assert TO <= last < TO + 7 * DAY
    after = [e for e in trainings if e.window_end > last]
    assert len(after) >= 3
    assert all(e.counts == {"nothing_new": 1} for e in after)
    assert ledger.unfinished(loaded, "live") == []

    backfill(loaded, SMALL, start=long_after, end=long_after + DAY, as_of=long_after, policy="b", by="test")
    alone = ledger.entries(loaded, "b", "train", status="done")
    assert [e.window_end for e in alone] == [last]  # the model that the schedule would have had by then


def test_a_backfill_that_is_repeated_changes_nothing(first_week: Store) -> None:
    before = (
        query(first_week, SCORES),
        query(first_week, FLAGS),
        query(first_week, "SELECT COUNT(*) FROM models"),
    )
    tally = backfill(first_week, SMALL, start=FROM, end=FROM + 7 * DAY, as_of=NOW, policy="live", by="test")
    assert tally.scored == 0
    assert (
        query(first_week, SCORES),
        query(first_week, FLAGS),
        query(first_week, "SELECT COUNT(*) FROM models"),
    ) == before


def test_what_comes_late_is_scored_by_the_next_run_with_the_model_of_its_time(
    tmp_path: Path, backfilled: Store
) -> None:
    late = write_csv(tmp_path / "late.csv", PAYMENT_HEADER, ["late1,2025-01-25T10:00:00Z,c1,m1,9999.00"])
    (report,) = load(backfilled, SMALL, "transactions", late, now=TO + DAY)
    assert not report.history
    tally = run(backfilled, SMALL, as_of=TO + 2 * DAY, policy="live", by="test")
    assert tally.late == 1
    (row,) = query(
        backfilled,
        "SELECT s.model_id, m.trained_at FROM scores s JOIN models m USING (model_id) WHERE transaction_id = 'late1'",
    )
    of_its_day = query(
        backfilled,
        "SELECT DISTINCT model_id FROM scores s JOIN transactions t USING (transaction_id) WHERE t.event_time >= '2025-01-25' AND t.event_time < '2025-01-26'",
    )
    assert [(row[0],)] == of_its_day


def test_a_verdict_closes_the_flag_becomes_a_label_and_is_audited(first_week: Store) -> None:
    flag = flag_page(first_week, "live", FlagFilter(status="open")).rows[0]
    name = flag["transaction_id"]
    assert answer(first_week, name, "fraud", NOW, note="called").after == "fraud"
    assert answer(first_week, name, "genuine", NOW).after == "genuine"
    assert query(
        first_week, f"SELECT COUNT(*) FROM labels WHERE transaction_id = '{name}' AND source = 'review'"
    ) == [(2,)]
    assert [row[0] for row in query(first_week, "SELECT actor FROM audit")] == ["ann", "ann"]
    with pytest.raises(Unknown, match="no transaction 'nobody'"):
        answer(first_week, "nobody", "fraud", NOW)


@pytest.mark.one_engine
def test_an_audit_sample_is_drawn_at_random_from_what_is_not_flagged(backfilled: Store) -> None:
    others = "SELECT transaction_id FROM flags WHERE channel <> 'audit' ORDER BY transaction_id"
    without = query(backfilled, others)
    forget(backfilled, *RUN_TABLES, "backfilled_spans")
    config = SMALL.model_copy(update={"alerts": SMALL.alerts.model_copy(update={"audit_per_day": 6})})
    backfill(backfilled, config, start=FROM, end=TO, as_of=NOW, policy="live", by="test")
    days = (TO - FROM) // DAY
    drawn = query(
        backfilled, "SELECT transaction_id, decision_value, threshold FROM scores WHERE channel = 'audit'"
    )
    assert 3.5 * days < len(drawn) < 8.5 * days
    assert all(value >= threshold for _, value, threshold in drawn)  # type: ignore[operator]
    assert query(backfilled, "SELECT COUNT(*) FROM flags WHERE channel = 'audit'") == [(len(drawn),)]
    assert query(backfilled, others) == without  # it takes nothing from the others
    flag = flag_page(backfilled, "live", FlagFilter(channel="audit")).rows[0]
    assert flag["reasons"][0]["text"] == "drawn at random, to see what flags miss"
    assert len(flag["reasons"]) > 1
    answer(backfilled, flag["transaction_id"], "genuine", NOW)
    assert query(backfilled, "SELECT source FROM labels WHERE \"by\" = 'ann'") == [("audit",)]


def test_a_chargeback_that_arrives_closes_the_flag(tmp_path: Path, backfilled: Store) -> None:
    name = flag_page(backfilled, "live", FlagFilter(status="open")).rows[0]["transaction_id"]
    labels = write_csv(tmp_path / "more.csv", LABEL_HEADER, [f"{name},1,2025-03-01T00:00:00Z,chargeback"])
    load(backfilled, SMALL, "labels", labels, now=START + 90 * DAY)
    assert query(backfilled, f"SELECT status, reviewer FROM flags WHERE transaction_id = '{name}'") == [
        ("fraud", "chargeback")
    ]


def test_a_cold_start_is_recorded_and_leaves_the_windows_without_a_model(
    tmp_path: Path, opener: Opener
) -> None:
    store = opener(SMALL)
    load_both(store, SMALL, tmp_path, *payments(3), now=TO)
    tally = backfill(
        store, SMALL, start=START + DAY, end=START + 3 * DAY, as_of=NOW, policy="live", by="test"
    )
    assert tally.scored == 0
    assert tally.no_model > 0
    (failed,) = ledger.entries(store, "live", kind="train")
    assert failed.status == "failed"
    assert "200 transactions" in str(failed.error)


def test_a_run_without_data_says_what_to_do(opener: Opener) -> None:
    with pytest.raises(NotReady, match="no transactions are stored yet: ingest transactions"):
        run(opener(SMALL), SMALL, as_of=NOW, policy="live", by="test")


def test_training_once_promotes_from_its_date_on(loaded: Store) -> None:
    train_once(loaded, SMALL, date=FROM, as_of=NOW, policy="live", by="test")
    assert [m["effective_from"].date() for m in model_page(loaded, "live").rows] == [date(2025, 1, 20)]


def test_rows_before_the_first_model_stay_queued_while_an_earlier_training_is_to_come(loaded: Store) -> None:
    scoring_queue.set_starts_at(loaded, "live", FROM - 14 * DAY)
    earlier = pending("live", Step("train", FROM - 7 * DAY, FROM - 7 * DAY), SMALL.schedule.allowed_lateness)
    ledger.ensure(loaded, [earlier])  # as a backfill of an earlier span does
    train_once(loaded, SMALL, date=FROM, as_of=NOW, policy="live", by="test")
    queued = "SELECT COUNT(*) FROM scoring_queue"
    everything = query(loaded, queued)[0][0]
    train_once(loaded, SMALL, date=FROM - 7 * DAY, as_of=NOW, policy="live", by="test")
    assert 0 < query(loaded, queued)[0][0] < everything  # what no model will ever score is gone
