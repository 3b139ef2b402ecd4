"""Setting the status of flags from labels, whether the label or the flag came first."""

import json
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
from sqlalchemy import Connection, Select, select, text, update

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
    with bulk.staged_ids(connection, listed):
        connection.execute(_OPENED)
        rows = connection.execute(_HOLDING).all()
        closed = _closed_without_opinion(connection)
        found = connection.execute(_FLAGGED).all()
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


def any_answer(connection: Connection, ids: Iterable[str]) -> bool:
    """Whether there is a label of, or a verdict on, one of these transactions; without one a new flag is open."""
    given = {"listed_ids": json.dumps(list(ids))}
    return bool(connection.scalar(_any_answer(connection.dialect.name), given))


@cache
def _any_answer(dialect: str) -> "Select[Any]":
    of_table = "EXISTS (SELECT 1 FROM {table} a WHERE a.transaction_id = l.transaction_id)"
    either = " OR ".join(of_table.format(table=table) for table in ("labels", "verdicts"))
    return select(text(f"EXISTS (SELECT 1 FROM ({bulk.listed_ids(dialect)}) l WHERE {either})"))


STATUS_COLUMNS = dict.fromkeys(("policy", "name", "status", "reviewer"), "text") | {
    "reviewed_at": "timestamptz"
}
SET_STATUS = """
    UPDATE flags SET status = s.status, reviewer = s.reviewer, reviewed_at = s.reviewed_at FROM ({rows}) s
    WHERE flags.policy = s.policy AND flags.transaction_id = s.name"""


# Of the staged transactions. Built once: that takes longer than to carry them out for a single payment.
_STAGED = f"SELECT transaction_id FROM {bulk.STAGE}"
_MINE = flags.c.transaction_id.in_(text(_STAGED))
_OPENED = (
    update(flags)
    .where(_MINE, flags.c.status.in_(ANSWERED))
    .values(status="open", reviewer=None, reviewed_at=None)
)
_HOLDING = text(ranked_labels(VISIBLE, f"AND {{x}}.transaction_id IN ({_STAGED})")).columns(
    known_at=Instant, recorded_at=Instant
)
_FLAGGED = (
    select(flags.c.policy, flags.c.transaction_id, flags.c.case_id)
    .where(_MINE)
    .order_by(flags.c.policy, flags.c.transaction_id)
)
_CLOSED = (
    select(verdicts.c.transaction_id, verdicts.c.by, verdicts.c.at)
    .where(
        verdicts.c.transaction_id.in_(text(_STAGED)),
        verdicts.c.verdict == NO_OPINION,
        not_retracted(verdicts.c),
    )
    .order_by(verdicts.c.verdict_id)
)


def _closed_without_opinion(connection: Connection) -> dict[str, dict[str, Any]]:
    """The answer of the newest verdict without opinion on each of the staged transactions that has any."""
    return {
        row.transaction_id: {"status": "closed", "reviewer": row.by, "reviewed_at": row.at}
        for row in connection.execute(_CLOSED).all()
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
