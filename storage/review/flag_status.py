"""Setting the status of flags from labels, whether the label or the flag came first."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, and_, bindparam, select, text, update

from storage.database import bulk
from storage.database.column_types import Instant
from storage.database.tables import flags, verdicts
from storage.review.verdict_log import NO_OPINION, not_retracted

ANSWERED = ("fraud", "genuine", "closed")

FLAGGED = """
    SELECT DISTINCT f.transaction_id FROM flags f
    JOIN labels l ON l.transaction_id = f.transaction_id WHERE l.batch_id = :batch"""

# In the order of current_labels: the first of each transaction is its current label.
RANKED = """
    SELECT l.transaction_id, l.is_fraud, l.source, l."by", l.batch_id, l.known_at,
           CASE WHEN l.batch_id IS NULL THEN l.recorded_at
                WHEN b.history THEN l.known_at ELSE b.visible_at END AS recorded_at
    FROM {stage} w
    JOIN labels l ON l.transaction_id = w.transaction_id
    LEFT JOIN batches b ON b.batch_id = l.batch_id
    LEFT JOIN label_precedence p ON p.source = l.source
    WHERE l.batch_id IS NULL OR b.status = 'done'
    ORDER BY l.transaction_id, COALESCE(p.rank, 1000000), l.known_at DESC, l.label_id DESC"""


def close_flags(connection: Connection, ids: Iterable[str]) -> None:
    """Give the flags of these transactions the status of their current label, if they have one."""
    listed = list(ids)
    if not listed:
        return
    with bulk.staged_ids(connection, listed) as stage:
        sql = text(RANKED.format(stage=stage)).columns(known_at=Instant, recorded_at=Instant)
        ranked = connection.execute(sql).all()
    current = {row.transaction_id: row for row in reversed(ranked)}
    if current:
        connection.execute(
            update(flags).where(flags.c.transaction_id == bindparam("id")),
            [
                {
                    "id": name,
                    "status": "fraud" if row.is_fraud else "genuine",
                    "reviewer": row.by if _from_person(row) else row.source,
                    "reviewed_at": max(row.known_at, row.recorded_at),
                }
                for name, row in sorted(current.items())
            ],
        )


def _from_person(label: Any) -> bool:
    """Whether a person gave this label: by a verdict, which has no batch, or as a review in a file."""
    return label.batch_id is None or label.source == "review"


def close_flags_of_batch(connection: Connection, batch_id: int) -> None:
    """Set the status of the flags that a batch of labels refers to."""
    close_flags(connection, connection.execute(text(FLAGGED), {"batch": batch_id}).scalars())


def update_flags(connection: Connection, ids: Sequence[str]) -> None:
    """
    Give the flags of these transactions the status of what is said of them now.

    That is their current label, else `closed` if somebody closed them without opinion, else `open` if it was another
    status that no longer holds; expired flags stay expired.
    """
    v, f = verdicts.c, flags.c
    with bulk.staged_ids(connection, ids) as stage:
        mine = text(f"SELECT transaction_id FROM {stage}")
        answered = and_(f.transaction_id.in_(mine), f.status.in_(ANSWERED))
        connection.execute(
            update(flags).where(answered).values(status="open", reviewer=None, reviewed_at=None)
        )
        closed = and_(v.transaction_id.in_(mine), v.verdict == NO_OPINION, not_retracted(v))
        rows = connection.execute(select(v.transaction_id, v.by, v.at).where(closed).order_by(v.verdict_id))
        newest = {row.transaction_id: row for row in rows}
    if newest:
        connection.execute(
            update(flags).where(f.transaction_id == bindparam("id")),
            [
                {"id": name, "status": "closed", "reviewer": row.by, "reviewed_at": row.at}
                for name, row in sorted(newest.items())
            ],
        )
    close_flags(connection, ids)
