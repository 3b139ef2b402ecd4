"""What is kept in memory for payments that are scored while the caller waits: always the same to the byte as what is read anew."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from pipeline.features import history as feature_history
from pipeline.features import warm_history
from pipeline.features.history import History
from pipeline.features.warm_history import WarmHistory
from pipeline.runs.arrivals import ArrivalScorer, PaymentScore, arrival_scorer
from pipeline.runs.window_scores import batches_by_model
from pipeline.schedule.run_context import HistoryReader
from pipeline.scoring.model_cache import ModelCache
from storage.admin.erase import erase
from storage.admin.personal_rows import PersonValue
from storage.admin.undo import undo_batch
from storage.database.column_types import as_datetime
from storage.database.database import Store
from storage.errors import Unknown
from storage.frames import DAY, HOUR, MINUTE, MONEY, Ints
from storage.ingest import entity_rows
from storage.ingest.chunks import TransactionChunk
from storage.ingest.entity_rows import entity_snapshot
from storage.models import models
from storage.review import verdicts
from storage.review.verdicts import Statement
from tests.support.payments import LABEL_HEADER, PAYMENT_HEADER
from tests.support.sql import query
from tests.support.worlds import SMALL, TO, load_arrivals

FEATURES = feature_history.feature_catalogue(SMALL)
STEPS = 25


def chunk_of(ids: list[str], times: list[int], customers: list[str | None], terminals: list[str], amount: float) -> TransactionChunk:  # fmt: skip
    n = len(ids)
    amounts = np.full(n, amount)
    columns = {"customer_id": np.array(customers, object), "terminal_id": np.array(terminals, object)}
    return TransactionChunk(
        np.arange(1, n + 1), np.array(ids, object), np.array(times, np.int64), amounts,
        np.rint(amounts * MONEY).astype(np.int64), None, None, None, columns, {},
    )  # fmt: skip


def features_of(history: History, chunk: TransactionChunk) -> bytes:
    rows = history.positions(
        chunk.transaction_id, int(chunk.event_time.min()), int(chunk.event_time.max()) + 1
    )
    assert len(rows) == len(chunk)
    return feature_history.raw_matrix(history, rows, FEATURES, SMALL).tobytes()


@dataclass
class Monitor:
    """A monitor to which things happen, and two processes that score its payments."""

    store: Store
    folder: Path
    mine: ArrivalScorer
    other: ArrivalScorer
    rng: np.random.Generator
    now: int = TO + 3 * HOUR
    number: int = 0
    stored: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)

    def some(self, most: int, back: int = 8 * DAY) -> TransactionChunk:
        """Payments of few customers and terminals, some of a while ago, with new ids or now and then a known one."""
        n = int(self.rng.integers(1, most + 1))
        ids = [self.new_id() for _ in range(n)]
        if self.loaded and self.rng.random() < 0.15:
            ids[0] = str(self.rng.choice(self.loaded))
        times = [self.now - int(self.rng.integers(0, back if self.rng.random() < 0.3 else HOUR)) for _ in ids]
        times[-1] -= times[-1] % MINUTE  # so that some happen at the same instant
        customers = [None if self.rng.random() < 0.1 else f"c{self.rng.integers(0, 4)}" for _ in ids]
        return chunk_of(ids, times, customers, [f"m{self.rng.integers(0, 3)}" for _ in ids], float(self.rng.integers(1, 900)))  # fmt: skip

    def new_id(self) -> str:
        self.number += 1
        return f"{'abxyz'[self.number % 5]}{self.number}"

    def ingest(self) -> None:
        chunk = self.some(5)
        rows = [
            f"{name},{as_datetime(int(time)).isoformat()},{customer or ''},{terminal},{amount}"
            for name, time, customer, terminal, amount in zip(
                chunk.transaction_id, chunk.event_time, chunk.text["customer_id"], chunk.text["terminal_id"], chunk.amount, strict=True
            )
        ]  # fmt: skip
        load_arrivals(self.store, self.folder, "transactions", PAYMENT_HEADER, rows, self.now)
        self.loaded += [str(name) for name in chunk.transaction_id]
        self.batches.append(query(self.store, "SELECT MAX(batch_id) FROM batches")[0][0])

    def ingest_labels(self) -> None:
        to_come = f"{'abxyz'[(self.number + 2) % 5]}{self.number + 2}"
        ids = [*self.known(3), to_come]
        rows = [
            f"{name},{k % 2},{as_datetime(self.now - k * HOUR).isoformat()},chargeback"
            for k, name in enumerate(ids, start=1)
        ]
        load_arrivals(self.store, self.folder, "labels", LABEL_HEADER, rows, self.now)

    def known(self, most: int) -> list[str]:
        names = [*self.loaded, *self.stored, *(f"t{k:06d}" for k in range(2_250, 2_390))]
        return list(dict.fromkeys(str(name) for name in self.rng.choice(names, most)))

    def verdict(self) -> None:
        """On payments that the next ones look back at."""
        related = "customer_id IN ('c0', 'c1', 'c2', 'c3') OR terminal_id IN ('m0', 'm1', 'm2')"
        newest = query(
            self.store,
            f"SELECT transaction_id FROM visible_transactions WHERE {related} ORDER BY event_time DESC, transaction_id LIMIT 30",
        )
        ids = sorted({str(name) for name in self.rng.choice([row[0] for row in newest], 3)})
        list(verdicts.record(self.store, "live", ids, Statement("fraud"), "ann", self.now))

    def retract(self) -> None:
        said = query(self.store, "SELECT transaction_id FROM labels WHERE recorded_at IS NOT NULL AND retracts IS NULL ORDER BY label_id DESC LIMIT 1")  # fmt: skip
        for (name,) in said:
            with suppress(Unknown):  # it was retracted before
                list(verdicts.undo(self.store, "live", [name], "a mistake", "ann", self.now))

    def erase(self) -> None:
        name = f"c{self.rng.integers(0, 4)}"
        if query(self.store, f"SELECT 1 FROM transactions WHERE customer_id = '{name}'"):
            erase(self.store, [PersonValue("customer_id", name)], "ann", self.now)

    def undo(self) -> None:
        if self.batches:
            undo_batch(self.store, self.batches.pop(), "a test", "ann", self.now)

    def promote(self) -> None:
        (model_id,) = self.rng.choice([row[0] for row in query(self.store, "SELECT model_id FROM models")], 1)
        models.promote(self.store, "live", self.now - DAY, int(model_id), "a test", "ann", self.now)

    def store_mine(self) -> None:
        self.store_by(self.mine)

    def store_other(self) -> None:
        self.store_by(self.other)

    def store_by(self, scorer: ArrivalScorer) -> None:
        """The score that is written is the one that would be found by reading everything."""
        ids = sorted(scorer.add(self.some(3, 2 * DAY), self.now).fresh)
        self.stored += ids
        written = {name: query(self.store, f"SELECT score FROM scores WHERE transaction_id = '{name}'")[0][0] for name in ids}  # fmt: skip
        assert written == cold_scores(self.store, ids, (TO - 30 * DAY, self.now + DAY))


STEPS_BY_WEIGHT: tuple[tuple[Callable[[Monitor], None], int], ...] = (
    (Monitor.ingest, 5),
    (Monitor.ingest_labels, 3),
    (Monitor.verdict, 3),
    (Monitor.retract, 2),
    (Monitor.erase, 1),
    (Monitor.undo, 1),
    (Monitor.promote, 1),
    (Monitor.store_mine, 6),
    (Monitor.store_other, 3),
)


def cold_scores(store: Store, ids: list[str], span: tuple[int, int]) -> dict[str, float]:
    """Scores of stored payments, from all that is stored."""
    reader, cache = HistoryReader(store, SMALL, "live", 0), ModelCache(store, SMALL, "live")
    history = reader.for_rows(*span, np.array(ids, object))
    rows: Ints = history.positions(np.array(ids, object), *span)
    return {
        str(name): float(score)
        for batch, _ in batches_by_model(SMALL, history, rows, cache, reader.rules)
        if batch is not None
        for name, score in zip(batch.scored.rows.transaction_id, batch.scores.score, strict=True)
    }


def scores_of(scorer: ArrivalScorer, payments: TransactionChunk, at: int) -> dict[str, PaymentScore]:
    with scorer.looking() as look:
        return look.score(payments, at)


@pytest.mark.parametrize("seed", [1, 2])
def test_memory_and_database_agree_whatever_happens_in_between(
    backfilled: Store, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(seed)
    steps = [step for step, weight in STEPS_BY_WEIGHT for _ in range(weight)]
    with arrival_scorer(backfilled, SMALL, TO, "one") as mine, arrival_scorer(backfilled, SMALL, TO, "two") as other:  # fmt: skip
        monitor = Monitor(backfilled, tmp_path, mine, other, rng)
        warm = WarmHistory(backfilled, SMALL, "live")
        for _ in range(STEPS):
            monitor.now += int(rng.integers(1, 2 * HOUR))
            steps[rng.integers(len(steps))](monitor)
            asked = monitor.some(3)
            read = feature_history.load_arriving(backfilled, SMALL, SMALL.lookback, asked, monitor.now)
            with entity_snapshot(backfilled) as snapshot:
                warm.refresh(snapshot)
                kept = warm.of(snapshot, asked, monitor.now)
            assert features_of(kept, asked) == features_of(read, asked)
            with monkeypatch.context() as patch:
                patch.setattr(warm_history, "PAYMENTS_MAX", 0)
                anew = scores_of(ArrivalScorer(backfilled, SMALL), asked, monitor.now)
            assert scores_of(mine, asked, monitor.now) == anew
    assert len(monitor.stored) > STEPS // 6


def test_a_verdict_is_in_the_next_score(backfilled: Store) -> None:
    now = TO + 6 * HOUR
    asked, warm = chunk_of(["new"], [now], ["c1"], ["m1"], 20), WarmHistory(backfilled, SMALL, "live")

    def features() -> bytes:
        with entity_snapshot(backfilled) as snapshot:
            warm.refresh(snapshot)
            return features_of(warm.of(snapshot, asked, now), asked)

    before = features()
    sql = "SELECT MAX(transaction_id) FROM visible_transactions WHERE customer_id = 'c1'"
    ids = [str(query(backfilled, sql)[0][0])]
    list(verdicts.record(backfilled, "live", ids, Statement("fraud"), "ann", now - HOUR))
    read = feature_history.load_arriving(backfilled, SMALL, SMALL.lookback, asked, now)
    assert features() == features_of(read, asked) != before


def test_all_entities_with_new_labels_are_known_however_often_one_was_answered(
    backfilled: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entity_rows, "LABELLED_MAX", 3)
    sql = "SELECT MIN(transaction_id), customer_id FROM visible_transactions GROUP BY 2 ORDER BY 2 LIMIT 4"
    (first, one), (second, other), *more = query(backfilled, sql)
    [(newest,)] = query(backfilled, "SELECT MAX(audit_id) FROM audit")

    def say(*names: object) -> set[tuple[str, str]] | None:
        for number, name in enumerate(names):
            statement = Statement(("fraud", "genuine")[number % 2])  # type: ignore[arg-type]
            list(verdicts.record(backfilled, "live", [str(name)], statement, "ann", TO + DAY + number * HOUR))
        with entity_snapshot(backfilled) as snapshot:
            return snapshot.labelled_since(newest or 0)

    labelled = say(first, first, first, first, second)
    assert labelled is not None
    assert {("customer_id", one), ("customer_id", other)} <= labelled
    assert say(*(name for name, _ in more)) is None
