"""Jobs as processes of their own: what they do is in the database, whatever becomes of them."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from pipeline.errors import InputError
from pipeline.services.audit import list_audit
from pipeline.services.runs.backfill import BackfillRequest
from pipeline.services.runs.jobs import Job, Jobs
from pipeline.services.runs.runs import list_gaps, list_runs, list_windows
from pipeline.services.runs.training import TrainRequest
from pipeline.services.session import Session
from storage.database.column_types import as_datetime
from storage.database.database import Store
from storage.errors import Refused, Unknown
from storage.frames import DAY
from storage.runs import ledger
from tests.support.databases import with_url
from tests.support.sql import query
from tests.support.worlds import FROM, NOW, SMALL

WAIT_S = 120.0
DAY_8, DAY_10 = as_datetime(FROM + 7 * DAY), as_datetime(FROM + 9 * DAY)
TWO_DAYS = BackfillRequest(DAY_8, DAY_10)
SCORED = "SELECT COUNT(*) FROM scores WHERE policy = 'live'"


@pytest.fixture
def session(first_week: Store, url: str) -> Session:
    """A week of scores, and two more that nothing has scored."""
    return Session(first_week, with_url(SMALL, url), "serve", clock=lambda: NOW)


@pytest.fixture
def jobs(session: Session) -> Iterator[Jobs]:
    with closing(Jobs(session)) as running:
        yield running


def ended(jobs: Jobs, job: Job) -> Job:
    """The job when it has ended."""
    until = time.monotonic() + WAIT_S
    while jobs.show(job.job_id).ended_at is None and time.monotonic() < until:
        time.sleep(0.02)
    return jobs.show(job.job_id)


def at_work(session: Session, jobs: Jobs, job: Job) -> None:
    """Wait until the run of a job is in the database."""
    until = time.monotonic() + WAIT_S
    while list_runs(session, "live").items[0].status != "running" and time.monotonic() < until:
        assert jobs.show(job.job_id).ended_at is None
        time.sleep(0.01)


def test_a_backfill_scores_its_span_in_the_name_of_who_started_it(session: Session, jobs: Jobs) -> None:
    before = query(session.store, SCORED)[0][0]
    job = jobs.start(TWO_DAYS, "ann")
    assert (job.status, job.kind, job.by) == ("running", "backfill", "ann")
    done = ended(jobs, job)
    assert (done.status, done.error) == ("done", None)
    assert done.total is not None
    assert done.done == done.total > 1
    assert query(session.store, SCORED)[0][0] > before
    run = list_runs(session, "live").items[0]
    assert (run.run_id, run.kind, run.status) == (done.result_id, "backfill", "done")
    rows = [row for row in list_audit(session).items if row.action == "start backfill"]
    assert [(row.actor, row.after["end"]) for row in rows if row.after] == [("ann", str(DAY_10))]


def test_a_job_that_fails_says_why_and_one_that_never_can_run_is_refused(
    session: Session, jobs: Jobs
) -> None:
    failed = ended(jobs, jobs.start(TrainRequest(challenger="nobody"), "ann"))
    assert (failed.status, failed.code) == ("failed", "unknown_challenger")
    with pytest.raises(InputError, match=r"must be before the end"):
        jobs.start(BackfillRequest(DAY_10, DAY_8), "ann")
    with pytest.raises(Unknown, match=r"there is no job"):
        jobs.show("none")


@pytest.mark.one_engine
def test_a_job_whose_process_is_killed_has_failed_and_the_next_one_does_the_rest(
    session: Session, jobs: Jobs
) -> None:
    job = jobs.start(TWO_DAYS, "ann")
    at_work(session, jobs, job)
    process = jobs._at_work[job.job_id][0]
    os.kill(process.pid or 0, signal.SIGKILL)
    assert (ended(jobs, job).status, list_runs(session, "live").items[0].status) == ("failed", "interrupted")
    assert ended(jobs, jobs.start(TWO_DAYS, "ann")).status == "done"
    assert [gap for gap in list_gaps(session, "live").items if gap.window_end <= DAY_10] == []


def test_steps_that_a_backfill_gets_to_are_at_work_until_it_is_stopped(session: Session, jobs: Jobs) -> None:
    older = ledger.Entry("live", "score", FROM + 12 * DAY, FROM + 13 * DAY, FROM + 13 * DAY)
    ledger.ensure(session.store, [older])
    ledger.assign(session.store, [older], 1)  # of a run that has ended
    job = jobs.start(TWO_DAYS, "ann")
    at_work(session, jobs, job)
    until = time.monotonic() + WAIT_S
    run = list_runs(session, "live").items[0].run_id
    while time.monotonic() < until:
        gaps = list_gaps(session, "live").items
        if any(gap.at_work_by is not None for gap in gaps):
            break
        time.sleep(0.01)
    left_behind = [gap for gap in gaps if gap.window_end == as_datetime(older.window_end)]
    assert [(gap.remedy, gap.at_work_by) for gap in left_behind] == [("repeat_backfill", None)]
    assert {(gap.remedy, gap.at_work_by) for gap in gaps if gap not in left_behind} == {("at_work", run)}
    assert {gap.status for gap in gaps} >= {"pending"}
    span = [each for each in list_windows(session, "live").items if DAY_8 <= each.window_start < DAY_10]
    assert {each.score for each in span} <= {"running", "done"}
    jobs.stop(job.job_id)
    left = list_gaps(session, "live").items
    assert {gap.at_work_by for gap in left} == {None}
    assert {gap.remedy for gap in left if gap.kind == "score"} == {"repeat_backfill"}


@pytest.mark.one_engine
def test_a_job_that_has_ended_says_when_in_the_same_breath(session: Session, jobs: Jobs) -> None:
    job = jobs.start(TWO_DAYS, "ann")
    until = time.monotonic() + WAIT_S
    while (now := jobs.show(job.job_id)).status == "running" and time.monotonic() < until:
        time.sleep(0.0002)
    assert now.status == "done"
    assert now.ended_at is not None


@pytest.mark.one_engine
def test_a_job_that_is_stopped_leaves_the_rest_due(session: Session, jobs: Jobs) -> None:
    job = jobs.start(TWO_DAYS, "ann")
    at_work(session, jobs, job)
    stopped = jobs.stop(job.job_id)
    assert stopped.status == "stopped"
    assert stopped.ended_at is not None
    assert list_runs(session, "live").items[0].status == "interrupted"
    assert query(session.store, "SELECT COUNT(*) FROM ledger WHERE status = 'running'") == [(0,)]
    assert ended(jobs, jobs.start(TWO_DAYS, "ann")).status == "done"


@pytest.mark.one_engine
def test_more_jobs_than_can_run_at_once_are_refused_and_the_door_ends_with_none(session: Session) -> None:
    with closing(Jobs(session)) as jobs:
        first, second = jobs.start(TWO_DAYS, "ann"), jobs.start(TWO_DAYS, "ben")
        with pytest.raises(Refused, match=r"2 jobs are at work"):
            jobs.start(TWO_DAYS, "cy")
        processes = [process for process, _ in jobs._at_work.values()]
    assert [process.is_alive() for process in processes] == [False, False]
    assert {job.job_id for job in jobs.list()} == {first.job_id, second.job_id}
    started = datetime.fromtimestamp(NOW / 1e6, UTC)
    assert {job.started_at for job in jobs.list()} == {started}
    assert all((job.ended_at or started) - started < timedelta(hours=1) for job in jobs.list())


@pytest.mark.one_engine
def test_a_door_ends_though_a_job_is_forgotten_meanwhile(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten = Job("5f0c", "run", "ann", datetime.fromtimestamp(NOW / 1e6, UTC))
    monkeypatch.setattr(Jobs, "list", lambda _: (forgotten,))
    Jobs(session).close()
