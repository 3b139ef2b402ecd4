"""The columns of `flags` that lists are ordered by: copies of a payment's time and amount, and of its score and expected loss."""

from collections.abc import Iterable

from sqlalchemy import Connection, text

from storage.database import bulk

NO_LOSS = -1.0  # in `loss_order`, of a flag without an expected loss: after all others
COPY = f"""
    UPDATE flags SET loss_order = COALESCE(s.expected_loss, {NO_LOSS}), score = s.score, event_time = t.event_time,
                     amount_base = t.amount_base
    FROM scores s, transactions t
    WHERE s.policy = flags.policy AND s.transaction_id = flags.transaction_id AND t.transaction_id = flags.transaction_id"""


def set_order(connection: Connection, policy: str | None = None, ids: Iterable[str] = ()) -> None:
    """Copy the values of the flags of these payments under a policy; without a policy of all flags."""
    if policy is None:
        connection.execute(text(COPY))
        return
    with bulk.staged_ids(connection, ids) as stage:
        mine = f"flags.policy = :policy AND flags.transaction_id IN (SELECT transaction_id FROM {stage})"
        connection.execute(text(f"{COPY} AND {mine}"), {"policy": policy})
