"""The columns of `flags` that lists are ordered by: copies of a payment's time and amount, and of its score and expected loss."""

import json
from collections.abc import Iterable

from sqlalchemy import Connection, text

from storage.database import bulk

NO_LOSS = -1.0  # in `loss_order`, of a flag without an expected loss: after all others
COPY = """
    UPDATE flags SET loss_order = COALESCE(s.expected_loss, :no_loss), score = s.score, event_time = t.event_time,
                     amount_base = t.amount_base
    FROM scores s, transactions t
    WHERE flags.policy = :policy AND flags.transaction_id IN ({ids})
      AND s.policy = :policy AND s.transaction_id = flags.transaction_id AND t.transaction_id = flags.transaction_id"""


def set_order(connection: Connection, policy: str, ids: Iterable[str]) -> None:
    """Copy the values of a policy's flags on these transactions."""
    copy = COPY.format(ids=bulk.listed_ids(connection.dialect.name))
    given = {"policy": policy, "no_loss": NO_LOSS, "listed_ids": json.dumps(list(ids))}
    connection.execute(text(copy), given)
