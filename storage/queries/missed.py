"""Frauds of the scored spans that were not flagged, or that a person cleared, by when they became known."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Boolean,
    Connection,
    Select,
    Text,
    and_,
    bindparam,
    case,
    column,
    exists,
    false,
    func,
    or_,
    select,
    table,
)

from storage.database import tables
from storage.database.column_types import IdText, Instant, as_micros
from storage.database.database import Store
from storage.database.views import field_name
from storage.frames import DAY, REVIEWERS
from storage.queries.payments import payment_rows
from storage.queries.rows import Position, Row, RowPage, SortKey, read_page
from storage.review.verdict_log import AUDIT, is_retracted
from storage.runs.scoring_queue import coverage

HOLDING = table(  # the labels that hold
    "current_labels",
    column("transaction_id", IdText),
    column("is_fraud", Boolean),
    column("source", Text),
    column("known_at", Instant),
).alias("holding")
EARLIER_MAX = 300  # payments of an entity: of a large merchant more say nothing


@dataclass(frozen=True)
class MissFilter:
    """Frauds that became known at `known_since` (µs) or later, unflagged, cleared, or both."""

    policy: str
    known_since: int
    kind: str | None = None


def missed_page(
    store: Store, filters: MissFilter, limit: int | None = None, after: Position | None = None
) -> RowPage:
    """
    Missed frauds as payments, what became known last first.

    Each has its `miss`, the `decision_value` that was compared with its threshold, how many payments of its day had one as high or higher and
    no flag (`unflagged_above`), by entity how many frauds
    of it were known by then (`known_frauds`), and which other policies have flagged it (`flagged_by`).
    """
    t = store.transactions.c
    chosen = _missed(store, filters).with_only_columns(t.transaction_id, _kind().label("miss"))
    keys = (SortKey(HOLDING.c.known_at, descending=True), SortKey(t.transaction_id))
    with store.read() as connection:
        chosen = chosen.where(_is_covered(connection, store, filters.policy))
        page = read_page(connection, chosen, keys, limit, after)
        kinds = {row["transaction_id"]: row["miss"] for row in page.rows}
        payments = payment_rows(connection, store, filters.policy, list(kinds))
        rows = {row["transaction_id"]: row for row in payments}
        policies = _flagged_by(connection, filters.policy, list(kinds))
        decisions = _decisions(connection, filters.policy, list(kinds))
        above_query, frauds_query = _unflagged_above(store), _known_frauds(store)
        found = []
        for name, kind in kinds.items():
            row, decision = rows[name], decisions.get(name)
            above = None
            if decision is not None and kind == "unflagged":
                begin = as_micros(row["event_time"]) // DAY * DAY
                values = {"policy": filters.policy, "begin": begin, "end": begin + DAY}
                above = connection.scalar(
                    above_query, values | {"value": decision[0], "channel": decision[1]}
                )
            found.append(
                row
                | {
                    "miss": kind,
                    "decision_value": None if decision is None else decision[0],
                    "unflagged_above": above,
                    "known_frauds": _frauds_before(connection, store, frauds_query, row),
                    "flagged_by": policies.get(name, ()),
                }
            )
    return RowPage(found, page.next_position)


def missed_ids(store: Store, filters: MissFilter) -> dict[str, list[str]]:
    """The ids of missed frauds by kind."""
    found: dict[str, list[str]] = {}
    with store.read() as connection:
        rows = _missed(store, filters).where(_is_covered(connection, store, filters.policy))
        kinds = rows.with_only_columns(store.transactions.c.transaction_id, _kind().label("miss"))
        for row in connection.execute(kinds):
            found.setdefault(row.miss, []).append(row.transaction_id)
    return found


def _kind() -> Any:
    f = tables.flags.c
    return case((or_(f.transaction_id.is_(None), f.channel == AUDIT), "unflagged"), else_="cleared")


def _missed(store: Store, filters: MissFilter) -> "Select[Any]":
    t, f, c = store.transactions.c, tables.flags.c, tables.labels.c
    # What was drawn at random was not flagged: nobody would have looked at it otherwise.
    unflagged = or_(f.transaction_id.is_(None), f.channel == AUDIT)
    cleared = exists().where(
        c.transaction_id == f.transaction_id, c.source.in_(REVIEWERS), c.is_fraud.is_(False), ~is_retracted(c)
    )
    of_kind = {
        "unflagged": unflagged,
        "cleared": and_(~unflagged, HOLDING.c.source.not_in(REVIEWERS), cleared),
    }
    done = select(tables.batches.c.batch_id).where(tables.batches.c.status == "done")
    return (
        select(t.transaction_id)
        .select_from(
            HOLDING.join(store.transactions, t.transaction_id == HOLDING.c.transaction_id).outerjoin(
                tables.flags, and_(f.policy == filters.policy, f.transaction_id == t.transaction_id)
            )
        )
        .where(
            HOLDING.c.is_fraud.is_(True),
            HOLDING.c.known_at >= filters.known_since,
            t.batch_id.in_(done),
            or_(*of_kind.values()) if filters.kind is None else of_kind[filters.kind],
        )
    )


def _is_covered(connection: Connection, store: Store, policy: str) -> Any:
    """Whether the policy scores payments of that time: of others nothing was to be caught."""
    t = store.transactions.c.event_time
    spans = [span for each in coverage(connection) if each.policy == policy for span in each.spans]
    return or_(false(), *(and_(t >= start, t < end) for start, end in spans))


def _flagged_by(connection: Connection, policy: str, ids: list[str]) -> dict[str, tuple[str, ...]]:
    f = tables.flags.c
    rows = select(f.transaction_id, f.policy).where(
        f.transaction_id.in_(ids), f.policy != policy, f.channel != AUDIT
    )
    found: dict[str, tuple[str, ...]] = {}
    for row in connection.execute(rows.order_by(f.policy)):
        found[row.transaction_id] = (*found.get(row.transaction_id, ()), row.policy)
    return found


def _decisions(connection: Connection, policy: str, ids: list[str]) -> dict[str, tuple[float, str]]:
    """The value that was compared with the threshold, and its channel; what was drawn at random has none."""
    s = tables.scores.c
    rows = select(s.transaction_id, s.decision_value, s.channel).where(
        s.policy == policy, s.transaction_id.in_(ids), s.decision_value.is_not(None), s.channel != AUDIT
    )
    return {row.transaction_id: (row.decision_value, row.channel) for row in connection.execute(rows)}


def _unflagged_above(store: Store) -> Any:
    """How many payments of a day (UTC) and channel have no flag and a value as high or higher, the payment itself among them."""
    t, s = store.transactions.c, tables.scores.c
    # As a list, so that SQLite begins with the day and not with all scores.
    of_day = select(t.transaction_id).where(
        t.event_time >= bindparam("begin", type_=Instant), t.event_time < bindparam("end", type_=Instant)
    )
    return select(func.count()).where(
        s.policy == bindparam("policy"), s.transaction_id.in_(of_day), s.channel == bindparam("channel"),
        s.decision_value >= bindparam("value"), ~s.flagged,
    )  # fmt: skip


def _known_frauds(store: Store) -> Any:
    """By entity column how many of a value's newest payments before an instant were known to be fraud at it, in one row."""
    t, c, at = store.transactions.c, tables.labels.c, bindparam("at", type_=Instant)
    known = exists().where(
        c.transaction_id == t.transaction_id, c.is_fraud.is_(True), c.known_at < at, c.retracts.is_(None),
        ~is_retracted(c),
    )  # fmt: skip
    counts = []
    for place, name in enumerate(store.fields.entities):
        before = (
            select(t.transaction_id)
            .where(t[name] == bindparam(f"value{place}"), t.event_time < at)
            .order_by(t.event_time.desc())
            .limit(EARLIER_MAX)
        )
        frauds = select(func.count()).select_from(store.transactions)
        counts.append(frauds.where(t.transaction_id.in_(before.subquery().select()), known).scalar_subquery())
    return select(*counts)


def _frauds_before(connection: Connection, store: Store, query: Any, payment: Row) -> dict[str, int]:
    names = list(store.fields.entities)
    if not names:
        return {}
    values = {f"value{place}": payment[field_name(name)] for place, name in enumerate(names)}
    counts = connection.execute(query, values | {"at": as_micros(payment["event_time"])}).one()
    return {name: int(count) for name, count in zip(names, counts, strict=True) if count}
