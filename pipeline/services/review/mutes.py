"""Mutes, which keep expected flags out of messages and lists for a while: add, list and end them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pipeline.rules.mutes import known_channel, known_feature
from pipeline.schedule.run_context import LIVE
from pipeline.services.entities import entity_filter
from pipeline.services.pages import PAGE_ROWS, Page
from pipeline.services.review.rules_and_mutes import (
    Decision,
    NewDecision,
    add_decision,
    end_decision,
    list_decisions,
)
from pipeline.services.session import Session
from storage.review.rules_and_mutes import MUTE, muted_by


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
class NewMute(NewDecision):
    """A mute to be added."""

    target: MuteTarget


@dataclass(frozen=True)
class StoredMute(Decision):
    """A mute."""

    mute_id: int
    kind: str  # entity, feature, channel
    name: str
    value: str | None  # of an entity, as it is stored


def add_mute(session: Session, mute: NewMute) -> StoredMute:
    """
    Mute flags of an entity, a feature or a channel; it applies to transactions from now on.

    Raises
    ------
    InputError
        There is no such entity column, feature or channel, or the end is not in the future.
    """
    return add_decision(session, MUTE, StoredMute, mute, _columns(session, mute.target))


def list_mutes(session: Session, *, limit: int = PAGE_ROWS, cursor: str | None = None) -> Page[StoredMute]:
    """
    Mutes with the number of flags that each has muted, ended ones too, the newest first.

    Raises
    ------
    InputError
        The cursor is not one of this list.
    """
    return list_decisions(session, MUTE, StoredMute, muted_by(session.store, LIVE), limit, cursor)


def end_mute(session: Session, mute_id: int) -> datetime:
    """
    End a mute early; flags that it has muted stay muted. Returns the first instant at which it is no longer in force.

    Raises
    ------
    Unknown
        There is no such mute, or it has ended.
    """
    return end_decision(session, MUTE, mute_id)


def _columns(session: Session, target: MuteTarget) -> dict[str, Any]:
    if isinstance(target, EntityTarget):
        value = entity_filter(session, target.column, target.value)
        return {"kind": "entity", "name": target.column, "value": value}
    if isinstance(target, FeatureTarget):
        return {"kind": "feature", "name": known_feature(target.feature, session.config), "value": None}
    return {"kind": "channel", "name": known_channel(target.channel), "value": None}
