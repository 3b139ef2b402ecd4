"""Steps and leases when several processes work on one database: one worker a step, whatever happens to it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import update

from pipeline.runs.backfill import backfill
from pipeline.runs.scoring_run import run
from pipeline.schedule.run_context import start_run
from storage.admin import prune
from storage.database import leases, processes, tables
from storage.database.database import Store
from storage.errors import Busy, StepRunning, StepTaken
from storage.frames import DAY, HOUR, SECOND
from storage.models import models
from storage.monitoring import drift_metrics, quality_metrics
from storage.monitoring.quality_metrics import QualityMetric
from storage.queries.runs import run_page
from storage.runs import ledger, runs, scores, workers
from storage.runs.ledger import Entry
from tests.support.commands import fraudwatch_process
from tests.support.databases import Copier
from tests.support.payments import PAYMENT_HEADER, payments
from tests.support.sql import FLAGS, SCORES, count, query
from tests.support.worlds import FROM, LOADED, NOW, SMALL, load_arrivals

HERE = processes.this_process()
ENTRY = Entry("live", "score", FROM, FROM + DAY, FROM + DAY)
LEFT_OUT = (
    "SELECT COUNT(*) FROM visible_transactions t LEFT JOIN scores s ON s.transaction_id = t.transaction_id "
    "WHERE t.event_time >= '2025-01-20 00:00:00+00:00' AND t.event_time < '2025-01-27 00:00:00+00:00' AND s.policy IS NULL"
)
EXECUTIONS = "SELECT SUM(token), COUNT(*) FROM ledger"
# A backfill of a week in a process of its own; the lease of a worker lasts a second.
BACKFILL = """
import json, os, signal, sys
from pipeline.config.config import Config
from pipeline.runs import backfill, steps
from storage.errors import StorageError
from storage.runs import workers
from tests.support.databases import with_url
from tests.support.worlds import FROM, NOW, SMALL
from pipeline.config.database import open_configured
from storage.frames import DAY
given = json.loads(sys.argv[1])
workers.LEASE = given["lease"]
scored = 0
def pause(*arguments, original=steps.score_rows):
    global scored
    scored += 1
    if scored == given["stop_at"]:
        os.kill(os.getpid(), signal.SIGSTOP)
    return original(*arguments)
steps.score_rows = pause
with open_configured(with_url(SMALL, given["url"])) as store:
    try:
        backfill.backfill(store, SMALL, start=FROM, end=FROM + 7 * DAY, as_of=NOW, policy="live", by="other")
    except StorageError as error:
        sys.exit(f"{error.code}: {error}")
"""


def other_backfill(url: str, *, stop_at: int = 0, lease: int = 60 * SECOND) -> "subprocess.Popen[str]":
    """The same backfill in another process, which may stop itself in the middle of a window."""
    given = json.dumps({"url": url, "stop_at": stop_at, "lease": lease})
    env = os.environ | {"FRAUDWATCH_MODEL_KEY": "0123456789abcdef"}
    return subprocess.Popen(
        [sys.executable, "-c", BACKFILL, given], stderr=subprocess.PIPE, text=True, env=env
    )


def own_backfill(store: Store) -> None:
    backfill(store, SMALL, start=FROM, end=FROM + 7 * DAY, as_of=NOW, policy="live", by="own")


def expire(store: Store, worker: str, **values: object) -> None:
    """Let the lease of a worker be that of another process, or over."""
    with store.write() as connection:
        mine = tables.leases.c.name == workers.PREFIX + worker
        connection.execute(update(tables.leases).where(mine).values(**values))


def test_only_a_process_that_can_be_seen_has_died() -> None:
    ended = subprocess.Popen(["sleep", "60"])
    _, started = processes._started(ended.pid)
    seen = replace(HERE, pid=str(ended.pid), started=started)
    assert not processes.died(str(seen))
    ended.kill()
    time.sleep(0.2)
    assert processes.died(str(seen))  # although nobody has waited for it
    ended.wait()
    for process, dead in (
        (HERE, False),
        (seen, True),
        (replace(HERE, started="1"), True),  # its number was used again
        (replace(seen, namespace="1"), False),  # another container
        (replace(seen, boot="1"), False),  # another machine, or this one before it was started again
        (replace(seen, host="elsewhere"), False),
    ):
        assert processes.died(str(process)) is dead, process
    assert not processes.died(f"{HERE.host}/{ended.pid}")  # of an earlier version
    assert processes.display(str(HERE)) == f"{HERE.host}, process {os.getpid()}"


def test_a_process_of_the_same_host_name_and_number_is_another_one(loaded: Store) -> None:
    leases.acquire(loaded, "job", "ana", 60 * SECOND)
    twin = str(replace(HERE, namespace="4026531836", random="f00d"))
    with loaded.write() as connection:
        connection.execute(update(tables.leases).values(process=twin))
    with pytest.raises(
        Busy, match=rf"ana \({HERE.host}, process {os.getpid()}\) is at work on job: wait, \d+ s at most"
    ):
        leases.acquire(loaded, "job", "ben", 60 * SECOND)


HOLD = """
import sys, time
from tests.support.databases import with_url
from tests.support.worlds import SMALL
from pipeline.config.database import open_configured
from storage.database import leases
from storage.errors import Busy
import os
with open_configured(with_url(SMALL, sys.argv[1])) as store:
    try:
        with leases.hold(store, "job", "daemon", 60_000_000):
            print("held by", os.getpid(), flush=True)
            input()
    except Busy:
        print("busy for", os.getpid(), flush=True)
"""


def test_two_containers_with_one_host_name_and_number_do_not_take_each_others_lease(
    sqlite_copier: Copier, sqlite_url: str
) -> None:
    container = [shutil.which("unshare") or "unshare", "--pid", "--fork", "--mount-proc"]
    if subprocess.run([*container, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let this user make PID namespaces")
    sqlite_copier(LOADED)
    command = [*container, sys.executable, "-c", HOLD, sqlite_url]
    first = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    assert first.stdout.readline() == "held by 1\n"
    second = subprocess.run(command, capture_output=True, text=True, check=True, input="")
    assert second.stdout == "busy for 1\n"
    assert first.communicate("\n")[0] == ""


def test_a_step_belongs_to_one_worker_until_that_is_gone(loaded: Store) -> None:
    training = replace(ENTRY, kind="train", window_start=FROM, window_end=FROM)
    later = replace(training, window_start=FROM + DAY, window_end=FROM + DAY)
    ledger.ensure(loaded, [ENTRY, training, later])
    with workers.hold(loaded, "ana") as ana, workers.hold(loaded, "ben") as ben:
        claimed = ledger.claim(loaded, ENTRY, 1, ana)
        assert claimed is not None
        assert (claimed.worker, claimed.token, claimed.attempts) == (ana, 1, 1)
        with pytest.raises(StepRunning):
            ledger.claim(loaded, ENTRY, 2, ben)
        assert ledger.claim(loaded, training, 1, ana) is not None
        with pytest.raises(
            StepRunning, match="train of 2025-01-21"
        ):  # one training at a time, in order of date
            ledger.claim(loaded, later, 2, ben)


@pytest.mark.parametrize("gone", [{"expires_at": 0}, {"process": str(replace(HERE, started="1"))}])
def test_the_step_of_a_worker_that_is_gone_is_free_and_has_lost_no_attempt(
    loaded: Store, gone: dict[str, object]
) -> None:
    ledger.ensure(loaded, [ENTRY])
    dead = Store(loaded.engine, loaded.fields, loaded.schema)  # of the process that is gone
    with workers.hold(dead, "ana") as ana, workers.hold(loaded, "ben") as ben:
        assert ledger.claim(dead, ENTRY, 1, ana) is not None
        expire(loaded, ana, **gone)
        taken = ledger.claim(loaded, ENTRY, 2, ben)
        assert taken is not None
        assert (taken.worker, taken.attempts, taken.token) == (ben, 1, 2)
        with ledger.fenced(loaded, taken):
            ledger.finish(loaded, taken, {}, NOW)
        assert ledger.claim(loaded, ENTRY, 2, ben) is None  # it was finished since it was read


def test_nothing_of_a_step_is_written_once_another_worker_has_it(loaded: Store) -> None:
    ledger.ensure(loaded, [ENTRY])
    record = models.ModelRecord(1, 1, NOW, "outlier", 0, 1, 1, 1, [], {}, {}, "")
    row = QualityMetric(FROM, FROM + DAY, "transactions", "estimated", 1.0, n=1)
    drift = drift_metrics.DriftMetric(FROM, FROM + DAY, "n", "amount", 1.0, None, False, 1, 1, 1)
    one = np.ones(1)
    scored = scores.ModelScores(
        np.array(["t000001"], dtype=object), 1, "outlier", one, one, one, one, one,
        np.array(["outlier"], dtype=object), np.ones(1, dtype=bool), one,
    )  # fmt: skip
    with workers.hold(loaded, "ana") as ana, workers.hold(loaded, "ben") as ben:
        claimed = ledger.claim(loaded, ENTRY, 1, ana)
        assert claimed is not None
        writes: list[Callable[[], object]] = [
            lambda: scores.write_scores(loaded, "live", 1, scored, []),
            lambda: drift_metrics.write_drift(loaded, "live", 1, [drift]),
            lambda: quality_metrics.write(loaded, "live", 1, NOW, (FROM, FROM + DAY), "estimated", [row]),
            lambda: models.save_choice(loaded, {"policy": "live"}),
            lambda: models.install(loaded, claimed, record, b"", "", "ana", NOW),
            lambda: prune.prune(loaded, {"transactions": FROM}, NOW),
            lambda: ledger.finish(loaded, claimed, {}, NOW),
            lambda: ledger.fail(loaded, claimed, "disk on fire", NOW),
        ]
        before = [
            count(loaded, name)
            for name in ("scores", "drift_metrics", "quality_metrics", "models", "transactions")
        ]
        with ledger.fenced(loaded, claimed):
            with Store(loaded.engine, loaded.fields, loaded.schema).write() as connection:
                taken = update(tables.ledger).values(worker=ben, token=2)
                connection.execute(taken)
            for write in writes:
                with pytest.raises(StepTaken, match=r"step score of 2025-01-21 \(live\) was taken over"):
                    write()
        after = [
            count(loaded, name)
            for name in ("scores", "drift_metrics", "quality_metrics", "models", "transactions")
        ]
        assert before == after
        assert query(loaded, "SELECT status, token FROM ledger") == [("running", 2)]


def test_a_worker_that_is_stopped_for_longer_than_its_lease_writes_nothing_more(
    copier: Copier, url: str
) -> None:
    store = copier(LOADED)
    other = other_backfill(url, stop_at=3, lease=SECOND)
    try:
        os.waitpid(other.pid, os.WUNTRACED)  # until it has stopped itself
        assert query(store, "SELECT COUNT(*) FROM ledger WHERE status = 'running'") == [(1,)]
        time.sleep(1.2)
        own_backfill(store)
        done = query(store, SCORES), query(store, FLAGS)
        os.kill(other.pid, signal.SIGCONT)
        _, message = other.communicate(timeout=60)
    finally:
        other.kill()
    assert "busy: the lease worker:" in message
    assert "so nothing more is written here" in message
    assert (query(store, SCORES), query(store, FLAGS)) == done
    executions, steps = query(store, EXECUTIONS)[0]
    assert executions == steps + 1  # once each, and the one that was stopped
    assert query(store, "SELECT status, COUNT(*) FROM ledger GROUP BY status") == [("done", steps)]
    assert [row["status"] for row in run_page(store, "live").rows] == ["done", "interrupted"]
    assert query(store, "SELECT MAX(attempts) FROM ledger") == [(1,)]


def test_two_backfills_of_one_span_share_its_steps(postgres_copier: Copier, postgres_url: str) -> None:
    store = postgres_copier(LOADED)
    other = other_backfill(postgres_url)
    deadline = time.monotonic() + 60
    while not query(store, "SELECT 1 FROM ledger WHERE status = 'running'") and time.monotonic() < deadline:
        time.sleep(0.05)
    own_backfill(store)
    _, message = other.communicate(timeout=120)
    assert other.returncode == 0, message
    executions, steps = query(store, EXECUTIONS)[0]
    assert executions == steps, query(
        store, "SELECT kind, window_start, token, run_id, attempts FROM ledger WHERE token > 1"
    )
    assert query(store, "SELECT DISTINCT status FROM ledger") == [("done",)]
    assert query(store, LEFT_OUT) == [(0,)]


def test_a_run_whose_process_is_gone_or_was_stopped_is_interrupted(loaded: Store) -> None:
    with pytest.raises(KeyboardInterrupt), start_run(loaded, SMALL, NOW, "live", "manual", "ana", None):
        raise KeyboardInterrupt
    assert query(loaded, "SELECT status, error FROM runs") == [("interrupted", "stopped by a signal")]
    with workers.hold(loaded, "ana") as ana:
        runs.begin_run(loaded, "live", "manual", NOW, "", 0, ana)
        assert run_page(loaded, "live").rows[0]["status"] == "running"
        expire(loaded, ana, process=str(replace(HERE, started="1")))
        assert run_page(loaded, "live").rows[0]["status"] == "interrupted"
        assert query(loaded, "SELECT status FROM runs WHERE run_id = 2") == [("running",)]
        bare = Store(loaded.engine, loaded.fields, loaded.schema)
        runs.begin_run(bare, "live", "manual", NOW, "", 0, "nobody")
        assert query(loaded, "SELECT status FROM runs ORDER BY run_id") == [
            ("interrupted",),
            ("interrupted",),
            ("running",),
        ]
        assert f"{HERE.host}, process {os.getpid()} ended before it did" in str(
            query(loaded, "SELECT error FROM runs")
        )


def test_a_terminated_command_leaves_an_interrupted_run(
    sqlite_copier: Copier, sqlite_url: str, tmp_path: Path
) -> None:
    store = sqlite_copier(LOADED)
    settings = SMALL.model_dump_json(by_alias=True)
    assert settings
    (tmp_path / "config.toml").write_text(
        f'[storage]\nurl = "{sqlite_url}"\n[schema]\nentities = ["customer_id", "terminal_id"]\ncategorical = []\nkind = ""\n'
        'original_id = ""\n[labels]\nmaturity = "5d"\n[features]\nwindows = ["1d", "7d"]\n[training]\nmin_rows = 200\nholdout = "2d"\n'
    )
    command = [sys.executable, "-m", "pipeline", "backfill", "--from", "2025-01-20", "--to", "2025-02-10"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not query(store, "SELECT 1 FROM ledger WHERE status = 'running'") and time.monotonic() < deadline:
        time.sleep(0.05)
    process.terminate()
    _, message = process.communicate(timeout=60)
    assert process.returncode == 143, message
    assert "interrupted: finished steps are kept, and nothing is half written" in message
    assert query(store, "SELECT status FROM runs") == [("interrupted",)]
    assert count(store, "leases") == 1  # the ingest's, which is free
    assert query(store, "SELECT COUNT(*) FROM ledger WHERE status = 'running'") == [(0,)]


def test_a_closed_pipe_ends_a_command_quietly(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("")
    fraudwatch_process(tmp_path, "init")
    command = [sys.executable, "-m", "pipeline", "runs", "--format", "json"]
    read, write = os.pipe()
    os.close(read)  # as `head` does
    with os.fdopen(write, "w") as closed:
        ended = subprocess.run(command, cwd=tmp_path, stdout=closed, stderr=subprocess.PIPE, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_late_rows_of_a_backfilled_span_are_scored_by_the_next_run(copier: Copier, tmp_path: Path) -> None:
    store = copier(LOADED)
    own_backfill(store)
    rows, _ = payments(DAYS_OF_LATE)
    late = [row.replace("t", "late", 1) for row in rows if row.split(",")[1].startswith("2025-01-22")][:5]
    assert late
    load_arrivals(store, tmp_path, "transactions", PAYMENT_HEADER, late, NOW)
    summary = run(store, SMALL, as_of=NOW + HOUR, policy="live", by="test")
    assert summary.late == len(late)
    assert query(store, "SELECT COUNT(*) FROM scores WHERE transaction_id LIKE 'late%'") == [(len(late),)]
    assert query(store, "SELECT COUNT(*) FROM scoring_queue WHERE transaction_id LIKE 'late%'") == [(0,)]


DAYS_OF_LATE = 30
