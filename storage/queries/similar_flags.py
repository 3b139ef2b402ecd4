"""Answered flags that are like another one: of the same entities, or with the same leading reason and a near amount."""

from typing import Any

from sqlalchemy import Connection, select

from storage.database import tables
from storage.database.database import Store
from storage.review.flag_status import ANSWERED

PAYMENTS_MAX = 2_000  # the newest ones of an entity that are looked through
NEAR_MAX = 300  # flags above and below the amount that are looked through


def flags_of_entity(
    store: Store, policy: str, entity: tuple[str, str], without: str, limit: int
) -> list[tuple[int, str]]:
    """The newest answered flags of an entity (its column, and its value as it is stored): event times in µs and ids."""
    f, t = tables.flags.c, store.transactions.c
    newest = (
        select(t.transaction_id)
        .where(t[entity[0]] == entity[1])
        .order_by(t.event_time.desc())
        .limit(PAYMENTS_MAX)
    )
    # Neither the status nor an order is in the query: SQLite would read all flags by time.
    rows = select(f.event_time, f.transaction_id, f.status).where(
        f.policy == policy, f.transaction_id.in_(newest), f.transaction_id != without
    )
    with store.read() as connection:
        answered = [row for row in connection.execute(rows) if row.status in ANSWERED]
    answered.sort(key=lambda row: (-row.event_time, row.transaction_id))
    return [(row.event_time, row.transaction_id) for row in answered[:limit]]


def flags_near_amount(
    store: Store, policy: str, code: str, amount: float, without: str, limit: int
) -> list[str]:
    """The ids of answered flags whose leading reason has this code, the nearest amounts in the base currency first."""
    f = tables.flags.c
    with store.read() as connection:
        found = [
            row
            for status in ANSWERED
            for condition, order in (
                (f.amount_base >= amount, f.amount_base),
                (f.amount_base < amount, f.amount_base.desc()),
            )
            for row in _read(connection, policy, status, condition, order)
        ]
    alike = [row for row in found if row.transaction_id != without and _leading(row.reasons) == code]
    alike.sort(key=lambda row: (abs(row.amount_base - amount), row.transaction_id))
    return [row.transaction_id for row in alike[:limit]]


def _read(connection: Connection, policy: str, status: str, condition: Any, order: Any) -> list[Any]:
    f = tables.flags.c
    rows = select(f.transaction_id, f.amount_base, f.reasons)
    return list(
        connection.execute(
            rows.where(f.policy == policy, f.status == status, condition).order_by(order).limit(NEAR_MAX)
        )
    )


def _leading(reasons: list[dict[str, Any]]) -> str | None:
    return reasons[0]["code"] if reasons else None
