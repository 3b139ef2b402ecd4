"""Setting the status of flags from labels, whether the label or the flag came first."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, bindparam, text, update

from storage.database import bulk
from storage.database.column_types import Instant
from storage.database.tables import flags
from storage.database.views import VISIBLE, ranked_labels

FLAGGED = """
    SELECT DISTINCT f.transaction_id FROM flags f
    JOIN labels l ON l.transaction_id = f.transaction_id WHERE l.batch_id = :batch"""


def close_flags(connection: Connection, ids: Iterable[str]) -> None:
    """
    Give the flags of these transactions the status of the label that holds, as in `current_labels`.

    Where no label says fraud or genuine, a flag with such a status is open again: its label was retracted or undone.
    """
    listed = list(ids)
    if not listed:
        return
    with bulk.staged_ids(connection, listed) as stage:
        staged = f"SELECT transaction_id FROM {stage}"
        holding = text(ranked_labels(VISIBLE, f"AND {{x}}.transaction_id IN ({staged})"))
        rows = connection.execute(holding.columns(known_at=Instant, recorded_at=Instant)).all()
        labelled = flags.c.transaction_id.in_(text(staged)) & flags.c.status.in_(("fraud", "genuine"))
        connection.execute(
            update(flags).where(labelled).values(status="open", reviewer=None, reviewed_at=None)
        )
    answers = [_answer(row) for row in sorted(rows) if row.is_fraud is not None]
    if answers:
        connection.execute(update(flags).where(flags.c.transaction_id == bindparam("id")), answers)


def _answer(label: Any) -> dict[str, Any]:
    return {
        "id": label.transaction_id,
        "status": "fraud" if label.is_fraud else "genuine",
        "reviewer": label.by if _from_person(label) else label.source,
        "reviewed_at": max(label.known_at, label.recorded_at),
    }


def _from_person(label: Any) -> bool:
    """Whether a person gave this label: by a verdict, which has no batch, or as a review in a file."""
    return label.batch_id is None or label.source == "review"


def close_flags_of_batch(connection: Connection, batch_id: int) -> None:
    """Set the status of the flags that a batch of labels refers to."""
    close_flags(connection, connection.execute(text(FLAGGED), {"batch": batch_id}).scalars())
