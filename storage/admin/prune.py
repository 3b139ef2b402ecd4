"""Deleting rows that are older than their retention, in small transactions."""

from collections.abc import Mapping

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    Text,
    and_,
    cast,
    delete,
    exists,
    func,
    literal_column,
    select,
    text,
    update,
)

from storage.admin import holds
from storage.admin.overwrite import overwrite
from storage.database import bulk, tables
from storage.database.cases import removed_flags
from storage.database.database import Store
from storage.review import audit_chain, expiry
from storage.review.audit_trail import redact, write_audit

ROWS_A_WRITE = 5_000
OF_A_TRANSACTION = (
    "labels",
    "verdicts",
    "notes",
    "claims",
    "scores",
    "flags",
    "flag_notifications_pending",
    "scoring_queue",
    "revisions",
    "transactions",
)


def prune(
    store: Store, before: Mapping[str, int], as_of: int, *, dry: bool = False, by: str = "retention"
) -> dict[str, int]:
    """
    Let old open flags expire, then delete rows that are older than these instants, in short transactions.

    Returns the number of rows by table, and of flags that expired and notes that were blanked.

    Parameters
    ----------
    before
        For `transactions`, `rejected`, `drift`, `runs`, `withdrawn`, `messages`, `audit`: rows before this instant are
        deleted; for `notes`: notes before it are; for `flags`: open flags on payments before it expire. Groups that
        are not named stay. A transaction is deleted with its labels, verdicts, scores and flags; one with an open flag
        stays, and so does one of a value that a hold keeps. Of the audit trail the oldest rows go.
    as_of
        µs; since when the expired flags are expired.
    by
        For the audit trail, which says what was removed from it.
    dry
        Count only.
    """
    counts: dict[str, int] = {}
    if "flags" in before:
        counts["expired_flags"] = expiry.expire_flags(store, before["flags"], as_of, dry=dry)
    for name, instant in before.items():
        if name == "transactions":
            counts |= _transactions(store, instant, before.get("flags"), as_of, dry)
            for table, stray in _strays(store, instant):
                counts[table.name] = counts.get(table.name, 0) + _delete(store, table, stray, dry)
        elif name == "notes":
            old_notes = _delete(store, tables.notes, tables.notes.c.at < instant, dry)
            counts["notes"] = old_notes + _blank_notes(store, instant, by, as_of, dry)
        elif name == "audit":
            counts["audit"] = (
                audit_chain.count_oldest(store, instant)
                if dry
                else audit_chain.delete_oldest(store, instant, by, as_of)
            )
        elif name != "flags":
            for table, old in _old(name, instant):
                counts[table.name] = _delete(store, table, old, dry)
    if not dry:
        overwrite(store)
    return {table: n for table, n in counts.items() if n}


def _strays(store: Store, instant: int) -> list[tuple[Table, "ColumnElement[bool]"]]:
    """
    Old labels of transactions that never arrived, and verdicts on those that were withdrawn.

    If such a transaction arrived now, it would be older than its retention.
    """
    label, verdict, note, t = tables.labels.c, tables.verdicts.c, tables.notes.c, store.transactions.c
    recorded_at = func.coalesce(label.recorded_at, label.known_at)
    labelled = exists().where(t.transaction_id == label.transaction_id)
    answered = exists().where(t.transaction_id == verdict.transaction_id)
    noted = exists().where(t.transaction_id == note.transaction_id)
    return [
        (tables.labels, and_(label.known_at < instant, recorded_at < instant, ~labelled)),
        (tables.verdicts, and_(verdict.at < instant, ~answered)),
        (tables.notes, and_(note.at < instant, ~noted)),
    ]


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
        ],
        "messages": [
            (
                tables.outbox,
                and_(message.created_at < instant, message.status.not_in(("pending", "sending"))),
            ),
        ],
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


def _blank_notes(store: Store, instant: int, by: str, now: int, dry: bool) -> int:
    """Remove old notes from verdicts and from the audit trail, where `after` has them under "note"; the rows stay."""
    verdict, entry = tables.verdicts, tables.audit
    noted = and_(verdict.c.at < instant, verdict.c.note.is_not(None))
    audited = and_(entry.c.at < instant, cast(entry.c.after, Text).contains('"note":'))
    if dry:
        with store.read() as connection:
            return sum(
                int(connection.scalar(select(func.count()).select_from(table).where(old)) or 0)
                for table, old in ((verdict, noted), (entry, audited))
            )
    blanked = 0
    while True:
        with store.write_exclusive() as connection:
            some = select(verdict.c.verdict_id).where(noted).limit(ROWS_A_WRITE)
            n = connection.execute(
                update(verdict).where(verdict.c.verdict_id.in_(some)).values(note=None)
            ).rowcount
            chosen = (
                select(entry.c.audit_id, entry.c.before, entry.c.after).where(audited).limit(ROWS_A_WRITE)
            )
            rows = connection.execute(chosen).all()
            if rows:
                number = write_audit(connection, by, "prune", "notes", None, {"rows": len(rows)}, now)
            for row in rows:
                without = {key: row.after[key] for key in row.after if key != "note"}
                redact(connection, row.audit_id, row.before, without, number)
        blanked += n + len(rows)
        if max(n, len(rows)) < ROWS_A_WRITE:
            return blanked


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


def _transactions(
    store: Store, instant: int, expire_before: int | None, now: int, dry: bool
) -> dict[str, int]:
    """Delete old transactions without an open flag; those with one that expires first are counted with them."""
    t, f = store.transactions.c, tables.flags.c
    open_: ColumnElement[bool] = exists().where(f.transaction_id == t.transaction_id, f.status == "open")
    if expire_before is not None:
        open_ = and_(open_, t.event_time >= expire_before)
    old = select(t.transaction_id).where(t.event_time < instant, ~open_)
    if dry:
        with store.read() as connection:
            counted = select(func.count()).select_from(
                old.where(holds.without_hold(connection, store, now)).subquery()
            )
            return {"transactions": int(connection.scalar(counted) or 0)}
    counts = dict.fromkeys(OF_A_TRANSACTION, 0)
    while True:
        with store.write_exclusive() as connection:  # so that no hold is added meanwhile
            free = old.where(holds.without_hold(connection, store, now))
            ids = list(connection.scalars(free.order_by(t.event_time, t.transaction_id).limit(ROWS_A_WRITE)))
            for name, n in _drop(connection, store, ids).items():
                counts[name] += n
        if len(ids) < ROWS_A_WRITE:
            return counts


def _drop(connection: Connection, store: Store, ids: list[str]) -> dict[str, int]:
    if not ids:
        return {}
    with removed_flags(connection, store, ids), bulk.staged_ids(connection, ids) as stage:
        return {
            name: connection.execute(
                text(f"DELETE FROM {name} WHERE transaction_id IN (SELECT transaction_id FROM {stage})")
            ).rowcount
            for name in OF_A_TRANSACTION
        }
