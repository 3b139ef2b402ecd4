"""
The steps of a run: each is claimed, carried out while it is this worker's, and finished or failed.

Trainings wait for each other, since each needs the choice before it; of other steps a worker leaves out those that another
one is at work on.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from detectors.base import DetectorError
from pipeline.config.retention import cutoffs
from pipeline.errors import FraudwatchError, NotReady
from pipeline.memory import release_freed_memory
from pipeline.monitoring import drift_reference, quality
from pipeline.monitoring.drift import window_drift
from pipeline.runs.window_scores import score_rows
from pipeline.schedule import planning
from pipeline.schedule.run_context import HistoryReader, RunContext, RunSummary
from pipeline.scoring.model_cache import ModelCache
from pipeline.scoring.score_rows import ScoredBatch
from pipeline.training import strategy_choice, train
from pipeline.training.promotion_gate import PromotionGate
from storage.admin import prune
from storage.database.database import Store
from storage.errors import Damaged, StepRunning, StepTaken, StorageError, Unknown
from storage.frames import DAY, Strings
from storage.models import models
from storage.monitoring import drift_metrics
from storage.runs import ledger, scoring_queue
from storage.runs.ledger import Entry

RETRY_S = 0.5  # between two looks at a step that another worker is at work on
# Recorded with the entry; the run goes on with the next one.
RECORDED_ERRORS = (FraudwatchError, DetectorError, Damaged, Unknown)


def process_entries(
    context: RunContext,
    entries: Sequence[Entry],
    ids_of: Callable[[int, int], Strings],
    fixed_model_id: int | None = None,
    *,
    wait: bool = False,
    runner: "LedgerRunner | None" = None,
) -> RunSummary:
    """
    Process ledger entries in the order given; skip those that another worker is at work on or has finished meanwhile.

    Parameters
    ----------
    wait
        Whether to wait at the end for those that another worker is at work on, and to process them if it dies.
    runner
        That has history and models in memory already.
    """
    end = max((entry.window_end for entry in entries), default=0)
    runner = runner or LedgerRunner(context, end, fixed_model_id)
    summary, remaining = RunSummary(), list(entries)
    context.progress.start("scoring", float(len(entries)), "steps")
    while remaining:
        for entry in remaining:
            if context.should_stop():
                summary = summary.plus(RunSummary(stopped=True))
                break
            summary = summary.plus(runner.process(entry, ids_of))
            context.progress.advance(1)
        remaining = [] if summary.stopped or not wait else runner.take_busy()
        if remaining:
            time.sleep(RETRY_S)
    context.progress.stop()
    return summary


class UnscoredIds:
    """Ids of the transactions in a window that have no score yet."""

    def __init__(self, run: RunContext) -> None:
        self._run = run

    def __call__(self, begin: int, until: int) -> Strings:
        run = self._run
        lateness = run.config.schedule.allowed_lateness
        return scoring_queue.unscored(run.store, run.policy, begin, until, run.as_of, lateness).transaction_id


class LedgerRunner:
    """
    Processes ledger entries, each claimed first.

    It keeps the history, the models and the last window's scored batches in memory, and the entries that other workers are
    at work on.
    """

    def __init__(self, context: RunContext, end: int, fixed_model_id: int | None) -> None:
        self.context = context
        self.reader = HistoryReader(context.store, context.config, context.policy, end)
        self.model_cache = ModelCache(context.store, context.config, context.policy, fixed_model_id)
        self._window: tuple[int, int] | None = None
        self._batches: list[ScoredBatch] = []
        self._busy: list[Entry] = []

    def process(self, entry: Entry, ids_of: Callable[[int, int], Strings]) -> RunSummary:
        """Process one entry."""
        try:
            return self._process(entry, ids_of)
        except StepTaken as error:
            self.context.progress.note(str(error))
            return RunSummary()

    def take_busy(self) -> list[Entry]:
        """The entries that were left out because another worker was at work on them; they are forgotten here."""
        busy, self._busy = self._busy, []
        return busy

    def _process(self, entry: Entry, ids_of: Callable[[int, int], Strings]) -> RunSummary:
        if entry.kind == "train":
            return train_step(self.context, entry, self.reader, self.model_cache)
        if entry.kind == "score":
            return self._score(entry, ids_of(entry.window_start, entry.window_end))
        if entry.kind == "prune":
            return self._prune(entry)
        if entry.kind == "quality":
            return self._quality(entry)
        return self._drift(entry)

    def _claim(self, entry: Entry) -> Entry | None:
        try:
            return ledger.claim(self.context.store, entry, self.context.run_id, self.context.worker)
        except StepRunning:
            self._busy.append(entry)
            return None

    def _score(self, entry: Entry, ids: Strings) -> RunSummary:
        """Score a window's unscored transactions; even a finished window may have some."""
        self._window, self._batches = None, []
        if entry.status == "done" and not len(ids):
            return RunSummary()
        claimed = self._claim(entry)
        if claimed is None:
            return RunSummary()
        with _record_failures(self.context, claimed) as failures:
            span = entry.window_start, entry.window_end
            summary, self._batches = score_rows(self.context, self.reader, self.model_cache, *span, ids)
            self._window = span
            ledger.finish(self.context.store, claimed, summary.counts(), self.context.as_of)
            return replace(summary, windows=1)
        return RunSummary(failures=failures)

    def _prune(self, entry: Entry) -> RunSummary:
        """Let flags that were too old at the entry's date expire, then delete rows that were past their retention."""
        claimed = self._claim(entry)
        if claimed is None:
            return RunSummary()
        with _record_failures(self.context, claimed) as failures:
            date = entry.window_end
            before = cutoffs(self.context.config, date)
            pruned = prune.prune(self.context.store, before, date, by=self.context.by)
            ledger.finish(self.context.store, claimed, pruned, self.context.as_of)
        return RunSummary(failures=failures)

    def _quality(self, entry: Entry) -> RunSummary:
        """Measure quality on mature labels and estimate it for the window; repeated if more of it was scored since."""
        store, config, span = self.context.store, self.context.config, (entry.window_start, entry.window_end)
        # Another worker may have measured it since it was read, and before this one had scored its windows.
        entry = ledger.find(store, entry.policy, entry.kind, *span) or entry
        if entry.status == "done" and not quality.is_outdated(store, config, entry.policy, span):
            return RunSummary()
        unfinished = [
            window
            for window in _unfinished_windows(store, entry.policy)
            if window.window_start < span[1] and span[0] < window.window_end
        ]
        if unfinished:
            self._note_busy(entry, unfinished)
            return RunSummary()  # its windows are not finished yet
        claimed = self._claim(entry)
        if claimed is None:
            return RunSummary()
        with _record_failures(self.context, claimed) as failures:
            measured = quality.run_step(store, config, self.context.policy, self.context.run_id, span)
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
            self._note_busy(entry, [scoring])
            return RunSummary()  # its window is not finished yet
        claimed = self._claim(entry)
        if claimed is None:
            return RunSummary()
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

    def _note_busy(self, entry: Entry, needed: Sequence[Entry]) -> None:
        """Note an entry that can be processed once other workers have finished what it needs."""
        if all(step.status == "running" for step in needed):
            self._busy.append(entry)


def _unfinished_windows(store: Store, policy: str) -> list[Entry]:
    return [entry for entry in ledger.unfinished(store, policy) if entry.kind == "score"]


@contextmanager
def _record_failures(context: RunContext, claimed: Entry) -> Iterator[list[str]]:
    """
    Write only while the entry is this worker's; record why it failed and when it is retried.

    Errors are recorded, bugs too, and the run goes on with the next entry. If the database is unreachable, the entry is due
    again when this worker ends, and the next run repeats it.
    """
    failures: list[str] = []
    with ledger.fenced(context.store, claimed):
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


def train_step(
    context: RunContext, entry: Entry, reader: HistoryReader, model_cache: ModelCache, *, force: bool = False
) -> RunSummary:
    """
    Choose a strategy and fit a model: one training at a time for a policy, each date once.

    The windows after it need its model, so a training that another worker is at work on is waited for. The data known at a
    training date never change, so a training that cannot be fitted is not retried: its windows are scored by the previous
    model. The same holds for a training date that has no new transactions.
    """
    finished = entry.status == "done" and not force
    claimed = None if finished else _claim_when_free(context, entry)
    if claimed is None:
        model_cache.refresh()
        return RunSummary()
    with _record_failures(context, claimed) as failures:
        sentence = None
        if force or planning.has_new_transactions(context.store, context.config, claimed.window_end):
            sentence = _fit_and_promote(context, claimed, reader, model_cache)
        else:
            ledger.finish(context.store, claimed, {"nothing_new": 1}, context.as_of)
    model_cache.refresh()
    if failures or sentence is None:
        return RunSummary(failures=failures)
    context.progress.note(sentence)
    return RunSummary(trainings=[sentence])


def _claim_when_free(context: RunContext, entry: Entry) -> Entry | None:
    """Claim an entry once no other worker is at work on it; None if that one has finished it, or this run is to stop."""
    while True:
        try:
            return ledger.claim(context.store, entry, context.run_id, context.worker)
        except StepRunning:
            if context.should_stop():
                return None
            time.sleep(RETRY_S)


def _fit_and_promote(
    context: RunContext, claimed: Entry, reader: HistoryReader, model_cache: ModelCache
) -> str:
    date, store, config = claimed.window_end, context.store, context.config
    try:
        choice = strategy_choice.choose_at(
            store, config, reader.for_training, context.policy, date, context.run_id
        )
        history = reader.for_training(date)
        release_freed_memory()
        training_data = train.prepare(config, history, date, reader.mutes, choice.prevalence)
        release_freed_memory()
        reference = drift_reference.reference_history(store, config, history, date)
        models.save_findings(
            store, context.policy, date, context.run_id, [finding.row() for finding in training_data.findings]
        )
        training_data.raise_on_errors()
        fitted = train.fit(config, history, training_data, choice, date, context.run_id, reference)
    except (NotReady, DetectorError) as error:
        ledger.fail(store, claimed, str(error), context.as_of)
        return f"{planning.day(date)}: no new model: {error}"
    training_data = training_data.after_fit()
    release_freed_memory()
    gate = PromotionGate(store, config, model_cache, reader)
    check = gate.check(history, training_data, choice, fitted.model, date)
    model_id = models.install(
        store, claimed, fitted.record, fitted.artifact, choice.sentence, context.by, context.as_of, check
    )
    scoring_queue.drop_before_first_model(store, context.policy)
    if check is not None and check.verdict == "rejected":
        return f"{planning.day(date)}: candidate {model_id} was rejected. {check.sentence}"
    return f"{planning.day(date)}: {choice.strategy}. {choice.sentence}"
