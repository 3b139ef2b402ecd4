"""
Windows of a backfill on the workers of a Dask scheduler, on any number of machines.

A task says which window of the ledger to do (`pipeline.runs.window_worker`), and the scheduler may lose anything: what it loses
is done by the next task or the next call. A worker reads its own configuration; the database's URL and
keys never travel. Trainings stay in the process that was called, because each needs the choice before it.
"""

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from itertools import count
from typing import Any
from urllib.parse import urlsplit

from detectors.model.artifact import libraries
from pipeline.config.config import Config
from pipeline.config.loader import load_config
from pipeline.errors import ConfigError, FraudwatchError, InputError
from pipeline.runs.window_worker import SharedRun, Window, own_worker, summary_of, windows_of
from pipeline.schedule.run_context import RunContext, RunSummary
from storage.database.column_types import as_datetime
from storage.runs.ledger import Entry

CONNECT_S = 10
WORKERS_S = 30  # that the first worker may take to appear
AHEAD = 2  # tasks that wait for each thread of a worker, so that none is idle between two
REPEATS_MAX = 5  # of a task whose worker died
POLL_S = 0.5


class SchedulerError(FraudwatchError):
    """The scheduler or its workers cannot be used; what was done is kept, and the same command does the rest."""

    code = "scheduler"


@dataclass(frozen=True)
class _Task:
    """A window to do. It holds nothing that a log must not show."""

    shared: SharedRun
    window: Window
    fingerprint: tuple[tuple[str, str], ...]


def require_scheduler(config: Config, address: str) -> None:
    """
    Check that a scheduler and its workers can be used, before anything is written.

    Parameters
    ----------
    address
        tcp://HOST:PORT, or tls://HOST:PORT with the certificates that Dask's configuration names.

    Raises
    ------
    InputError
        This is no such address.
    SchedulerError
        The scheduler cannot be reached, or has no worker.
    ConfigError
        The database is an SQLite file, Dask is not installed, or its configuration names no certificates.
    """
    _require_address(address)
    _require_shared(config)
    with _connected(address) as client:
        _threads(client, address)


def process_on_scheduler(
    run: RunContext, entries: Sequence[Entry], address: str, model_id: int | None
) -> RunSummary:
    """
    Do these entries on the workers of a scheduler, and wait until all are done.

    Raises
    ------
    SchedulerError
        The scheduler cannot be reached or is lost, it has no worker, or a worker has another configuration or version.
    """
    windows, mine = windows_of(entries), fingerprint(run.config)
    shared = SharedRun.of(run, windows, model_id)
    todo = [_Task(shared, window, mine) for window in windows]
    run.progress.start("scoring", float(len(todo)), "windows")
    try:
        with _connected(address) as client:
            _submit_all(client, todo, address, lambda: run.progress.advance(1))
    finally:
        run.progress.stop()
    return summary_of(run, windows)


def fingerprint(config: Config) -> tuple[tuple[str, str], ...]:
    """What a worker must have in common with the caller: settings, and versions of what decides on a score."""
    settings = hashlib.sha256(config.hash().encode()).hexdigest()[:12]
    return (
        ("the configuration", settings),
        ("fraudwatch", version("fraudwatch")),
        *sorted(libraries().items()),
    )


def _require_address(address: str) -> None:
    try:
        parts = urlsplit(address)
        whole = parts.scheme in ("tcp", "tls") and parts.hostname and parts.port
    except ValueError:  # a port that is no number
        whole = False
    if "@" in address:  # neither shown nor stored, for it may be a password
        raise InputError(
            "the scheduler's address has a user or a password, which Dask does not know",
            remedy="write tcp://HOST:PORT; tls:// with certificates keeps strangers out",
            code="scheduler_address",
        )
    if not whole or parts.path or parts.query or parts.fragment:
        raise InputError(
            f"{address!r} is no address of a scheduler",
            remedy="write tcp://HOST:PORT or tls://HOST:PORT, as dask scheduler prints it",
            code="scheduler_address",
        )


def _require_shared(config: Config) -> None:
    if config.storage_url.startswith("sqlite"):
        raise ConfigError(
            "storage.url is an SQLite file, which workers of other machines cannot share",
            remedy="use Postgres, or --workers N for processes of this machine",
        )
    if find_spec("distributed") is None:
        raise ConfigError(
            "a scheduler needs Dask, which is not installed", remedy="pip install 'fraudwatch[distributed]'"
        )


def _dask() -> Any:
    """Dask's package `distributed`, which is imported only where it is used, and has no complete types."""
    return import_module("distributed")


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    dask = _dask()
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what it would log is said in one sentence
    security = dask.security.Security() if address.startswith("tls://") else None
    if security is not None and not (security.tls_ca_file and security.tls_client_cert):
        raise ConfigError(
            "tls:// needs certificates, and Dask's configuration names none",
            remedy="set DASK_DISTRIBUTED__COMM__TLS__CA_FILE, …__TLS__CLIENT__CERT and …__TLS__CLIENT__KEY",
        )
    try:
        client = dask.Client(address, timeout=CONNECT_S, security=security, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise SchedulerError(
            f"no scheduler answers at {address} ({type(error).__name__})",
            remedy="start one with dask scheduler, or check the address and the certificates",
        ) from None
    try:
        with client.as_current():
            yield client
    finally:
        client.close(timeout=CONNECT_S)


def _submit_all(client: Any, todo: Sequence[_Task], address: str, done: Callable[[], None]) -> None:
    """Keep so many tasks at the scheduler that no worker is idle; a future is released as its task ends."""
    dask = _dask()
    ahead = AHEAD * _threads(client, address)
    queue, numbers, repeats = list(reversed(todo)), count(), dict[Window, int]()
    running: dict[Any, _Task] = {}
    while queue or running:
        while queue and len(running) < ahead:
            task = queue.pop()
            key = f"fraudwatch-window-{task.shared.run_id}-{task.window[0]}-{next(numbers)}"
            running[client.submit(run_task, task, key=key, pure=False)] = task
        try:
            ended = dask.wait(list(running), timeout=POLL_S, return_when="FIRST_COMPLETED").done
        except TimeoutError:
            ended = set()
        except dask.CancelledError:  # all of them, because the connection is gone
            ended = set(running)
        if client.status != "running":
            raise SchedulerError(
                f"the scheduler at {address} was lost with {len(queue) + len(running)} windows to do; what is done is kept",
                remedy="repeat the command",
            )
        for future in ended:
            task = running.pop(future)
            if _ended_well(future, task, repeats):
                done()
            else:
                queue.append(task)
            future.release()


def _threads(client: Any, address: str) -> int:
    """Threads of all workers."""
    try:
        client.wait_for_workers(1, timeout=WORKERS_S)
    except TimeoutError:
        raise SchedulerError(
            f"the scheduler at {address} has no worker", remedy=f"start some with dask worker {address}"
        ) from None
    return sum(client.nthreads().values())


def _ended_well(future: Any, task: _Task, repeats: dict[Window, int]) -> bool:
    """Whether a task did its window; False if it is to be repeated, because its worker died or the scheduler forgot it."""
    dask = _dask()
    try:
        future.result(timeout=CONNECT_S)
    except (dask.KilledWorker, dask.CancelledError, TimeoutError) as error:
        repeats[task.window] = repeats.get(task.window, 0) + 1
        if repeats[task.window] > REPEATS_MAX:
            raise SchedulerError(
                f"the workers that scored the window from {as_datetime(task.window[0]):%Y-%m-%d %H:%M} UTC died {repeats[task.window]} times ({type(error).__name__})",
                remedy="look at their logs: memory is the usual cause",
            ) from None
        return False
    return True


# ── in a worker ──


def run_task(task: _Task) -> None:
    """Do the window of a task; runs in a process of a worker, which does one task at a time."""

    def config() -> Config:
        own = load_config(None, os.environ).for_policy(task.shared.policy)
        _refuse_others(task, fingerprint(own))
        return own

    own_worker(task.shared, config).score(task.window)


def _refuse_others(task: _Task, mine: tuple[tuple[str, str], ...]) -> None:
    """
    Refuse a task of a caller with other settings or versions.

    Raises
    ------
    SchedulerError
        Something differs.
    """
    theirs, own = dict(task.fingerprint), dict(mine)
    for name in sorted(theirs.keys() | own.keys()):
        if theirs.get(name) != own.get(name):
            raise SchedulerError(
                f"{name} of a worker is {own.get(name)}, that of the caller is {theirs.get(name)}",
                remedy="give both the same file and the same versions",
            )
