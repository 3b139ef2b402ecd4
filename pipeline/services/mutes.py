"""Mutes, which keep expected flags out of messages and lists for a while: add, list and end them."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pipeline.rules.mutes import known_channel, known_feature
from pipeline.schedule.run_context import LIVE
from pipeline.services.entities import entity_filter
from pipeline.services.records import as_record
from pipeline.services.rules_and_mutes import State, expiry, state_values
from pipeline.services.session import Session
from storage.database.column_types import as_datetime
from storage.review import rules_and_mutes
from storage.review.rules_and_mutes import MUTE


@dataclass(frozen=True)
class EntityTarget:
    """Flags of one customer, card, merchant …; the value as people know it, not hashed."""

    column: str
    value: str


@dataclass(frozen=True)
class FeatureTarget:
    """Flags whose strongest reason is this feature, or has this code."""

    feature: str


@dataclass(frozen=True)
class ChannelTarget:
    """Flags of one channel."""

    channel: str


MuteTarget = EntityTarget | FeatureTarget | ChannelTarget


@dataclass(frozen=True)
class NewMute:
    """A mute to be added."""

    target: MuteTarget
    until: datetime | timedelta  # an instant, or a span from now on
    reason: str


@dataclass(frozen=True)
class StoredMute:
    """A mute, the span in which it is in force, and the number of flags that it has muted."""

    mute_id: int
    kind: str  # entity, feature, channel
    name: str
    value: str | None  # of an entity, as it is stored
    reason: str
    by: str
    created_at: datetime
    effective_from: datetime
    until: datetime
    ended_at: datetime | None
    state: State
    flags: int


def add(session: Session, mute: NewMute) -> StoredMute:
    """
    Mute flags of an entity, a feature or a channel; it applies to transactions from now on.

    Raises
    ------
    InputError
        There is no such entity column, feature or channel, or the end is not in the future.
    """
    columns, until = _columns(session, mute.target), expiry(session, mute.until)
    mute_id, _ = rules_and_mutes.add(
        session.store, MUTE, columns, until, mute.reason, session.actor, session.now
    )
    return next(stored for stored in every(session) if stored.mute_id == mute_id)


def every(session: Session) -> list[StoredMute]:
    """All mutes, ended ones too, newest first."""
    flags, now = rules_and_mutes.muted_by(session.store, LIVE), session.now
    rows = rules_and_mutes.every(session.store, MUTE)
    return [as_record(StoredMute, row, **state_values(row, now, flags, "mute_id")) for row in reversed(rows)]


def end(session: Session, mute_id: int) -> datetime:
    """
    End a mute early; flags that it has muted stay muted. Returns the first instant at which it is no longer in force.

    Raises
    ------
    Unknown
        There is no such mute, or it has ended.
    """
    return as_datetime(rules_and_mutes.end(session.store, MUTE, mute_id, session.actor, session.now))


def _columns(session: Session, target: MuteTarget) -> dict[str, Any]:
    if isinstance(target, EntityTarget):
        value = entity_filter(session, target.column, target.value)
        return {"kind": "entity", "name": target.column, "value": value}
    if isinstance(target, FeatureTarget):
        return {"kind": "feature", "name": known_feature(target.feature, session.config), "value": None}
    return {"kind": "channel", "name": known_channel(target.channel), "value": None}
