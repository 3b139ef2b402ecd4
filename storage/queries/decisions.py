"""Rules and mutes as people list them."""

from typing import Any

from sqlalchemy import Select, func, select

from storage.database.database import Store
from storage.errors import Unknown
from storage.queries.rows import Position, Row, RowPage, SortKey, fetch_page, stream
from storage.review.rules_and_mutes import DecisionKind


def decision_page(
    store: Store, kind: DecisionKind, limit: int | None = None, after: Position | None = None
) -> RowPage:
    """Rules or mutes, ended ones too, the newest first; `end` is the first instant at which one is no longer in force."""
    return fetch_page(store, _rows(kind), [SortKey(kind.table.c[kind.key], descending=True)], limit, after)


def decision_row(store: Store, kind: DecisionKind, number: int) -> Row:
    """
    One rule or mute.

    Raises
    ------
    Unknown
        There is no rule or mute of this number.
    """
    for row in stream(store, _rows(kind).where(kind.table.c[kind.key] == number)):
        return row
    raise Unknown(f"there is no {kind.noun} {number}", code=f"unknown_{kind.noun}")


def _rows(kind: DecisionKind) -> "Select[Any]":
    c = kind.table.c
    return select(kind.table, func.coalesce(c.ended_at, c.until, type_=c.until.type).label("end"))
