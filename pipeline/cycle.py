"""
One scoring run, from its first step to its last. Read this first.

    claim → load → features → score → flag, explain → write → drift

`live_through` walks a list of steps (trainings and windows) in the order of time; a scheduled run and a
backfill differ only in the steps they ask for and in where a window's transactions come from. Each
transaction is scored by the model of its own time with the knowledge of its own `as_of`, so both write the
same bytes.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from detectors.base import DetectorError
from pipeline import history as histories
from pipeline import schedule, training
from pipeline.config import Config
from pipeline.drifting import drift_rows
from pipeline.errors import FraudwatchError, NotReady
from pipeline.flags import flags_of
from pipeline.history import History
from pipeline.progress import Progress
from pipeline.shelf import Shelf
from pipeline.work import Job, Reader, Step, Tally, job, pending
from storage import history as stored
from storage import ledger, policies, results, runs
from storage.frames import MONEY, Ints, Strings
from storage.ledger import Entry
from storage.store import Store

MAX_ATTEMPTS = 3  # a training that failed so often stays failed and visible


def run(
    store: Store, config: Config, *, as_of: int, policy: str, by: str, progress: Progress | None = None
) -> Tally:
    """
    Do whatever is due at `as_of`: trainings, windows, and transactions that came late.

    The first run of a database decides `starts_at`: the start of the newest stored transaction's window.
    What is older is history; a backfill scores it.
    """
    lateness = config.schedule.allowed_lateness
    with job(store, config, as_of, policy, "manual", by, progress) as this:
        starts_at = _started(this)
        steps = _due(this, starts_at)
        queue = policies.queued(store, policy, this.as_of, lateness)
        tally = live_through(this, steps, queue.between)
        return ended(this, tally.plus(_late(this)))


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
        step = Step("train", date, date)
        ledger.ensure(store, [pending(policy, step, config.schedule.allowed_lateness)])
        entry = next(e for e in ledger.entries(store, policy, kind="train") if e.window_end == date)
        again = replace(entry, status="pending")
        return ended(this, _train(this, again, Reader(this, date), Shelf(store, policy)))


def ended(this: Job, tally: Tally) -> Tally:
    """Close the run's row with what it did."""
    runs.end_run(this.store, this.run_id, this.as_of, "done", tally.counts())
    return tally


def live_through(this: Job, steps: Sequence[Step], ids_of: Callable[[int, int], Strings]) -> Tally:
    """Walk through trainings and windows in the order of time; skip what the ledger has as done."""
    lateness = this.config.schedule.allowed_lateness
    ledger.ensure(this.store, [pending(this.policy, step, lateness) for step in steps])
    known = {(e.kind, e.window_start, e.window_end): e for e in ledger.entries(this.store, this.policy)}
    reader = Reader(this, max((step.end for step in steps), default=0))
    shelf = Shelf(this.store, this.policy)
    tally = Tally(this.run_id)
    this.progress.start("scoring", float(len(steps)), "windows")
    for step in sorted(steps, key=lambda step: step.order):
        entry = known[(step.kind, step.start, step.end)]
        if step.kind == "train":
            tally = tally.plus(_train(this, entry, reader, shelf))
        else:
            tally = tally.plus(_score(this, entry, reader, shelf, ids_of(step.start, step.end)))
        this.progress.advance(1)
    this.progress.stop()
    return tally


def _train(this: Job, entry: Entry, reader: Reader, shelf: Shelf) -> Tally:
    """A training that fails is recorded, and its windows go on with the model before it."""
    if entry.status == "done":
        return Tally()
    claimed = ledger.claim(this.store, entry, this.run_id)
    date = entry.window_end
    try:
        trained = training.train(
            this.store,
            this.config,
            reader.for_training(date),
            this.policy,
            date,
            this.run_id,
            this.by,
            this.as_of,
        )
    except (NotReady, DetectorError) as error:
        ledger.fail(this.store, claimed, str(error))
        sentence = f"{_day(date)}: no new model: {error}"
        this.progress.note(sentence)
        return Tally(trainings=[sentence])
    ledger.finish(this.store, claimed, {"model_id": trained.model_id, "choice_id": trained.choice_id})
    policies.forget_before_first_model(this.store, this.policy)
    shelf.refresh()
    sentence = f"{_day(date)}: {trained.choice.strategy}. {trained.choice.sentence}"
    this.progress.note(sentence)
    return Tally(trainings=[sentence])


def _score(this: Job, entry: Entry, reader: Reader, shelf: Shelf, ids: Strings) -> Tally:
    """Score a window's transactions; a window that is done may still have late ones, never a second time."""
    if entry.status == "done" and not len(ids):
        return Tally()
    claimed = ledger.claim(this.store, entry, this.run_id)
    try:
        tally = score_rows(this, reader, shelf, entry.window_start, entry.window_end, ids)
    except (FraudwatchError, DetectorError) as error:
        ledger.fail(this.store, claimed, str(error))
        raise
    ledger.finish(this.store, claimed, tally.counts())
    return replace(tally, windows=1)


def score_rows(this: Job, reader: Reader, shelf: Shelf, start: int, end: int, ids: Strings) -> Tally:
    """Score these transactions, each by the model of its time; write scores, flags and drift."""
    if not len(ids):
        return Tally()
    history = reader.for_rows(start, end, ids)
    rows = history.positions(ids)
    model_ids = shelf.model_ids(history.transactions.event_time[rows])
    tally = Tally(no_model=int((model_ids < 0).sum()))
    for model_id in np.unique(model_ids[model_ids >= 0]):
        chosen = rows[model_ids == model_id]
        tally = tally.plus(_score_by(this, shelf, int(model_id), history, chosen, (start, end)))
    return tally


def _score_by(
    this: Job, shelf: Shelf, model_id: int, history: History, rows: Ints, window: tuple[int, int]
) -> Tally:
    model, features = shelf.model(model_id), shelf.plan(model_id)
    raw = histories.raw_matrix(history, rows, features, this.config)
    of_rows = history.transactions.take(rows)
    scores = model.score(raw, of_rows.amount / MONEY)
    flags = flags_of(model, model_id, features, raw, of_rows, scores, this.config)
    written = results.write_scores(
        this.store,
        this.policy,
        this.run_id,
        results.Scored(
            transaction_id=of_rows.transaction_id,
            model_id=model_id,
            strategy=model.strategy,
            score=scores.score,
            outlier_score=scores.outlier_score,
            fraud_probability=scores.fraud_probability,
            decision_value=scores.decision_value,
            threshold=scores.threshold,
            channel=scores.channel,
            flagged=scores.flagged,
        ),
        flags,
    )
    results.write_drift(
        this.store, this.policy, this.run_id, drift_rows(model, features, raw, scores, window, this.config)
    )
    return Tally(scored=written.scored, flagged=written.flagged, already=written.already)


def _started(this: Job) -> int:
    decided = policies.starts_at(this.store, this.policy)
    if decided is not None:
        return decided
    span = stored.span(this.store)
    if span is None:
        raise NotReady("no transactions are stored yet: start with fraudwatch ingest transactions FILE")
    clock = this.config.schedule
    instant = schedule.floor(clock.window, clock.timezone, span[1])
    policies.set_starts_at(this.store, this.policy, instant)
    return instant


def _due(this: Job, starts_at: int) -> list[Step]:
    """Trainings and whole windows from `starts_at` to the horizon that are not done yet."""
    clock, every = this.config.schedule, this.config.training.every
    first = schedule.floor(every, clock.timezone, starts_at)
    dates = [first, *schedule.dates_inside(every, clock.timezone, starts_at, this.as_of + 1)]
    last = max(schedule.floor(clock.window, clock.timezone, this.as_of - clock.allowed_lateness), starts_at)
    steps = [Step("train", date, date) for date in sorted(set(dates))]
    steps += [Step("score", *w) for w in schedule.windows(clock.window, clock.timezone, starts_at, last)]
    over = {
        (e.kind, e.window_start, e.window_end)
        for e in ledger.entries(this.store, this.policy)
        if e.status == "done" or (e.status == "failed" and e.attempts >= MAX_ATTEMPTS)
    }
    return [step for step in steps if (step.kind, step.start, step.end) not in over]


def _late(this: Job) -> Tally:
    """What is still queued for windows that are done came after them: score it with what its own time knew."""
    lateness = this.config.schedule.allowed_lateness
    queue = policies.queued(this.store, this.policy, this.as_of, lateness)
    reader, shelf = Reader(this, this.as_of), Shelf(this.store, this.policy)
    tally = Tally()
    for window in ledger.entries(this.store, this.policy, kind="score", status="done"):
        ids = queue.between(window.window_start, window.window_end)
        if len(ids):
            tally = tally.plus(score_rows(this, reader, shelf, window.window_start, window.window_end, ids))
    return replace(tally, late=tally.scored)


def _day(instant: int) -> str:
    return str(np.datetime64(instant, "us").astype("datetime64[D]"))
