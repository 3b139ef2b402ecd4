"""The queue: cases with an open flag, in an order, and how many there are of each kind; read from the tables that `database.cases` writes."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, case, func, literal_column, select

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

    def of(self, column: ColumnElement[Any]) -> list[ColumnElement[bool]]:
        """As conditions on a column."""
        since = [] if self.since is None else [column >= self.since]
        return since if self.until is None else [*since, column < self.until]


class CaseKind(NamedTuple):
    """
    Cases that no filter but those of a `CaseScope` tells apart, and their number.

    Attributes
    ----------
    channels
        Of the open flags; none for the audit sample.
    age, due
        The name of the span in which the newest payment happened, and in which the first flag was raised; "" for none.
    claimed_by
        None if nobody works on them.
    loss
        Summed, in 1/10,000 of the base currency.
    """

    channels: tuple[str, ...]
    age: str
    due: str
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
    """A case with the transactions of its open flags by time, and the number of its other flags."""

    case_id: str
    transaction_ids: Sequence[str]
    answered: int
    raised_at: datetime
    claimed_by: str | None


@dataclass(frozen=True)
class CasePart:
    """Cases of a list, and the position after the last one; None if no more follow."""

    cases: Sequence[QueuedCase]
    next_position: Position | None


def case_kinds(
    store: Store,
    policy: str,
    scope: CaseScope,
    now: int,
    ages: Mapping[str, Span],
    dues: Mapping[str, Span],
) -> list[CaseKind]:
    """How many cases of a scope there are of each kind; `ages` and `dues` are spans of whole hours by name."""

    def kind(c: Any) -> tuple[ColumnElement[Any], ...]:
        spans = _span_name(c.newest_hour, ages).label("age"), _span_name(c.raised_hour, dues).label("due")
        return c.channels, *spans

    def grouped(c: Any) -> tuple[ColumnElement[Any], ...]:
        return c.channels, literal_column("age"), literal_column("due")

    n, within = case_counts.c, _within(store, policy, scope)
    with store.read() as connection:
        claimed = _claimed(connection, policy, now)
        everything = select(*kind(n), func.sum(n.cases), func.sum(n.flags), func.sum(n.loss))
        everything = everything.where(n.policy == policy).group_by(*grouped(n))
        some = select(*kind(C), func.count(), func.sum(C.open_flags), func.sum(C.loss)).group_by(*grouped(C))
        inside, outside = some.where(C.policy == policy, *within), None
        if scope == CaseScope():
            inside = everything
        elif scope.entity is None and _are_most(connection, policy, within):
            inside, outside = everything, some.where(C.policy == policy, C.rank < scope.min_rank)
        counted = connection.execute(inside).all()
        left_out = [] if outside is None else connection.execute(outside).all()
        mine = (C.policy == policy, C.case_id.in_(_listed(connection, claimed)), *within)
        taken = connection.execute(select(*kind(C), C.open_flags, C.loss, C.case_id).where(*mine)).all()
    sizes: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0, 0, 0])
    for sign, rows in ((1, counted), (-1, left_out)):
        for *key, cases_, flags_, loss in rows:
            _add(sizes[*key, None], sign, cases_, flags_, loss)
    for *key, flags_, loss, case_id in taken:
        _add(sizes[*key, None], -1, 1, flags_, loss)
        _add(sizes[*key, claimed[case_id]], 1, 1, flags_, loss)
    return [CaseKind(tuple(key[0].split()), *key[1:], *size) for key, size in sizes.items() if size[0]]


def _are_most(connection: Connection, policy: str, within: Sequence[ColumnElement[bool]]) -> bool:
    """Whether it is quicker to sum up the other cases, and take them from the stored counts of all."""
    all_ = select(func.sum(case_counts.c.cases)).where(case_counts.c.policy == policy)
    some = select(func.count()).select_from(cases).where(C.policy == policy, *within)
    return 2 * int(connection.scalar(some) or 0) > int(connection.scalar(all_) or 0)


def _add(size: list[int], sign: int, *values: int) -> None:
    for place, value in enumerate(values):
        size[place] += sign * int(value)


def _span_name(column: ColumnElement[Any], spans: Mapping[str, Span]) -> ColumnElement[Any]:
    if not spans:
        return literal_column("''")
    names: list[tuple[Any, Any]] = [(and_(*span.of(column)), name) for name, span in spans.items()]
    return case(*names, else_="")


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
        page = read_page(
            connection, select(C.case_id, C.raised_hour).where(*conditions), SORT_KEYS[order], limit, after
        )
        members = _flags(connection, policy, F.case_id, [row["case_id"] for row in page.rows])
    of_case: dict[str, list[Any]] = defaultdict(list)
    for flag in members:
        of_case[flag.case_id].append(flag)
    return CasePart(
        [
            _queued(name, raised, of_case[name], claimed.get(name))
            for name, raised in (row.values() for row in page.rows)
        ],
        page.next_position,
    )


def _queued(case_id: str, raised: datetime, members: Sequence[Any], claimed_by: str | None) -> QueuedCase:
    waiting = [flag.transaction_id for flag in members if flag.status == "open"]
    return QueuedCase(case_id, waiting, len(members) - len(waiting), raised, claimed_by)


def raised_at(store: Store, policy: str, ids: Sequence[str]) -> datetime | None:
    """The hour in which the first open flag of the cases of these transactions was raised; None without an open one."""
    with store.read() as connection:
        # Apart: in one statement Postgres would read all cases in the order of the page until it finds these.
        names = {flag.case_id for flag in _flags(connection, policy, F.transaction_id, ids)} - {None}
        rows = select(C.raised_hour).where(C.policy == policy, C.case_id.in_(names))
        page = read_page(connection, rows, [SortKey(C.raised_hour)], 1)
    return page.rows[0]["raised_hour"] if page.rows else None


def _claimed(connection: Connection, policy: str, now: int) -> dict[str, str]:
    """By case who works on it: who has claimed the first of its open flags that anybody has."""
    c = claims.c
    in_force = select(c.transaction_id, c.by).where(c.policy == policy, c.until > now)
    people = {row.transaction_id: str(row.by) for row in connection.execute(in_force)}
    found: dict[str, str] = {}
    for flag in _flags(connection, policy, F.transaction_id, people):
        if flag.status == "open" and flag.case_id is not None:
            found.setdefault(flag.case_id, people[flag.transaction_id])
    return found


def _works_on(
    connection: Connection, claimed: Mapping[str, str], people: Sequence[str | None]
) -> ColumnElement[bool]:
    """The cases that one of these people works on; without one, those on which nobody else than these does."""
    rest = None in people
    mine = C.case_id.in_(
        _listed(connection, [name for name, by in claimed.items() if (by in people) is not rest])
    )
    return ~mine if rest else mine


def _within(store: Store, policy: str, scope: CaseScope) -> list[ColumnElement[bool]]:
    conditions = [] if scope.min_rank is None else [C.rank >= scope.min_rank]
    if scope.entity is not None:
        t = store.transactions.c
        payments = flags.join(store.transactions, t.transaction_id == F.transaction_id)
        mine = (F.policy == policy, F.case_id.is_not(None), t[store.fields.case_entity] == scope.entity)
        conditions.append(C.case_id.in_(select(F.case_id).select_from(payments).where(*mine)))
    return conditions


def _flags(
    connection: Connection, policy: str, column: ColumnElement[Any], names: Collection[str]
) -> list[Any]:
    """
    The flags with one of these names in a column, by time.

    Neither the policy nor an order is in the query: SQLite would read all flags of the policy, or those by time.
    """
    if not names:
        return []
    rows = select(F.policy, F.case_id, F.transaction_id, F.event_time, F.status).where(
        column.in_(_listed(connection, names))
    )
    mine = [row for row in connection.execute(rows) if row.policy == policy]
    return sorted(mine, key=lambda row: (row.event_time, row.transaction_id))


def _listed(connection: Connection, names: Iterable[str]) -> Any:
    return bulk.with_listed_ids(bulk.listed_ids(connection.dialect.name), names)
