"""Which values of entities occur on the same payments."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, bindparam, select

from storage.database import bulk, tables
from storage.database.database import Store
from storage.queries.flags import holding_labels

Value = tuple[str, str]  # of an entity: its column, and the value as it is stored


@dataclass(frozen=True)
class ValuePayments:
    """
    The newest payments of a value, and who shares them.

    Attributes
    ----------
    ids
        Of the payments.
    is_cut
        Whether there are more.
    neighbours
        By value of another entity, on how many of the payments it occurs.
    """

    ids: tuple[str, ...]
    is_cut: bool
    neighbours: Mapping[Value, int]


def payments_of_values(store: Store, values: Iterable[Value], most: int) -> dict[Value, ValuePayments]:
    """
    The newest payments of each value with the values of other entities on them.

    Parameters
    ----------
    most
        Payments that are read of each value.
    """
    queries = {name: _newest(store, name, most + 1) for name in store.fields.entities}
    with store.read() as connection:
        return {value: _payments(connection, store, queries[value[0]], value, most) for value in values}


def _newest(store: Store, column: str, limit: int) -> "Select[Any]":
    """The newest payments of the value `wanted`, with the values of all other entities."""
    t = store.transactions.c
    others = [t[name] for name in store.fields.entities if name != column]
    done = select(tables.batches.c.batch_id).where(tables.batches.c.status == "done")
    rows = select(t.transaction_id, *others).where(t[column] == bindparam("wanted"), t.batch_id.in_(done))
    return rows.order_by(t.event_time.desc()).limit(limit)


def _payments(
    connection: Connection, store: Store, query: "Select[Any]", value: Value, most: int
) -> ValuePayments:
    others = [name for name in store.fields.entities if name != value[0]]
    rows = connection.execute(query, {"wanted": value[1]}).all()
    neighbours = {
        (name, other): count
        for place, name in enumerate(others, start=1)
        for other, count in Counter(row[place] for row in rows[:most]).items()
        if other is not None
    }
    return ValuePayments(tuple(row[0] for row in rows[:most]), len(rows) > most, neighbours)


def flagged_and_fraud(store: Store, policy: str, ids: Sequence[str]) -> tuple[set[str], set[str]]:
    """Which of these payments the policy has flagged, and which are fraud by the label that holds."""
    given, f = bulk.listed_ids(store.dialect), tables.flags.c
    with store.read() as connection:
        flagged = connection.scalars(
            select(f.transaction_id).where(
                f.policy == policy, f.transaction_id.in_(bulk.with_listed_ids(given, ids))
            )
        )
        found = set(flagged)
        label = holding_labels(store, ids).c
        frauds = set(connection.scalars(select(label.transaction_id).where(label.is_fraud)))
    return found, frauds
