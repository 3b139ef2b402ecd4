"""Stored scores of single payments, with the reasons of those that are flagged."""

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Select, Table, and_, bindparam, select, text

from storage.database import bulk
from storage.database.database import Store
from storage.database.tables import flags, scores
from storage.queries.rows import Row, rows_of


def scores_of(store: Store, policy: str, ids: Sequence[str]) -> dict[str, Row]:
    """The scores of these payments, by id; `reasons` and `muted_by` are None where there is no flag."""
    given = {"policy": policy, "listed_ids": json.dumps(list(ids))}
    query = _scores(store.transactions, store.dialect)
    with store.read() as connection:
        return {row["transaction_id"]: row for row in rows_of(connection, query, given)}


@lru_cache(maxsize=8)
def _scores(transactions: Table, dialect: str) -> "Select[Any]":
    s, f, t = scores.c, flags.c, transactions.c
    columns = (
        s.transaction_id, s.score, s.fraud_probability, s.expected_loss, s.decision_value, s.threshold, s.channel, s.flagged,
        s.model_id, s.strategy, f.reasons, f.muted_by, t.arrived_at,
    )  # fmt: skip
    return (
        select(*columns)
        .join(transactions, t.transaction_id == s.transaction_id)
        .outerjoin(flags, and_(f.policy == s.policy, f.transaction_id == s.transaction_id))
        .where(s.policy == bindparam("policy"), s.transaction_id.in_(text(bulk.listed_ids(dialect))))
    )
