"""Setting the status of flags from labels, whether the label or the flag came first."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from sqlalchemy import Connection, and_, select, text, update

from storage.database import bulk
from storage.database.cases import lock_cases, write_cases
from storage.database.column_types import Instant
from storage.database.tables import flags, verdicts
from storage.database.views import VISIBLE, ranked_labels
from storage.review.verdict_log import NO_OPINION, not_retracted

ANSWERED = ("fraud", "genuine", "closed")

FLAGGED = """
    SELECT DISTINCT f.transaction_id FROM flags f
    JOIN labels l ON l.transaction_id = f.transaction_id WHERE l.batch_id = :batch"""


def update_flags(connection: Connection, ids: Iterable[str]) -> None:
    """
    Give the flags of these transactions the status of what is said of them now.

    That is the label that holds, as in `current_labels`, if it says fraud or genuine; else `closed` if somebody closed them
    without opinion; else `open` if they had another status that no longer holds. Expired flags stay expired.
    """
    listed = list(ids)
    if not listed:
        return
    lock_cases(connection)
    with bulk.staged_ids(connection, listed) as stage:
        staged = f"SELECT transaction_id FROM {stage}"
        answered = flags.c.transaction_id.in_(text(staged)) & flags.c.status.in_(ANSWERED)
        connection.execute(
            update(flags).where(answered).values(status="open", reviewer=None, reviewed_at=None)
        )
        holding = text(ranked_labels(VISIBLE, f"AND {{x}}.transaction_id IN ({staged})"))
        rows = connection.execute(holding.columns(known_at=Instant, recorded_at=Instant)).all()
        closed = _closed_without_opinion(connection, staged)
        f = flags.c
        flagged = select(f.policy, f.transaction_id, f.case_id).where(f.transaction_id.in_(text(staged)))
        found = connection.execute(flagged.order_by(f.policy, f.transaction_id)).all()
    answers = closed | {row.transaction_id: _answer(row) for row in rows if row.is_fraud is not None}
    answered_flags = [flag for flag in found if flag.transaction_id in answers]
    at = [answers[flag.transaction_id]["reviewed_at"] for flag in answered_flags]
    changes = [
        (flag.policy, flag.transaction_id, answer["status"], answer["reviewer"], reviewed_at)
        for flag, reviewed_at in zip(answered_flags, bulk.instants(np.array(at)), strict=True)
        for answer in (answers[flag.transaction_id],)
    ]
    bulk.write_listed(connection, SET_STATUS, STATUS_COLUMNS, changes)
    write_cases(connection, {(flag.policy, flag.case_id) for flag in found if flag.case_id is not None})


STATUS_COLUMNS = dict.fromkeys(("policy", "name", "status", "reviewer"), "text") | {
    "reviewed_at": "timestamptz"
}
SET_STATUS = """
    UPDATE flags SET status = s.status, reviewer = s.reviewer, reviewed_at = s.reviewed_at FROM ({rows}) s
    WHERE flags.policy = s.policy AND flags.transaction_id = s.name"""


def _closed_without_opinion(connection: Connection, staged: str) -> dict[str, dict[str, Any]]:
    """The answer of the newest verdict without opinion on each of the staged transactions that has any."""
    v = verdicts.c
    without_opinion = and_(v.transaction_id.in_(text(staged)), v.verdict == NO_OPINION, not_retracted(v))
    rows = connection.execute(
        select(v.transaction_id, v.by, v.at).where(without_opinion).order_by(v.verdict_id)
    )
    return {
        row.transaction_id: {"status": "closed", "reviewer": row.by, "reviewed_at": row.at} for row in rows
    }


def _answer(label: Any) -> dict[str, Any]:
    return {
        "status": "fraud" if label.is_fraud else "genuine",
        "reviewer": label.by if _from_person(label) else label.source,
        "reviewed_at": max(label.known_at, label.recorded_at),
    }


def _from_person(label: Any) -> bool:
    """Whether a person gave this label: by a verdict, which has no batch, or as a review in a file."""
    return label.batch_id is None or label.source == "review"


def update_flags_of_batch(connection: Connection, batch_id: int) -> None:
    """Set the status of the flags that a batch of labels refers to."""
    update_flags(connection, connection.execute(text(FLAGGED), {"batch": batch_id}).scalars())
