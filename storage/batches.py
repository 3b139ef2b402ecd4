"""
One ingest: chunks commit as `loading`, which nobody sees; one short transaction then shows them all.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, Table, exists, func, insert, select, update

from storage import bulk, leases, policies, removing
from storage.closing import close_flags_of_batch
from storage.errors import AlreadyThere
from storage.frames import NEVER, SECOND, Floats, Ints, Strings
from storage.leases import Lease
from storage.revising import revise, staged
from storage.schema import BY, batches, labels, ledger, monitor, rejected_rows, scores
from storage.store import Store

Kind = Literal["transactions", "labels"]
LEASE = "ingest"
LEASE_LASTS = 900 * SECOND  # the longest wait for a chunk of a slow source, and for a machine that is gone
LIVE = "live"


@dataclass(frozen=True)
class TransactionChunk:
    """Validated transactions in the order of their source."""

    row_number: Ints
    transaction_id: Strings
    event_time: Ints  # µs
    amount_given: Floats  # in the currency of the row
    amount: Ints  # 1/10,000 of the base currency
    currency: Strings | None
    kind: Strings | None
    original_id: Strings | None
    text: Mapping[str, Strings]  # None for missing
    numeric: Mapping[str, Floats]  # NaN for missing

    def __len__(self) -> int:
        return len(self.transaction_id)

    def block(self, batch_id: int) -> dict[str, Any]:
        """As the table has them."""
        given = {"currency": self.currency, "kind": self.kind, "original_id": self.original_id}
        return {
            "transaction_id": self.transaction_id,
            "event_time": self.event_time,
            "amount": self.amount_given,
            "amount_base": self.amount,
            **{name: column for name, column in given.items() if column is not None},
            **self.text,
            **self.numeric,
            "batch_id": batch_id,
        }

    def take(self, rows: Ints) -> "TransactionChunk":
        """These rows only."""

        def some(column: Any) -> Any:
            return None if column is None else column[rows]

        return TransactionChunk(
            self.row_number[rows],
            self.transaction_id[rows],
            self.event_time[rows],
            self.amount_given[rows],
            self.amount[rows],
            some(self.currency),
            some(self.kind),
            some(self.original_id),
            {name: column[rows] for name, column in self.text.items()},
            {name: column[rows] for name, column in self.numeric.items()},
        )


@dataclass(frozen=True)
class LabelChunk:
    """Validated labels in the order of their source."""

    row_number: Ints
    transaction_id: Strings
    is_fraud: NDArray[np.bool_]
    source: Strings
    known_at: Ints  # µs

    def __len__(self) -> int:
        return len(self.transaction_id)


@dataclass(frozen=True)
class Rejected:
    """A row set aside."""

    row_number: int
    row: str  # JSON, hashed fields hashed
    reason: str


@dataclass(frozen=True)
class Counts:
    """What became of the rows read: read = accepted + duplicate + revised + rejected."""

    read: int = 0
    accepted: int = 0
    duplicate: int = 0
    revised: int = 0
    rejected: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class Batch:
    """A batch as it became visible."""

    batch_id: int
    kind: str
    source: str
    history: bool
    visible_at: int
    counts: Counts


class Loading:
    """One batch being loaded; leaves no trace when its block is left without `finish`."""

    def __init__(
        self, store: Store, batch_id: int, kind: Kind, source: str, history: bool, lease: Lease, holder: str
    ) -> None:
        self._store = store
        self._source = source
        self._holder = holder
        self._lease = lease
        self._history = history
        with store.read() as connection:
            self._was_open = _history_is_open(connection, LIVE)
            self._coverage = policies.coverage(connection)
        self._finished = False
        self.batch_id = batch_id
        self.kind = kind
        self.counts = Counts()

    def add_transactions(self, chunk: TransactionChunk) -> Counts:
        """Load a chunk; ids known with other content become revisions."""
        if not len(chunk):
            return Counts()
        rows = bulk.rows_of(self._store.dialect, self._store.transactions, chunk.block(self.batch_id))
        revised = 0
        with self._write() as connection:
            accepted = bulk.insert_new(connection, rows)
            if accepted == len(chunk):
                self._enqueue(connection, chunk.transaction_id, chunk.event_time, chunk.kind)
            else:
                stage = staged(connection, rows)
                revised = revise(connection, self._store, stage)
                self._enqueue_new_ones(connection, stage)
                bulk.drop_stage(connection, stage)
        duplicate = len(chunk) - accepted - revised
        return self._counted(Counts(len(chunk), accepted, duplicate, revised))

    def add_labels(self, chunk: LabelChunk) -> Counts:
        """Load a chunk of labels; one that is there already, to the letter, is a duplicate."""
        if not len(chunk):
            return Counts()
        block = {
            "transaction_id": chunk.transaction_id,
            "is_fraud": chunk.is_fraud,
            "source": chunk.source,
            "known_at": chunk.known_at,
            "batch_id": self.batch_id,
            BY: self._holder,
        }
        rows = bulk.rows_of(self._store.dialect, labels, block)
        with self._write() as connection:
            accepted = bulk.insert_new(connection, rows)
        return self._counted(Counts(len(chunk), accepted, duplicate=len(chunk) - accepted))

    def reject(self, rows: Sequence[Rejected]) -> Counts:
        """Set rows aside with their reasons."""
        if not rows:
            return Counts()
        aside = [{"batch_id": self.batch_id, **asdict(row)} for row in rows]
        with self._write() as connection:
            connection.execute(insert(rejected_rows), aside)
        return self._counted(Counts(len(rows), rejected=len(rows)))

    def finish(self, now: int, content_hash: str, complete_through: int | None = None) -> Batch:
        """
        Show the batch: the one short final transaction, under the lock that horizons take.

        Parameters
        ----------
        complete_through
            Up to when labels are complete. By default history says so by its newest label, and what
            arrives is complete up to its arrival.

        Raises
        ------
        AlreadyThere
            A visible batch has this very content.
        Busy
            Another ingest has taken over, since this one was taken for dead.
        """
        with self._store.exclusive() as connection:
            leases.check(connection, self._lease)
            _refuse_same(connection, self.kind, content_hash)
            visible_at = stamp(connection, now)
            self._history = self._history and not self._was_overtaken(connection)
            row = {
                "status": "done",
                "content_hash": content_hash,
                "visible_at": visible_at,
                "history": self._history,
                "complete_through": self._through(connection, visible_at, complete_through),
                **asdict(self.counts),
            }
            connection.execute(update(batches).where(batches.c.batch_id == self.batch_id).values(row))
            if self.kind == "labels":
                close_flags_of_batch(connection, self.batch_id)
            else:
                policies.enqueue_difference(connection, self._store, self._coverage, self.batch_id)
            leases.release(connection, self._lease)
        self._finished = True
        return Batch(self.batch_id, self.kind, self._source, self._history, visible_at, self.counts)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._finished:
            removing.remove(self._store, self.batch_id)
            with self._store.write() as connection:
                leases.release(connection, self._lease)

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with self._store.write() as connection:
            leases.renew(connection, self._lease, LEASE_LASTS)
            yield connection

    def _counted(self, counts: Counts) -> Counts:
        self.counts += counts
        return counts

    def _enqueue_new_ones(self, connection: Connection, stage: Table) -> None:
        """Queue what is new among staged rows, which is what this batch owns of them."""
        if not self._coverage:
            return
        t = self._store.transactions
        new = select(t.c.transaction_id, t.c.event_time, t.c.kind).join(
            stage, stage.c.transaction_id == t.c.transaction_id
        )
        found = connection.execute(new.where(t.c.batch_id == self.batch_id)).all()
        ids = np.array([row.transaction_id for row in found], dtype=object)
        times = np.array([row.event_time for row in found], dtype=np.int64)
        self._enqueue(connection, ids, times, np.array([row.kind for row in found], dtype=object))

    def _enqueue(self, connection: Connection, ids: Strings, times: Ints, kinds: Strings | None) -> None:
        if kinds is not None and self._coverage:
            payments = ~np.isin(kinds.astype(str), list(self._store.fields.refund_kinds))
            ids, times = ids[payments], times[payments]
        policies.enqueue(connection, self._coverage, ids, times)

    def _was_overtaken(self, connection: Connection) -> bool:
        """Whether the first window was scored while history was loading: then it was not known in time."""
        return self._was_open and not _history_is_open(connection, LIVE)

    def _through(self, connection: Connection, visible_at: int, given: int | None) -> int | None:
        if given is not None or self.kind != "labels":
            return given
        if not self._history:
            return visible_at
        newest = select(func.max(labels.c.known_at)).where(labels.c.batch_id == self.batch_id)
        through: int | None = connection.scalar(newest)
        return through


def begin(store: Store, kind: Kind, source: str, history: bool, now: int, holder: str) -> Loading:
    """
    Start a batch, and remove what an interrupted one left behind.

    Parameters
    ----------
    history
        Whether it was known when it happened, rather than when it arrives here.
    holder
        Who loads, in words.

    Raises
    ------
    Busy
        Another ingest is at work on this database.
    """
    lease = leases.take(store, LEASE, holder, LEASE_LASTS)
    try:
        removing.remove_interrupted(store)
        row = {"kind": kind, "source": source, "status": "loading", "history": history, "started_at": now}
        with store.write() as connection:
            leases.renew(connection, lease, LEASE_LASTS)
            made = connection.execute(insert(batches), row | {"holder": holder})
        assert made.inserted_primary_key is not None
        return Loading(store, int(made.inserted_primary_key[0]), kind, source, history, lease, holder)
    except BaseException:
        with store.write() as connection:
            leases.release(connection, lease)
        raise


def find_batch(store: Store, kind: Kind, content_hash: str) -> Batch | None:
    """The visible batch with this very content, if there is one."""
    with store.read() as connection:
        row = connection.execute(select(batches).where(_with_content(kind, content_hash))).one_or_none()
    if row is None:
        return None
    counts = Counts(row.read, row.accepted, row.duplicate, row.revised, row.rejected)
    return Batch(row.batch_id, row.kind, row.source, row.history, row.visible_at, counts)


def history_is_open(store: Store, policy: str = LIVE) -> bool:
    """Whether loading still lives the past again: until the first window has been scored."""
    with store.read() as connection:
        return _history_is_open(connection, policy)


def event_times(store: Store, transaction_ids: Strings) -> Ints:
    """Event times of visible transactions, NEVER where the id is unknown."""
    t = store.transactions.c
    with store.read() as connection:
        rows = (
            select(t.transaction_id, t.event_time)
            .join(batches, batches.c.batch_id == t.batch_id)
            .where(batches.c.status == "done", bulk.among(connection, t.transaction_id, transaction_ids))
        )
        found = {row.transaction_id: row.event_time for row in connection.execute(rows)}
    return np.array([found.get(name, NEVER) for name in transaction_ids], dtype=np.int64)


def stamp(connection: Connection, now: int) -> int:
    """
    The instant at which something becomes visible.

    After every earlier one and after every horizon that was promised, even if the clock stepped back: a run
    that was told all there is up to T must never find more of it later. Needs the lock of `Store.exclusive`.
    """
    before = connection.execute(select(monitor.c.visible_at, monitor.c.horizon)).one()
    visible_at: int = max([now, *(instant + 1 for instant in before if instant is not None)])
    connection.execute(update(monitor).values(visible_at=visible_at))
    return visible_at


def _history_is_open(connection: Connection, policy: str) -> bool:
    scored = exists().where(scores.c.policy == policy)
    done = exists().where(ledger.c.policy == policy, ledger.c.kind == "score", ledger.c.status == "done")
    return not connection.scalar(select(scored | done))


def _with_content(kind: str, content_hash: str) -> ColumnElement[bool]:
    same = (batches.c.kind == kind) & (batches.c.content_hash == content_hash)
    return same & (batches.c.status == "done")


def _refuse_same(connection: Connection, kind: str, content_hash: str) -> None:
    same = connection.scalar(select(batches.c.batch_id).where(_with_content(kind, content_hash)))
    if same is not None:
        raise AlreadyThere(f"batch {same} has the same content: there is nothing to load")
