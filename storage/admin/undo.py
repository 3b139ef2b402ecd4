"""
Undo of a batch or a run; its rows move to `withdrawn_rows`, and can be ingested or scored again.

First, in one short transaction, the batch or run becomes invisible; then its rows are moved in small transactions.
An undo that was interrupted continues when it is called again.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, delete, func, insert, select, text, update

from storage.database import bulk, leases, tables
from storage.database.cases import removed_flags
from storage.database.column_types import Instant, as_datetime
from storage.database.database import Store
from storage.errors import Unknown
from storage.ingest import waiting_rows
from storage.ingest.batches import LEASE, LEASE_LASTS
from storage.review.audit_trail import write_audit
from storage.review.flag_status import update_flags

ROWS_A_WRITE = 5_000  # moved in one transaction: well under a second
SET_ASIDE = (
    tables.choices,
    tables.promotions,
    tables.promotion_checks,
)  # of a run: kept under another policy


@dataclass(frozen=True)
class Withdrawal:
    """What was withdrawn: the subject ("batch 12") and the number of rows taken back by table."""

    subject: str
    counts: Mapping[str, int]


def undo_batch(store: Store, batch_id: int, reason: str, actor: str, now: int) -> Withdrawal:
    """
    Undo a batch: withdraw its transactions with their scores and flags, or its labels.

    Its rows that wait for a rate are withdrawn, too, and those that a later batch took up. Rows that the batch itself
    took up wait again.

    Other ingests are refused meanwhile, so none sees a half withdrawn batch. Flags that the labels had closed are
    open again, or get the status of the label that is now current. Labels of other batches stay, and apply again when
    their transactions return.

    Raises
    ------
    Unknown
        There is no visible batch of that number.
    Busy
        An ingest is running.
    """
    named = f"batch {batch_id}"
    with leases.hold(store, LEASE, actor, LEASE_LASTS):
        withdrawal = _unfinished(store, named)
        if withdrawal is None:
            withdrawal = _hide_batch(store, batch_id, reason, actor, now)
        with store.read() as connection:
            kind = connection.scalar(
                select(tables.batches.c.kind).where(tables.batches.c.batch_id == batch_id)
            )
        mover = _Mover(store, withdrawal)
        if kind == "labels":
            mover.move_labels(batch_id)
        else:
            mover.move_transactions(batch_id)
            mover.move_waiting(batch_id)
        return mover.finish(named)


def undo_run(store: Store, run_id: int, reason: str, actor: str, now: int) -> Withdrawal:
    """
    Undo a run: withdraw its scores and flags, queue its transactions again, and set its steps to pending.

    Its choices and promotions move to the policy "NAME withdrawn N", which nothing reads; its models stay, since
    other runs may have scored with them. Repeating it takes back what is left, and returns the counts of all.

    Raises
    ------
    Unknown
        There is no such run.
    """
    named = f"run {run_id}"
    withdrawal, set_aside = _reopen_run(store, run_id, reason, actor, now)
    mover = _Mover(store, withdrawal)
    mover.move_scores(run_id)
    return mover.finish(named, set_aside)


def _unfinished(store: Store, named: str) -> int | None:
    w = tables.withdrawals.c
    with store.read() as connection:
        withdrawal: int | None = connection.scalar(
            select(w.withdrawal_id).where(w.subject == named, w.counts.is_(None))
        )
    return withdrawal


def _hide_batch(store: Store, batch_id: int, reason: str, actor: str, now: int) -> int:
    batch = tables.batches
    with store.write_exclusive() as connection:
        row = connection.execute(select(batch).where(batch.c.batch_id == batch_id)).one_or_none()
        if row is None or row.status != "done":
            if row is None:
                raise Unknown(f"there is no batch {batch_id}", code="unknown_batch")
            raise Unknown(
                f"batch {batch_id} cannot be withdrawn, because it is {row.status}",
                code=f"batch_{row.status}",
            )
        connection.execute(
            update(batch).where(batch.c.batch_id == batch_id).values(status="withdrawn", content_hash=None)
        )
        before = {"source": row.source, "accepted": row.accepted, "revised": row.revised}
        return _add_withdrawal(connection, f"batch {batch_id}", reason, actor, before, now)


def _reopen_run(store: Store, run_id: int, reason: str, actor: str, now: int) -> tuple[int, str]:
    """Return the withdrawal, an earlier one if there is one, and the policy that its choices and promotions move to."""
    runs, entry, models, w = tables.runs.c, tables.ledger.c, tables.models.c, tables.withdrawals.c
    named = f"run {run_id}"
    with store.write_exclusive() as connection:
        run = connection.execute(select(tables.runs).where(runs.run_id == run_id)).one_or_none()
        if run is None:
            raise Unknown(f"there is no run {run_id}", code="unknown_run")
        withdrawal = connection.scalar(select(func.max(w.withdrawal_id)).where(w.subject == named))
        if withdrawal is None:
            before = {"kind": run.kind, "status": run.status, "counts": run.counts}
            withdrawal = _add_withdrawal(connection, named, reason, actor, before, now)
        aside = f"{run.policy} withdrawn {withdrawal}"
        trained = select(models.model_id).where(models.run_id == run_id)
        for table, mine in (
            (tables.promotions, tables.promotions.c.model_id.in_(trained)),
            (tables.choices, tables.choices.c.run_id == run_id),
            (tables.promotion_checks, tables.promotion_checks.c.run_id == run_id),
        ):
            connection.execute(update(table).where(mine, table.c.policy == run.policy).values(policy=aside))
        fresh = {
            "status": "pending", "attempts": 0, "not_before": None, "finished_at": None,
            "run_id": None, "counts": None, "error": None, "worker": None,
        }  # fmt: skip
        connection.execute(update(tables.ledger).where(entry.run_id == run_id).values(fresh))
        return int(withdrawal), aside


def _add_withdrawal(
    connection: Connection, named: str, reason: str, actor: str, before: Mapping[str, Any], now: int
) -> int:
    inserted = connection.execute(
        insert(tables.withdrawals), {"subject": named, "reason": reason, "by": actor, "at": now}
    )
    write_audit(connection, actor, "undo", named, dict(before), {"reason": reason}, now)
    assert inserted.inserted_primary_key is not None
    return int(inserted.inserted_primary_key[0])


class _Mover:
    """Moves rows to `withdrawn_rows`, in small transactions."""

    def __init__(self, store: Store, withdrawal: int) -> None:
        self._store = store
        self._withdrawal = withdrawal

    def move_transactions(self, batch_id: int) -> None:
        """Move a batch's transactions with their scores and flags, and its revisions."""
        self._move_loaded([batch_id])

    def move_waiting(self, batch_id: int) -> None:
        """Move a batch's waiting rows, and what became of those that were taken up; rows it took up wait again."""
        w = tables.waiting_rows
        mine = w.c.batch_id == batch_id
        with self._store.read() as connection:
            taken_up_by = connection.scalars(
                select(w.c.taken_up_by).distinct().where(mine, w.c.taken_up_by.is_not(None))
            )
            takers = list(taken_up_by)
        self._move_loaded(takers, select(w.c.transaction_id).where(mine))
        for connection, stage in self._chunks(select(w.c.transaction_id).where(mine)):
            self._move(connection, w, _staged(w, stage) & mine)
        with self._store.write() as connection:
            waiting_rows.release(connection, batch_id)

    def _move_loaded(self, batch_ids: list[int], ids: Any = None) -> None:
        """Move what these batches loaded: all of it, or only transactions of the selected ids."""
        t, r = self._store.transactions, self._store.revisions

        def chosen(table: Table) -> Any:
            loaded = select(table.c.transaction_id).where(table.c.batch_id.in_(batch_ids))
            return loaded if ids is None else loaded.where(table.c.transaction_id.in_(ids))

        for connection, stage in self._chunks(chosen(t)):
            with removed_flags(connection, self._store, _staged_ids(connection, stage)):
                for table in (tables.scores, tables.flags, t):
                    self._move(connection, table, _staged(table, stage))
            retractions = _staged(tables.labels, stage) & tables.labels.c.batch_id.in_(batch_ids)
            self._move(connection, tables.labels, retractions)
            connection.execute(delete(tables.queue).where(_staged(tables.queue, stage)))
        for connection, stage in self._chunks(chosen(r)):
            self._move(connection, r, _staged(r, stage) & r.c.batch_id.in_(batch_ids))

    def move_labels(self, batch_id: int) -> None:
        """Move a batch's labels; its flags get the status of the labels that are left."""
        table = tables.labels
        mine = table.c.batch_id == batch_id
        for connection, stage in self._chunks(select(table.c.transaction_id).where(mine)):
            self._move(connection, table, _staged(table, stage) & mine)
            update_flags(connection, _staged_ids(connection, stage))

    def move_scores(self, run_id: int) -> None:
        """Move a run's scores and flags, and queue its transactions again in the same database transaction."""
        s, f = tables.scores, tables.flags
        for connection, stage in self._chunks(select(s.c.transaction_id).where(s.c.run_id == run_id)):
            connection.execute(text(REQUEUE.format(stage=stage)), {"run": run_id})
            with removed_flags(connection, self._store, _staged_ids(connection, stage)):
                self._move(connection, s, _staged(s, stage) & (s.c.run_id == run_id))
                self._move(connection, f, _staged(f, stage) & (f.c.run_id == run_id))
        with self._store.write() as connection:
            for table in (tables.drift_metrics, tables.quality_metrics, tables.readiness):
                self._move(connection, table, table.c.run_id == run_id)
            connection.execute(
                delete(tables.drift_histograms).where(tables.drift_histograms.c.run_id == run_id)
            )

    def finish(self, named: str, set_aside: str | None = None) -> Withdrawal:
        """Count the moved rows and those set aside under a policy, and store the counts: the withdrawal is complete."""
        rows, w = tables.withdrawn_rows.c, tables.withdrawals.c
        counted = select(rows.table_name, func.count()).where(rows.withdrawal_id == self._withdrawal)
        with self._store.write() as connection:
            counts = {
                str(name): int(n)
                for name, n in connection.execute(counted.group_by(rows.table_name).order_by(rows.table_name))
            }
            for table in SET_ASIDE:
                named_aside = select(func.count()).where(table.c.policy == set_aside)
                if n := int(connection.scalar(named_aside) or 0):
                    counts[table.name] = n
            connection.execute(
                update(tables.withdrawals).where(w.withdrawal_id == self._withdrawal).values(counts=counts)
            )
        return Withdrawal(named, counts)

    def _chunks(self, ids: Any) -> Iterator[tuple[Connection, str]]:
        with self._store.read() as connection:
            listed = sorted(set(connection.scalars(ids)))
        for start in range(0, len(listed), ROWS_A_WRITE):
            with (
                self._store.write() as connection,
                bulk.staged_ids(connection, listed[start : start + ROWS_A_WRITE]) as stage,
            ):
                yield connection, stage

    def _move(self, connection: Connection, table: Table, chosen: "ColumnElement[bool]") -> None:
        rows = connection.execute(select(table).where(chosen)).mappings().all()
        if rows:
            instants = {column.name for column in table.c if isinstance(column.type, Instant)}
            connection.execute(
                insert(tables.withdrawn_rows), list(self._withdrawn_rows(table, rows, instants))
            )
            connection.execute(delete(table).where(chosen))

    def _withdrawn_rows(
        self, table: Table, rows: Iterable[Any], instants: set[str]
    ) -> Iterator[dict[str, Any]]:
        for row in rows:
            values = {
                str(name): as_datetime(value).isoformat() if name in instants and value is not None else value
                for name, value in row.items()
            }
            yield {
                "withdrawal_id": self._withdrawal,
                "table_name": table.name,
                "transaction_id": row.get("transaction_id"),
                "row": values,
            }


REQUEUE = """
    INSERT INTO scoring_queue (policy, transaction_id)
    SELECT s.policy, s.transaction_id FROM scores s
    JOIN {stage} w ON w.transaction_id = s.transaction_id
    JOIN visible_transactions t ON t.transaction_id = s.transaction_id
    WHERE s.run_id = :run
    ON CONFLICT DO NOTHING"""


def _staged_ids(connection: Connection, stage: str) -> list[str]:
    """The transactions of a chunk, before another stage takes its place."""
    return list(connection.scalars(text(f"SELECT transaction_id FROM {stage}")))


def _staged(table: Table, stage: str) -> "ColumnElement[bool]":
    return table.c.transaction_id.in_(text(f"SELECT transaction_id FROM {stage}"))
