"""Scores and flags, exactly once; drift and quality by window."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, delete, select

from storage import bulk, leases
from storage.closing import close_flags
from storage.columns import POSTGRES
from storage.errors import Busy
from storage.frames import Floats, Ints, Strings
from storage.inserting import add_missing, add_or_replace
from storage.leases import Lease
from storage.schema import batches, drift_metrics, flags, quality_metrics, runs, scores, unscored
from storage.store import Store

ROWS_A_WRITE = 10_000  # scores in one transaction: well under a second


@dataclass(frozen=True)
class Scored:
    """Scores, (n,) each, rows in any order; `model_id`, `strategy` may be one value for all."""

    transaction_id: Strings
    model_id: int | Ints
    strategy: str | Strings
    score: Floats
    outlier_score: Floats
    fraud_probability: Floats  # NaN is stored as NULL
    decision_value: Floats
    threshold: Floats
    channel: NDArray[np.object_]
    flagged: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.transaction_id)


@dataclass(frozen=True)
class Flag:
    """A transaction to put before a reviewer; `reasons` is JSON."""

    transaction_id: str
    model_id: int
    channel: str
    reasons: str


@dataclass(frozen=True)
class Written:
    """What a write did: rows that this run scored, flags it raised, rows that had a score already."""

    scored: int
    flagged: int
    already: int


@dataclass(frozen=True)
class DriftRow:
    """One metric of one feature over one window."""

    window_start: int
    window_end: int
    feature: str
    metric: str
    value: float | None
    threshold: float | None
    alarm: bool
    n_reference: int
    n_current: int


@dataclass(frozen=True)
class QualityRow:
    """One measure of detection quality over a window, with its interval; `kind` is estimated or realised."""

    window_start: int
    metric: str
    kind: str
    value: float | None
    lower: float | None
    upper: float | None
    n: int


def write_scores(
    store: Store,
    policy: str,
    run_id: int,
    scored: Scored,
    raised: Sequence[Flag],
    lease: Lease | None = None,
) -> Written:
    """
    Write scores and flags, each transaction once per policy whoever else writes.

    A flag goes in only where this run's score did; what has a score leaves the queue in the same database
    transaction. Keys go in in order, so that two writers wait for each other and never deadlock.

    Parameters
    ----------
    lease
        When given, nothing is written once another process has taken it.

    Raises
    ------
    Busy
        The lease is lost, or history was loaded after this run began: its past has changed under it.
    """
    order = np.array(sorted(range(len(scored)), key=scored.transaction_id.__getitem__), dtype=np.int64)
    by_id = {flag.transaction_id: flag for flag in raised}
    total = Written(0, 0, 0)
    for first in range(0, len(order), ROWS_A_WRITE):
        places = order[first : first + ROWS_A_WRITE]
        ids = scored.transaction_id[places].tolist()
        rows = bulk.rows_of(store.dialect, scores, _block(policy, run_id, scored, places))
        with store.alongside() as connection:
            if lease is not None:
                leases.check(connection, lease)
            _refuse_changed_past(connection, run_id)
            inserted = bulk.insert_new(connection, rows)
            mine = _scored_by(connection, policy, run_id, [name for name in ids if name in by_id])
            flagged = _raise_flags(connection, policy, run_id, [by_id[name] for name in ids if name in mine])
            _dequeue(connection, policy, ids)
        total = Written(total.scored + inserted, total.flagged + flagged, total.already + len(ids) - inserted)
    return total


def write_drift(store: Store, policy: str, run_id: int, rows: Sequence[DriftRow]) -> None:
    """Write a window's drift; measured again, the larger sample speaks for the window."""
    with store.write() as connection:
        found = [asdict(row) | {"policy": policy, "run_id": run_id} for row in rows]
        add_or_replace(connection, drift_metrics, found, unless_less="n_current")


def write_quality(store: Store, policy: str, run_id: int, rows: Sequence[QualityRow]) -> None:
    """Write a window's quality; measured again, with more labels, the newest measurement stands."""
    with store.write() as connection:
        found = [asdict(row) | {"policy": policy, "run_id": run_id} for row in rows]
        add_or_replace(connection, quality_metrics, found)


def _block(policy: str, run_id: int, scored: Scored, places: Ints) -> dict[str, Any]:
    def at(values: Any) -> Any:
        return values[places] if isinstance(values, np.ndarray) else values

    return {"policy": policy, "run_id": run_id} | {name: at(values) for name, values in vars(scored).items()}


def _refuse_changed_past(connection: Connection, run_id: int) -> None:
    """History loaded after the run's horizon was known in the past that the run has computed without it."""
    newer = (
        select(batches.c.batch_id)
        .join(runs, batches.c.batch_id > runs.c.newest_batch)
        .where(runs.c.run_id == run_id, batches.c.status == "done", batches.c.history)
    )
    found = connection.scalars(newer.limit(1)).one_or_none()
    if found is not None:
        raise Busy(f"batch {found} was loaded as history while run {run_id} was at work: run again")


def _scored_by(connection: Connection, policy: str, run_id: int, ids: list[str]) -> set[str]:
    """Of these transactions, the ones whose score this run wrote."""
    if not ids:
        return set()
    mine = select(scores.c.transaction_id).where(
        scores.c.policy == policy,
        scores.c.run_id == run_id,
        bulk.among(connection, scores.c.transaction_id, ids),
    )
    return set(connection.scalars(mine))


def _dequeue(connection: Connection, policy: str, ids: list[str]) -> None:
    u = unscored.c
    chosen = select(u.transaction_id).where(u.policy == policy, bulk.among(connection, u.transaction_id, ids))
    if connection.dialect.name == POSTGRES:
        # Locked in order first: two writers that find the same old rows would otherwise deadlock.
        chosen = chosen.order_by(u.transaction_id).with_for_update()
    gone = connection.scalars(chosen).all()
    if gone:
        leaving = bulk.among(connection, u.transaction_id, gone)
        connection.execute(delete(unscored).where(u.policy == policy, leaving))


def _raise_flags(connection: Connection, policy: str, run_id: int, raised: Sequence[Flag]) -> int:
    """Insert flags that are not there, which they are when a run repeats itself; returns how many went in."""
    if not raised:
        return 0
    f, ids = flags.c, [flag.transaction_id for flag in raised]
    known = select(f.transaction_id).where(f.policy == policy, bulk.among(connection, f.transaction_id, ids))
    there = set(connection.scalars(known))
    rows = [
        {
            "policy": policy,
            "transaction_id": flag.transaction_id,
            "run_id": run_id,
            "model_id": flag.model_id,
            "channel": flag.channel,
            "reasons": json.loads(flag.reasons),
            "status": "open",
        }
        for flag in raised
        if flag.transaction_id not in there
    ]
    add_missing(connection, flags, rows)
    close_flags(connection, ids)
    return len(rows)
