"""
What is stored of single entities, as of one snapshot of the database, and whether it has changed since an earlier one.

Everything that features look at changes in one of these ways: a batch becomes visible, or payments are scored on arrival, which
stamps `monitor.visible_at`; a person changes something, which adds to the audit trail; a model is promoted. All of them happen under
the lock of `Store.write_exclusive`, so the newest of each says what a snapshot knows. What pruning deletes is older than that.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, cached_property

from sqlalchemy import Connection, TextClause, bindparam, func, or_, select, text

from storage.database import bulk
from storage.database.database import Store
from storage.database.tables import audit, batches, monitor, promotions
from storage.frames import Completeness, Labels, Transactions
from storage.ingest import history
from storage.ingest.history import VisibleBatches
from storage.runs.scoring_queue import FOREVER

BATCHES_MAX = 200  # new ones that an entity's rows are looked up by; with more, all its rows are read again
LABELLED_MAX = 500  # payments whose entities are looked up; with more, every entity is taken for labelled
# What people do that changes nothing of what a score knows; `view …` is such, too.
WITHOUT_EFFECT = (
    "log in", "log out", "refuse log-in", "add user", "set role", "set password", "disable user", "enable user", "end sessions",
    "issue token", "revoke token", "request approval", "approve", "refuse", "note", "claim", "release claim", "add hold", "end hold",
    "export", "repair",
)  # fmt: skip
OF_LABELS = frozenset({"verdict", "undo verdict", "retract label"})


@dataclass(frozen=True)
class Mark:
    """
    What a snapshot knows.

    Attributes
    ----------
    visible_at
        When the newest batch or arrival became visible, µs; −1 if there is none.
    audit_id, promotion
        The newest row of the audit trail, and promotion of the policy; 0 if there is none.
    """

    visible_at: int
    audit_id: int
    promotion: int


def newest_mark(connection: Connection, policy: str) -> Mark:
    """What a transaction knows; under the lock of `Store.write_exclusive` what everything before it has changed."""
    return as_mark(*connection.execute(_MARK, {"mark_policy": policy}).one())


def as_mark(visible_at: int | None, audit_id: int | None, promotion: int | None) -> Mark:
    """What `MARK_COLUMNS` have read."""
    return Mark(-1 if visible_at is None else visible_at, audit_id or 0, promotion or 0)


MARK_COLUMNS = (
    select(monitor.c.visible_at).scalar_subquery(),
    select(func.max(audit.c.audit_id)).scalar_subquery(),
    select(func.max(promotions.c.seq))
    .where(promotions.c.policy == bindparam("mark_policy"))
    .scalar_subquery(),
)
_MARK = select(*MARK_COLUMNS)


@cache
def _visible(transactions: str, dialect: str) -> TextClause:
    return text(
        f"SELECT t.transaction_id FROM {transactions} t JOIN batches b ON b.batch_id = t.batch_id "
        f"WHERE b.status = 'done' AND t.transaction_id IN ({bulk.listed_ids(dialect)})"
    )


_INGESTED = (batches.c.status == "done", batches.c.kind == "transactions", ~batches.c.on_arrival)


class EntitySnapshot:
    """Reads one snapshot of the database, which is that of its first read."""

    def __init__(self, store: Store, connect: Callable[[], Connection]) -> None:
        self._store, self._connect = store, connect

    @cached_property
    def _connection(self) -> Connection:
        return self._connect()

    def mark(self, policy: str) -> Mark:
        """What this snapshot knows."""
        return newest_mark(self._connection, policy)

    def actions_since(self, audit_id: int) -> set[str]:
        """What people did after a row of the audit trail that may change what a score knows."""
        newer = select(audit.c.action).where(audit.c.audit_id > audit_id).distinct()
        actions = set(self._connection.scalars(newer))
        return {name for name in actions if name not in WITHOUT_EFFECT and not name.startswith("view ")}

    @cached_property
    def completeness(self) -> Completeness:
        """Up to which instant labels are complete."""
        return history.completeness_in(self._connection)

    def rows(self, column: str, value: str, start: int) -> Transactions:
        """The visible transactions of an entity with event_time ≥ start."""
        t = self._store.transactions.c
        return self._rows(t[column] == value, t.event_time >= start)

    def rows_since(self, column: str, value: str, start: int, visible_at: int) -> Transactions | None:
        """Those that became visible after an instant; None if it is easier to read all of them."""
        t, new = self._store.transactions.c, self._batches_since(visible_at)
        if len(new) > BATCHES_MAX:
            return None
        since = or_(t.batch_id.in_(new), t.arrived_at > visible_at)
        return self._rows(t[column] == value, t.event_time >= start, since)

    def labels(self, column: str, value: str, start: int) -> Labels:
        """The labels of an entity's transactions with event_time ≥ start."""
        t = self._store.transactions.c
        return history.labels_of(self._connection, self._store, t[column] == value, t.event_time >= start)

    def frauds(self, column: str, value: str, start: int, known_from: int) -> tuple[Transactions, Labels]:
        """As `storage.ingest.history.load_frauds`, of one entity."""
        chosen = history.of_fraud(self._store, start, FOREVER, known_from, {column: [value]})
        return self._rows(*chosen), history.labels_of(self._connection, self._store, *chosen)

    def labelled_since(self, audit_id: int) -> set[tuple[str, str]] | None:
        """The entities (column, value) of payments that people labelled after a row of the audit trail; None if there are too many."""
        answered = select(audit.c.subject).where(audit.c.audit_id > audit_id, audit.c.action.in_(OF_LABELS))
        ids = set(self._connection.scalars(answered.distinct().limit(LABELLED_MAX + 1)))
        if len(ids) > LABELLED_MAX:
            return None
        t, names = self._store.transactions.c, self._store.fields.entities
        rows = self._connection.execute(select(*(t[name] for name in names)).where(t.transaction_id.in_(ids)))
        return {pair for row in rows for pair in zip(names, row, strict=True) if pair[1] is not None}

    def visible(self, ids: Sequence[str]) -> set[str]:
        """Which of these ids are stored and visible; a batch that is being loaded may still be removed."""
        listed = {"listed_ids": json.dumps(list(ids))}
        return set(
            self._connection.scalars(_visible(self._store.transactions.name, self._store.dialect), listed)
        )

    def ingested_batches(self) -> tuple[int, int]:
        """How many batches of transactions were ingested, without those that arrived one by one, and when the newest became visible."""
        n, newest = self._connection.execute(
            select(func.count(), func.max(batches.c.visible_at)).where(*_INGESTED)
        ).one()
        return int(n), -1 if newest is None else int(newest)

    def newest_ingested(self) -> int | None:
        """When the newest of their transactions happened, µs; None without one."""
        t = self._store.transactions.c
        rows = select(t.event_time).join(batches, batches.c.batch_id == t.batch_id).where(*_INGESTED)
        return self._connection.scalar(rows.order_by(t.event_time.desc()).limit(1))

    def _rows(self, *chosen: "history.Condition") -> Transactions:
        return history.rows_of(self._connection, self._store, self._visible, *chosen)

    @cached_property
    def _visible(self) -> VisibleBatches:
        return VisibleBatches(self._connection)

    def _batches_since(self, visible_at: int) -> list[int]:
        new = select(batches.c.batch_id).where(*_INGESTED, batches.c.visible_at > visible_at)
        return list(self._connection.scalars(new))


@contextmanager
def entity_snapshot(store: Store) -> Iterator[EntitySnapshot]:
    """A snapshot of the database."""
    with ExitStack() as stack:
        yield EntitySnapshot(store, lambda: stack.enter_context(store.read()))
