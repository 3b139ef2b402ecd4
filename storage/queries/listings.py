"""Outcome and flags of a span, for the summary."""

from typing import Any

from sqlalchemy import bindparam, column, func, select, text

from storage.database.column_types import as_datetime
from storage.database.database import Store
from storage.queries.flags import flagged_view
from storage.queries.rows import Row, read_rows


def outcome(store: Store, policy: str, since: int, until: int) -> Row:
    """
    Fraud caught and missed in [since, until), in counts and money (amount_base).

    Money is the newest amount of a transaction, less its refunds.
    """
    with store.read() as connection:
        sql = (
            text(OUTCOME)
            .bindparams(bindparam("kinds", expanding=True))
            .columns(*(column(name) for name in OUTCOME_COLUMNS))
        )
        parameters = {"policy": policy, "since": _bind(store, since), "until": _bind(store, until)}
        parameters["kinds"] = list(store.fields.refund_kinds)
        return dict(connection.execute(sql, parameters).mappings().one())


OUTCOME_COLUMNS = (
    "scored", "flagged", "caught", "false_flags", "unknown", "missed", "caught_money", "missed_money"
)  # fmt: skip
OUTCOME = """
    WITH refunds AS (
        SELECT original_id, SUM(ABS(amount_base)) AS refunded FROM visible_transactions
        WHERE original_id IS NOT NULL AND kind IN :kinds GROUP BY original_id
    )
    SELECT COUNT(*) AS scored,
           COALESCE(SUM(CASE WHEN x.flagged THEN 1 ELSE 0 END), 0) AS flagged,
           COALESCE(SUM(CASE WHEN x.flagged AND x.is_fraud THEN 1 ELSE 0 END), 0) AS caught,
           COALESCE(SUM(CASE WHEN x.flagged AND NOT x.is_fraud THEN 1 ELSE 0 END), 0) AS false_flags,
           COALESCE(SUM(CASE WHEN x.flagged AND x.is_fraud IS NULL THEN 1 ELSE 0 END), 0) AS unknown,
           COALESCE(SUM(CASE WHEN x.is_fraud AND NOT x.flagged THEN 1 ELSE 0 END), 0) AS missed,
           COALESCE(SUM(CASE WHEN x.flagged AND x.is_fraud THEN x.loss ELSE 0 END), 0) AS caught_money,
           COALESCE(SUM(CASE WHEN x.is_fraud AND NOT x.flagged THEN x.loss ELSE 0 END), 0) AS missed_money
    FROM (
        SELECT s.flagged, c.is_fraud,
               CASE WHEN c.is_fraud THEN
                   COALESCE((SELECT r.amount_base FROM revisions r WHERE r.transaction_id = t.transaction_id
                             ORDER BY r.revision DESC LIMIT 1), t.amount_base)
                   - COALESCE(g.refunded, 0)
               ELSE 0 END AS loss
        FROM scores s
        JOIN transactions t ON t.transaction_id = s.transaction_id
        LEFT JOIN current_labels c ON c.transaction_id = s.transaction_id
        LEFT JOIN refunds g ON g.original_id = s.transaction_id
        WHERE s.policy = :policy AND t.event_time >= :since AND t.event_time < :until
    ) x"""


def by_channel(store: Store, policy: str, since: int, until: int) -> list[Row]:
    """The number of flags by channel and status."""
    view = flagged_view(store)
    rows = (
        select(view.c.channel, view.c.status, func.count().label("flags"))
        .where(view.c.policy == policy, view.c.event_time >= since, view.c.event_time < until)
        .group_by(view.c.channel, view.c.status)
        .order_by(view.c.channel, view.c.status)
    )
    return read_rows(store, rows)


def _bind(store: Store, instant: int) -> Any:
    moment = as_datetime(instant)
    return moment if store.dialect == "postgresql" else moment.strftime("%Y-%m-%d %H:%M:%S.%f")
