"""
What the stored labels of a source say, for labels that arrive again.

Files that are exported every day repeat what they said before. Such a label, if it has no time of its own, is not known anew:
else it would overrule whatever a reviewer said meanwhile.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from storage.database import bulk
from storage.database.column_types import Instant
from storage.database.database import Store
from storage.ingest.chunks import LabelChunk

_VISIBLE = """
    FROM labels l LEFT JOIN batches b ON b.batch_id = l.batch_id
    WHERE (l.batch_id IS NULL OR b.status = 'done') AND l.retracts IS NULL"""
STATEMENTS = f"""
    SELECT l.transaction_id, l.source, l.is_fraud, l.type, l.stage {_VISIBLE}
    AND l.transaction_id IN (SELECT transaction_id FROM {{stage}}) ORDER BY l.known_at, l.label_id"""
OF_SOURCE = f"""
    SELECT l.transaction_id, l.is_fraud {_VISIBLE} AND l.source = :source AND (l.is_fraud IS NOT NULL OR l.type IS NOT NULL)
    AND l.transaction_id IN (SELECT transaction_id FROM labels WHERE source = :source AND is_fraud)
    ORDER BY l.known_at, l.label_id"""
EARLY = """
    SELECT l.label_id, l.transaction_id, l.source, l.known_at, t.event_time FROM transactions t
    JOIN labels l ON l.transaction_id = t.transaction_id LEFT JOIN batches b ON b.batch_id = l.batch_id
    WHERE t.batch_id = :batch AND l.known_at < t.event_time AND l.retracts IS NULL AND (l.batch_id IS NULL OR b.status = 'done')
    ORDER BY l.label_id"""


@dataclass(frozen=True)
class EarlyLabel:
    """A label that says it was known before its payment, which arrived after it; times in µs."""

    label_id: int
    transaction_id: str
    source: str
    known_at: int
    event_time: int


def fraud_by_source(store: Store, source: str) -> dict[str, bool]:
    """Payments that a source has called fraud, and whether its newest label still does."""
    with store.read() as connection:
        rows = connection.execute(text(OF_SOURCE), {"source": source}).all()
    return {row.transaction_id: bool(row.is_fraud) for row in rows}


def repeated(connection: Connection, chunk: LabelChunk) -> NDArray[np.bool_]:
    """
    Which labels with an assumed time say nothing new.

    With a stage it is one that is stored with the same values; without, one that says the same as the newest of its source.
    """
    again = np.zeros(len(chunk), dtype=bool)
    undated = np.flatnonzero(again if chunk.undated is None else chunk.undated)
    if not len(undated):
        return again
    with bulk.staged_ids(connection, chunk.transaction_id[undated]) as stage:
        rows = connection.execute(text(STATEMENTS.format(stage=stage))).all()
    newest, stages = dict[tuple[str, str], tuple[bool | None, str | None]](), set[tuple[object, ...]]()
    for row in rows:
        said = (_bool(row.is_fraud), row.type)
        stages.add((row.transaction_id, row.source, *said, row.stage))
        if said != (None, None):
            newest[row.transaction_id, row.source] = said
    for place in undated.tolist():
        name, source = chunk.transaction_id[place], chunk.source[place]
        meaning = (chunk.is_fraud[place], None if chunk.type is None else chunk.type[place])
        dispute_stage = None if chunk.stage is None else chunk.stage[place]
        if dispute_stage is None:
            again[place] = newest.get((name, source)) == meaning
        else:
            again[place] = (name, source, *meaning, dispute_stage) in stages
    return again


def _bool(value: int | None) -> bool | None:
    return None if value is None else bool(value)


def early_labels(store: Store, batch_id: int) -> Sequence[EarlyLabel]:
    """Labels that arrived before their payments of this batch, and say that they were known before them."""
    columns = text(EARLY).columns(known_at=Instant, event_time=Instant)
    with store.read() as connection:
        rows = connection.execute(columns, {"batch": batch_id}).all()
    return [EarlyLabel(*row) for row in rows]
