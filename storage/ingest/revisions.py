"""
Rows with a known id: a row with the same content is a duplicate, one with other content a revision.

An event of a payment is a duplicate if any version has its content, since files of events overlap. It has the time of the
payment, and what it leaves empty stays as it is.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from sqlalchemy import Connection, Table, insert, select, text

from storage.database import bulk
from storage.database.column_types import from_texts
from storage.database.database import Store
from storage.frames import Ints
from storage.ingest.chunks import TransactionChunk

OWN = ("event_time", "amount", "amount_base", "currency", "kind", "original_id")


def known_ids(connection: Connection, ids: Iterable[str]) -> set[str]:
    """Which of these ids are in `transactions`, visible or not."""
    with bulk.staged_ids(connection, ids) as stage:
        sql = f"SELECT t.transaction_id FROM {stage} w JOIN transactions t USING (transaction_id)"
        return set(connection.execute(text(sql)).scalars())


def changed(store: Store, chunk: TransactionChunk) -> Ints:
    """Positions of the rows whose content differs from the newest stored version of their id; every id is stored."""
    with store.read() as connection:
        versions, _ = _versions(connection, store, chunk.transaction_id.tolist())
    columns = chunk.columns(0)
    differs = []
    for place, values in enumerate(zip(*columns.values(), strict=True)):
        row = dict(zip(columns, values, strict=True))
        row["event_time"] = int(from_texts([row["event_time"]])[0])
        if _content(row, store) != versions[row["transaction_id"]][-1]:
            differs.append(place)
    return np.array(differs, dtype=np.int64)


def revise(connection: Connection, store: Store, chunk: TransactionChunk, batch_id: int) -> list[bool]:
    """
    Compare rows with the newest stored version of their id, events with every version, and store those that differ as revisions.

    Returns
    -------
    Of each row whether it is a revision; the others are duplicates.
    """
    versions, revision = _versions(connection, store, chunk.transaction_id.tolist())
    columns, events = chunk.columns(batch_id), chunk.begins is not None
    begins = chunk.begins.tolist() if chunk.begins is not None else [False] * len(chunk)
    revised, rows = [], []
    for begin, *values in zip(begins, *columns.values(), strict=True):
        row = dict(zip(columns, values, strict=True))
        row["event_time"] = int(from_texts([row["event_time"]])[0])
        name = row["transaction_id"]
        if events:
            row = _of_payment(row, versions[name][-1], store)
        revised.append(not begin and _content(row, store) not in versions[name][0 if events else -1 :])
        if not revised[-1]:
            continue
        versions[name].append(_content(row, store))
        revision[name] = revision.get(name, 0) + 1
        rows.append(row | {"revision": revision[name]})
    if rows:
        connection.execute(insert(store.revisions), rows)
    return revised


def _of_payment(row: dict[str, Any], newest: tuple[Any, ...], store: Store) -> dict[str, Any]:
    """An event as a version of its payment: with its time, and its values where the event has none."""
    known = dict(zip(_content_names(store), newest, strict=True))
    kept = {name: value for name, value in known.items() if row.get(name) is None}
    return row | kept | {"event_time": known["event_time"]}


def _versions(
    connection: Connection, store: Store, ids: list[str]
) -> tuple[dict[str, list[tuple[Any, ...]]], dict[str, int]]:
    """The content of all versions of each id, the newest last, and the number of its newest revision."""
    versions = {
        row["transaction_id"]: [_content(row, store)] for row in _rows(connection, store.transactions, ids)
    }
    revision: dict[str, int] = {}
    for row in sorted(_rows(connection, store.revisions, ids), key=lambda row: row["revision"]):
        versions[row["transaction_id"]].append(_content(row, store))
        revision[row["transaction_id"]] = row["revision"]
    return versions, revision


def _rows(connection: Connection, table: Table, ids: list[str]) -> list[Mapping[str, Any]]:
    with bulk.staged_ids(connection, ids) as stage:
        chosen = select(table).where(table.c.transaction_id.in_(text(f"SELECT transaction_id FROM {stage}")))
        return [dict(row) for row in connection.execute(chosen).mappings()]


def _content(row: Mapping[str, Any], store: Store) -> tuple[Any, ...]:
    """The columns by which versions differ: not `amount_base`, since a payment keeps the rate it was converted by."""
    amount = f"{row['amount']:.15g}"  # the digits that a float holds of every number, whatever source it comes from
    return (
        row["event_time"],
        amount,
        *(row.get(name) for name in _content_names(store)[2:]),
    )


def _content_names(store: Store) -> tuple[str, ...]:
    return ("event_time", "amount", "currency", "kind", "original_id", *store.fields.names)
