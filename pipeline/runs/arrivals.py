"""
Scores payments as they arrive.

A payment that is scored on arrival knows what was stored when it arrived, and nothing of what came later: its `as_of` is its own
arrival, which is stored with it. So a backfill, a training and a second look compute the same features for it, to the byte. It
is stored first and scored then; if the process dies in between, the next run scores it, to the same result.

Payments of several callers that arrive at the same time are stored and scored together, and so share the cost.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.config.config import Config
from pipeline.features import history as feature_history
from pipeline.features import warm_history
from pipeline.features.warm_history import WarmHistory
from pipeline.ingest.currencies.rate_sources import RatesReader
from pipeline.runs.window_scores import (
    ModelBatch,
    batches_by_model,
    raised_flags,
    score_history,
    score_rows,
)
from pipeline.schedule.run_context import (
    LIVE,
    HistoryReader,
    RunContext,
    RunSummary,
    start_run,
    with_stored_fields,
)
from pipeline.scoring.model_cache import ModelCache
from storage.database.database import Store
from storage.frames import DAY
from storage.ingest import arrivals
from storage.ingest.arrivals import ArrivalBatch, Arrived
from storage.ingest.batches import RejectedRow
from storage.ingest.chunks import TransactionChunk
from storage.ingest.entity_rows import EntitySnapshot, entity_snapshot
from storage.runs import runs
from storage.runs.scores import Flag

Bools = NDArray[np.bool_]

SOURCE = "scored on arrival"  # of the batches


@dataclass(frozen=True)
class PaymentScore:
    """What the model in force, the rules and the audit sample say of a payment; instants in µs, money in the base currency."""

    transaction_id: str
    score: float
    fraud_probability: float | None
    expected_loss: float | None
    decision_value: float
    threshold: float
    channel: str
    flag: Flag | None  # None if it is not flagged
    model_id: int
    strategy: str


@dataclass(frozen=True)
class Added:
    """
    What became of payments that were to be stored.

    Attributes
    ----------
    fresh
        The ids of those that were stored; the others are known already.
    scores
        Of those that were stored and scored just now, as they are stored; others are to be read.
    arrived_at
        Of those that were stored, µs.
    """

    fresh: frozenset[str]
    scores: Mapping[str, PaymentScore]
    arrived_at: int


@dataclass
class _Waiting:
    """Payments of one caller, and what became of them."""

    chunk: TransactionChunk
    done: threading.Event = field(default_factory=threading.Event)
    added: Added | None = None
    error: BaseException | None = None


@dataclass(frozen=True)
class Look:
    """
    What a snapshot of the database knows of payments that arrive.

    Attributes
    ----------
    through
        When the newest of the ingested payments happened, µs, not counting those that were scored on arrival; None without one.
    """

    _store: Store
    _config: Config
    _snapshot: EntitySnapshot
    _reader: HistoryReader
    _models: ModelCache
    _warm: WarmHistory
    through: int | None

    def has_model(self, chunk: TransactionChunk) -> Bools:
        """Which payments a model is in force for, (n,)."""
        return self._models.model_ids(chunk.event_time) >= 0

    def stored(self, chunk: TransactionChunk) -> set[str]:
        """Which of the payments' ids are stored and visible."""
        return self._snapshot.visible(chunk.transaction_id.tolist())

    def score(self, chunk: TransactionChunk, at: int) -> dict[str, PaymentScore]:
        """
        Score payments that are not stored, as if they had arrived at an instant (µs); by id.

        Those without a model are left out.
        """
        reader = self._reader
        if len(chunk) <= warm_history.PAYMENTS_MAX:
            history = self._warm.of(self._snapshot, chunk, at)
        else:
            history = feature_history.load_arriving(self._store, self._config, reader.lookback, chunk, at)
        times = chunk.event_time
        rows = history.positions(chunk.transaction_id, int(times.min()), int(times.max()) + 1)
        batches = batches_by_model(self._config, history, rows, self._models, reader.rules)
        return {
            score.transaction_id: score
            for batch, _ in batches
            if batch is not None
            for score in _payment_scores(batch, raised_flags(self._config, batch, reader.rules, reader.mutes))
        }

    def read_ahead(self, chunk: TransactionChunk) -> None:
        """Read what the payments need before they are stored."""
        if len(chunk) <= warm_history.PAYMENTS_MAX:
            self._warm.read(self._snapshot, chunk)


class ArrivalScorer:
    """Scores payments of policy live and keeps their models in memory; several threads may use it."""

    def __init__(self, store: Store, config: Config, begin: Callable[[], RunContext] | None = None) -> None:
        self._store = with_stored_fields(store, LIVE)
        self._config = config
        self._begin = begin
        self._context: RunContext | None = None
        self._models = ModelCache(self._store, config, LIVE)
        self._warm = WarmHistory(self._store, config, LIVE)
        self._reader: HistoryReader | None = None
        self._ingested: tuple[int, int] | None = None
        self._through: int | None = None
        self.rates = RatesReader(store, config)
        self._scoring = threading.Lock()
        self._queueing = threading.Lock()
        self._waiting: list[_Waiting] = []
        self._batch: tuple[int, int] | None = None  # the day it is of, and its id
        self.summary = RunSummary()

    @contextmanager
    def looking(self) -> Iterator["Look"]:
        """What is known now, in one snapshot of the database; other callers wait meanwhile."""
        with self._scoring, entity_snapshot(self._store) as snapshot:
            reader = self._refreshed(snapshot)
            yield Look(self._store, self._config, snapshot, reader, self._models, self._warm, self._through)

    def _refreshed(self, snapshot: EntitySnapshot) -> HistoryReader:
        """What knows the rules, mutes and promotions that a snapshot has."""
        if self._warm.refresh(snapshot) or self._reader is None:
            self._models.refresh()
            self._reader = HistoryReader(self._store, self._config, LIVE, 0)
            self._warm.lookback, self._warm.fraud_span = self._reader.lookback, self._reader.fraud_span
        if self._ingested is None or self._warm.rows_changed:
            ingested = snapshot.ingested_batches()
            if ingested != self._ingested:
                self._ingested, self._through = ingested, snapshot.newest_ingested()
        return self._reader

    def add(self, chunk: TransactionChunk, now: int) -> Added:
        """
        Store the payments whose ids are new, and score them.

        Known ones that were stored on arrival, but have no score yet, are scored, too.
        """
        mine = _Waiting(chunk)
        with self._queueing:
            self._waiting.append(mine)
        with self._scoring:
            if not mine.done.is_set():
                self._add_waiting(now)
        if mine.error is not None:
            raise mine.error
        assert mine.added is not None
        return mine.added

    def reject(self, rows: Sequence[RejectedRow], now: int) -> None:
        """Store rows that cannot be scored, with their reasons."""
        with self._scoring:
            begun = ArrivalBatch(LIVE, SOURCE, self._run().by)
            self._batch = now // DAY, arrivals.reject(self._store, begun, self._batch_of(now), rows, now)

    def _add_waiting(self, now: int) -> None:
        with self._queueing:
            group, self._waiting = self._waiting, []
        try:
            self._add_group(group, now)
        except BaseException as error:
            for waiting in group:
                waiting.error = error
            raise
        finally:
            for waiting in group:
                waiting.done.set()

    def _add_group(self, group: list[_Waiting], now: int) -> None:
        context = self._run()
        chunk = TransactionChunk.joined([waiting.chunk for waiting in group])
        begun = ArrivalBatch(LIVE, SOURCE, context.by)
        arrived = arrivals.add(self._store, begun, self._batch_of(now), chunk, now)
        self._batch = now // DAY, arrived.batch_id
        fresh = frozenset(chunk.transaction_id[arrived.fresh].tolist())
        few = len(chunk) <= warm_history.PAYMENTS_MAX
        scores: dict[str, PaymentScore] = {}
        if few and len(fresh) == len(chunk) and not arrived.labelled:
            summary, scores = self._score_fresh(context, arrived, chunk)
        else:
            summary = self._score_waiting(context, chunk)
        self.summary = self.summary.plus(summary)
        owner = np.repeat(np.arange(len(group)), [len(waiting.chunk) for waiting in group])[arrived.fresh]
        names = chunk.transaction_id[arrived.fresh]
        for place, waiting in enumerate(group):
            mine = frozenset(names[owner == place].tolist())
            its = {name: scores[name] for name in mine & scores.keys()}
            waiting.added = Added(mine, its, arrived.arrived_at)

    def _score_fresh(
        self, context: RunContext, arrived: Arrived, chunk: TransactionChunk
    ) -> tuple[RunSummary, dict[str, PaymentScore]]:
        """Score payments that have just been stored; returns their scores if all of them are written."""
        added = self._warm.add(arrived, chunk)
        with entity_snapshot(self._store) as snapshot:
            reader = self._reader if added and self._reader is not None else self._refreshed(snapshot)
            history = self._warm.of(snapshot, chunk, None)
        span = int(chunk.event_time.min()), int(chunk.event_time.max()) + 1
        rows = history.positions(chunk.transaction_id, *span)
        summary, written = score_history(context, reader, self._models, history, rows)
        scores = (score for batch, flags in written for score in _payment_scores(batch, flags))
        return summary, {score.transaction_id: score for score in scores if summary.scored == len(chunk)}

    def _score_waiting(self, context: RunContext, chunk: TransactionChunk) -> RunSummary:
        """Score those of some payments that wait for it; maybe a process that stored them earlier has died."""
        ids, times = arrivals.unscored(self._store, LIVE, chunk.transaction_id.tolist())
        if not len(ids):
            return RunSummary()
        with entity_snapshot(self._store) as snapshot:
            reader = self._refreshed(snapshot)
        span = int(times.min()), int(times.max()) + 1
        return score_rows(context, reader, self._models, *span, ids)[0]

    def _batch_of(self, now: int) -> int | None:
        """The batch of the day, since one that is read for months would say little; None before it is begun."""
        return self._batch[1] if self._batch is not None and self._batch[0] == now // DAY else None

    def _run(self) -> RunContext:
        """The run that all scores belong to; it begins with the first payment that is stored."""
        if self._context is None:
            assert self._begin is not None, "open it by `arrival_scorer` to store payments"
            self._context = self._begin()
        return self._context

    def end(self) -> None:
        """Write what was scored to the run."""
        if self._context is not None:
            counts = self.summary.counts()
            runs.end_run(self._store, self._context.run_id, self._context.ended_at, "done", counts)


@contextmanager
def arrival_scorer(store: Store, config: Config, now: int, by: str) -> Iterator[ArrivalScorer]:
    """A scorer that stores payments; all that it scores belongs to one run, which ends with the block."""
    with ExitStack() as stack:
        scorer = ArrivalScorer(
            store,
            config,
            lambda: stack.enter_context(start_run(store, config, now, LIVE, "arrival", by, None)),
        )
        yield scorer
        scorer.end()


def _payment_scores(batch: ModelBatch, raised: Sequence[Flag]) -> Iterator[PaymentScore]:
    flags = {flag.transaction_id: flag for flag in raised}
    scored, scores = batch.scored, batch.scores
    for place, name in enumerate(scored.rows.transaction_id.tolist()):
        yield PaymentScore(
            name,
            float(scores.score[place]),
            _number(scores.fraud_probability[place]),
            _number(scored.expected_loss[place]),
            float(scores.decision_value[place]),
            float(scores.threshold[place]),
            str(scores.channel[place]),
            flags.get(name),
            scored.model_id,
            scored.model.strategy,
        )


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
