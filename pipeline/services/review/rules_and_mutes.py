"""What rules and mutes have in common: they are added, listed and ended alike, and are in force for a span of time."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, TypeVar

from pipeline.card_numbers import mask_numbers
from pipeline.errors import InputError
from pipeline.services.pages import Page, decode_cursor, encode_cursor
from pipeline.services.records import as_record
from pipeline.services.session import Session
from storage.database.column_types import as_datetime, as_micros
from storage.queries.decisions import decision_page, decision_row
from storage.queries.rows import Row
from storage.review import rules_and_mutes
from storage.review.rules_and_mutes import DecisionKind

State = Literal["planned", "in force", "ended"]


@dataclass(frozen=True)
class NewDecision:
    """Why a rule or mute is added, and when it ends."""

    until: datetime | timedelta  # an instant, or a span from now on
    reason: str


@dataclass(frozen=True)
class Decision:
    """The span in which a rule or mute is in force, and the number of flags that it has raised or muted."""

    reason: str
    by: str
    created_at: datetime
    effective_from: datetime
    until: datetime
    ended_at: datetime | None
    state: State
    flags: int


StoredDecision = TypeVar("StoredDecision", bound=Decision)


def add_decision(
    session: Session,
    kind: DecisionKind,
    record: type[StoredDecision],
    new: NewDecision,
    columns: Mapping[str, Any],
) -> StoredDecision:
    """
    Add a rule or mute; it applies to transactions from now on.

    Parameters
    ----------
    columns
        The columns that only this kind has.

    Raises
    ------
    InputError
        Its end is not in the future.
    """
    now = session.now
    until = as_micros(new.until if isinstance(new.until, datetime) else as_datetime(now) + new.until)
    if until <= now:
        raise InputError(
            f"{as_datetime(until):%Y-%m-%d %H:%M} UTC is in the past",
            remedy="give a later end",
            code="past_expiry",
        )
    reason = mask_numbers(new.reason)
    number, _ = rules_and_mutes.add(session.store, kind, columns, until, reason, session.actor, now)
    return _decision(record, decision_row(session.store, kind, number), as_datetime(now), 0)


def list_decisions(
    session: Session,
    kind: DecisionKind,
    record: type[StoredDecision],
    flags: Mapping[int, int],
    limit: int,
    cursor: str | None,
) -> Page[StoredDecision]:
    """
    Rules or mutes, ended ones too, the newest first.

    Parameters
    ----------
    flags
        Number of flags of each, by its number.

    Raises
    ------
    InputError
        The cursor is not one of this list.
    """
    page, now = (
        decision_page(session.store, kind, limit, decode_cursor(cursor, keys=1)),
        as_datetime(session.now),
    )
    records = tuple(_decision(record, row, now, flags.get(row[kind.key], 0)) for row in page.rows)
    return Page(records, encode_cursor(page.next_position))


def end_decision(session: Session, kind: DecisionKind, number: int) -> datetime:
    """
    End a rule or mute early; returns the first instant at which it is no longer in force.

    Raises
    ------
    Unknown
        There is no such rule or mute, or it has ended.
    """
    return as_datetime(rules_and_mutes.end(session.store, kind, number, session.actor, session.now))


def _decision(record: type[StoredDecision], row: Row, now: datetime, flags: int) -> StoredDecision:
    begun: State = "in force" if row["effective_from"] <= now else "planned"
    return as_record(record, row, state="ended" if row["end"] <= now else begun, flags=flags)
