"""What is stored of a person: values that belong together, and every row that has one of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, func, or_, select, text

from storage.admin.personal_rows import PersonValue, key_columns, mine, personal_rows
from storage.database import bulk, tables
from storage.database.database import Store
from storage.queries.rows import Row, row_converter

SHARED_MAX = 1_000  # others that share a value are counted up to here
LINKS_MAX = 50  # values of a column, those with the most payments first


@dataclass(frozen=True)
class Link:
    """
    A value of another entity that shares payments with a person.

    Attributes
    ----------
    payments
        Number of payments of both.
    others
        Number of other values of the person's column that share it, at most `SHARED_MAX`.
    """

    column: str
    value: str
    payments: int
    others: int


def is_stored(store: Store, column: str, value: str) -> bool:
    """Whether a payment has this value in this column, as it is stored."""
    same = select(store.transactions.c.transaction_id).where(store.transactions.c[column] == value)
    with store.read() as connection:
        return connection.scalar(same.limit(1)) is not None


def links(store: Store, values: Sequence[PersonValue]) -> list[Link]:
    """Values of other entities on payments of the first value, without those that are named already."""
    first, known = values[0], {(value.column, value.stored) for value in values}
    t = store.transactions.c
    found = []
    with store.read() as connection:
        for name in store.fields.entities:
            if name == first.column:
                continue
            payments = func.count().label("payments")
            query = select(t[name], payments).where(mine(store.transactions, first), t[name].is_not(None))
            for value, n in connection.execute(
                query.group_by(t[name]).order_by(payments.desc(), t[name]).limit(LINKS_MAX)
            ):
                if (name, value) not in known:
                    others = _others(connection, store, first, name, value)
                    found.append(Link(name, str(value), int(n), others))
    return found


def _others(connection: Connection, store: Store, first: PersonValue, name: str, value: str) -> int:
    t = store.transactions.c
    own = t[first.column]
    others = select(own).distinct().where(t[name] == value, own.is_not(None), own != first.stored)
    return int(connection.scalar(select(func.count()).select_from(others.limit(SHARED_MAX).subquery())) or 0)


def person_rows(store: Store, values: Sequence[PersonValue]) -> dict[str, list[Row]]:
    """Every row with one of the values, and every row of their payments, by table; models are left out."""
    result: dict[str, list[Row]] = {}
    with store.read() as connection, bulk.staged_ids(connection, _ids(connection, store, values)) as stage:
        of_payments = text(f"SELECT transaction_id FROM {stage}")
        conditions: list[tuple[Table, ColumnElement[bool]]] = [
            (table, table.c.transaction_id.in_(of_payments))
            for table in [store.transactions, store.revisions, *tables.metadata.sorted_tables]
            if "transaction_id" in table.c
        ]
        named = [(value, "") for value in values]
        conditions += [(found.table, found.matching) for found in personal_rows(connection, store, named)]
        keys = set[tuple[Any, ...]]()
        for table, condition in conditions:
            for row in _rows(connection, table, condition):
                key = (table.name, *(row[column.name] for column in key_columns(table)))
                key = key if table.primary_key else (*key, str(row))
                if key not in keys:
                    keys.add(key)
                    result.setdefault(table.name, []).append(row)
    return result


def _rows(connection: Connection, table: Table, condition: ColumnElement[bool]) -> list[Row]:
    query = select(*[column for column in table.columns if column.name != "artifact"]).where(condition)
    convert = row_converter(query)
    return [convert(row) for row in connection.execute(query).mappings()]


def _ids(connection: Connection, store: Store, values: Sequence[PersonValue]) -> list[str]:
    ids = set[str]()
    for table in (store.transactions, store.revisions):
        any_value = or_(*(mine(table, value) for value in values))
        ids |= set(connection.scalars(select(table.c.transaction_id).where(any_value)))
    return sorted(ids)
