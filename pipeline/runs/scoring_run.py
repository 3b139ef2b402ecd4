"""
One scoring run, from its first step to its last. Read this first.

    plan → claim → load → features → score → flag, explain → write → drift → quality

`process_entries` (in `steps.py`) works through ledger entries (trainings, windows, drift) in the order of time; `window_scores.py`
scores one window. A scheduled run and a backfill differ only in which entries they process and in where a window's
transactions come from. Each transaction is scored point in time, by the model in force at its event time and with the
data known then, so both write the same bytes.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from pipeline.config.config import Config
from pipeline.progress import Progress
from pipeline.runs.steps import process_entries, train_step
from pipeline.runs.window_scores import score_rows
from pipeline.schedule import planning
from pipeline.schedule.run_context import (
    HistoryReader,
    RunContext,
    RunSummary,
    Step,
    never_stop,
    pending,
    start_run,
    step_sort_key,
)
from pipeline.scoring.model_cache import ModelCache
from storage.database import leases
from storage.database.database import Store
from storage.errors import Busy, Locked
from storage.frames import DAY, SECOND
from storage.runs import ledger, runs, schedule_history, scoring_queue
from storage.runs.ledger import Entry
from storage.runs.scoring_queue import Queue

LATE_LEASE = 60 * SECOND  # renewed while late arrivals are scored


def run(
    store: Store,
    config: Config,
    *,
    as_of: int,
    policy: str,
    by: str,
    kind: str = "manual",
    catch_up: int | None = None,
    progress: Progress | None = None,
    stopping: Callable[[], bool] = never_stop,
) -> RunSummary:
    """
    Do everything that is due at `as_of`: trainings, windows, and transactions that arrived late.

    If nothing is due in the ledger or the queue, nothing is written, not even a row about the run.

    Parameters
    ----------
    catch_up
        Process at most this many windows, the newest first, so that new windows do not wait for old ones; None for all.
    stopping
        Called between steps; when it returns True the remaining steps are left to the next run.
    """
    starts_at = planning.plan_due_steps(store, config, policy, as_of)
    steps = planning.open_steps(store, policy, starts_at, as_of, catch_up)
    if not len(steps) and not len(_late_queue(store, config, policy, as_of).transaction_id):
        return RunSummary()
    with start_run(store, config, as_of, policy, kind, by, progress, stopping) as context:
        queue = scoring_queue.queued(store, policy, context.as_of, config.schedule.allowed_lateness)
        summary = process_entries(context, _execution_order(steps), queue.between)
        if not summary.stopped:
            summary = summary.plus(_score_late_arrivals(context))
            summary = summary.plus(
                process_entries(context, steps.qualities, queue.between)
            )  # includes late arrivals
        return finish_run(context, summary.plus(RunSummary(windows_left=steps.windows_left)))


def train_once(
    store: Store,
    config: Config,
    *,
    date: int,
    as_of: int,
    policy: str,
    by: str,
    progress: Progress | None = None,
) -> RunSummary:
    """
    Train for one date now, independent of the schedule; the model takes effect from that date on.

    Raises
    ------
    NotReady
        No transaction is stored.
    """
    planning.stored_span(store)
    with start_run(store, config, as_of, policy, "train", by, progress) as context:
        entry = pending(policy, Step("train", date, date), config.schedule.allowed_lateness)
        ledger.ensure(store, [entry])
        entry = ledger.find(store, policy, "train", date, date) or entry
        reader, model_cache = HistoryReader(store, config, policy, date), ModelCache(store, config, policy)
        return finish_run(context, train_step(context, entry, reader, model_cache, force=True))


def finish_run(context: RunContext, summary: RunSummary) -> RunSummary:
    """Write status, counts and errors to the run's row."""
    status = "failed" if summary.failures else "interrupted" if summary.stopped else "done"
    error = "; ".join(summary.failures) or None
    runs.end_run(context.store, context.run_id, context.ended_at, status, summary.counts(), error)
    return replace(summary, run_id=context.run_id, bugs=[*summary.bugs, *context.bugs])


def _execution_order(steps: planning.OpenSteps) -> list[Entry]:
    """By time; when catching up: trainings, then the newest window, then the others from the oldest on."""
    if not steps.windows_left:
        entries = [*steps.trainings, *steps.windows, *steps.drifts, *steps.prunes]
        return sorted(entries, key=lambda entry: step_sort_key(entry.kind, entry.window_end))
    drifts = {(entry.window_start, entry.window_end): entry for entry in steps.drifts}
    ordered = list(steps.trainings)
    for window in steps.windows:
        drift = drifts.pop((window.window_start, window.window_end), None)
        ordered += [window] if drift is None else [window, drift]
    return [*ordered, *drifts.values(), *steps.prunes]


def _late_queue(store: Store, config: Config, policy: str, as_of: int) -> Queue:
    """Late arrivals: queued transactions whose window is done and for which a model is in force."""
    queue = scoring_queue.queued(store, policy, as_of, config.schedule.allowed_lateness)
    times = queue.event_time
    planned = schedule_history.planned_until(store, policy)
    late = times < ((scoring_queue.starts_at(store, policy) or 0) if planned is None else planned)
    for start, end in planning.windows_not_done(store, policy):
        late &= ~((times >= start) & (times < end))
    late &= ModelCache(store, config, policy).model_ids(times) >= 0
    return Queue(queue.transaction_id[late], times[late], queue.ingested_at[late])


def _score_late_arrivals(context: RunContext) -> RunSummary:
    """Score late arrivals point in time, a day at a time; not if another worker is at work on them."""
    queue = _late_queue(context.store, context.config, context.policy, context.as_of)
    if not len(queue.transaction_id):
        return RunSummary()
    try:
        with leases.hold(context.store, f"late:{context.policy}", context.by, LATE_LEASE):
            return _score_days(context, queue)
    except Locked:
        raise
    except Busy as error:
        context.progress.note(str(error))
        return RunSummary()


def _score_days(context: RunContext, queue: Queue) -> RunSummary:
    reader = HistoryReader(context.store, context.config, context.policy, context.as_of)
    model_cache = ModelCache(context.store, context.config, context.policy)
    summary = RunSummary()
    for day in np.unique(queue.event_time // DAY):
        if context.should_stop():
            return summary.plus(RunSummary(stopped=True))
        ids = queue.between(int(day * DAY), int((day + 1) * DAY))
        scored, _ = score_rows(context, reader, model_cache, int(day * DAY), int((day + 1) * DAY), ids)
        summary = summary.plus(replace(scored, late=scored.scored))
    return summary
