"""Lists of choices of strategy, and the readiness findings of trainings."""

from sqlalchemy import func, select

from storage.database import tables
from storage.database.database import Store
from storage.errors import Unknown
from storage.queries.rows import Position, Row, RowPage, SortKey, fetch_page, read_rows


def choice_page(
    store: Store, policy: str, limit: int | None = None, after: Position | None = None
) -> RowPage:
    """Choices, newest training date first."""
    c = tables.choices.c
    newest_first = (SortKey(c.training_date, descending=True), SortKey(c.choice_id, descending=True))
    return fetch_page(store, select(tables.choices).where(c.policy == policy), newest_first, limit, after)


def choice_row(store: Store, policy: str, choice_id: int | None = None) -> Row:
    """
    One choice with all its numbers, the newest by default.

    Raises
    ------
    Unknown
        The policy has no such choice, or none at all.
    """
    if choice_id is None:
        rows = choice_page(store, policy, limit=1).rows
    else:
        c = tables.choices.c
        rows = read_rows(store, select(tables.choices).where(c.policy == policy, c.choice_id == choice_id))
    if not rows:
        which = "" if choice_id is None else f" {choice_id}"
        raise Unknown(f"policy {policy} has no choice{which}", code="unknown_choice")
    return rows[0]


def newest_findings(store: Store, policy: str) -> list[Row]:
    """The readiness findings of the newest training with a choice, errors first."""
    r, c = tables.readiness.c, tables.choices.c
    newest = select(func.max(c.training_date)).where(c.policy == policy).scalar_subquery()
    rows = select(tables.readiness).where(r.policy == policy, r.training_date == newest)
    return read_rows(store, rows.order_by(r.rank))
