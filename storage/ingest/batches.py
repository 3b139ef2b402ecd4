"""
Loading a batch: chunks are committed as `loading`, which no reader sees; one short transaction then makes them visible.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass
from types import TracebackType
from typing import Literal, Self

import numpy as np
from sqlalchemy import Connection, bindparam, delete, func, insert, select, text, update

from storage.database import bulk, leases
from storage.database.column_types import Instant
from storage.database.database import Store
from storage.database.tables import batches, labels, ledger, monitor, queue, rejected_rows, withdrawals
from storage.errors import Busy
from storage.frames import NEVER, SECOND, Ints, Strings
from storage.ingest import repeated_labels, waiting_rows
from storage.ingest.chunks import LabelChunk, TransactionChunk, WaitingChunk
from storage.ingest.repeated_labels import EarlyLabel
from storage.ingest.revisions import known_ids, revise
from storage.review.flag_status import update_flags_of_batch
from storage.runs import scoring_queue

Kind = Literal["transactions", "labels"]
RowStatus = Literal["accepted", "duplicate", "revised", "rejected", "waiting"]
LEASE = "ingest"
EVENT_TIMES = """
    SELECT t.transaction_id, t.event_time FROM {stage} w
    JOIN transactions t ON t.transaction_id = w.transaction_id
    JOIN batches b ON b.batch_id = t.batch_id WHERE b.status = 'done'"""
LEASE_LASTS = 120 * SECOND  # several times longer than a chunk takes on a slow disk
REMOVED_AT_ONCE = 20_000  # rows of an interrupted batch per transaction: writes stay short


@dataclass(frozen=True)
class RejectedRow:
    """A row that was rejected."""

    row_number: int
    row: str  # JSON, hashed fields hashed
    reason: str


@dataclass(frozen=True)
class RowOutcome:
    """What became of a row of transactions, and why it was rejected."""

    status: RowStatus
    reason: str | None = None


@dataclass(frozen=True)
class Counts:
    """Counts of rows: read = accepted + duplicate + revised + rejected, which counts those that wait for a rate, too."""

    read: int = 0
    accepted: int = 0
    duplicate: int = 0
    revised: int = 0
    rejected: int = 0

    @property
    def nothing_usable(self) -> bool:
        """Whether rows were read and every one was rejected."""
        return 0 < self.read == self.rejected

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class Batch:
    """A visible batch."""

    batch_id: int
    kind: str
    source: str
    history: bool
    visible_at: int
    counts: Counts


class BatchLoader:
    """Loads one batch. It is a context manager that removes the batch unless `finish` was called."""

    def __init__(
        self, store: Store, batch_id: int, kind: Kind, source: str, history: bool, token: int, holder: str
    ) -> None:
        self._store = store
        self._source = source
        self._holder = holder
        self._token = token
        self._history = history
        self._coverage = _coverage(store)
        self._finished = False
        self.batch_id = batch_id
        self.kind = kind
        self.counts = Counts()
        self.says_completeness = True  # whether labels up to now are complete, unless it is given
        # By row number, if somebody wants to know of each row; None for a source that may have millions.
        self.row_outcomes: dict[int, RowOutcome] | None = None
        self.waiting = Counter[str]()  # rows that were set aside to wait for a rate, by currency

    def add_transactions(self, chunk: TransactionChunk) -> Counts:
        """
        Load a chunk; rows with a known id and other content become revisions.

        Rows of the same part of a source that wait for a rate are added first, so that those with a later version are known.
        """
        with self._write() as connection:
            fresh = insert_fresh(connection, self._store, chunk, chunk.columns(self.batch_id))
            counts = Counts(len(fresh), accepted=len(fresh))
            outcomes: dict[RowStatus, Ints] = {"accepted": chunk.row_number[fresh]}
            if len(fresh) < len(chunk):
                others = chunk.take(np.setdiff1d(np.arange(len(chunk)), fresh))
                revised = np.array(revise(connection, self._store, others, self.batch_id), dtype=bool)
                counts += Counts(len(others), duplicate=int((~revised).sum()), revised=int(revised.sum()))
                outcomes |= {"revised": others.row_number[revised], "duplicate": others.row_number[~revised]}
            self._enqueue(connection, chunk.take(fresh) if len(fresh) < len(chunk) else chunk)
            if self.waiting:
                waiting_rows.supersede(connection, self.batch_id, chunk)
        for status, numbers in outcomes.items():
            self._note(status, numbers)
        self.counts += counts
        return counts

    def add_labels(self, chunk: LabelChunk) -> Counts:
        """
        Load a chunk of labels; one that is stored already, with the same values, is a duplicate.

        So is one with an assumed time that says what is known of its source (`repeated_labels`).
        """
        with self._write() as connection:
            new = chunk.take(~repeated_labels.repeated(connection, chunk))
            accepted = bulk.insert_new(connection, labels, new.columns(self.batch_id, self._holder))
        counts = Counts(len(chunk), accepted=accepted, duplicate=len(chunk) - accepted)
        self.counts += counts
        return counts

    def retract(self, early: Sequence[EarlyLabel]) -> None:
        """Let labels no longer hold once this batch is visible; in a batch of history they have never held."""
        rows = [
            {
                "transaction_id": label.transaction_id,
                "source": label.source,
                "known_at": label.known_at,
                "retracts": label.label_id,
                "batch_id": self.batch_id,
                "by": self._holder,
            }
            for label in early
        ]
        if rows:
            with self._write() as connection:
                connection.execute(insert(labels), rows)

    def reject(self, rows: Sequence[RejectedRow]) -> Counts:
        """Store rejected rows with their reasons."""
        if rows:
            with self._write() as connection:
                connection.execute(
                    insert(rejected_rows), [{"batch_id": self.batch_id, **asdict(row)} for row in rows]
                )
        if self.row_outcomes is not None:
            self.row_outcomes |= {row.row_number: RowOutcome("rejected", row.reason) for row in rows}
        counts = Counts(len(rows), rejected=len(rows))
        self.counts += counts
        return counts

    def add_waiting(self, chunk: WaitingChunk) -> Counts:
        """Set rows aside until there is a rate; those that wait already are duplicates."""
        rows = chunk.transactions
        with self._write() as connection:
            fresh = waiting_rows.add(connection, self.batch_id, rows)
        counts = Counts(len(rows), duplicate=len(rows) - fresh, rejected=fresh)
        assert rows.currency is not None
        self._note("waiting", rows.row_number)
        self.waiting.update(rows.currency.tolist())
        self.counts += counts
        return counts

    def claim_waiting(
        self, first_rates: Mapping[str, int], modes: Sequence[bool]
    ) -> Iterator[TransactionChunk]:
        """
        Claim the waiting rows that have a rate by now, and yield them; they are taken up when the batch is visible.

        Parameters are those of `storage.ingest.waiting_rows.claim`.
        """
        with self._write() as connection:
            waiting_rows.claim(connection, self.batch_id, first_rates, modes)
        yield from waiting_rows.claimed(self._store, self.batch_id)

    def finish(self, now: int, content_hash: str, complete_through: int | None = None) -> Batch:
        """Make the batch visible, in one short transaction under the lock that `history.horizon` also takes."""
        with self._store.write_exclusive() as connection:
            self._store.keep_pages(connection, loading=False)
            leases.renew(connection, LEASE, self._token, 0)
            leases.release(connection, LEASE, self._token)
            visible_at = stamp(connection, now)
            through = (
                complete_through if complete_through is not None else self._through(connection, visible_at)
            )
            row = {
                "status": "done",
                "content_hash": content_hash,
                "visible_at": visible_at,
                "complete_through": through,
                **asdict(self.counts),
            }
            connection.execute(update(batches).where(batches.c.batch_id == self.batch_id).values(row))
            if self.kind == "labels":
                update_flags_of_batch(connection, self.batch_id)
            else:
                scoring_queue.enqueue_difference(connection, self._store, self._coverage, self.batch_id)
        self._finished = True
        return Batch(self.batch_id, self.kind, self._source, self._history, visible_at, self.counts)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._finished:
            remove(self._store, self.batch_id)
            with self._store.write() as connection:
                self._store.keep_pages(connection, loading=False)
                leases.release(connection, LEASE, self._token)

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with self._store.write() as connection:
            leases.renew(connection, LEASE, self._token, LEASE_LASTS)
            self._store.keep_pages(connection, loading=True)
            yield connection

    def _note(self, status: RowStatus, numbers: Ints) -> None:
        if self.row_outcomes is not None:
            self.row_outcomes |= dict.fromkeys(numbers.tolist(), RowOutcome(status))

    def _enqueue(self, connection: Connection, chunk: TransactionChunk) -> None:
        payments = chunk.payments(self._store.fields.refund_kinds)
        scoring_queue.enqueue(connection, self._coverage, payments.transaction_id, payments.event_time)

    def _through(self, connection: Connection, visible_at: int) -> int | None:
        """
        Labels of history are complete up to the newest one; other labels up to the instant they became visible.

        Labels that were all rejected say nothing of completeness.
        """
        if self.kind != "labels" or self.counts.nothing_usable or not self.says_completeness:
            return None
        if not self._history:
            return visible_at
        newest = select(func.max(labels.c.known_at)).where(labels.c.batch_id == self.batch_id)
        through: int | None = connection.scalar(newest)
        return through


def begin(store: Store, kind: Kind, source: str, history: bool, now: int, holder: str) -> BatchLoader:
    """
    Start a batch.

    Raises
    ------
    Busy
        Another ingest is running on this database.
    """
    token = leases.acquire(store, LEASE, holder, LEASE_LASTS)
    _refuse_half_withdrawn(store, token)
    remove_interrupted(store)
    with store.write() as connection:
        inserted = connection.execute(
            insert(batches).values(
                kind=kind, source=source, status="loading", history=history, started_at=now, holder=holder
            )
        )
    assert inserted.inserted_primary_key is not None
    return BatchLoader(store, int(inserted.inserted_primary_key[0]), kind, source, history, token, holder)


def _refuse_half_withdrawn(store: Store, token: int) -> None:
    """An undo that was interrupted has left ids behind that would count as known ones."""
    w = withdrawals.c
    unfinished = select(w.subject).where(w.counts.is_(None), w.subject.like("batch %")).limit(1)
    with store.write() as connection:
        batch = connection.scalar(unfinished)
        if batch is not None:
            leases.release(connection, LEASE, token)
    if batch is not None:
        raise Busy(f"the undo of {batch} was interrupted", remedy="repeat it", code="undo_interrupted")


def find_batch(store: Store, kind: Kind, content_hash: str) -> Batch | None:
    """The visible batch with this content, None if there is none."""
    same = (batches.c.kind == kind) & (batches.c.content_hash == content_hash) & (batches.c.status == "done")
    with store.read() as connection:
        row = connection.execute(select(batches).where(same)).one_or_none()
    if row is None:
        return None
    counts = Counts(row.read, row.accepted, row.duplicate, row.revised, row.rejected)
    return Batch(row.batch_id, row.kind, row.source, row.history, row.visible_at, counts)


def rejection_reasons(store: Store, batch_id: int) -> dict[int, str]:
    """By row number why rows of a batch were rejected."""
    r = rejected_rows.c
    with store.read() as connection:
        rows = connection.execute(select(r.row_number, r.reason).where(r.batch_id == batch_id))
        return {row.row_number: row.reason for row in rows}


def history_is_open(store: Store, policy: str = "live") -> bool:
    """Whether ingested rows count as history by default: until the first window has been scored."""
    done = (ledger.c.policy == policy) & (ledger.c.kind == "score") & (ledger.c.status == "done")
    with store.read() as connection:
        return connection.scalar(select(func.count()).select_from(ledger).where(done)) == 0


def event_times(store: Store, transaction_ids: Strings) -> Ints:
    """Event times of visible transactions; NEVER for an unknown id."""
    with store.read() as connection, bulk.staged_ids(connection, transaction_ids) as stage:
        sql = text(EVENT_TIMES.format(stage=stage)).columns(event_time=Instant)
        times = {row.transaction_id: row.event_time for row in connection.execute(sql)}
    return np.array([times.get(name, NEVER) for name in transaction_ids], dtype=np.int64)


def remove_interrupted(store: Store) -> None:
    """Remove the batches of ingests that were killed."""
    with store.read() as connection:
        left = connection.scalars(select(batches.c.batch_id).where(batches.c.status == "loading")).all()
    for batch_id in left:
        remove(store, batch_id)


def remove(store: Store, batch_id: int) -> None:
    """Remove a batch that never became visible, in short transactions."""
    queued = f"transaction_id IN (SELECT transaction_id FROM transactions WHERE batch_id = {batch_id:d})"
    with store.write() as connection:
        connection.execute(delete(queue).where(text(queued)))
        waiting_rows.release(connection, batch_id)
    for table in ("transactions", "revisions", "labels", "rejected_rows", "waiting_rows"):
        while _remove_some(store, table, batch_id):
            pass
    with store.write() as connection:
        connection.execute(delete(batches).where(batches.c.batch_id == batch_id))


def _remove_some(store: Store, table: str, batch_id: int) -> int:
    place = "ctid" if store.dialect == "postgresql" else "rowid"
    sql = (
        f"DELETE FROM {table} WHERE {place} IN "
        f"(SELECT {place} FROM {table} WHERE batch_id = :batch LIMIT :some)"
    )
    with store.write() as connection:
        gone = connection.execute(text(sql), {"batch": batch_id, "some": REMOVED_AT_ONCE})
        return int(gone.rowcount)


def stamp(connection: Connection, now: int) -> int:
    """An instant after every earlier visible_at and every run's as_of, even if the clock was set back."""
    return stamp_after(connection, now, connection.execute(_BEFORE).one())


def stamp_after(connection: Connection, now: int, before: Iterable[int | None]) -> int:
    """The same, of somebody who knows the newest visible_at and as_of."""
    visible_at: int = max([now, *(instant + 1 for instant in before if instant is not None)])
    connection.execute(_STAMP, {"stamped": visible_at})
    return visible_at


_BEFORE = select(monitor.c.visible_at, monitor.c.horizon)
_STAMP = update(monitor).values(visible_at=bindparam("stamped"))


def _coverage(store: Store) -> list[scoring_queue.Coverage]:
    with store.read() as connection:
        return scoring_queue.coverage(connection)


def insert_fresh(
    connection: Connection, store: Store, chunk: TransactionChunk, columns: bulk.Columns
) -> Ints:
    """
    Insert the rows with new ids; returns their positions.

    Usually all ids are new, and one insert is enough. Otherwise it is rolled back and only the new rows are inserted; of a single
    row there is nothing to roll back.

    Parameters
    ----------
    columns
        The columns of the chunk as they are stored.
    """
    everything = np.arange(len(chunk))
    if len(chunk) == 1:
        return everything[: bulk.insert_new(connection, store.transactions, columns)]
    first = _first_of_each(chunk.transaction_id)
    if len(first) == len(chunk):
        attempt = connection.begin_nested()
        if bulk.insert_new(connection, store.transactions, columns) == len(chunk):
            attempt.commit()
            return everything
        attempt.rollback()
    known = known_ids(connection, chunk.transaction_id)
    new = [position for position in first if chunk.transaction_id[position] not in known]
    if new:
        some = {name: [values[position] for position in new] for name, values in columns.items()}
        bulk.insert_new(connection, store.transactions, some)
    return np.array(new, dtype=np.int64)


def _first_of_each(ids: Strings) -> Ints:
    first: dict[str, int] = {}
    for position, name in enumerate(ids):
        first.setdefault(name, position)
    return np.fromiter(first.values(), dtype=np.int64, count=len(first))
