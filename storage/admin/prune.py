"""Deleting rows that are older than their retention, in small transactions."""

from collections.abc import Mapping

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    and_,
    delete,
    exists,
    func,
    literal_column,
    select,
    text,
)

from storage.database import bulk, tables
from storage.database.database import Store

ROWS_A_WRITE = 5_000
OF_A_TRANSACTION = (
    "labels",
    "scores",
    "flags",
    "flag_notifications_pending",
    "scoring_queue",
    "revisions",
    "transactions",
)


def prune(store: Store, before: Mapping[str, int], *, dry: bool = False) -> dict[str, int]:
    """
    Delete rows that are older than these instants, in short transactions; returns the number of rows by table.

    Parameters
    ----------
    before
        For `transactions`, `rejected`, `drift`, `runs`, `withdrawn`: rows before this instant are deleted. Groups
        that are not named stay. A transaction is deleted with its labels, scores and flags; one with an open flag
        stays.
    dry
        Count only.
    """
    counts: dict[str, int] = {}
    for name, instant in before.items():
        if name == "transactions":
            counts |= _transactions(store, instant, dry)
            strays = _delete(store, tables.labels, _stray(store, instant), dry)
            counts["labels"] = counts.get("labels", 0) + strays
        else:
            for table, old in _old(name, instant):
                counts[table.name] = _delete(store, table, old, dry)
    return {table: n for table, n in counts.items() if n}


def _stray(store: Store, instant: int) -> "ColumnElement[bool]":
    """Old labels of transactions that never arrived; if one arrived now, it would be older than its retention."""
    label = tables.labels.c
    stored = exists().where(store.transactions.c.transaction_id == label.transaction_id)
    return and_(label.known_at < instant, func.coalesce(label.recorded_at, label.known_at) < instant, ~stored)


def _old(name: str, instant: int) -> list[tuple[Table, "ColumnElement[bool]"]]:
    batch, runs, entry, message = tables.batches.c, tables.runs.c, tables.ledger.c, tables.outbox.c
    withdrawn, rejected, waiting = tables.withdrawn_rows, tables.rejected_rows, tables.waiting_rows
    before = select(batch.batch_id).where(batch.started_at < instant)
    old: dict[str, list[tuple[Table, ColumnElement[bool]]]] = {
        "rejected": [
            (rejected, rejected.c.batch_id.in_(before)),
            (waiting, waiting.c.taken_up_by.in_(before)),  # those that still wait stay
        ],
        "drift": [
            (tables.drift_metrics, tables.drift_metrics.c.window_end < instant),
            (tables.drift_histograms, tables.drift_histograms.c.window_end < instant),
            (tables.quality_metrics, tables.quality_metrics.c.window_start < instant),
            (tables.readiness, tables.readiness.c.training_date < instant),
            (tables.limit_checks, tables.limit_checks.c.at < instant),
        ],
        "runs": [
            (tables.runs, and_(runs.started_at < instant, runs.status != "running")),
            (tables.ledger, and_(entry.window_end < instant, entry.status == "done")),
            (
                tables.outbox,
                and_(message.created_at < instant, message.status.not_in(("pending", "sending"))),
            ),
        ],
        "messages": [],
        "notes": [],
        "audit": [],
        "withdrawn": [
            (
                withdrawn,
                withdrawn.c.withdrawal_id.in_(
                    select(tables.withdrawals.c.withdrawal_id).where(tables.withdrawals.c.at < instant)
                ),
            )
        ],
    }
    return old[name]


def _delete(store: Store, table: Table, old: "ColumnElement[bool]", dry: bool) -> int:
    with store.read() as connection:
        n_old = int(connection.scalar(select(func.count()).select_from(table).where(old)) or 0)
    if dry or not n_old:
        return n_old
    row_id: ColumnElement[str] = literal_column("ctid" if store.dialect == "postgresql" else "rowid")
    some = select(row_id).select_from(table).where(old).limit(ROWS_A_WRITE)
    deleted = 0
    while True:
        with store.write() as connection:
            n = connection.execute(delete(table).where(row_id.in_(some))).rowcount
        deleted += n
        if n < ROWS_A_WRITE:
            return deleted


def _transactions(store: Store, instant: int, dry: bool) -> dict[str, int]:
    t, f = store.transactions.c, tables.flags.c
    open_ = exists().where(f.transaction_id == t.transaction_id, f.status == "open")
    old = select(t.transaction_id).where(t.event_time < instant, ~open_)
    if dry:
        with store.read() as connection:
            return {
                "transactions": int(connection.scalar(select(func.count()).select_from(old.subquery())) or 0)
            }
    counts = dict.fromkeys(OF_A_TRANSACTION, 0)
    while True:
        with store.write() as connection:
            ids = list(connection.scalars(old.order_by(t.event_time, t.transaction_id).limit(ROWS_A_WRITE)))
            for name, n in _drop(connection, ids).items():
                counts[name] += n
        if len(ids) < ROWS_A_WRITE:
            return counts


def _drop(connection: Connection, ids: list[str]) -> dict[str, int]:
    if not ids:
        return {}
    with bulk.staged_ids(connection, ids) as stage:
        return {
            name: connection.execute(
                text(f"DELETE FROM {name} WHERE transaction_id IN (SELECT transaction_id FROM {stage})")
            ).rowcount
            for name in OF_A_TRANSACTION
        }
