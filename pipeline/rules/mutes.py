"""
Mutes: flags of an entity, a feature or a channel that are kept out of lists and messages for a while, with a reason.

A muted flag is written like any other and marked, so that nothing is lost if the mute was a mistake. A mute applies to
transactions that happen while it is in force, so that every way of running marks the same flags. A mute of an entity or a
feature does not apply to the audit sample, which would no longer be random.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.model.model import AUDIT, RULE
from pipeline.config.config import Config
from pipeline.config.key_names import did_you_mean
from pipeline.errors import InputError
from pipeline.features.history import feature_catalogue
from storage.database.database import Store
from storage.frames import Transactions
from storage.review import rules_and_mutes
from storage.review.rules_and_mutes import MUTE
from storage.runs.scores import Flag

CHANNELS = ("outlier", "blend", "classification", "novelty", AUDIT, RULE)


def known_channel(name: str) -> str:
    """
    The name of a channel, as it was given.

    Raises
    ------
    InputError
        There is no such channel.
    """
    if name not in CHANNELS:
        raise InputError(f"channel {name!r} is none of {', '.join(CHANNELS)}", code="unknown_channel")
    return name


@dataclass(frozen=True)
class Mute:
    """What is muted, and the time [start, end) in which the mute is in force, µs."""

    mute_id: int
    kind: str  # entity, feature, channel
    name: str
    value: str | None
    start: int
    end: int

    def covers(self, flag: Flag, rows: Transactions, place: int) -> bool:
        """Whether this mute applies to a flag on the transaction at this place."""
        if not self.start <= rows.event_time[place] < self.end:
            return False
        if self.kind == "channel":
            return flag.channel == self.name
        if flag.channel == AUDIT:
            return False
        if self.kind == "feature":
            strongest: dict[str, Any] = json.loads(flag.reasons)[0]
            return self.name in (strongest["feature"], strongest["code"])
        column = rows.columns.get(self.name)
        return (
            column is not None
            and column.codes[place] >= 0
            and column.values[column.codes[place]] == self.value
        )


def in_force(mutes: Sequence[Mute], instant: int) -> list[Mute]:
    """The mutes that are in force at an instant."""
    return [mute for mute in mutes if mute.start <= instant < mute.end]


def muted_entities(mutes: Sequence[Mute], rows: Transactions) -> NDArray[np.bool_]:
    """Which transactions have an entity that one of these mutes is for, whatever their time, (n,)."""
    muted = np.zeros(len(rows), dtype=bool)
    for mute in mutes:
        if mute.kind == "entity" and mute.name in rows.columns:
            column = rows.columns[mute.name]
            muted |= np.isin(column.codes, np.flatnonzero(column.values == mute.value))
    return muted


def load_mutes(store: Store) -> list[Mute]:
    """All mutes, ended ones too, ordered by id."""
    return [
        Mute(row["mute_id"], row["kind"], row["name"], row["value"], row["effective_from"], row["end"])
        for row in rules_and_mutes.stored_decisions(store, MUTE)
    ]


def mark_muted(flags: Sequence[Flag], rows: Transactions, mutes: Sequence[Mute]) -> list[Flag]:
    """The flags, each marked with the first mute that covers it."""
    if not mutes or not flags:
        return list(flags)
    places = {str(name): place for place, name in enumerate(rows.transaction_id)}
    return [_marked(flag, rows, places[flag.transaction_id], mutes) for flag in flags]


def _marked(flag: Flag, rows: Transactions, place: int, mutes: Sequence[Mute]) -> Flag:
    first = next((mute.mute_id for mute in mutes if mute.covers(flag, rows, place)), None)
    return flag if first is None else replace(flag, muted_by=first)


def known_feature(name: str, config: Config) -> str:
    """
    Check that a name is a feature or the code of a reason.

    Raises
    ------
    InputError
        There is no such feature or code.
    """
    features = feature_catalogue(config).features
    known = sorted({feature.name for feature in features} | {feature.code for feature in features})
    if name not in known:
        raise InputError(
            f"{name!r} is neither a feature nor a code of a reason{did_you_mean(name, known)}",
            code="unknown_feature",
        )
    return name
