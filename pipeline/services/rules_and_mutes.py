"""What rules and mutes have in common: when one ends, and the state it is in."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

from pipeline.errors import InputError
from pipeline.services.session import Session
from storage.database.column_types import as_datetime, as_micros

State = Literal["planned", "in force", "ended"]


def expiry(session: Session, end: datetime | timedelta) -> int:
    """
    The end in µs, of an instant or of a span from now on.

    Raises
    ------
    InputError
        The end is not in the future.
    """
    now = session.now
    until = as_micros(end if isinstance(end, datetime) else as_datetime(now) + end)
    if until <= now:
        raise InputError(
            f"{as_datetime(until):%Y-%m-%d %H:%M} UTC is in the past",
            remedy="give a later end",
            code="past_expiry",
        )
    return until


def state_values(row: Mapping[str, Any], now: int, flags: Mapping[int, int], key: str) -> dict[str, Any]:
    """The values of a stored row that a typed result has otherwise: times, state and number of flags."""
    times = {
        name: None if row[name] is None else as_datetime(row[name])
        for name in ("created_at", "effective_from", "until", "ended_at")
    }
    state: State = "in force" if row["effective_from"] <= now else "planned"
    return times | {"state": "ended" if row["end"] <= now else state, "flags": flags.get(row[key], 0)}
