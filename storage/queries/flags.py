"""Lists of flags: flagged transactions with their scores, reasons, labels and configured fields."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Select, Text, column, exists, func, select, table, text

from storage.database import bulk, tables
from storage.database.database import Store
from storage.database.views import field_name
from storage.errors import Unknown
from storage.frames import REVIEWERS
from storage.queries.rows import Position, Row, RowPage, SortKey, fetch_page, row_converter
from storage.review.verdict_log import is_retracted

FlagOrder = Literal["loss", "time", "score", "amount"]  # each from the largest, newest or highest on
OF_TRANSACTION = ("event_time", "amount", "currency", "amount_base")
OF_FLAG = (
    "policy", "transaction_id", "channel", "reasons", "status", "reviewed_at", "reviewer", "muted_by", "model_id",
    "run_id",
)  # fmt: skip
OF_SCORE = ("score", "outlier_score", "fraud_probability", "decision_value", "threshold", "expected_loss")
OF_LABEL = ("is_fraud", "known_at")
OF_VERDICT = {
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
    """Flagged transactions in an order; ties are ordered by transaction_id."""
    view = flagged_view(store)
    chosen = _matching(_with_verdict(view), view, policy, filters)
    return fetch_page(store, chosen, _sort_keys(view, order), limit, after)


def _sort_keys(view: Any, order: FlagOrder) -> list[SortKey]:
    """The keys of an order, none ever NULL: flags without an expected loss come after all others, by score."""
    v = view.c
    columns: dict[FlagOrder, list[Any]] = {
        "loss": [func.coalesce(v.expected_loss, -1.0), v.score],
        "time": [v.event_time],
        "score": [v.score],
        "amount": [v.amount_base],
    }
    return [*(SortKey(key, descending=True) for key in columns[order]), SortKey(v.transaction_id)]


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


def flags_on(
    store: Store, policy: str, ids: Sequence[str], columns: Sequence[str] | None = None
) -> list[Row]:
    """The flags on these transactions, with all columns of the view or some."""
    view = flagged_view(store)
    with store.read() as connection, bulk.staged_ids(connection, ids) as stage:
        mine = view.c.transaction_id.in_(text(f"SELECT transaction_id FROM {stage}"))
        chosen = _with_verdict(view) if columns is None else select(*(view.c[name] for name in columns))
        query = chosen.where(view.c.policy == policy, mine)
        convert = row_converter(query)
        return [convert(row) for row in connection.execute(query).mappings()]


def top_flags(store: Store, policy: str, since: int, until: int, limit: int) -> list[Row]:
    """The flags of a span in the order `loss`: the largest expected losses, then the highest scores."""
    view = flagged_view(store)
    inside = (view.c.policy == policy) & (view.c.event_time >= since) & (view.c.event_time < until)
    return fetch_page(store, _with_verdict(view).where(inside), _sort_keys(view, "loss"), limit).rows


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


def _with_verdict(view: Any) -> "Select[Any]":
    """Select flags with the newest that people said of their payments."""
    v, n = tables.verdicts.c, tables.verdicts.alias().c
    newest = select(func.max(n.verdict_id)).where(n.transaction_id == view.c.transaction_id).scalar_subquery()
    joined = view.outerjoin(tables.verdicts, v.verdict_id == newest)
    return select(view, *(v[column].label(name) for name, column in OF_VERDICT.items())).select_from(joined)


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
    if filters.cleared_then_reported:
        c = tables.labels.c
        cleared = exists().where(
            c.transaction_id == view.c.transaction_id,
            c.source.in_(REVIEWERS),
            c.is_fraud.is_(False),
            ~is_retracted(c),
        )
        rows = rows.where(view.c.is_fraud.is_(True), view.c.label_source.not_in(REVIEWERS), cleared)
    return rows
