"""Trainings, backfills, ticks and administration as every door sees them."""

from datetime import timedelta
from typing import Any

import pytest

from pipeline.cli.runs import summary_text
from pipeline.config.config import Config
from pipeline.errors import InputError
from pipeline.runs import scoring_run
from pipeline.schedule.run_context import RunSummary
from pipeline.services import admin
from pipeline.services.runs.backfill import BackfillRequest, backfill
from pipeline.services.runs.tick import ChallengerRun, RunFinished, TickEvent, TickRequest, run_tick
from pipeline.services.runs.training import TrainRequest, train
from pipeline.services.session import Session
from storage.database.column_types import as_datetime
from storage.database.database import Store
from storage.errors import Unreachable
from storage.frames import DAY, HOUR
from storage.runs import scoring_queue
from tests.support.databases import with_url
from tests.support.sql import count, query
from tests.support.worlds import FROM, NOW, SMALL, TO

SHADOW = {"cautious": {"strategy": {"method": "outlier"}}}
SHADOWED = Config.model_validate(
    SMALL.model_dump(by_alias=True, mode="json", exclude={"storage"}) | {"shadow": SHADOW}
)
START, END = as_datetime(FROM), as_datetime(FROM + 7 * DAY)


@pytest.fixture
def session(first_week: Store, url: str) -> Session:
    return Session(first_week, with_url(SHADOWED, url), "ana", lambda: NOW)


REFUSED = [
    (BackfillRequest(END, START), "empty_span"),
    (BackfillRequest(START, END, rescore_as="live"), "policy_is_live"),
    (BackfillRequest(START, END, rescore_as="cautious"), "policy_is_challenger"),
    (BackfillRequest(START, END, model_id=1), "model_without_rescore"),
]


@pytest.mark.parametrize(("request_", "code"), REFUSED)
def test_a_backfill_that_contradicts_itself_is_refused_before_anything_is_written(
    session: Session, request_: BackfillRequest, code: str
) -> None:
    runs = count(session.store, "runs")
    with pytest.raises(InputError) as caught:
        backfill(session, request_)
    assert caught.value.code == code
    assert count(session.store, "runs") == runs


def test_a_training_is_refused_for_the_future_and_for_nobody(session: Session) -> None:
    for request, code in (
        (TrainRequest(as_datetime(NOW) + timedelta(days=1)), "future_time"),
        (TrainRequest(challenger="brave"), "unknown_challenger"),
    ):
        with pytest.raises(InputError) as caught:
            train(session, request)
        assert caught.value.code == code


def test_a_repeated_backfill_says_that_nothing_was_left_to_score(session: Session) -> None:
    plain = Session(session.store, SMALL, "ana", session.clock)
    again = backfill(plain, BackfillRequest(START, END)).summary
    assert again.run_id
    assert again.scored == 0
    said = summary_text(again)
    assert f"run {again.run_id} found no transaction without a score" in said
    assert "nothing was due" not in said
    assert "nothing was due" in summary_text(RunSummary())


def test_a_run_that_flags_most_of_what_it_scored_says_so() -> None:
    said = {
        flagged: summary_text(RunSummary(run_id=1, windows=1, scored=3_008, flagged=flagged))
        for flagged in (3_004, 300)
    }
    assert "most of them were flagged" in said[3_004]
    assert "most of them" not in said[300]
    assert "most of them" not in summary_text(RunSummary(run_id=1, windows=1, scored=3, flagged=3))


def test_an_undo_of_a_run_counts_choices_and_promotions_and_repeating_it_tells_the_same(
    session: Session,
) -> None:
    store, request = session.store, admin.UndoRequest(1, "wrong costs")
    before = {
        table: count(store, table)
        for table in ("scores", "flags", "choices", "promotions", "promotion_checks")
    }
    assert before["choices"] > 0
    assert before["promotions"] > 0
    done = admin.undo_run(session, request)
    assert {table: done.counts.get(table, 0) for table in before} == before
    assert admin.undo_run(session, request) == done
    assert count(store, "withdrawals") == 1
    assert query(store, "SELECT COUNT(*) FROM audit WHERE action = 'undo'") == [(1,)]


@pytest.mark.one_engine
def test_a_tick_reports_each_part_and_isolates_challengers(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = scoring_run.run

    def broken(*given: Any, policy: str, **named: Any) -> RunSummary:
        if policy != "live":
            raise ZeroDivisionError
        return run(*given, policy=policy, **named)

    monkeypatch.setattr(scoring_run, "run", broken)
    scoring_queue.set_starts_at(session.store, "live", TO - 2 * DAY)
    events: list[TickEvent] = []
    summary = run_tick(session, TickRequest(as_of=as_datetime(TO + HOUR)), events.append)
    assert summary.windows == 2
    assert [type(event).__name__ for event in events] == ["Delivery", "RunFinished", "ChallengerRun"]
    assert events[1] == RunFinished(summary)
    assert isinstance(events[2], ChallengerRun)
    assert isinstance(events[2].bug, ZeroDivisionError)
    with pytest.raises(InputError, match="future"):
        run_tick(session, TickRequest(as_of=as_datetime(NOW) + timedelta(days=1)), events.append)


@pytest.mark.parametrize(
    ("error", "told"), [(ZeroDivisionError(), ["Delivery", "ChallengerRun"]), (Unreachable("gone"), [])]
)
def test_a_run_that_fails_is_notified_unless_the_database_is_gone(
    session: Session, monkeypatch: pytest.MonkeyPatch, error: Exception, told: list[str]
) -> None:
    def broken(*_given: Any, **_named: Any) -> RunSummary:
        raise error

    monkeypatch.setattr(scoring_run, "run", broken)
    events: list[TickEvent] = []
    with pytest.raises(type(error)):
        run_tick(session, TickRequest(as_of=as_datetime(TO + HOUR)), events.append)
    assert [type(event).__name__ for event in events] == told


def test_a_run_ends_later_than_it_began(backfilled: Store) -> None:
    began, ended = query(backfilled, "SELECT started_at, finished_at FROM runs WHERE run_id = 1")[0]
    assert ended > began
