"""A backfill on a real Dask scheduler and worker processes: byte for byte the same, whoever dies, and nothing secret on the way."""

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from pipeline.config.config import Config
from pipeline.config.loader import load_config
from pipeline.errors import ConfigError, InputError
from pipeline.runs import distributed_steps
from pipeline.runs.backfill import backfill
from pipeline.runs.distributed_steps import SchedulerError
from pipeline.runs.window_worker import SharedRun
from pipeline.schedule.run_context import RunSummary
from storage.database.database import Store
from storage.frames import DAY
from tests.support.databases import Copier
from tests.support.sql import FLAGS, SCORES, query
from tests.support.worlds import FROM, LOADED, NOW, SMALL

pytest.importorskip("distributed", reason="the extra fraudwatch[distributed] is not installed")

END = FROM + 6 * DAY
KEY = "0123456789abcdef"
START_S = 30


class Cluster:
    """A scheduler and its workers, each a process."""

    def __init__(self, address: str, scheduler: subprocess.Popen[bytes]) -> None:
        self.address = address
        self.scheduler = scheduler
        self.workers: list[subprocess.Popen[bytes]] = []

    def add_worker(self, folder: Path, url: str) -> None:
        """Start a worker of one thread, which another process starts again when it dies."""
        arguments = ("worker", self.address, "--nthreads", "1", "--no-dashboard")
        self.workers.append(dask(folder, arguments, **worker_environment(folder, url)))

    def stop(self) -> None:
        """Kill everything."""
        for process in [*self.workers, self.scheduler]:
            if process.poll() is None:
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
            process.kill()
            process.wait()


def dask(folder: Path, arguments: Sequence[str], **environ: str) -> subprocess.Popen[bytes]:
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "OMP_NUM_THREADS": "1"} | environ
    command = [sys.executable, "-m", "dask", *arguments]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, cwd=folder, env=env, stdout=quiet, stderr=quiet)


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    file = folder / "scheduler.json"
    arguments = (
        "scheduler",
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--no-dashboard",
        "--scheduler-file",
        str(file),
    )
    process = dask(folder, arguments)
    until = time.monotonic() + START_S
    while not file.exists() and time.monotonic() < until:
        time.sleep(0.05)
    one = Cluster(json.loads(file.read_text())["address"], process)
    try:
        yield one
    finally:
        one.stop()


def worker_environment(folder: Path, url: str) -> dict[str, str]:
    """What a worker has of its own: the configuration, the database's URL and the key."""
    path = folder / "config.toml"
    path.write_text(SMALL.public_text())
    return {"FRAUDWATCH_CONFIG": str(path), "FRAUDWATCH_STORAGE__URL": url, "FRAUDWATCH_MODEL_KEY": KEY}


def own_config(folder: Path, url: str) -> Config:
    return load_config(None, worker_environment(folder, url))


def run(store: Store, config: Config, scheduler: str | None) -> RunSummary:
    span = {"start": FROM, "end": END, "as_of": NOW}
    return backfill(store, config, **span, policy="live", by="test", scheduler=scheduler)


def kill_once_at_work(store: Store, one: Cluster) -> Callable[[], bool]:
    """Kill a worker process while a window is at work; the function that is returned says whether it was killed."""
    killed = threading.Event()

    def look() -> None:
        until = time.monotonic() + 2 * START_S
        running = "SELECT COUNT(*) FROM ledger WHERE kind = 'score' AND status = 'running'"
        while time.monotonic() < until and not killed.is_set():
            with suppress(psutil.Error):
                children = psutil.Process(one.workers[0].pid).children(recursive=True)
                workers = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
                if workers and query(store, running)[0][0]:
                    os.kill(workers[0].pid, signal.SIGKILL)
                    killed.set()
            time.sleep(0.01)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    return killed.is_set


def test_a_scheduler_scores_as_one_process_does_also_when_a_worker_is_killed(
    postgres_copier: Copier, postgres_url: str, tmp_path: Path
) -> None:
    store = postgres_copier(LOADED)
    config = own_config(tmp_path, postgres_url)
    with cluster(tmp_path) as one:
        one.add_worker(tmp_path, postgres_url)
        one.add_worker(tmp_path, postgres_url)
        killed = kill_once_at_work(store, one)
        summary = run(store, config, one.address)
        assert killed()
    assert summary.windows == 6
    assert summary.scored == query(store, "SELECT COUNT(*) FROM scores")[0][0] > 300
    steps, claims = query(store, "SELECT COUNT(*), SUM(token) FROM ledger WHERE kind IN ('score', 'drift')")[
        0
    ]
    assert query(store, "SELECT COUNT(*) FROM ledger WHERE status <> 'done'")[0][0] == 0
    assert steps <= claims <= steps + 2  # a kill costs the window that was at work, and its drift
    by_workers = query(store, SCORES), query(store, FLAGS)
    with store.write() as connection:
        for table in ("flags", "scores", "ledger"):
            connection.exec_driver_sql(f"DELETE FROM {table}")
    run(store, config, None)
    assert (query(store, SCORES), query(store, FLAGS)) == by_workers


def test_what_cannot_work_is_one_sentence_and_a_second_call_completes(
    postgres_copier: Copier, postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = postgres_copier(LOADED)
    config = own_config(tmp_path, postgres_url)
    other = config.model_copy(update={"alerts": config.alerts.model_copy(update={"per_day": 6})})
    with cluster(tmp_path) as one:
        monkeypatch.setattr(distributed_steps, "WORKERS_S", 0.5)
        with pytest.raises(SchedulerError, match="has no worker"):
            run(store, config, one.address)
        monkeypatch.undo()
        one.add_worker(tmp_path, postgres_url)
        with pytest.raises(
            SchedulerError, match=r"the configuration of a worker is .* that of the caller is"
        ):
            run(store, other, one.address)
        with pytest.raises(ConfigError, match="Dask's configuration names none"):
            run(store, config, one.address.replace("tcp", "tls"))
    monkeypatch.setattr(distributed_steps, "CONNECT_S", 1)
    with pytest.raises(SchedulerError, match="no scheduler answers"):
        run(store, config, one.address)
    failed = query(store, "SELECT COUNT(*) FROM runs")[0][0]
    assert failed == 1  # the one whose workers had another configuration; the others were refused before
    assert run(store, config, None).windows == 6


def test_a_scheduler_that_dies_meanwhile_loses_nothing(
    postgres_copier: Copier, postgres_url: str, tmp_path: Path
) -> None:
    store = postgres_copier(LOADED)
    config = own_config(tmp_path, postgres_url)
    with cluster(tmp_path) as one:
        one.add_worker(tmp_path, postgres_url)
        done = "SELECT COUNT(*) FROM ledger WHERE kind = 'score' AND status = 'done'"

        def look() -> None:
            while not query(store, done)[0][0]:
                time.sleep(0.01)
            one.scheduler.kill()

        threading.Thread(target=look, daemon=True).start()
        with pytest.raises(SchedulerError, match=r"was lost with \d windows to do"):
            run(store, config, one.address)
    kept = query(store, done)[0][0]
    assert 1 <= kept < 6
    assert run(store, config, None).windows == 6 - kept
    assert query(store, done)[0][0] == 6


def test_a_task_holds_no_secret(postgres_url: str, tmp_path: Path) -> None:
    known = distributed_steps.fingerprint(own_config(tmp_path, postgres_url))
    task = distributed_steps._Task(SharedRun("live", NOW, 1, "test", END, None), (FROM, END), known)
    sent = pickle.dumps(task)
    assert KEY.encode() not in sent
    assert b"postgres" not in sent


def test_an_sqlite_file_is_refused() -> None:
    with pytest.raises(ConfigError, match="SQLite file"):
        distributed_steps.require_scheduler(SMALL, "tcp://127.0.0.1:8786")


@pytest.mark.parametrize(
    "address",
    ["banana", "tcp://", "tcp://host", "host:8786", "tcp://host:port", "http://host:8786", "tls://host:1/x"],
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(InputError, match="is no address of a scheduler"):
        distributed_steps.require_scheduler(SMALL, address)


def test_a_password_in_an_address_is_not_repeated() -> None:
    with pytest.raises(InputError, match="has a user or a password") as refused:
        distributed_steps.require_scheduler(SMALL, "tcp://me:secret@host:8786")
    assert "secret" not in str(refused.value)
