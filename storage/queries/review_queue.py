"""The queue: cases with an open flag, in an order, and how many there are of each kind; read from the tables that `database.cases` writes."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, func, select

from storage.database import bulk
from storage.database.database import Store
from storage.database.tables import case_counts, cases, claims, flags
from storage.queries.rows import Position, SortKey, read_page

CaseOrder = Literal["loss", "due", "time"]  # the largest loss, the earliest raised, the newest payment first
C, F = cases.c, flags.c
SORT_KEYS: Mapping[CaseOrder, Sequence[SortKey]] = {
    "loss": [SortKey(C.rank, descending=True), SortKey(C.case_id)],
    "due": [SortKey(C.raised_hour), SortKey(C.rank, descending=True), SortKey(C.case_id)],
    "time": [SortKey(C.newest_at, descending=True), SortKey(C.case_id)],
}


@dataclass(frozen=True)
class Span:
    """Instants (µs) from one on, and before another; None for any."""

    since: int | None = None
    until: int | None = None

    def has(self, instant: int) -> bool:
        """Whether it has an instant."""
        return (self.since is None or instant >= self.since) and (self.until is None or instant < self.until)

    def of(self, column: ColumnElement[Any]) -> list[ColumnElement[bool]]:
        """The same as conditions on a column."""
        since = [] if self.since is None else [column >= self.since]
        return since if self.until is None else [*since, column < self.until]


class CaseKind(NamedTuple):
    """
    Cases that no filter but those of a `CaseScope` tells apart, and their number.

    Attributes
    ----------
    channels
        Of the open flags; none for the audit sample.
    newest_hour, raised_hour
        In which the newest payment happened and the first flag was raised, µs.
    claimed_by
        None if nobody works on them.
    loss
        Summed, in 1/10,000 of the base currency.
    """

    channels: tuple[str, ...]
    newest_hour: int
    raised_hour: int
    claimed_by: str | None
    cases: int
    flags: int
    loss: int


@dataclass(frozen=True)
class CaseScope:
    """Cases from a rank on (1/10,000 of the base currency), and of a stored value of the entity that they go by; None for any."""

    min_rank: int | None = None
    entity: str | None = None


@dataclass(frozen=True)
class QueueFilter:
    """
    Which cases of a scope to list; None for any.

    Attributes
    ----------
    kinds
        Channels as `CaseKind` has them.
    claimed_by
        Names of those who work on them; None among them for nobody.
    """

    scope: CaseScope = CaseScope()
    channels: Sequence[tuple[str, ...]] | None = None
    newest: Span = Span()
    raised: Span = Span()
    claimed_by: Sequence[str | None] | None = None


@dataclass(frozen=True)
class QueuedCase:
    """A case with its open flags by time: their transactions with the event time in µs."""

    case_id: str
    answered_flags: int
    raised_at: datetime
    claimed_by: str | None
    flags: Sequence[tuple[str, int]]


@dataclass(frozen=True)
class CasePart:
    """Cases of a list, and the position after the last one; None if no more follow."""

    cases: Sequence[QueuedCase]
    next_position: Position | None


def case_kinds(store: Store, policy: str, scope: CaseScope, now: int) -> list[CaseKind]:
    """How many cases of a scope there are of each kind."""
    n = case_counts.c
    key = (C.channels, C.newest_hour, C.raised_hour)
    with store.read() as connection:
        claimed = _claimed(connection, policy, now)
        within = _within(store, policy, scope)
        if scope == CaseScope():
            counted = select(n.channels, n.newest_hour, n.raised_hour, n.cases, n.flags, n.loss)
            rows = connection.execute(counted.where(n.policy == policy)).all()
        else:
            sums = (func.count(), func.sum(C.open_flags), func.sum(C.loss))
            rows = connection.execute(
                select(*key, *sums).where(C.policy == policy, *within).group_by(*key)
            ).all()
        taken = select(*key, C.open_flags, C.loss, C.case_id).where(
            *_one_of(connection, policy, claimed), *within
        )
        of_people = [
            (channels, newest, raised, claimed[name], 1, n_flags, loss)
            for channels, newest, raised, n_flags, loss, name in connection.execute(taken)
        ]
    sizes: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0, 0, 0])
    for sign, listed in (
        (1, [(*row[:3], None, *row[3:]) for row in rows]),
        (1, of_people),
        (-1, [(*row[:3], None, *row[4:]) for row in of_people]),
    ):
        for row in listed:
            for place, value in enumerate(row[4:]):
                sizes[row[:4]][place] += sign * int(value)
    return [CaseKind(tuple(kind[0].split()), *kind[1:], *size) for kind, size in sizes.items() if size[0]]


def case_part(
    store: Store,
    policy: str,
    filters: QueueFilter,
    now: int,
    *,
    order: CaseOrder = "loss",
    limit: int | None = None,
    after: Position | None = None,
) -> CasePart:
    """
    Cases in an order; all that follow a position with `limit` None.

    Raises
    ------
    BadPosition
        `after` cannot be a position of this list.
    """
    with store.read() as connection:
        claimed = _claimed(connection, policy, now)
        conditions = [C.policy == policy, *_within(store, policy, filters.scope)]
        conditions += [*filters.newest.of(C.newest_hour), *filters.raised.of(C.raised_hour)]
        if filters.channels is not None:
            conditions.append(C.channels.in_([" ".join(names) for names in filters.channels]))
        if filters.claimed_by is not None:
            conditions.append(_works_on(connection, claimed, filters.claimed_by))
        rows = select(C.case_id, C.answered_flags, C.raised_hour).where(*conditions)
        page = read_page(connection, rows, SORT_KEYS[order], limit, after)
        waiting = _open_flags(connection, policy, [row["case_id"] for row in page.rows])
    return CasePart(
        [
            QueuedCase(name, answered, raised_at, claimed.get(name), waiting[name])
            for name, answered, raised_at in (row.values() for row in page.rows)
        ],
        page.next_position,
    )


def raised_at(store: Store, policy: str, ids: Sequence[str]) -> datetime | None:
    """The hour in which the first open flag of the cases of these transactions was raised; None without an open one."""
    with store.read() as connection:
        mine = select(F.case_id).where(F.policy == policy, F.transaction_id.in_(_listed(connection, ids)))
        rows = select(C.raised_hour).where(C.policy == policy, C.case_id.in_(mine))
        page = read_page(connection, rows, [SortKey(C.raised_hour)], 1)
    return page.rows[0]["raised_hour"] if page.rows else None


def _claimed(connection: Connection, policy: str, now: int) -> dict[str, str]:
    """By case who works on it: who has claimed the first of its open flags that anybody has."""
    c = claims.c
    mine = and_(F.policy == c.policy, F.transaction_id == c.transaction_id, F.status == "open")
    rows = (
        select(F.case_id, c.by)
        .join(flags, mine)
        .where(c.policy == policy, c.until > now, F.case_id.is_not(None))
    )
    found: dict[str, str] = {}
    for case_id, by in connection.execute(rows.order_by(F.event_time, F.transaction_id)):
        found.setdefault(case_id, by)
    return found


def _works_on(
    connection: Connection, claimed: Mapping[str, str], people: Sequence[str | None]
) -> ColumnElement[bool]:
    """The cases that one of these people works on; without one, those on which nobody else than these does."""
    if None in people:
        return C.case_id.not_in(
            _listed(connection, [name for name, by in claimed.items() if by not in people])
        )
    return C.case_id.in_(_listed(connection, [name for name, by in claimed.items() if by in people]))


def _within(store: Store, policy: str, scope: CaseScope) -> list[ColumnElement[bool]]:
    conditions = [] if scope.min_rank is None else [C.rank >= scope.min_rank]
    if scope.entity is not None:
        t = store.transactions.c
        payments = flags.join(store.transactions, t.transaction_id == F.transaction_id)
        mine = (F.policy == policy, F.case_id.is_not(None), t[store.fields.case_entity] == scope.entity)
        conditions.append(C.case_id.in_(select(F.case_id).select_from(payments).where(*mine)))
    return conditions


def _one_of(connection: Connection, policy: str, names: Iterable[str]) -> list[ColumnElement[bool]]:
    return [C.policy == policy, C.case_id.in_(_listed(connection, names))]


def _open_flags(
    connection: Connection, policy: str, names: Sequence[str]
) -> dict[str, list[tuple[str, int]]]:
    of_cases = (F.policy == policy, F.case_id.in_(_listed(connection, names)), F.status == "open")
    rows = select(F.case_id, F.transaction_id, F.event_time).where(*of_cases)
    found: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for case_id, name, event_time in connection.execute(rows.order_by(F.event_time, F.transaction_id)):
        found[case_id].append((name, event_time))
    return found


def _listed(connection: Connection, names: Iterable[str]) -> Any:
    return bulk.with_listed_ids(bulk.listed_ids(connection.dialect.name), names)
