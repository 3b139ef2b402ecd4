"""What given payments cost if they are fraud, as known at an instant."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, text

from storage.database import bulk
from storage.database.column_types import Instant
from storage.database.database import Store
from storage.database.loss_views import known_at_instant


@dataclass(frozen=True)
class Loss:
    """The money of a payment, in the base currency."""

    at_risk: float  # gross, as it was first seen: what is caught if it is flagged
    loss: float  # net: what is missed if it is not


def losses(store: Store, ids: Sequence[str], as_of: int) -> dict[str, Loss]:
    """The money of each of these transactions if it is a fraud, as known at `as_of`."""
    if not len(ids):
        return {}
    with store.read() as connection, bulk.staged_ids(connection, list(ids)) as stage:
        sql = f"SELECT transaction_id, at_risk, loss FROM ({known_at_instant(store).losses(stage)}) l"
        rows = connection.execute(text(sql).bindparams(bindparam("as_of", type_=Instant)), {"as_of": as_of})
        return {row.transaction_id: Loss(float(row.at_risk), float(row.loss)) for row in rows}
