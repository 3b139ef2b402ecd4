"""Lists of flags: flagged transactions with their scores, reasons, labels and configured fields."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Select, Text, column, func, select, table, text

from storage.database import bulk, tables
from storage.database.database import Store
from storage.database.views import field_name
from storage.errors import Unknown
from storage.queries.rows import Position, Row, RowPage, SortKey, fetch_page, read_rows, row_converter

FlagOrder = Literal["time", "score", "amount"]  # each from the newest, highest or largest on
SORTED_BY: dict[FlagOrder, str] = {
    "time": "event_time",
    "score": "score",
    "amount": "amount_base",
}  # none is ever NULL
OF_TRANSACTION = ("event_time", "amount", "currency", "amount_base")
OF_FLAG = (
    "policy", "transaction_id", "channel", "reasons", "status", "reviewed_at", "reviewer", "muted_by", "model_id",
    "run_id",
)  # fmt: skip
OF_SCORE = ("score", "outlier_score", "fraud_probability", "decision_value", "threshold")
OF_LABEL = ("is_fraud", "known_at")


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


def flag_page(
    store: Store,
    policy: str,
    filters: FlagFilter,
    limit: int | None = None,
    after: Position | None = None,
    *,
    order: FlagOrder = "time",
) -> RowPage:
    """Flagged transactions in an order; ties are ordered by transaction_id."""
    view = flagged_view(store)
    keys = (SortKey(view.c[SORTED_BY[order]], descending=True), SortKey(view.c.transaction_id))
    return fetch_page(store, _matching(select(view), view, policy, filters), keys, limit, after)


def count_flags(store: Store, policy: str, filters: FlagFilter) -> int:
    """How many flags match."""
    view = flagged_view(store)
    rows = _matching(select(func.count()).select_from(view), view, policy, filters)
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
    view = flagged_view(store)
    with store.read() as connection, bulk.staged_ids(connection, ids) as stage:
        mine = view.c.transaction_id.in_(text(f"SELECT transaction_id FROM {stage}"))
        query = select(view).where(view.c.policy == policy, mine)
        convert = row_converter(query)
        return [convert(row) for row in connection.execute(query).mappings()]


def top_flags(store: Store, policy: str, since: int, until: int, limit: int) -> list[Row]:
    """The flags of a span with the highest scores."""
    view = flagged_view(store)
    inside = (view.c.policy == policy) & (view.c.event_time >= since) & (view.c.event_time < until)
    best_first = select(view).where(inside).order_by(view.c.score.desc(), view.c.transaction_id)
    return read_rows(store, best_first.limit(limit))


def flagged_view(store: Store) -> Any:
    """The view `flagged_transactions`, with the types of the columns that it is made of."""
    sources = (
        (tables.flags, OF_FLAG), (store.transactions, OF_TRANSACTION), (tables.scores, OF_SCORE),
        (tables.labels, OF_LABEL),
    )  # fmt: skip
    columns = [column(name, source.c[name].type) for source, names in sources for name in names]
    fields = tables.field_types(store.fields).items()
    own = [column(field_name(name), kind) for name, kind in fields]
    return table(
        "flagged_transactions", *columns, column("label_type", Text), column("label_source", Text), *own
    )


def _matching(rows: "Select[Any]", view: Any, policy: str, filters: FlagFilter) -> "Select[Any]":
    rows = rows.where(view.c.policy == policy)
    if filters.since is not None:
        rows = rows.where(view.c.event_time >= filters.since)
    if filters.until is not None:
        rows = rows.where(view.c.event_time < filters.until)
    for name in ("status", "channel"):
        if getattr(filters, name) is not None:
            rows = rows.where(view.c[name] == getattr(filters, name))
    if filters.min_score is not None:
        rows = rows.where(view.c.score >= filters.min_score)
    if filters.entity is not None:
        rows = rows.where(view.c[field_name(filters.entity[0])] == filters.entity[1])
    if filters.muted is not None:
        muted_by = view.c.muted_by
        rows = rows.where(muted_by.is_not(None) if filters.muted else muted_by.is_(None))
    return rows
