"""
Windows of the past, as they would have run.

Trainings run in the order of their dates, each needs the choice before it. Windows need only the models, so with
workers they are spread over processes, in contiguous pieces: a piece shares the history it reads.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context

from pipeline.config.config import Config
from pipeline.config.database import open_configured
from pipeline.errors import NotReady
from pipeline.monitoring import quality
from pipeline.progress import Progress, Silent
from pipeline.runs.scoring_run import ended, live_through
from pipeline.schedule import planning
from pipeline.schedule.run_context import RunContext, Tally, in_time, job, never, pending, widened
from storage.database.database import Store
from storage.frames import Strings
from storage.models import models
from storage.runs import ledger, scoring_queue
from storage.runs.ledger import Entry

PIECES_A_WORKER = 4  # small enough that workers end together, large enough to share what they read


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
    model_id: int | None = None,
    progress: Progress | None = None,
) -> Tally:
    """
    Live through [start, end) as the schedule would have: trainings in order, then the windows after them.

    Safe to repeat and to interrupt: windows that are done are left alone, a transaction that has a score
    keeps it.

    Parameters
    ----------
    workers
        Processes that score windows; 1 works in this one.
    model_id
        Score everything by this model, without training; what it was trained on is marked as in-sample.

    Raises
    ------
    NotReady
        Every transaction of the span was stamped as arriving later than `as_of`.
    """
    with job(store, config, as_of, policy, "backfill", by, progress) as this:
        scoring_queue.cover(store, policy, start, end, this.as_of)
        _refuse_a_span_from_the_future(this, start, end)
        entries = claimable(this, start, end, trained=model_id is None)
        if workers == 1:
            tally = live_through(this, entries, _Missing(this), model_id)
        else:
            tally = _with_workers(this, entries, workers, model_id)
        quality.catch_up(store, config, policy, this.run_id, end)
        return ended(this, tally)


def _with_workers(this: RunContext, entries: Sequence[Entry], workers: int, model_id: int | None) -> Tally:
    """Trainings here and in order, windows spread, and then, over all of them and in order again, quality."""
    trainings = [entry for entry in entries if entry.kind == "train"]
    qualities = [entry for entry in entries if entry.kind == "quality"]
    windows = [entry for entry in entries if entry.kind not in ("train", "quality")]
    tally = live_through(this, trainings, _Missing(this), model_id)
    tally = tally.plus(_spread(this, windows, workers, model_id))
    return tally.plus(live_through(this, qualities, _Missing(this), model_id))


def claimable(this: RunContext, start: int, end: int, *, trained: bool = True) -> list[Entry]:
    """The ledger's entries of the span, those that were missing added, in the order of time."""
    steps = planning.backfill_steps(this.store, this.config, this.policy, start, end)
    wanted = [
        pending(this.policy, step, this.config.schedule.allowed_lateness)
        for step in steps
        if trained or step.kind != "train"
    ]
    ledger.ensure(this.store, wanted)
    since = min((entry.window_end for entry in wanted), default=start) - 1
    known = {entry.key: entry for entry in ledger.entries(this.store, this.policy, since=since)}
    entries = [known[entry.key] for entry in wanted]
    return sorted(entries, key=lambda entry: in_time(entry.kind, entry.window_end))


class _Missing:
    """Ids of a window that have no score yet."""

    def __init__(self, this: RunContext) -> None:
        self._this = this

    def __call__(self, begin: int, until: int) -> Strings:
        this = self._this
        lateness = this.config.schedule.allowed_lateness
        return scoring_queue.missing(
            this.store, this.policy, begin, until, this.as_of, lateness
        ).transaction_id


def _refuse_a_span_from_the_future(this: RunContext, start: int, end: int) -> None:
    lateness = this.config.schedule.allowed_lateness
    there = scoring_queue.missing(this.store, this.policy, start, end)
    if len(there.transaction_id) and not len(_Missing(this)(start, end)):
        arrived = int(there.ingested_at.min())
        raise NotReady(
            f"all {len(there.transaction_id):,} transactions of the span count as known only from "
            f"{planning.day(max(arrived, int(there.event_time.min()) + lateness))} on: they were loaded --as-arrived; "
            "withdraw the batch with fraudwatch undo and load it with --history to live the past again"
        )


@dataclass(frozen=True)
class _Piece:
    """What a worker is handed; the configuration travels with its secrets, through a pipe."""

    config: Config
    policy: str
    as_of: int
    run_id: int
    by: str
    entries: Sequence[Entry]
    model_id: int | None


def _spread(this: RunContext, entries: Sequence[Entry], workers: int, model_id: int | None) -> Tally:
    pieces = list(_pieces(this, entries, workers, model_id))
    tally = Tally()
    this.progress.start("scoring", float(len(entries)), "steps")
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(_work, piece): piece for piece in pieces}
        try:
            for finished in as_completed(running):
                tally = tally.plus(finished.result())
                this.progress.advance(float(len(running[finished].entries)))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    this.progress.stop()
    return tally


def _pieces(
    this: RunContext, entries: Sequence[Entry], workers: int, model_id: int | None
) -> Iterator[_Piece]:
    """Contiguous pieces; a window and its drift stay together."""
    windows = sorted({entry.key[1:] for entry in entries})
    size = -(-len(windows) // (workers * PIECES_A_WORKER)) or 1
    for place in range(0, len(windows), size):
        chosen = set(windows[place : place + size])
        mine = [entry for entry in entries if entry.key[1:] in chosen]
        yield _Piece(this.config, this.policy, this.as_of, this.run_id, this.by, mine, model_id)


def _work(piece: _Piece) -> Tally:
    """Score a piece in a process of its own."""
    with open_configured(piece.config) as store:
        wide = widened(store, piece.policy)
        this = RunContext(
            wide, piece.config, piece.policy, piece.as_of, piece.run_id, piece.by, Silent(), never
        )
        return replace(live_through(this, piece.entries, _Missing(this), piece.model_id), run_id=0)


def check_model(store: Store, model_id: int) -> None:
    """
    Refuse a model that is not there before anything is written.

    Raises
    ------
    Unknown
        There is no such model.
    """
    models.load_artefact(store, model_id)
