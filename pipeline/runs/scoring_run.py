"""
One scoring run, from its first step to its last. Read this first.

    plan → claim → load → features → score → flag, explain → write → drift → quality

`process_entries` works through ledger entries (trainings, windows, drift) in the order of time. A scheduled run and
a backfill differ only in which entries they process and in where a window's transactions come from. Each transaction
is scored point in time, by the model in force at its event time and with the data known then, so both write the
same bytes.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from detectors.base import DetectorError
from detectors.model.model import Scores
from pipeline.config.config import Config
from pipeline.config.retention import cutoffs
from pipeline.errors import FraudwatchError, NotReady
from pipeline.monitoring import drift_reference, quality
from pipeline.monitoring.drift import window_drift
from pipeline.progress import Progress
from pipeline.rules import engine, mutes
from pipeline.schedule import planning
from pipeline.schedule.run_context import (
    LIVE,
    HistoryReader,
    RunContext,
    RunSummary,
    Step,
    never_stop,
    pending,
    start_run,
    step_sort_key,
)
from pipeline.scoring.audit_sample import with_audit
from pipeline.scoring.flags import flags_of
from pipeline.scoring.model_cache import ModelCache
from pipeline.scoring.score_rows import ScoredBatch, score_batch
from pipeline.training import strategy_choice, train
from pipeline.training.promotion_gate import PromotionGate
from storage.admin import prune
from storage.database import leases
from storage.database.database import Store
from storage.errors import Damaged, StorageError, Unknown
from storage.frames import DAY, SECOND, Ints, Strings
from storage.models import models
from storage.monitoring import drift_metrics
from storage.runs import ledger, runs, schedule_history, scoring_queue
from storage.runs import scores as results
from storage.runs.ledger import Entry
from storage.runs.scoring_queue import Queue

TRAIN_LEASE = 60 * SECOND  # renewed while a training runs; a killed training blocks others this long
# Recorded with the entry; the run goes on with the next one.
RECORDED_ERRORS = (FraudwatchError, DetectorError, Damaged, Unknown)


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
        return finish_run(
            context,
            _train(
                context, entry, HistoryReader(context, date), ModelCache(store, config, policy), force=True
            ),
        )


def finish_run(context: RunContext, summary: RunSummary) -> RunSummary:
    """Write status, counts and errors to the run's row."""
    status = "failed" if summary.failures else "done"
    error = "; ".join(summary.failures) or None
    runs.end_run(context.store, context.run_id, context.as_of, status, summary.counts(), error)
    return replace(summary, run_id=context.run_id, bugs=[*summary.bugs, *context.bugs])


def process_entries(
    context: RunContext,
    entries: Sequence[Entry],
    ids_of: Callable[[int, int], Strings],
    fixed_model_id: int | None = None,
) -> RunSummary:
    """Process ledger entries in the order given; skip those that another process has finished meanwhile."""
    runner = LedgerRunner(context, max((entry.window_end for entry in entries), default=0), fixed_model_id)
    summary = RunSummary()
    context.progress.start("scoring", float(len(entries)), "steps")
    for entry in entries:
        if context.should_stop():
            summary = summary.plus(RunSummary(stopped=True))
            break
        summary = summary.plus(runner.process(entry, ids_of))
        context.progress.advance(1)
    context.progress.stop()
    return summary


class LedgerRunner:
    """Processes ledger entries; keeps the history, the models and the last window's scored batches in memory."""

    def __init__(self, context: RunContext, end: int, fixed_model_id: int | None) -> None:
        self.context = context
        self.reader = HistoryReader(context, end)
        self.model_cache = ModelCache(context.store, context.config, context.policy, fixed_model_id)
        self._window: tuple[int, int] | None = None
        self._batches: list[ScoredBatch] = []

    def process(self, entry: Entry, ids_of: Callable[[int, int], Strings]) -> RunSummary:
        """Process one entry."""
        if entry.kind == "train":
            return _train(self.context, entry, self.reader, self.model_cache)
        if entry.kind == "score":
            return self._score(entry, ids_of(entry.window_start, entry.window_end))
        if entry.kind == "prune":
            return self._prune(entry)
        if entry.kind == "quality":
            return self._quality(entry)
        return self._drift(entry)

    def _score(self, entry: Entry, ids: Strings) -> RunSummary:
        """Score a window's unscored transactions; even a finished window may have some."""
        self._window, self._batches = None, []
        if entry.status == "done" and not len(ids):
            return RunSummary()
        claimed = ledger.claim(self.context.store, entry, self.context.run_id)
        with _record_failures(self.context, claimed) as failures:
            span = entry.window_start, entry.window_end
            summary, self._batches = score_rows(self.context, self.reader, self.model_cache, *span, ids)
            self._window = span
            ledger.finish(self.context.store, claimed, summary.counts(), self.context.as_of)
            return replace(summary, windows=1)
        return RunSummary(failures=failures)

    def _prune(self, entry: Entry) -> RunSummary:
        """Let flags that were too old at the entry's date expire, then delete rows that were past their retention."""
        claimed = ledger.claim(self.context.store, entry, self.context.run_id)
        with _record_failures(self.context, claimed) as failures:
            date = entry.window_end
            pruned = prune.prune(self.context.store, cutoffs(self.context.config, date), date)
            ledger.finish(self.context.store, claimed, pruned, self.context.as_of)
        return RunSummary(failures=failures)

    def _quality(self, entry: Entry) -> RunSummary:
        """Measure quality on mature labels and estimate it for the window; repeated if more of it was scored since."""
        store, span = self.context.store, (entry.window_start, entry.window_end)
        if any(
            window.window_start < span[1] and span[0] < window.window_end
            for window in _unfinished_windows(store, entry.policy)
        ):
            return RunSummary()  # its windows are not finished yet
        claimed = ledger.claim(store, entry, self.context.run_id)
        with _record_failures(self.context, claimed) as failures:
            measured = quality.run_step(
                store, self.context.config, self.context.policy, self.context.run_id, span
            )
            for sentence in measured.alarms:
                self.context.progress.note(sentence)
            ledger.finish(store, claimed, measured.counts(), self.context.as_of)
        return RunSummary(failures=failures)

    def _drift(self, entry: Entry) -> RunSummary:
        """Measure a window's drift, from memory if it was scored just now."""
        span = entry.window_start, entry.window_end
        scoring = ledger.find(self.context.store, entry.policy, "score", *span)
        if entry.status == "done" and not self._batches:
            return RunSummary()
        if scoring is not None and scoring.is_open:
            return RunSummary()  # its window is not finished yet
        claimed = ledger.claim(self.context.store, entry, self.context.run_id)
        with _record_failures(self.context, claimed) as failures:
            batches = self._batches if self._window == span else []
            rows, small = window_drift(self.context, self.reader, self.model_cache, span, batches)
            drift_metrics.write_drift(
                self.context.store, self.context.policy, self.context.run_id, rows, small
            )
            alarms = sum(row.alarm for row in rows)
            ledger.finish(
                self.context.store, claimed, {"rows": len(rows), "alarms": alarms}, self.context.as_of
            )
        self._window, self._batches = None, []
        return RunSummary(failures=failures)


def _unfinished_windows(store: Store, policy: str) -> list[Entry]:
    return [entry for entry in ledger.unfinished(store, policy) if entry.kind == "score"]


@contextmanager
def _record_failures(context: RunContext, claimed: Entry) -> Iterator[list[str]]:
    """
    Record why an entry failed and when it is retried.

    Errors are recorded, bugs too, and the run goes on with the next entry. If the database is unreachable or another
    process took the entry over, the entry stays `running` and the next run repeats it.
    """
    failures: list[str] = []
    try:
        yield failures
    except RECORDED_ERRORS as error:
        failures.append(_fail(context, claimed, error))
    except StorageError:
        raise
    except Exception as error:  # noqa: BLE001 (a bug in one step must not stop the others; who runs them raises or logs it)
        failures.append(_fail(context, claimed, error))
        context.bugs.append(error)


def _fail(context: RunContext, claimed: Entry, error: Exception) -> str:
    clock = context.config.schedule
    retry_at = None
    if claimed.attempts < clock.attempts:
        retry_at = context.as_of + min(clock.backoff * 2 ** (claimed.attempts - 1), DAY)
    message = f"{type(error).__name__}: {error}" if not isinstance(error, RECORDED_ERRORS) else str(error)
    ledger.fail(context.store, claimed, message, context.as_of, retry_at)
    remedy = "it will be retried" if retry_at else "no retries left"
    sentence = f"{claimed.kind} of {planning.day(claimed.window_end)} failed: {message}; {remedy}"
    context.progress.note(sentence)
    return sentence


def _train(
    context: RunContext, entry: Entry, reader: HistoryReader, model_cache: ModelCache, *, force: bool = False
) -> RunSummary:
    """
    Choose a strategy and fit a model under the training lease: one at a time for a policy, each date once.

    The data known at a training date never change, so a training that cannot be fitted is not retried: its windows are
    scored by the previous model. The same holds for a training date that has no new transactions.
    """
    lease = f"train:{context.policy}"
    with leases.hold_when_free(context.store, lease, context.by, TRAIN_LEASE, context.should_stop):
        current = ledger.find(context.store, *_key(entry)) or entry
        if current.status == "done" and not force:
            model_cache.refresh()
            return RunSummary()
        if not force and not planning.has_new_transactions(context.store, context.config, current.window_end):
            ledger.finish(context.store, current, {"nothing_new": 1}, context.as_of)
            return RunSummary()
        claimed = ledger.claim(context.store, current, context.run_id)
        with _record_failures(context, claimed) as failures:
            sentence = _fit_and_promote(context, claimed, reader, model_cache)
    model_cache.refresh()
    if failures:
        return RunSummary(failures=failures)
    context.progress.note(sentence)
    return RunSummary(trainings=[sentence])


def _fit_and_promote(
    context: RunContext, claimed: Entry, reader: HistoryReader, model_cache: ModelCache
) -> str:
    date, store, config = claimed.window_end, context.store, context.config
    try:
        choice = strategy_choice.choose_through(
            store, config, reader.for_training, context.policy, date, context.run_id
        )
        history = reader.for_training(date)
        training_data = train.prepare(config, history, date, reader.mutes)
        reference = drift_reference.reference_history(store, config, history, date)
        models.save_findings(
            store, context.policy, date, context.run_id, [finding.row() for finding in training_data.findings]
        )
        training_data.raise_on_errors()
        fitted = train.fit(config, history, training_data, choice, date, context.run_id, reference)
    except (NotReady, DetectorError) as error:
        ledger.fail(store, claimed, str(error), context.as_of)
        return f"{planning.day(date)}: no new model: {error}"
    check = PromotionGate(store, config, model_cache, reader).check(history, training_data, choice, date)
    model_id = models.install(
        store, claimed, fitted.record, fitted.artifact, choice.sentence, context.by, context.as_of, check
    )
    scoring_queue.drop_before_first_model(store, context.policy)
    if check is not None and check.verdict == "rejected":
        return f"{planning.day(date)}: candidate {model_id} was rejected. {check.sentence}"
    return f"{planning.day(date)}: {choice.strategy}. {choice.sentence}"


def _key(entry: Entry) -> tuple[str, str, int, int]:
    return entry.policy, entry.kind, entry.window_start, entry.window_end


def score_rows(
    context: RunContext, reader: HistoryReader, model_cache: ModelCache, start: int, end: int, ids: Strings
) -> tuple[RunSummary, list[ScoredBatch]]:
    """Score these transactions, each by the model in force at its event time; write scores and flags."""
    if not len(ids):
        return RunSummary(), []
    summary, batches = RunSummary(), []
    for batch, rows in _batches_by_model(context, reader, model_cache, start, end, ids):
        if batch is None:
            summary = summary.plus(RunSummary(no_model=len(rows)))
        else:
            summary = summary.plus(_write_scores(context, reader, model_cache, batch))
            batches.append(batch.scored)
    return summary, batches


@dataclass(frozen=True)
class _ModelBatch:
    """The transactions of a window that one model scores, with rules and the audit sample applied."""

    scored: ScoredBatch
    scores: Scores  # after rules and the audit sample
    rule_ids: Ints  # the rule that flags each row, 0 for none


def _batches_by_model(
    context: RunContext, reader: HistoryReader, model_cache: ModelCache, start: int, end: int, ids: Strings
) -> Iterator[tuple[_ModelBatch | None, Ints]]:
    history = reader.for_rows(start, end, ids)
    rows = history.positions(ids, start, end)
    model_ids = model_cache.model_ids(history.transactions.event_time[rows])
    for model_id in np.unique(model_ids):
        chosen = rows[model_ids == model_id]
        if model_id < 0:
            yield None, chosen
            continue
        batch = score_batch(context.config, model_cache, history, chosen, int(model_id))
        rule_batch = engine.RuleBatch(
            history, chosen, context.config, batch.features, batch.raw, model_cache.maturity(int(model_id))
        )
        rule_ids = engine.first_matching_rules(reader.rules, rule_batch)
        scores = with_audit(
            batch.model,
            engine.with_rules(batch.scores, rule_ids),
            history.transactions.transaction_id[chosen],
        )
        yield _ModelBatch(batch, scores, rule_ids), chosen


def _write_scores(
    context: RunContext, reader: HistoryReader, model_cache: ModelCache, model_batch: _ModelBatch
) -> RunSummary:
    batch, rows, scores = model_batch.scored, model_batch.scored.rows, model_batch.scores
    flags = []
    if context.policy == LIVE:
        reasons = engine.reasons(reader.rules, model_batch.rule_ids)
        flags = flags_of(
            batch.model, batch.model_id, batch.features, batch.raw, rows, scores, context.config, reasons
        )
        flags = mutes.mark_muted(flags, rows, reader.mutes)
    written = results.write_scores(
        context.store,
        context.policy,
        context.run_id,
        results.ModelScores(
            transaction_id=rows.transaction_id,
            model_id=batch.model_id,
            strategy=batch.model.strategy,
            score=scores.score,
            outlier_score=scores.outlier_score,
            fraud_probability=scores.fraud_probability,
            decision_value=scores.decision_value,
            threshold=scores.threshold,
            channel=scores.channel,
            flagged=scores.flagged,
            expected_loss=batch.expected_loss,
            in_sample=_in_sample_mask(batch, fixed_model_id=model_cache.fixed_model_id),
        ),
        flags,
        notify=context.notifies,
    )
    return RunSummary(scored=written.scored, flagged=written.flagged, already_scored=written.already)


def _in_sample_mask(batch: ScoredBatch, fixed_model_id: int | None) -> NDArray[np.bool_] | None:
    """Rows that the model was trained on, when one fixed model scores the past; None if models only score later rows."""
    if fixed_model_id is None:
        return None
    return batch.rows.event_time < int(batch.model.notes["trained_at"])


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
    late = times < (schedule_history.planned_until(store, policy) or 0)
    for start, end in planning.windows_not_done(store, policy):
        late &= ~((times >= start) & (times < end))
    late &= ModelCache(store, config, policy).model_ids(times) >= 0
    return Queue(queue.transaction_id[late], times[late], queue.ingested_at[late])


def _score_late_arrivals(context: RunContext) -> RunSummary:
    """Score late arrivals point in time, a day at a time."""
    queue = _late_queue(context.store, context.config, context.policy, context.as_of)
    reader = HistoryReader(context, context.as_of)
    model_cache = ModelCache(context.store, context.config, context.policy)
    summary = RunSummary()
    for day in np.unique(queue.event_time // DAY):
        if context.should_stop():
            return summary.plus(RunSummary(stopped=True))
        ids = queue.between(int(day * DAY), int((day + 1) * DAY))
        scored, _ = score_rows(context, reader, model_cache, int(day * DAY), int((day + 1) * DAY), ids)
        summary = summary.plus(replace(scored, late=scored.scored))
    return summary
