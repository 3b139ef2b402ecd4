"""
Backfill: score past windows as the schedule would have scored them.

Trainings run in the order of their dates, because each needs the choice before it. Windows need only the models, so
several processes can share them, on this machine or on several (`pipeline.runs.window_worker`).
"""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import active_children, get_context

from pipeline.config.config import Config
from pipeline.errors import NotReady
from pipeline.monitoring import quality
from pipeline.progress import Progress
from pipeline.runs.distributed_steps import process_on_scheduler, require_scheduler
from pipeline.runs.scoring_run import finish_run
from pipeline.runs.steps import UnscoredIds, process_entries
from pipeline.runs.window_worker import SharedRun, Window, own_worker, summary_of, windows_of
from pipeline.schedule import planning
from pipeline.schedule.run_context import RunContext, RunSummary, pending, start_run, step_sort_key
from pipeline.training.readiness import LEAK
from storage.database.database import Store
from storage.frames import DAY
from storage.models import models
from storage.runs import ledger, scoring_queue
from storage.runs.ledger import Entry


def backfill(
    store: Store,
    config: Config,
    *,
    start: int,
    end: int,
    as_of: int,
    policy: str,
    by: str,
    workers: int = 1,
    scheduler: str | None = None,
    model_id: int | None = None,
    progress: Progress | None = None,
) -> RunSummary:
    """
    Process [start, end) as the schedule would have: trainings in order, and the windows after them.

    A backfill is idempotent and may be interrupted: finished windows are skipped, and a transaction keeps its score. It shares
    its steps with other workers on the same span, and ends when all of them are done.

    Parameters
    ----------
    workers
        Number of processes that score windows; 1 scores in this process.
    scheduler
        Address of a Dask scheduler whose workers score the windows instead.
    model_id
        Score everything by this model, without training; rows it was trained on are marked as in-sample.

    Raises
    ------
    NotReady
        No transaction is stored, or every one of the span is recorded as arriving later than `as_of`.
    FraudwatchError
        The scheduler cannot be used.
    """
    planning.stored_span(store)
    if scheduler is not None:
        require_scheduler(config, scheduler)
    with start_run(store, config, as_of, policy, "backfill", by, progress) as run:
        scoring_queue.add_backfilled_span(store, policy, start, end, run.as_of)
        _check_span_is_known(run, start, end)
        _repeat_rejected_trainings(run, claimable(run, start, end, with_trainings=model_id is None))
        entries = claimable(run, start, end, with_trainings=model_id is None)
        entries = ledger.assign(store, entries, run.run_id)
        if workers == 1 and scheduler is None:
            summary = process_entries(run, entries, UnscoredIds(run), model_id, wait=True)
        else:
            summary = _with_others(run, entries, workers, scheduler, model_id)
        quality.catch_up(store, config, policy, run.run_id, end)
        return finish_run(run, summary)


def _with_others(
    run: RunContext, entries: Sequence[Entry], workers: int, scheduler: str | None, model_id: int | None
) -> RunSummary:
    """Run trainings here in order, then windows in parallel, then quality over all windows in order."""
    trainings = [entry for entry in entries if entry.kind == "train"]
    qualities = [entry for entry in entries if entry.kind == "quality"]
    windows = [entry for entry in entries if entry.kind not in ("train", "quality")]
    summary = process_entries(run, trainings, UnscoredIds(run), model_id)
    if scheduler is None:
        summary = summary.plus(_process_in_parallel(run, windows, workers, model_id))
    elif windows:
        summary = summary.plus(process_on_scheduler(run, windows, scheduler, model_id))
    return summary.plus(process_entries(run, qualities, UnscoredIds(run), model_id, wait=True))


def claimable(run: RunContext, start: int, end: int, *, with_trainings: bool = True) -> list[Entry]:
    """The ledger entries of the span in the order of time; missing ones are added to the ledger."""
    steps = planning.backfill_steps(run.store, run.config, run.policy, start, end)
    needed = [
        pending(run.policy, step, run.config.schedule.allowed_lateness)
        for step in steps
        if with_trainings or step.kind != "train"
    ]
    ledger.ensure(run.store, needed)
    since = min((entry.window_end for entry in needed), default=start) - 1
    stored = {entry.key: entry for entry in ledger.entries(run.store, run.policy, since=since)}
    entries = [stored[entry.key] for entry in needed]
    return sorted(entries, key=lambda entry: step_sort_key(entry.kind, entry.window_end))


def _repeat_rejected_trainings(run: RunContext, entries: Sequence[Entry]) -> None:
    """Make trainings due again that were rejected for leaks which are trusted by now, if no model is in force then."""
    trusted, promoted = set(run.config.schema_.trusted), models.promoted(run.store, run.policy)
    first_model = min((promotion.effective_from for promotion in promoted), default=None)
    rejected = [
        entry
        for entry in entries
        if entry.kind == "train" and entry.status == "done" and (entry.counts or {}).get("rejected")
        if first_model is None or entry.window_end < first_model
    ]
    leaks = (models.fields_of_findings(run.store, run.policy, entry.window_end, LEAK) for entry in rejected)
    repeated = [entry for entry, fields in zip(rejected, leaks, strict=True) if fields and fields <= trusted]
    if repeated:
        ledger.reopen(run.store, repeated)


def _check_span_is_known(run: RunContext, start: int, end: int) -> None:
    """Refuse a span of which nothing is known yet; what comes late to one that was scored before is left to the next run."""
    if ledger.entries(run.store, run.policy, "score", since=start, until=end, status="done"):
        return
    lateness = run.config.schedule.allowed_lateness
    days = range(start, end, DAY)
    if any(len(UnscoredIds(run)(day, min(day + DAY, end))) for day in days):  # mostly the first has some
        return
    unscored = scoring_queue.unscored(run.store, run.policy, start, end)
    if len(unscored.transaction_id):
        arrived = int(unscored.ingested_at.min())
        raise NotReady(
            f"all {len(unscored.transaction_id):,} transactions of the span count as known only from "
            f"{planning.day(max(arrived, int(unscored.event_time.min()) + lateness))} on, because they were ingested as "
            "they arrived",
            remedy="withdraw the batch and ingest it again as history",
            code="span_not_known_yet",
        )


def _process_in_parallel(
    run: RunContext, entries: Sequence[Entry], workers: int, model_id: int | None
) -> RunSummary:
    windows = windows_of(entries)
    if not windows:
        return RunSummary()
    shared = SharedRun.of(run, windows, model_id)
    run.progress.start("scoring", float(len(windows)), "windows")
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        try:
            for scored in as_completed(pool.submit(_score, shared, run.config, window) for window in windows):
                scored.result()
                run.progress.advance(1)
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            if not isinstance(error, Exception):  # a signal, which does not reach the others
                for process in active_children():
                    process.terminate()
            raise
        finally:
            run.progress.stop()
    return summary_of(run, windows)


def _score(shared: SharedRun, config: Config, window: Window) -> None:
    """Score a window in a process of the pool; the configuration comes with its secrets through a pipe."""
    own_worker(shared, lambda: config).score(window)


def require_model(store: Store, model_id: int) -> None:
    """
    Check that a model exists, before anything is written.

    Raises
    ------
    Unknown
        There is no such model.
    """
    models.load_artifact(store, model_id)
