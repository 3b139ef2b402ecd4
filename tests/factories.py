"""Small builders of what tests of storage load and score."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from storage import batches, runs
from storage.batches import Batch, LabelChunk, TransactionChunk
from storage.frames import DAY, HOUR, MONEY, SECOND, Ints, Strings
from storage.results import Flag, Scored
from storage.schema import Fields
from storage.store import Store

MONITOR = "tests"
POLICY = "live"
FIELDS = Fields(("customer_id", "terminal_id"), ("channel", "status"), ("age",), ("refund", "reversal"))
PRECEDENCE = ("audit", "review", "chargeback", "customer")
T0 = 1_767_225_600 * SECOND  # 2026-01-01T00:00:00Z
LATER = T0 + 100 * DAY  # when batches are loaded, unless a test says otherwise


def objects(values: Sequence[Any]) -> Strings:
    """An array of Python objects, whatever they look like."""
    array = np.empty(len(values), dtype=object)
    array[:] = list(values)
    return array


def ids(*numbers: int) -> list[str]:
    """Ids as `transactions` makes them."""
    return [f"t{number:05d}" for number in numbers]


def transactions(
    names: Sequence[str], times: Sequence[int] | Ints | None = None, **columns: Sequence[Any]
) -> TransactionChunk:
    """A chunk: an hour apart, 10.00 each, of a few customers and terminals, unless `columns` says otherwise."""
    size = len(names)
    order = np.arange(size)
    amounts = np.asarray(columns.pop("amount", 10.0 + order % 7), dtype=np.float64)
    texts = {
        "customer_id": [f"c{n % 5}" for n in order],
        "terminal_id": [f"m{n % 3}" for n in order],
        "channel": [None if n % 4 == 3 else "web" for n in order],
        "status": ["approved"] * size,
    }
    kinds = columns.pop("kind", ["payment"] * size)
    original = columns.pop("original_id", [None] * size)
    age = np.asarray(columns.pop("age", np.where(order % 5 == 4, np.nan, order / 3)), dtype=np.float64)
    return TransactionChunk(
        row_number=order.astype(np.int64) + 1,
        transaction_id=objects(names),
        event_time=np.asarray(T0 + order * HOUR if times is None else times, dtype=np.int64),
        amount_given=amounts,
        amount=np.rint(amounts * MONEY).astype(np.int64),
        currency=None,
        kind=objects(kinds),
        original_id=objects(original),
        text={name: objects(columns.get(name, values)) for name, values in texts.items()},
        numeric={"age": age},
    )


def labels(
    names: Sequence[str],
    fraud: bool | Sequence[bool] = True,
    known_at: int | Sequence[int] = T0 + 30 * DAY,
    source: str | Sequence[str] = "chargeback",
) -> LabelChunk:
    """A chunk of labels."""
    size = len(names)
    return LabelChunk(
        row_number=np.arange(1, size + 1),
        transaction_id=objects(names),
        is_fraud=np.broadcast_to(np.asarray(fraud, dtype=bool), size).copy(),
        source=objects([source] * size if isinstance(source, str) else source),
        known_at=np.broadcast_to(np.asarray(known_at, dtype=np.int64), size).copy(),
    )


def load(
    store: Store,
    *chunks: TransactionChunk | LabelChunk,
    history: bool = True,
    now: int = LATER,
    content: str | None = None,
    complete_through: int | None = None,
) -> Batch:
    """Load chunks as one batch and show it."""
    kind: Any = "labels" if chunks and isinstance(chunks[0], LabelChunk) else "transactions"
    with batches.begin(store, kind, "test", history, now, "test") as loading:
        for chunk in chunks:
            if isinstance(chunk, LabelChunk):
                loading.add_labels(chunk)
            else:
                loading.add_transactions(chunk)
        return loading.finish(now, content or f"{kind} {loading.batch_id}", complete_through)


def run(store: Store, newest_batch: int = 10**6, policy: str = POLICY) -> int:
    """A run that has seen every batch."""
    return runs.begin_run(store, policy, "manual", LATER, "", newest_batch)


def scored(names: Sequence[str], score: float = 0.5, flagged: Sequence[str] = ()) -> Scored:
    """Scores of some transactions, all alike."""
    size = len(names)
    return Scored(
        transaction_id=objects(names),
        model_id=1,
        strategy="outlier",
        score=np.full(size, score),
        outlier_score=np.full(size, score),
        fraud_probability=np.full(size, np.nan),
        decision_value=np.full(size, score),
        threshold=np.full(size, 0.9),
        channel=objects(["outlier"] * size),
        flagged=np.isin(objects(names).astype(str), list(flagged)),
    )


def flags(names: Sequence[str]) -> list[Flag]:
    """Flags for some transactions."""
    return [Flag(name, 1, "outlier", '[{"code": "AMOUNT", "text": "much"}]') for name in names]
