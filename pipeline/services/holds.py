"""Holds, which exempt a value from erasing and pruning for a while: add, list and end them."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from pipeline.card_numbers import mask_numbers
from pipeline.errors import InputError
from pipeline.services.entities import entity_filter
from pipeline.services.session import Session
from storage.admin import holds
from storage.database.column_types import as_datetime, as_micros

State = Literal["in force", "ended"]


@dataclass(frozen=True)
class NewHold:
    """A hold to be added; the value as people know it, not hashed."""

    column: str
    value: str
    until: datetime | timedelta  # an instant, or a span from now on
    reason: str


@dataclass(frozen=True)
class StoredHold:
    """A hold; the value as it is stored."""

    hold_id: int
    column: str
    value: str
    reason: str
    by: str
    created_at: datetime
    until: datetime
    ended_at: datetime | None
    state: State


def add_hold(session: Session, hold: NewHold) -> StoredHold:
    """
    Keep a value of an entity, and its payments, from being erased or pruned.

    Raises
    ------
    InputError
        There is no such entity column, or the end is not in the future.
    """
    now = session.now
    until = as_micros(hold.until if isinstance(hold.until, datetime) else as_datetime(now) + hold.until)
    if until <= now:
        raise InputError(
            f"{as_datetime(until):%Y-%m-%d %H:%M} UTC is in the past",
            remedy="give a later end",
            code="past_expiry",
        )
    value = entity_filter(session, hold.column, hold.value)
    reason = mask_numbers(hold.reason)
    number = holds.add(session.store, hold.column, value, until, reason, session.actor, now)
    return next(each for each in list_holds(session) if each.hold_id == number)


def list_holds(session: Session) -> tuple[StoredHold, ...]:
    """All holds, ended ones too, the newest first."""
    now = session.now
    return tuple(
        StoredHold(
            row["hold_id"],
            row["name"],
            row["value"],
            row["reason"],
            row["by"],
            as_datetime(row["created_at"]),
            as_datetime(row["until"]),
            None if row["ended_at"] is None else as_datetime(row["ended_at"]),
            "in force" if row["ended_at"] is None and row["until"] > now else "ended",
        )
        for row in holds.stored_holds(session.store)
    )


def end_hold(session: Session, hold_id: int) -> None:
    """
    End a hold early.

    Raises
    ------
    Unknown
        There is no such hold, or it has ended.
    """
    holds.end(session.store, hold_id, session.actor, session.now)
