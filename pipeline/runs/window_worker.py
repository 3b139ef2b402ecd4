"""
Windows of a backfill that several processes share: each does one window after the other, whichever is next.

A process claims each step in the ledger, does it against the database and finishes it, and gives nothing back; what its windows
came to is read from the ledger. So order, exactly-once and recovery rest on the ledger, whoever hands the windows out.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.util import Finalize

from pipeline.config.config import Config
from pipeline.config.database import open_configured
from pipeline.progress import NoProgress
from pipeline.runs.steps import LedgerRunner, UnscoredIds, process_entries
from pipeline.schedule.run_context import (
    RunContext,
    RunSummary,
    never_stop,
    step_sort_key,
    with_stored_fields,
)
from storage.database.setup import verify
from storage.runs import ledger
from storage.runs.ledger import Entry
from storage.runs.workers import hold as hold_worker

Window = tuple[int, int]


@dataclass(frozen=True)
class SharedRun:
    """What a process needs to know of a run; instants in µs. It holds nothing that a log must not show."""

    policy: str
    as_of: int
    run_id: int
    by: str
    span_end: int
    model_id: int | None

    @classmethod
    def of(cls, run: RunContext, windows: Sequence[Window], model_id: int | None) -> "SharedRun":
        """That of a run with these windows, in the order of time."""
        return cls(run.policy, run.as_of, run.run_id, run.by, windows[-1][1], model_id)


class WindowWorker:
    """What a process keeps between the windows of a run: its database, its lease, models and history."""

    def __init__(self, shared: SharedRun, config: Config) -> None:
        self.shared = shared
        with ExitStack() as stack:
            store = stack.enter_context(open_configured(config))
            verify(store, config.monitor.name)  # a database that is upgraded meanwhile is not written to
            worker = stack.enter_context(hold_worker(store, shared.by))
            self.run = RunContext(
                with_stored_fields(store, shared.policy), config, shared.policy, shared.as_of, shared.run_id, worker,
                shared.by, NoProgress(), never_stop,
            )  # fmt: skip
            self._runner = LedgerRunner(self.run, shared.span_end, shared.model_id)
            self._stack = stack.pop_all()

    def score(self, window: Window) -> None:
        """Score a window and measure its drift."""
        entries = [
            entry
            for entry in ledger.entries(self.run.store, self.run.policy, since=window[0], until=window[1])
            if entry.kind in ("score", "drift") and entry.key[1:] == window
        ]
        entries.sort(key=lambda entry: step_sort_key(entry.kind, entry.window_end))
        unscored = UnscoredIds(self.run)
        process_entries(self.run, entries, unscored, self.shared.model_id, wait=True, runner=self._runner)
        if self.run.bugs:
            raise self.run.bugs.pop()  # with its traceback, which the ledger does not have

    def close(self) -> None:
        """End the lease and the connections."""
        self._stack.close()


_OWN: list[WindowWorker] = []


def own_worker(shared: SharedRun, config: Callable[[], Config]) -> WindowWorker:
    """The worker of this process, made for the first window of a run; it ends with the process or with the next run."""
    if _OWN and _OWN[0].shared != shared:
        _OWN.pop().close()
    if not _OWN:
        _OWN.append(WindowWorker(shared, config()))
        Finalize(None, _OWN[0].close, exitpriority=1)
    return _OWN[0]


def windows_of(entries: Sequence[Entry]) -> list[Window]:
    """The windows of some entries, in the order of time."""
    return sorted({entry.key[1:] for entry in entries})


def summary_of(run: RunContext, windows: Sequence[Window]) -> RunSummary:
    """What these windows came to, as the ledger has it."""
    summary, wanted = RunSummary(), set(windows)
    for entry in ledger.entries(run.store, run.policy, since=windows[0][0], until=windows[-1][1]):
        if entry.run_id != run.run_id or entry.key[1:] not in wanted:
            continue
        counts = entry.counts or {}
        if entry.status == "failed":
            summary = summary.plus(RunSummary(failures=[f"{entry.kind}: {entry.error}"]))
        elif entry.kind == "score":
            scored, flagged, already, without = (
                int(counts.get(name, 0)) for name in ("scored", "flagged", "already", "no_model")
            )
            summary = summary.plus(
                RunSummary(
                    windows=1, scored=scored, flagged=flagged, already_scored=already, no_model=without
                )
            )
    return summary
