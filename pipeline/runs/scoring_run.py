"""
One scoring run, from its first step to its last. Read this first.

    plan → claim → load → features → score → flag, explain → write → drift → quality

`live_through` walks a list of ledger entries (trainings, windows, drift) in the order of time; a scheduled run
and a backfill differ only in the entries they take on and in where a window's transactions come from. Each
transaction is scored by the model of its own time with the knowledge of its own `as_of`, so both write the
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
from pipeline.monitoring.drift import drift_of
from pipeline.progress import Progress
from pipeline.rules import engine, mutes
from pipeline.schedule import planning
from pipeline.schedule.run_context import LIVE, Reader, RunContext, Step, Tally, in_time, job, never, pending
from pipeline.scoring.audit_sample import with_audit
from pipeline.scoring.flags import flags_of
from pipeline.scoring.model_cache import Shelf
from pipeline.scoring.score_rows import Measured, measure
from pipeline.training import strategy_choice, train
from pipeline.training.promotion_gate import Gate
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

TRAIN_LEASE = 60 * SECOND  # renewed while a training runs; what a killed one holds others up
KNOWN = (FraudwatchError, DetectorError, Damaged, Unknown)  # recorded; the run goes on with the next window


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
    stopping: Callable[[], bool] = never,
) -> Tally:
    """
    Do whatever is due at `as_of`: trainings, windows, and transactions that came late.

    When the ledger and the queue ask for nothing, nothing is written, not even a row about the run.

    Parameters
    ----------
    catch_up
        At most so many windows, the newest first, so that the present is not starved; None for all of them.
    stopping
        Asked between steps: what is left is the next run's.
    """
    starts_at = planning.plan(store, config, policy, as_of)
    work = planning.open_work(store, policy, starts_at, as_of, catch_up)
    if not len(work) and not len(_late(store, config, policy, as_of).transaction_id):
        return Tally()
    with job(store, config, as_of, policy, kind, by, progress, stopping) as this:
        queue = scoring_queue.queued(store, policy, this.as_of, config.schedule.allowed_lateness)
        tally = live_through(this, _in_order(work), queue.between)
        if not tally.stopped:
            tally = tally.plus(_score_late(this))
            tally = tally.plus(live_through(this, work.qualities, queue.between))  # with what came late
        return ended(this, tally.plus(Tally(left=work.left)))


def train_once(
    store: Store,
    config: Config,
    *,
    date: int,
    as_of: int,
    policy: str,
    by: str,
    progress: Progress | None = None,
) -> Tally:
    """
    Train for one date now, whatever the schedule says; its model takes effect from that date on.
    """
    with job(store, config, as_of, policy, "train", by, progress) as this:
        entry = pending(policy, Step("train", date, date), config.schedule.allowed_lateness)
        ledger.ensure(store, [entry])
        return ended(this, _train(this, entry, Reader(this, date), Shelf(store, config, policy), again=True))


def ended(this: RunContext, tally: Tally) -> Tally:
    """Close the run's row with what it did."""
    status = "failed" if tally.failures else "done"
    error = "; ".join(tally.failures) or None
    runs.end_run(this.store, this.run_id, this.as_of, status, tally.counts(), error)
    return replace(tally, run_id=this.run_id)


def live_through(
    this: RunContext, entries: Sequence[Entry], ids_of: Callable[[int, int], Strings], only: int | None = None
) -> Tally:
    """Walk through ledger entries in the order given; skip what was done meanwhile."""
    walk = _Walk(this, max((entry.window_end for entry in entries), default=0), only)
    tally = Tally()
    this.progress.start("scoring", float(len(entries)), "steps")
    for entry in entries:
        if this.stopping():
            tally = tally.plus(Tally(stopped=True))
            break
        tally = tally.plus(walk.step(entry, ids_of))
        this.progress.advance(1)
    this.progress.stop()
    return tally


class _Walk:
    """The state of one walk: history and models at hand, and what the last window held."""

    def __init__(self, this: RunContext, end: int, only: int | None) -> None:
        self.this = this
        self.reader = Reader(this, end)
        self.shelf = Shelf(this.store, this.config, this.policy, only)
        self._window: tuple[int, int] | None = None
        self._measured: list[Measured] = []

    def step(self, entry: Entry, ids_of: Callable[[int, int], Strings]) -> Tally:
        """Do one entry."""
        if entry.kind == "train":
            return _train(self.this, entry, self.reader, self.shelf)
        if entry.kind == "score":
            return self._score(entry, ids_of(entry.window_start, entry.window_end))
        if entry.kind == "prune":
            return self._prune(entry)
        if entry.kind == "quality":
            return self._quality(entry)
        return self._drift(entry)

    def _score(self, entry: Entry, ids: Strings) -> Tally:
        """Score a window's transactions; a window that is done may still have some, never a second time."""
        self._window, self._measured = None, []
        if entry.status == "done" and not len(ids):
            return Tally()
        claimed = ledger.claim(self.this.store, entry, self.this.run_id)
        with _recorded(self.this, claimed) as failures:
            span = entry.window_start, entry.window_end
            tally, self._measured = score_rows(self.this, self.reader, self.shelf, *span, ids)
            self._window = span
            ledger.finish(self.this.store, claimed, tally.counts(), self.this.as_of)
            return replace(tally, windows=1)
        return Tally(failures=failures)

    def _prune(self, entry: Entry) -> Tally:
        """Delete what was older than its retention at the entry's date."""
        claimed = ledger.claim(self.this.store, entry, self.this.run_id)
        with _recorded(self.this, claimed) as failures:
            gone = prune.prune(self.this.store, cutoffs(self.this.config, entry.window_end))
            ledger.finish(self.this.store, claimed, gone, self.this.as_of)
        return Tally(failures=failures)

    def _quality(self, entry: Entry) -> Tally:
        """Measure what has matured and estimate the window; again where more of it was scored meanwhile."""
        store, span = self.this.store, (entry.window_start, entry.window_end)
        if any(
            one.window_start < span[1] and span[0] < one.window_end for one in _to_score(store, entry.policy)
        ):
            return Tally()  # it waits for its windows
        claimed = ledger.claim(store, entry, self.this.run_id)
        with _recorded(self.this, claimed) as failures:
            found = quality.step(store, self.this.config, self.this.policy, self.this.run_id, span)
            for sentence in found.alarms:
                self.this.progress.note(sentence)
            ledger.finish(store, claimed, found.counts(), self.this.as_of)
        return Tally(failures=failures)

    def _drift(self, entry: Entry) -> Tally:
        """Measure a window's drift, from memory when it was scored just now."""
        span = entry.window_start, entry.window_end
        scoring = ledger.find(self.this.store, entry.policy, "score", *span)
        if entry.status == "done" and not self._measured:
            return Tally()
        if scoring is not None and scoring.will_be_tried:
            return Tally()  # it waits for its window
        claimed = ledger.claim(self.this.store, entry, self.this.run_id)
        with _recorded(self.this, claimed) as failures:
            held = self._measured if self._window == span else []
            found, small = drift_of(self.this, self.reader, self.shelf, span, held)
            drift_metrics.write_drift(self.this.store, self.this.policy, self.this.run_id, found, small)
            alarms = sum(row.alarm for row in found)
            ledger.finish(self.this.store, claimed, {"rows": len(found), "alarms": alarms}, self.this.as_of)
        self._window, self._measured = None, []
        return Tally(failures=failures)


def _to_score(store: Store, policy: str) -> list[Entry]:
    return [entry for entry in ledger.unfinished(store, policy) if entry.kind == "score"]


@contextmanager
def _recorded(this: RunContext, claimed: Entry) -> Iterator[list[str]]:
    """
    Write down why an entry failed, and when it is tried again.

    What has a name is recorded, and the run goes on with the next entry. A database that is away or taken over
    leaves the entry `running`: whoever comes next does it again. Anything else is a bug: recorded, and raised on.
    """
    failures: list[str] = []
    try:
        yield failures
    except KNOWN as error:
        failures.append(_fail(this, claimed, error))
    except StorageError:
        raise
    except Exception as error:
        _fail(this, claimed, error)
        raise


def _fail(this: RunContext, claimed: Entry, error: Exception) -> str:
    clock = this.config.schedule
    again = None
    if claimed.attempts < clock.attempts:
        again = this.as_of + min(clock.backoff * 2 ** (claimed.attempts - 1), DAY)
    told = f"{type(error).__name__}: {error}" if not isinstance(error, KNOWN) else str(error)
    ledger.fail(this.store, claimed, told, this.as_of, again)
    remedy = "it will be tried again" if again else "it stays failed: see fraudwatch gaps"
    sentence = f"{claimed.kind} of {planning.day(claimed.window_end)} failed: {told}; {remedy}"
    this.progress.note(sentence)
    return sentence


def _train(this: RunContext, entry: Entry, reader: Reader, shelf: Shelf, *, again: bool = False) -> Tally:
    """
    Choose and fit under the lease of trainings: one at a time for a policy, each once.

    What a training date knows never changes, so one that cannot be fitted is not tried again: its windows go
    on with the model before it, as they do after one that knows no transaction that the one before did not.
    """
    lease = f"train:{this.policy}"
    with leases.held_when_free(this.store, lease, this.by, TRAIN_LEASE, this.stopping):
        fresh = ledger.find(this.store, *_key(entry)) or entry
        if fresh.status == "done" and not again:
            shelf.refresh()
            return Tally()
        if not again and not planning.knows_more(this.store, this.config, fresh.window_end):
            ledger.finish(this.store, fresh, {"nothing_new": 1}, this.as_of)
            return Tally()
        claimed = ledger.claim(this.store, fresh, this.run_id)
        with _recorded(this, claimed) as failures:
            sentence = _fit_and_promote(this, claimed, reader, shelf)
    shelf.refresh()
    if failures:
        return Tally(failures=failures)
    this.progress.note(sentence)
    return Tally(trainings=[sentence])


def _fit_and_promote(this: RunContext, claimed: Entry, reader: Reader, shelf: Shelf) -> str:
    date, store, config = claimed.window_end, this.store, this.config
    try:
        chosen = strategy_choice.choose_through(
            store, config, reader.for_training, this.policy, date, this.run_id
        )
        history = reader.for_training(date)
        made = train.prepare(config, history, date)
        reference = drift_reference.reference_history(store, config, history, date)
        models.save_findings(store, this.policy, date, this.run_id, [one.row() for one in made.findings])
        made.insist()
        fitted = train.fit(config, history, made, chosen, date, this.run_id, reference)
    except (NotReady, DetectorError) as error:
        ledger.fail(store, claimed, str(error), this.as_of)
        return f"{planning.day(date)}: no new model: {error}"
    check = (
        Gate(store, config, shelf, reader).check(history, made, chosen, date)
        if config.training.gate
        else None
    )
    model_id = models.install(
        store, claimed, fitted.record, fitted.artefact, chosen.sentence, this.by, this.as_of, check
    )
    scoring_queue.forget_before_first_model(store, this.policy)
    if check is not None and check.verdict == "refused":
        return (
            f"{planning.day(date)}: model {model_id} was refused. {check.sentence.format(model_id=model_id)}"
        )
    return f"{planning.day(date)}: {chosen.strategy}. {chosen.sentence}"


def _key(entry: Entry) -> tuple[str, str, int, int]:
    return entry.policy, entry.kind, entry.window_start, entry.window_end


def score_rows(
    this: RunContext, reader: Reader, shelf: Shelf, start: int, end: int, ids: Strings
) -> tuple[Tally, list[Measured]]:
    """Score these transactions, each by the model of its time; write scores and flags."""
    if not len(ids):
        return Tally(), []
    tally, measured = Tally(), []
    for one, rows in _by_model(this, reader, shelf, start, end, ids):
        if one is None:
            tally = tally.plus(Tally(no_model=len(rows)))
        else:
            tally = tally.plus(_write(this, reader, shelf, one))
            measured.append(one.measured)
    return tally, measured


@dataclass(frozen=True)
class _Part:
    """The transactions of a window that one model scores, and what else there is to say of them."""

    measured: Measured
    scores: Scores  # with what rules and audits add
    ruled: Ints  # the rule that asks for each row, 0 for none


def _by_model(
    this: RunContext, reader: Reader, shelf: Shelf, start: int, end: int, ids: Strings
) -> Iterator[tuple[_Part | None, Ints]]:
    history = reader.for_rows(start, end, ids)
    rows = history.positions(ids, start, end)
    model_ids = shelf.model_ids(history.transactions.event_time[rows])
    for model_id in np.unique(model_ids):
        chosen = rows[model_ids == model_id]
        if model_id < 0:
            yield None, chosen
            continue
        seen = measure(this.config, shelf, history, chosen, int(model_id))
        given = engine.Given(
            history, chosen, this.config, seen.features, seen.raw, shelf.maturity(int(model_id))
        )
        ruled = engine.hits(reader.rules, given)
        scores = with_audit(
            seen.model, engine.with_rules(seen.scores, ruled), history.transactions.transaction_id[chosen]
        )
        yield _Part(seen, scores, ruled), chosen


def _write(this: RunContext, reader: Reader, shelf: Shelf, part: _Part) -> Tally:
    seen, rows, scores = part.measured, part.measured.rows, part.scores
    flags = []
    if this.policy == LIVE:
        ruled = engine.reasons(reader.rules, part.ruled)
        flags = flags_of(seen.model, seen.model_id, seen.features, seen.raw, rows, scores, this.config, ruled)
        flags = mutes.marked(flags, rows, reader.mutes)
    written = results.write_scores(
        this.store,
        this.policy,
        this.run_id,
        results.Scored(
            transaction_id=rows.transaction_id,
            model_id=seen.model_id,
            strategy=seen.model.strategy,
            score=scores.score,
            outlier_score=scores.outlier_score,
            fraud_probability=scores.fraud_probability,
            decision_value=scores.decision_value,
            threshold=scores.threshold,
            channel=scores.channel,
            flagged=scores.flagged,
            in_sample=_in_sample(seen, only=shelf.only),
        ),
        flags,
        tell=this.tell,
    )
    return Tally(scored=written.scored, flagged=written.flagged, already=written.already)


def _in_sample(seen: Measured, only: int | None) -> NDArray[np.bool_] | None:
    """Which rows a model that scores the past was trained on; None where a model only sees what comes after it."""
    if only is None:
        return None
    return seen.rows.event_time < int(seen.model.notes["trained_at"])


def _in_order(work: planning.Work) -> list[Entry]:
    """By time; when catching up, trainings, then the newest window, then the oldest ones."""
    if not work.left:
        entries = [*work.trainings, *work.windows, *work.drifts, *work.prunes]
        return sorted(entries, key=lambda entry: in_time(entry.kind, entry.window_end))
    drift_metrics = {(entry.window_start, entry.window_end): entry for entry in work.drifts}
    ordered = list(work.trainings)
    for window in work.windows:
        drift = drift_metrics.pop((window.window_start, window.window_end), None)
        ordered += [window] if drift is None else [window, drift]
    return [*ordered, *drift_metrics.values(), *work.prunes]


def _late(store: Store, config: Config, policy: str, as_of: int) -> Queue:
    """What is queued for windows that are done, and has a model: it came after them."""
    queue = scoring_queue.queued(store, policy, as_of, config.schedule.allowed_lateness)
    times = queue.event_time
    late = times < (schedule_history.planned_until(store, policy) or 0)
    for start, end in planning.windows_not_done(store, policy):
        late &= ~((times >= start) & (times < end))
    late &= Shelf(store, config, policy).model_ids(times) >= 0
    return Queue(queue.transaction_id[late], times[late], queue.ingested_at[late])


def _score_late(this: RunContext) -> Tally:
    """Score what came late with what its own time knew, a day at a time."""
    queue = _late(this.store, this.config, this.policy, this.as_of)
    reader, shelf = Reader(this, this.as_of), Shelf(this.store, this.config, this.policy)
    tally = Tally()
    for day in np.unique(queue.event_time // DAY):
        if this.stopping():
            return tally.plus(Tally(stopped=True))
        ids = queue.between(int(day * DAY), int((day + 1) * DAY))
        scored, _ = score_rows(this, reader, shelf, int(day * DAY), int((day + 1) * DAY), ids)
        tally = tally.plus(replace(scored, late=scored.scored))
    return tally
