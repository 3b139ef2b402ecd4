"""
Jobs: runs, backfills, trainings and comparisons that somebody starts at a door that answers others meanwhile.

Each is a process of its own. What it does is claimed in the ledger step by step, as by a command: several jobs, the daemon and commands
share steps and double none; one that ends early leaves finished steps done and the others due. A door knows the jobs that it has started
itself; the runs of all of them are in the database.
"""

import secrets
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Literal

from pipeline.config.config import Config
from pipeline.expected_errors import error_code, storable_text
from pipeline.services.models.comparisons import ComparisonRequest, compare_techniques
from pipeline.services.runs.backfill import BackfillRequest, backfill
from pipeline.services.runs.tick import RunSummary, StepFailed, TickEvent, TickRequest, run_tick
from pipeline.services.runs.training import TrainRequest, train
from pipeline.services.session import Session, open_session
from storage.database.column_types import as_datetime
from storage.errors import Refused, Unknown
from storage.runs.runs import write_start

RUNNING_MAX = 2  # at once: each takes a core
ENDED_MAX = 50  # jobs that have ended and are still listed
STOP_S = 10.0  # for a process to roll back its step

JobKind = Literal["run", "backfill", "train", "compare"]
JobRequest = TickRequest | BackfillRequest | TrainRequest | ComparisonRequest
KINDS: Mapping[type[JobRequest], JobKind] = {
    TickRequest: "run",
    BackfillRequest: "backfill",
    TrainRequest: "train",
    ComparisonRequest: "compare",
}


@dataclass(frozen=True)
class Job:
    """
    A job and how far it is.

    Attributes
    ----------
    status
        "stopped": somebody stopped it, or the server that had started it.
    description, done, total
        Of its present or last step, such as "scoring": how much of how much is done; `total` is None where nobody knows.
    notes
        Sentences of its trainings and failed steps.
    result_id
        The run, or the comparison, once it has ended.
    error, code
        Why it failed; without a code steps of it did, and the others went on.
    """

    job_id: str
    kind: JobKind
    by: str
    started_at: datetime
    ended_at: datetime | None = None
    status: Literal["running", "done", "failed", "stopped"] = "running"
    description: str = ""
    done: float = 0.0
    total: float | None = None
    notes: tuple[str, ...] = ()
    result_id: int | None = None
    error: str | None = None
    code: str | None = None


class Jobs:
    """
    The jobs of one door; threads may share them.

    Parameters
    ----------
    session
        Whose database and configuration the jobs get, and whose clock says when they began.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}
        self._stopped: set[str] = set()  # at work still, but told to end
        self._at_work: dict[str, tuple[BaseProcess, threading.Thread]] = {}

    def start(self, request: JobRequest, actor: str) -> Job:
        """
        Begin a job, which is written into the audit trail.

        Raises
        ------
        InputError
            The request can never be carried out.
        Refused
            As many as can run at once are at work.
        """
        if isinstance(request, BackfillRequest):
            request.check(self._session.config)
        kind, now = KINDS[type(request)], self._session.now
        job = Job(secrets.token_hex(8), kind, actor, as_datetime(now))
        with self._lock:
            if len(self._at_work) >= RUNNING_MAX:
                raise Refused(
                    f"{RUNNING_MAX} jobs are at work, and more would slow each other down",
                    remedy="wait until one has ended, or stop one",
                    code="jobs_at_work",
                )
            write_start(self._session.store, kind, _as_text(request), actor, now)
            self._begin(job, request)
        return job

    def list(self) -> tuple[Job, ...]:
        """Jobs at work and those that ended last, the newest first."""
        with self._lock:
            return tuple(reversed(self._jobs.values()))

    def show(self, job_id: str) -> Job:
        """
        A job.

        Raises
        ------
        Unknown
            There is none of that id, or not any more.
        """
        with self._lock:
            if job_id not in self._jobs:
                raise Unknown(
                    f"there is no job {job_id!r}", remedy="runs are kept, jobs are not", code="unknown_job"
                )
            return self._jobs[job_id]

    def stop(self, job_id: str) -> Job:
        """
        Stop a job; its finished steps are kept, and the one that it is at is rolled back. One that has ended stays as it is.

        Raises
        ------
        Unknown
            There is none of that id.
        """
        self.show(job_id)
        with self._lock:
            at_work = self._at_work.get(job_id)
            if at_work is not None:
                self._stopped.add(job_id)
        if at_work is not None:
            _end(*at_work)
        return self.show(job_id)

    def close(self) -> None:
        """Stop all jobs."""
        with self._lock:
            at_work = dict(self._at_work)
            self._stopped.update(at_work)
        for process, thread in at_work.values():
            _end(process, thread)

    def _begin(self, job: Job, request: JobRequest) -> None:
        context = get_context("spawn")
        inbox, outbox = context.Pipe(duplex=False)
        process = context.Process(target=_carry_out, args=(outbox, self._session.config, job.by, request))
        process.start()
        outbox.close()  # the process has it, so that its end is seen here
        thread = threading.Thread(target=self._follow, args=(job.job_id, process, inbox), daemon=True)
        self._jobs[job.job_id] = job
        self._at_work[job.job_id] = (process, thread)
        thread.start()

    def _follow(self, job_id: str, process: BaseProcess, inbox: Connection) -> None:
        """Keep what the process says of itself, until it ends."""
        ending: dict[str, Any] = {}
        with inbox, suppress(EOFError, OSError):
            while "status" not in ending:
                ending = inbox.recv()
                if "status" not in ending:
                    self._change(job_id, **ending)
        process.join()
        with self._lock:
            del self._at_work[job_id]
            job = self._jobs[job_id]
            if "status" not in ending:
                error = f"its process ended by itself, with exit code {process.exitcode}"
                ending = {"status": "failed", "error": error, "code": "bug"}
                if job_id in self._stopped:
                    ending = {"status": "stopped"}
            self._stopped.discard(job_id)
            if ending["status"] == "done" and job.total is not None:
                ending["done"] = job.total
            self._jobs[job_id] = replace(job, ended_at=as_datetime(self._session.now), **ending)
            ended = [name for name in self._jobs if name not in self._at_work]
            for name in ended[:-ENDED_MAX]:
                del self._jobs[name]

    def _change(self, job_id: str, **values: Any) -> None:
        with self._lock:
            job = self._jobs[job_id]
            notes = (*job.notes, *values.pop("more_notes", ()))
            self._jobs[job_id] = replace(job, notes=notes, **values)


def _as_text(request: JobRequest) -> dict[str, str]:
    return {name: str(value) for name, value in vars(request).items() if value is not None}


def _end(process: BaseProcess, thread: threading.Thread) -> None:
    process.terminate()
    process.join(STOP_S)
    process.kill()
    thread.join(STOP_S)


class _Reporter:
    """Progress that goes to the door; if that is gone, the job goes on without saying so."""

    def __init__(self, outbox: Connection) -> None:
        self._outbox = outbox
        self._done = 0.0

    def send(self, **values: Any) -> None:
        with suppress(OSError):
            self._outbox.send(values)

    def start(self, description: str, total: float | None, unit: str) -> None:  # noqa: ARG002 (the interface of progress)
        self._done = 0.0
        self.send(description=description, done=0.0, total=total)

    def advance(self, amount: float = 1) -> None:
        self._done += amount
        self.send(done=self._done)

    def note(self, text: str) -> None:
        self.send(more_notes=(text,))

    def stop(self) -> None:
        self.send(description="")


@dataclass(frozen=True)
class _Ended:
    result_id: int
    error: str | None = None  # of steps that failed; the others went on


def _stop(number: int, _frame: Any) -> None:
    sys.exit(128 + number)  # no exception that a step may catch and go on after


def _carry_out(outbox: Connection, config: Config, actor: str, request: JobRequest) -> None:
    """Carry a job out; runs in a process of its own."""
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal, which the door answers
    reporter = _Reporter(outbox)
    try:
        with open_session(config, actor) as session:
            ended = _COMMANDS[type(request)](session, request, reporter)
    except Exception as error:
        reporter.send(status="failed", error=storable_text(error), code=error_code(error))
        if error_code(error) == "bug":
            raise
        return
    status = "done" if ended.error is None else "failed"
    reporter.send(status=status, result_id=ended.result_id, error=ended.error)


def _run(session: Session, request: TickRequest, reporter: _Reporter) -> _Ended:
    def report(event: TickEvent) -> None:
        if isinstance(event, StepFailed):
            reporter.note(f"{event.name} failed: {storable_text(event.error)}")

    return _ended(run_tick(session, request, report, progress=reporter))


def _backfill(session: Session, request: BackfillRequest, reporter: _Reporter) -> _Ended:
    return _ended(backfill(session, request, reporter).summary)


def _train(session: Session, request: TrainRequest, reporter: _Reporter) -> _Ended:
    return _ended(train(session, request, reporter))


def _compare(session: Session, request: ComparisonRequest, reporter: _Reporter) -> _Ended:
    return _Ended(compare_techniques(session, request, progress=reporter).comparison_id)


def _ended(summary: RunSummary) -> _Ended:
    return _Ended(summary.run_id, "; ".join(summary.failures) or None)


_COMMANDS: Mapping[type[JobRequest], Callable[[Session, Any, _Reporter], _Ended]] = {
    TickRequest: _run,
    BackfillRequest: _backfill,
    TrainRequest: _train,
    ComparisonRequest: _compare,
}
