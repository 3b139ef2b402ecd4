"""Lists of models: promoted ones, rejected candidates, and their checks against the champion."""

from typing import Any

from sqlalchemy import and_, func, null, select, type_coerce, union_all

from storage.database import tables
from storage.database.database import Store
from storage.errors import Unknown
from storage.queries.rows import Position, Row, RowPage, SortKey, fetch_page, read_rows


def model_page(store: Store, policy: str, limit: int | None = None, after: Position | None = None) -> RowPage:
    """
    Promoted models and rejected candidates, by the instant they took or would have taken effect, newest first.

    A rejected candidate has no `effective_from`, `seq`, `by` and `promoted_at`; a model that was promoted twice has two rows.
    """
    entries = union_all(_promoted(policy), _rejected(policy)).subquery()
    c = entries.c
    newest_first = (
        SortKey(func.coalesce(c.effective_from, c.trained_at), descending=True),
        SortKey(func.coalesce(c.seq, 0), descending=True),
        SortKey(c.model_id, descending=True),
    )
    return fetch_page(store, select(entries), newest_first, limit, after)


def _promoted(policy: str) -> Any:
    m, p, k = tables.models.c, tables.promotions.c, tables.promotion_checks.c
    return (
        select(*_of_model(), p.effective_from, p.seq, p.by, p.promoted_at, p.reason)
        .join(tables.promotions, p.model_id == m.model_id)
        .outerjoin(tables.promotion_checks, and_(k.model_id == m.model_id, k.policy == policy))
        .where(p.policy == policy)
    )


def _rejected(policy: str) -> Any:
    m, p, k = tables.models.c, tables.promotions.c, tables.promotion_checks.c
    nothing = [
        type_coerce(null(), c.type).label(c.name) for c in (p.effective_from, p.seq, p.by, p.promoted_at)
    ]
    promoted = select(p.model_id).where(p.policy == policy)
    return (
        select(*_of_model(), *nothing, k.sentence.label("reason"))
        .join(tables.promotion_checks, and_(k.model_id == m.model_id, k.policy == policy))
        .where(k.verdict == "rejected", m.model_id.not_in(promoted))
    )


def _of_model() -> list[Any]:
    m, k = tables.models.c, tables.promotion_checks.c
    return [
        m.model_id, m.strategy, m.trained_at, m.n_mature, m.n_fraud, m.span_start, m.span_end, m.thresholds,
        m.choice_id, m.sha256, k.verdict, k.rule, k.ap, k.ap_champion, k.cost, k.cost_champion,
    ]  # fmt: skip


def check_page(store: Store, policy: str, limit: int | None = None, after: Position | None = None) -> RowPage:
    """The promotion checks of candidates against the champion, newest training date first."""
    k = tables.promotion_checks.c
    newest_first = (SortKey(k.training_date, descending=True), SortKey(k.model_id, descending=True))
    query = select(tables.promotion_checks).where(k.policy == policy)
    return fetch_page(store, query, newest_first, limit, after)


def model_row(store: Store, policy: str, model_id: int) -> Row:
    """
    One model with the sentence of its choice, its promotions (oldest first) and its checks; without the artifact.

    Raises
    ------
    Unknown
        There is no such model.
    """
    m, p, k = tables.models.c, tables.promotions.c, tables.promotion_checks.c
    columns = [column for column in m if column.name != "artifact"]
    rows = read_rows(
        store,
        select(*columns, func.length(m.artifact).label("bytes"), tables.choices.c.sentence)
        .outerjoin(tables.choices, tables.choices.c.choice_id == m.choice_id)
        .where(m.model_id == model_id),
    )
    if not rows:
        raise Unknown(f"there is no model {model_id}", code="unknown_model")
    promotions = select(p.effective_from, p.by, p.promoted_at, p.reason)
    promotions = promotions.where(p.policy == policy, p.model_id == model_id).order_by(p.seq)
    checks = select(tables.promotion_checks).where(k.policy == policy, k.model_id == model_id)
    return rows[0] | {"promotions": read_rows(store, promotions), "checks": read_rows(store, checks)}
