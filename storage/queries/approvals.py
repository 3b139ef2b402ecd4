"""Requests for approval, as people list them, and what decides whether one is needed."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, func, select, text

from storage.database import bulk
from storage.database.database import Store
from storage.database.tables import approvals, promotion_checks, users
from storage.errors import Unknown
from storage.queries.rows import Position, Row, RowPage, SortKey, fetch_page, stream


def approval_page(store: Store, limit: int | None = None, after: Position | None = None) -> RowPage:
    """All requests, the newest first, with the names of who asked and who decided."""
    return fetch_page(store, _rows(), [SortKey(approvals.c.approval_id, descending=True)], limit, after)


def approval_row(store: Store, number: int) -> Row:
    """
    One request.

    Raises
    ------
    Unknown
        There is none of this number.
    """
    for row in stream(store, _rows().where(approvals.c.approval_id == number)):
        return row
    raise Unknown(f"there is no approval {number}", code="unknown_approval")


def _rows() -> "Select[Any]":
    asker, decider = users.alias("asker"), users.alias("decider")
    return (
        select(approvals, asker.c.name.label("requested_by"), decider.c.name.label("decided_by_name"))
        .join(asker, asker.c.user_id == approvals.c.user_id)
        .outerjoin(decider, decider.c.user_id == approvals.c.decided_by)
    )


def was_rejected(store: Store, policy: str, model_id: int) -> bool:
    """Whether the promotion gate refused a model."""
    c = promotion_checks.c
    mine = (c.policy == policy) & (c.model_id == model_id) & (c.verdict == "rejected")
    with store.read() as connection:
        return bool(connection.scalar(select(func.count()).select_from(promotion_checks).where(mine)))


def amount_of(store: Store, ids: Sequence[str]) -> float:
    """The sum of the amounts of these transactions in the base currency."""
    with store.read() as connection, bulk.staged_ids(connection, list(ids)) as stage:
        named = text(f"SELECT transaction_id FROM {stage}")
        t = store.transactions.c
        total = select(func.sum(t.amount_base)).where(t.transaction_id.in_(named))
        return float(connection.scalar(total) or 0.0)
