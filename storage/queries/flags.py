"""Lists of flags: flagged transactions with their scores, reasons, labels and configured fields."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import (
    Boolean,
    Connection,
    Select,
    Subquery,
    Text,
    and_,
    column,
    exists,
    func,
    null,
    select,
    table,
)

from storage.database import bulk, tables
from storage.database.column_types import IdText, Instant
from storage.database.database import Store
from storage.database.views import VISIBLE, field_name, ranked_labels
from storage.errors import Unknown
from storage.frames import REVIEWERS
from storage.queries.rows import Position, Row, RowPage, SortKey, read_page, rows_of
from storage.review.verdict_log import is_retracted

FlagOrder = Literal["loss", "time", "score", "amount"]  # each from the largest, newest or highest on
OF_TRANSACTION = ("event_time", "amount", "currency", "amount_base")
OF_FLAG = (
    "policy", "transaction_id", "channel", "reasons", "status", "reviewed_at", "reviewer", "muted_by", "model_id",
    "run_id",
)  # fmt: skip
OF_SCORE = ("score", "outlier_score", "fraud_probability", "decision_value", "threshold", "expected_loss")
OF_LABEL = {"is_fraud": "is_fraud", "label_type": "type", "label_source": "source", "known_at": "known_at"}
OF_CLAIM = {"claimed_by": "by", "claimed_until": "until"}
OF_VERDICT = {
    "verdict_id": "verdict_id",
    "verdict": "verdict",
    "verdict_type": "type",
    "verdict_action": "action",
    "verdict_note": "note",
}


@dataclass(frozen=True)
class FlagFilter:
    """Which flags to list: instants in µs, an entity's value as it is stored; None for any."""

    since: int | None = None
    until: int | None = None
    status: str | None = None
    channel: str | None = None
    min_score: float | None = None
    entity: tuple[str, str] | None = None
    muted: bool | None = None  # only muted flags, or only others
    cleared_then_reported: bool = (
        False  # only what a person called genuine and counts as fraud by another source
    )


def flag_page(
    store: Store,
    policy: str,
    filters: FlagFilter,
    limit: int | None = None,
    after: Position | None = None,
    *,
    order: FlagOrder = "loss",
) -> RowPage:
    """
    Flagged transactions in an order; ties are ordered by transaction_id.

    The page is cut from an index of `flags`, and only its rows are joined with everything else.
    """
    chosen = _matching(store, select(tables.flags.c.transaction_id), policy, filters)
    keys = _sort_keys(order)
    if filters.entity is not None:  # SQLite would go through all flags in that order to find those few
        keys = [
            SortKey(func.coalesce(key.column, null(), type_=key.column.type), key.descending) for key in keys
        ]
    with store.read() as connection:
        page = read_page(connection, chosen, keys, limit, after)
        ids = [row["transaction_id"] for row in page.rows]
        rows = {row["transaction_id"]: row for row in _flag_rows(connection, store, policy, ids)}
    return RowPage([rows[name] for name in ids], page.next_position)


def _sort_keys(order: FlagOrder) -> list[SortKey]:
    """The keys of an order: flags without an expected loss come after all others, by score."""
    f = tables.flags.c
    columns: dict[FlagOrder, list[Any]] = {
        "loss": [f.loss_order, f.score],
        "time": [f.event_time],
        "score": [f.score],
        "amount": [f.amount_base],
    }
    return [*(SortKey(key, descending=True) for key in columns[order]), SortKey(f.transaction_id)]


def count_flags(store: Store, policy: str, filters: FlagFilter) -> int:
    """How many flags match."""
    rows = _matching(store, select(func.count()).select_from(tables.flags), policy, filters)
    with store.read() as connection:
        return int(connection.scalar(rows) or 0)


def flag_row(store: Store, policy: str, transaction_id: str) -> Row:
    """
    The flag on a transaction.

    Raises
    ------
    Unknown
        The policy has not flagged this transaction.
    """
    rows = flags_on(store, policy, [transaction_id])
    if not rows:
        raise Unknown(f"there is no flag on transaction {transaction_id!r}", code="unknown_flag")
    return rows[0]


def flags_on(store: Store, policy: str, ids: Sequence[str]) -> list[Row]:
    """The flags on these transactions."""
    with store.read() as connection:
        return _flag_rows(connection, store, policy, ids)


def top_flags(store: Store, policy: str, since: int, until: int, limit: int) -> list[Row]:
    """The flags of a span in the order `loss`: the largest expected losses, then the highest scores."""
    return flag_page(store, policy, FlagFilter(since, until), limit).rows


def _flag_rows(connection: Connection, store: Store, policy: str, ids: Sequence[str]) -> list[Row]:
    return rows_of(connection, flags_of(store, policy, ids))


def flags_of(store: Store, policy: str, ids: Sequence[str]) -> "Select[Any]":
    """Select a policy's flags on these transactions: the view `flagged_transactions`, with verdicts and claims."""
    given, holding = bulk.listed_ids(store.dialect), holding_labels(store, ids)
    f, t, s = tables.flags.c, store.transactions.c, tables.scores.c
    v, n, c = tables.verdicts.c, tables.verdicts.alias().c, tables.claims.c
    newest = select(func.max(n.verdict_id)).where(n.transaction_id == f.transaction_id).scalar_subquery()
    joined = (
        tables.flags.join(store.transactions, t.transaction_id == f.transaction_id)
        .join(tables.scores, and_(s.policy == f.policy, s.transaction_id == f.transaction_id))
        .outerjoin(holding, holding.c.transaction_id == f.transaction_id)
        .outerjoin(tables.verdicts, v.verdict_id == newest)
        .outerjoin(tables.claims, and_(c.policy == f.policy, c.transaction_id == f.transaction_id))
    )
    columns = [
        *(
            source[name]
            for source, names in ((f, OF_FLAG), (t, OF_TRANSACTION), (s, OF_SCORE))
            for name in names
        ),
        *(holding.c[column].label(name) for name, column in OF_LABEL.items()),
        *(v[column].label(name) for name, column in OF_VERDICT.items()),
        *(c[column].label(name) for name, column in OF_CLAIM.items()),
        *(t[name].label(field_name(name)) for name in store.fields.names),
    ]
    return (
        select(*columns)
        .select_from(joined)
        .where(f.policy == policy, f.transaction_id.in_(bulk.with_listed_ids(given, ids)))
    )


def holding_labels(store: Store, ids: Sequence[str]) -> Subquery:
    """The label that holds of each of these transactions: transaction_id, is_fraud, type, source and known_at."""
    given = bulk.listed_ids(store.dialect)
    return (
        bulk.with_listed_ids(ranked_labels(VISIBLE, f"AND {{x}}.transaction_id IN ({given})"), ids)
        .columns(transaction_id=IdText, is_fraud=Boolean, type=Text, source=Text, known_at=Instant)
        .subquery("holding")
    )


def _matching(store: Store, rows: "Select[Any]", policy: str, filters: FlagFilter) -> "Select[Any]":
    f, t = tables.flags.c, store.transactions.c
    conditions = [f.policy == policy]
    if filters.since is not None:
        conditions.append(f.event_time >= filters.since)
    if filters.until is not None:
        conditions.append(f.event_time < filters.until)
    if filters.status is not None:
        conditions.append(f.status == filters.status)
    if filters.channel is not None:
        conditions.append(f.channel == filters.channel)
    if filters.min_score is not None:
        conditions.append(f.score >= filters.min_score)
    if filters.entity is not None:
        name, value = filters.entity
        conditions.append(f.transaction_id.in_(select(t.transaction_id).where(t[name] == value)))
    if filters.muted is not None:
        conditions.append(f.muted_by.is_not(None) if filters.muted else f.muted_by.is_(None))
    if filters.cleared_then_reported:
        conditions += _cleared_then_reported()
    return rows.where(*conditions)


def _cleared_then_reported() -> list[Any]:
    """A flag whose payment counts as fraud by another source, and that a person called genuine."""
    f, c = tables.flags.c, tables.labels.c
    cleared = exists().where(
        c.transaction_id == f.transaction_id,
        c.source.in_(REVIEWERS),
        c.is_fraud.is_(False),
        ~is_retracted(c),
    )
    reported = table("current_labels", column("transaction_id", IdText), column("source", Text)).c
    others = select(reported.transaction_id).where(reported.source.not_in(REVIEWERS))
    return [f.status == "fraud", cleared, f.transaction_id.in_(others)]
