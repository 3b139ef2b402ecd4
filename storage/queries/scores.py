"""Stored scores of single payments, with the reasons of those that are flagged."""

from collections.abc import Sequence

from sqlalchemy import and_, select

from storage.database import bulk
from storage.database.database import Store
from storage.database.tables import flags, scores
from storage.queries.rows import Row, read_rows


def scores_of(store: Store, policy: str, ids: Sequence[str]) -> dict[str, Row]:
    """The scores of these payments, by id; `reasons` and `muted_by` are None where there is no flag."""
    s, f, t = scores.c, flags.c, store.transactions.c
    columns = (
        s.transaction_id, s.score, s.fraud_probability, s.expected_loss, s.decision_value, s.threshold, s.channel, s.flagged,
        s.model_id, s.strategy, f.reasons, f.muted_by, t.arrived_at,
    )  # fmt: skip
    given = bulk.with_listed_ids(bulk.listed_ids(store.dialect), ids)
    query = (
        select(*columns)
        .join(store.transactions, t.transaction_id == s.transaction_id)
        .outerjoin(flags, and_(f.policy == s.policy, f.transaction_id == s.transaction_id))
        .where(s.policy == policy, s.transaction_id.in_(given))
    )
    return {row["transaction_id"]: row for row in read_rows(store, query)}
