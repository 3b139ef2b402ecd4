"""From scores and labels to measured quality, on both engines: when, with what knowledge, and that every way of running agrees."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import bindparam, event, text

from pipeline.config.config import Config
from pipeline.config.database import open_configured
from pipeline.monitoring.quality import refresh
from pipeline.monitoring.quality_text import side_by_side
from pipeline.monitoring.realised_quality import ALARMING
from pipeline.rendering.report_data import ReportData, total
from pipeline.runs.backfill import backfill
from pipeline.runs.scoring_run import run
from pipeline.runs.steps import LedgerRunner, UnscoredIds
from pipeline.schedule.run_context import start_run
from pipeline.services.monitoring.quality import QualityRefresh, refresh_quality
from pipeline.services.monitoring.reports import ReportRequest, render_summary
from pipeline.services.session import Session
from storage.database.column_types import Instant, as_datetime, as_micros
from storage.database.database import Store
from storage.errors import Unknown
from storage.frames import DAY, HOUR
from storage.monitoring import quality_metrics
from storage.monitoring.quality_metrics import QualityMetric
from storage.queries.choices import choice_page
from storage.queries.flags import FlagFilter, flag_page
from storage.queries.monitoring import QualityFilter, quality_page, validate_metrics
from storage.review import verdicts
from storage.runs import ledger, scoring_queue
from tests.support.databases import Copier, World, with_url
from tests.support.payments import LABEL_HEADER, START, payments, write_csv
from tests.support.reviews import answer
from tests.support.sql import RUN_TABLES, forget, query
from tests.support.worlds import SMALL, load, load_both

DAYS = 47
FROM, TO = START + 19 * DAY, START + DAYS * DAY  # 2025-01-20, a Monday, and four weeks later
NOW = TO + 2 * HOUR
OUTLIER = SMALL.model_copy(
    update={"strategy": SMALL.strategy.model_copy(update={"method": "outlier"})}, deep=True
)
KNOWN = SMALL.model_copy(
    update={"strategy": SMALL.strategy.model_copy(update={"method": "classification"})}, deep=True
)
WEEK = 7 * DAY
ROWS = (
    "SELECT window_start, window_end, channel, metric, kind, value, lower, upper, alarm_below, alarm_above, n, alarm, message, as_of "
    "FROM quality_metrics WHERE policy = 'live' AND model_id = 0 ORDER BY 1, 2, 3, 4, 5"
)


def live(
    store: Store, start: int = FROM, end: int = TO, as_of: int = NOW, workers: int = 1, config: Config = KNOWN
) -> None:
    backfill(store, config, start=start, end=end, as_of=as_of, policy="live", by="test", workers=workers)


def rows(store: Store) -> list[tuple[object, ...]]:
    return query(store, ROWS)


def load_seven_weeks(store: Store, folder: Path) -> None:
    load_both(store, KNOWN, folder, *payments(DAYS), now=TO)


SEVEN_WEEKS = World("seven_weeks", KNOWN, load_seven_weeks)
SCORED = World("four_weeks_scored", KNOWN, lambda store, _: live(store), base=SEVEN_WEEKS)


@pytest.fixture
def loaded(copier: Copier) -> Store:
    """Seven weeks of payments and their labels, on each engine."""
    return copier(SEVEN_WEEKS)


@pytest.fixture
def backfilled(copier: Copier) -> Store:
    """The same, four weeks of them scored by a classification."""
    return copier(SCORED)


def week(store: Store, number: int, kind: str, by: str = "all") -> dict[str, dict[str, Any]]:
    start = FROM + number * WEEK
    wanted = QualityFilter(since=start, until=start + WEEK, kind=kind, by=by)
    return {row["channel"] + row["metric"]: row for row in quality_page(store, "live", wanted).rows}


@pytest.mark.one_engine
def test_a_week_is_estimated_when_it_ends_and_measured_once_it_is_mature(backfilled: Store) -> None:
    steps = ledger.entries(backfilled, "live", "quality")
    assert [(e.status, e.window_end - e.window_start) for e in steps] == [("done", WEEK)] * 4
    assert [e.counts["realised"] for e in steps if e.counts] == [0, 1, 1, 1]  # labels mature in five days
    came = week(backfilled, 1, "realised")
    counted = ReportData.load(backfilled, KNOWN, "live", FROM + WEEK, FROM + 2 * WEEK, NOW).daily
    assert came["caught"]["value"] == total(counted, "n", is_fraud=True, flagged=True)
    assert came["frauds"]["value"] == total(counted, "n", is_fraud=True)
    assert came["money_missed"]["value"] == pytest.approx(total(counted, "missed"))
    assert came["precision"]["lower"] < came["precision"]["value"] <= came["precision"]["upper"]
    assert came["precision"]["as_of"].date() == date(2025, 2, 10)
    assert "transactions" not in week(backfilled, 3, "realised")
    assert "transactions" in week(backfilled, 3, "estimated")


@pytest.mark.one_engine
def test_the_outlier_detector_is_not_estimated_and_says_why(loaded: Store) -> None:
    live(loaded, FROM, FROM + 2 * WEEK, config=OUTLIER)
    told = week(loaded, 0, "estimated")
    assert {row["strategy"] for row in choice_page(loaded, "live").rows} == {"outlier"}
    assert told["precision"]["value"] is None
    assert "no probability" in str(told["precision"]["message"])
    assert week(loaded, 0, "realised")["brier"]["value"] is None
    assert week(loaded, 0, "realised")["precision"]["value"] is not None


def test_probabilities_that_too_few_frauds_checked_give_no_estimate_and_no_alarm(backfilled: Store) -> None:
    """The four models were calibrated on 0, 10, 25 and 34 held-out frauds; nine that come together in one matured week count as one more."""
    found = [week(backfilled, number, "estimated") for number in range(4)]
    for name in (*ALARMING, "caught", "missed", "frauds"):
        assert [each[name]["value"] is None for each in found] == [True, True, False, False]
    why = "an estimate needs 20 frauds that probabilities could be checked on, and there are"
    assert [each["recall"]["message"] for each in found[:2]] == [f"{why} 0", f"{why} 11"]
    assert found[0]["expected_caught"]["value"] > 0
    came = week(backfilled, 0, "realised")
    assert came["recall"]["value"] is not None
    assert not any(came[name]["alarm"] for name in ALARMING)


@pytest.mark.one_engine
@pytest.mark.long
def test_schedule_pieces_and_workers_measure_what_one_backfill_measures(backfilled: Store, url: str) -> None:
    whole = rows(backfilled)
    assert len(whole) > 150
    everything = (*RUN_TABLES, "backfilled_spans", "quality_metrics")
    forget(backfilled, *everything)
    for start, end, workers in [(0, 3, 1), (3, 11, 2), (11, 28, 1)]:
        live(backfilled, FROM + start * DAY, FROM + end * DAY, workers=workers, config=with_url(KNOWN, url))
    assert rows(backfilled) == whole
    live(backfilled)
    assert rows(backfilled) == whole
    forget(backfilled, *everything)
    scoring_queue.set_starts_at(backfilled, "live", FROM)
    for day in (1, 6, 8, 21, 28):
        run(backfilled, KNOWN, as_of=FROM + day * DAY + 2 * HOUR, policy="live", by="test")
    assert rows(backfilled) == whole


def test_a_late_label_changes_the_week_it_speaks_of_and_no_other(backfilled: Store, tmp_path: Path) -> None:
    before = {number: week(backfilled, number, "realised") for number in (0, 1)}
    estimates = [row for row in rows(backfilled) if row[4] == "estimated"]
    with backfilled.read() as connection:
        missed = connection.execute(
            text(
                "SELECT s.transaction_id FROM scores s JOIN transactions t USING (transaction_id) "
                "LEFT JOIN current_labels c USING (transaction_id) "
                "WHERE NOT s.flagged AND c.is_fraud IS NULL AND t.event_time < :b ORDER BY 1 LIMIT 1"
            ).bindparams(bindparam("b", FROM + WEEK, type_=Instant))
        ).scalar_one()
    late = write_csv(tmp_path / "late.csv", LABEL_HEADER, [f"{missed},1,2025-02-18T00:00:00Z,chargeback"])
    load(backfilled, KNOWN, "labels", late, now=TO + 2 * DAY)
    refresh(backfilled, KNOWN, "live", TO + 3 * DAY, "test")
    after = {number: week(backfilled, number, "realised") for number in (0, 1)}
    assert after[0]["missed"]["value"] == before[0]["missed"]["value"] + 1
    assert after[1] == before[1]
    assert [row for row in rows(backfilled) if row[4] == "estimated"] == estimates
    done = refresh(backfilled, KNOWN, "live", TO + 3 * DAY, "test")
    assert done.realised == 0  # nothing new: nothing is measured again


@pytest.mark.one_engine
def test_what_was_measured_is_kept_by_a_backfill_of_an_older_span(loaded: Store) -> None:
    live(loaded, FROM + 2 * WEEK, TO)
    refresh(loaded, KNOWN, "live", TO + WEEK, "test")
    before = week(loaded, 2, "realised")
    live(loaded, FROM, FROM + 2 * WEEK)
    assert week(loaded, 2, "realised") == before
    assert "precision" in week(loaded, 0, "realised")
    assert "precision" in week(loaded, 1, "realised")  # it matured after the backfill's end


@pytest.mark.one_engine
def test_what_another_worker_measured_before_all_was_scored_is_measured_again(backfilled: Store) -> None:
    [entry] = ledger.entries(backfilled, "live", "quality", since=TO - 1)
    before = rows(backfilled)
    with backfilled.write() as connection:
        estimates = text(
            "UPDATE quality_metrics SET n = 1, value = 1 WHERE kind = 'estimated' AND window_end = :end"
        )
        connection.execute(estimates.bindparams(bindparam("end", TO, Instant())))
    read_before = replace(entry, status="pending", token=entry.token - 1)
    with start_run(backfilled, KNOWN, NOW, "live", "backfill", "test", None) as context:
        LedgerRunner(context, TO, None).process(read_before, UnscoredIds(context))
    assert rows(backfilled) == before


def test_channels_are_told_apart(backfilled: Store) -> None:
    found = week(backfilled, 1, "realised", by="channel")
    channels = {row["channel"] for row in found.values()}
    assert channels >= {"novelty"} or channels == {"outlier"}
    flags = sum(row["value"] for row in found.values() if row["metric"] == "flags")  # type: ignore[misc]
    assert flags == week(backfilled, 1, "realised")["flags"]["value"]


@pytest.mark.one_engine
def test_reviewers_are_counted_by_when_they_answered(loaded: Store) -> None:
    audited = KNOWN.model_copy(update={"alerts": KNOWN.alerts.model_copy(update={"audit_per_day": 2})})
    live(loaded, FROM, FROM + WEEK, as_of=FROM + WEEK + 2 * HOUR, config=audited)
    open_ = flag_page(loaded, "live", FlagFilter(status="open")).rows[:5]
    assert week(loaded, 0, "realised")["open_flags"]["value"] > 0
    answers = ("fraud", "genuine", "genuine", "no_opinion", "fraud")
    for flag, verdict in zip(open_, answers, strict=True):
        answer(loaded, flag["transaction_id"], verdict, FROM + 8 * DAY)
    answer(loaded, open_[1]["transaction_id"], "genuine", FROM + 9 * DAY)  # once more: it counts once
    retracted = verdicts.undo(loaded, "live", [open_[4]["transaction_id"]], "typo", "ann", FROM + 10 * DAY)
    assert [outcome.after for chunk in retracted for outcome in chunk] == ["open"]
    live(loaded, FROM + WEEK, FROM + 2 * WEEK, as_of=FROM + 2 * WEEK + 2 * HOUR, config=audited)
    found = week(loaded, 1, "realised")
    assert found["reviews"]["value"] == 4
    assert found["reviewed_precision"]["value"] == pytest.approx(1 / 3)  # of those with an opinion
    assert found["reviewed_precision"]["n"] == 3
    assert found["reviews_a_day"]["value"] == pytest.approx(4 / 7)
    waiting = set(quality_metrics.unanswered_flag_times(loaded, "live", FROM, FROM + 2 * WEEK).tolist())
    assert [as_micros(flag["event_time"]) in waiting for flag in open_] == [False] * 4 + [True]
    assert week(loaded, 0, "realised")["reviewed_precision"]["message"] == "no reviewer answered a flag"


def test_a_truth_beyond_what_was_estimated_is_an_alarm_that_says_so(backfilled: Store) -> None:
    window = (FROM, FROM + WEEK)
    said = QualityMetric(
        *window, "precision", "estimated", 0.999, 0.998, 1.0, n=10, alarm_below=0.997, alarm_above=1.0
    )
    mild = QualityMetric(
        *window, "recall", "estimated", 0.5, 0.0, 1.0, n=10, alarm_below=0.0, alarm_above=1.0
    )
    quality_metrics.write(
        backfilled, "live", None, FROM + WEEK, window, "estimated", [said, mild, _counted(window)]
    )
    forget_truth(backfilled, window)
    refresh(backfilled, KNOWN, "live", NOW, "test")
    (alarm,) = quality_page(backfilled, "live", QualityFilter(alarms=True)).rows
    assert alarm["metric"] == "precision"
    assert "below the estimate of 100 %" in alarm["message"]
    assert any("alarm: precision" in line.get("message", "") for line in side_by_side([alarm], "all", "EUR"))


def _counted(window: tuple[int, int]) -> QualityMetric:
    return QualityMetric(*window, "transactions", "estimated", 10.0, n=10)


def forget_truth(store: Store, window: tuple[int, int]) -> None:
    quality_metrics.write(store, "live", None, window[1], window, "realised", [])


def test_what_nobody_measured_is_refused_with_what_there_is(loaded: Store) -> None:
    live(loaded, FROM, FROM + WEEK)
    with pytest.raises(Unknown, match=r'"precison": there are .*precision'):
        validate_metrics(loaded, "live", ["precison"])
    with pytest.raises(Unknown, match='"other" has no scores: choose among live'):
        validate_metrics(loaded, "other")


@pytest.mark.one_engine
def test_a_week_without_scores_is_done_and_leaves_no_row(loaded: Store) -> None:
    scoring_queue.set_starts_at(loaded, "live", FROM + 3 * DAY)
    run(loaded, KNOWN, as_of=TO + 3 * WEEK, policy="live", by="test")
    last = ledger.entries(loaded, "live", "quality", status="done")[-1]
    assert last.window_end > TO + WEEK
    assert last.counts == {"transactions": 0, "realised": 0, "alarms": 0}
    assert week(loaded, 2, "realised")["precision"]["n"] is not None
    assert ledger.unfinished(loaded, "live") == []


# What has matured is measured by who asks for it


def session_of(store: Store, now: int = NOW) -> Session:
    return Session(store, KNOWN, "ann", clock=lambda: now)


def runs_of(store: Store) -> list[tuple[object, ...]]:
    return query(store, "SELECT run_id FROM runs")


def read_only(store: Store) -> None:
    """Let the store's connections read only, from now on."""
    setting = (
        "PRAGMA query_only = ON"
        if store.dialect == "sqlite"
        else "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"
    )

    def prepare(connection: Any, _record: Any) -> None:
        connection.execute(setting)
        if store.dialect != "sqlite":
            connection.commit()

    store.engine.dispose()
    event.listen(store.engine, "connect", prepare)


MATURE = TO + 6 * DAY  # the last week is mature, and no step has come since


@pytest.fixture
def matured(backfilled: Store, tmp_path: Path) -> Store:
    """The same once the labels of the last week are complete."""
    load(backfilled, KNOWN, "labels", write_csv(tmp_path / "none.csv", LABEL_HEADER, []), now=MATURE - HOUR)
    assert "precision" not in week(backfilled, 3, "realised")
    return backfilled


def test_what_matured_is_measured_once_by_whoever_reads_it(matured: Store) -> None:
    assert refresh_quality(session_of(matured, MATURE), "live").windows == 1
    assert "precision" in week(matured, 3, "realised")
    before = runs_of(matured)
    read_only(matured)  # nothing is due any more, so nothing is written
    assert refresh_quality(session_of(matured, MATURE), "live") == QualityRefresh(0, ())
    assert refresh_quality(session_of(matured, MATURE + DAY), "live") == QualityRefresh(0, ())
    assert runs_of(matured) == before


def test_a_report_measures_first_but_not_one_of_an_earlier_time(matured: Store) -> None:
    render_summary(session_of(matured, MATURE), ReportRequest(as_of=as_datetime(TO)))
    assert "precision" not in week(matured, 3, "realised")
    render_summary(session_of(matured, MATURE), ReportRequest())
    assert "precision" in week(matured, 3, "realised")


def test_who_may_only_read_gets_what_is_stored_and_why_it_is_not_newer(matured: Store) -> None:
    read_only(matured)
    refreshed = refresh_quality(session_of(matured, MATURE), "live")
    assert (refreshed.windows, refreshed.alarms) == (0, ())
    assert "is read-only: give this user write access to it" in refreshed.error
    assert "precision" in week(matured, 2, "realised")
    notes: list[str] = []
    render_summary(session_of(matured, MATURE), ReportRequest(), notes.append)
    assert notes == [f"what has matured since is not measured: {refreshed.error}"]
    render_summary(session_of(matured, MATURE), ReportRequest(as_of=as_datetime(TO)), notes.append)
    assert len(notes) == 1


def test_a_late_label_is_measured_once_and_not_at_every_reading(backfilled: Store, tmp_path: Path) -> None:
    refresh_quality(session_of(backfilled, TO + 3 * DAY), "live")
    (name,) = query(backfilled, "SELECT MIN(transaction_id) FROM scores WHERE NOT flagged")[0]
    late = write_csv(tmp_path / "late.csv", LABEL_HEADER, [f"{name},1,2025-02-20T00:00:00Z,chargeback"])
    load(backfilled, KNOWN, "labels", late, now=TO + 3 * DAY + HOUR)
    readings = [refresh_quality(session_of(backfilled, TO + 4 * DAY + n * HOUR), "live") for n in range(3)]
    assert [reading.windows for reading in readings] == [1, 0, 0]


@pytest.mark.one_engine
def test_reading_changes_no_later_estimate(backfilled: Store) -> None:
    whole = [row for row in rows(backfilled) if row[4] == "estimated"]
    forget(backfilled, *RUN_TABLES, "quality_metrics")
    live(backfilled, FROM, FROM + 3 * WEEK)
    assert refresh_quality(session_of(backfilled), "live").windows > 0
    live(backfilled, FROM + 3 * WEEK, TO)
    assert [row for row in rows(backfilled) if row[4] == "estimated"] == whole


def test_two_readers_at_once_measure_the_same(matured: Store, url: str) -> None:
    with ThreadPoolExecutor(2) as pool, open_configured(with_url(KNOWN, url)) as other:
        sessions = [session_of(store, MATURE) for store in (matured, other)]
        outcomes = list(pool.map(lambda session: refresh_quality(session, "live"), sessions))
    assert [outcome.error for outcome in outcomes] == ["", ""]
    measured = week(matured, 3, "realised")
    forget_truth(matured, (FROM + 3 * WEEK, TO))
    refresh_quality(session_of(matured, MATURE), "live")
    alone = week(matured, 3, "realised")
    assert {name: row["value"] for name, row in measured.items()} == {
        name: row["value"] for name, row in alone.items()
    }
