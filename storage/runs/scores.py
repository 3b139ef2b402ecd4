"""Writing scores and flags, exactly once per transaction and policy."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, TextClause, text
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from storage.database import bulk
from storage.database.cases import assign_cases, lock_cases
from storage.database.database import Store
from storage.database.tables import flag_notifications_pending, flags, scores
from storage.frames import Floats, Ints, Strings
from storage.review.flag_order import set_order
from storage.review.flag_status import any_answer, update_flags

ROWS_A_WRITE = 10_000  # scores in one transaction: well under a second


@dataclass(frozen=True)
class ModelScores:
    """Scores of one model, (n,) each, rows in any order."""

    transaction_id: Strings
    model_id: int
    strategy: str
    score: Floats
    outlier_score: Floats
    fraud_probability: Floats  # NaN is stored as NULL
    decision_value: Floats
    threshold: Floats
    channel: NDArray[np.object_]
    flagged: NDArray[np.bool_]
    expected_loss: Floats  # in the base currency; NaN is stored as NULL
    in_sample: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.transaction_id)


@dataclass(frozen=True)
class Flag:
    """A flag on a transaction; `reasons` is JSON."""

    transaction_id: str
    model_id: int
    channel: str
    reasons: str
    muted_by: int | None = None  # a mute


@dataclass(frozen=True)
class WriteResult:
    """Counts of a write: scores written, flags raised, and rows that had a score already."""

    scored: int
    flagged: int
    already: int


def write_scores(
    store: Store,
    policy: str,
    run_id: int,
    scored: ModelScores,
    raised: Sequence[Flag],
    *,
    notify: bool = False,
) -> WriteResult:
    """
    Write scores and flags, each transaction once per policy, even with concurrent writers.

    A flag is written only if this run's score was; scored transactions leave the scoring queue in the same database
    transaction. Keys are inserted in order, so that two writers wait for each other and never deadlock.

    Parameters
    ----------
    notify
        Whether to queue the flags that are not muted for the next digest.
    """
    order = np.argsort(scored.transaction_id.astype(str), kind="stable")
    by_id = {flag.transaction_id: flag for flag in raised}
    written = flagged = 0
    for start in range(0, len(order), ROWS_A_WRITE):
        rows = order[start : start + ROWS_A_WRITE]
        ids = scored.transaction_id[rows].tolist()
        with store.write() as connection:
            new = bulk.insert_new(connection, scores, _columns(policy, run_id, scored, rows))
            given = {"p": policy, "listed_ids": json.dumps(ids)}
            all_mine, dequeue = _statements(connection.dialect.name)
            mine = set(ids if new == len(ids) else connection.scalars(all_mine, given | {"r": run_id}))
            connection.execute(dequeue, given)
            mine_flagged = [by_id[n] for n in ids if n in mine and n in by_id]
            flagged += _raise_flags(connection, store, policy, run_id, mine_flagged)
            if notify:
                _queue_for_digest(connection, policy, mine_flagged)
        written += len(mine)
    return WriteResult(written, flagged, len(scored) - written)


MINE = "SELECT transaction_id FROM scores WHERE policy = :p AND run_id = :r AND transaction_id IN ({ids})"
DEQUEUE = "DELETE FROM scoring_queue WHERE policy = :p AND transaction_id IN ({ids})"


@cache
def _statements(dialect: str) -> tuple[TextClause, TextClause]:
    mine, dequeue = (text(sql.format(ids=bulk.listed_ids(dialect))) for sql in (MINE, DEQUEUE))
    return mine, dequeue


def _columns(policy: str, run_id: int, scored: ModelScores, rows: Ints) -> dict[str, list[object]]:
    size = len(rows)
    return {
        "policy": [policy] * size,
        "transaction_id": scored.transaction_id[rows].tolist(),
        "run_id": [run_id] * size,
        "model_id": [scored.model_id] * size,
        "score": scored.score[rows].tolist(),
        "outlier_score": scored.outlier_score[rows].tolist(),
        "fraud_probability": list(bulk.numbers(scored.fraud_probability[rows])),
        "decision_value": scored.decision_value[rows].tolist(),
        "threshold": scored.threshold[rows].tolist(),
        "channel": scored.channel[rows].tolist(),
        "flagged": scored.flagged[rows].tolist(),
        "strategy": [scored.strategy] * size,
        "expected_loss": list(bulk.numbers(scored.expected_loss[rows])),
        "in_sample": [None] * size if scored.in_sample is None else scored.in_sample[rows].tolist(),
    }


def _raise_flags(
    connection: Connection, store: Store, policy: str, run_id: int, raised: Sequence[Flag]
) -> int:
    if not raised:
        return 0
    lock_cases(connection)
    make = postgres_insert if connection.dialect.name == "postgresql" else sqlite_insert
    rows = [
        {
            "policy": policy,
            "transaction_id": flag.transaction_id,
            "run_id": run_id,
            "model_id": flag.model_id,
            "channel": flag.channel,
            "reasons": json.loads(flag.reasons),
            "status": "open",
            "muted_by": flag.muted_by,
        }
        for flag in raised
    ]
    connection.execute(make(flags).on_conflict_do_nothing(), rows)
    ids = [flag.transaction_id for flag in raised]
    set_order(connection, policy, ids)
    if any_answer(connection, ids):
        update_flags(connection, ids)
    assign_cases(connection, store, policy, ids)
    return len(rows)


def _queue_for_digest(connection: Connection, policy: str, raised: Sequence[Flag]) -> None:
    make = postgres_insert if connection.dialect.name == "postgresql" else sqlite_insert
    rows = [
        {"policy": policy, "transaction_id": flag.transaction_id} for flag in raised if flag.muted_by is None
    ]
    if rows:
        connection.execute(make(flag_notifications_pending).on_conflict_do_nothing(), rows)
