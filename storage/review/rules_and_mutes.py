"""
Analysts' rules and mutes, each with the span in which it is in force.

A rule or mute applies to transactions whose event time lies in its span, whenever they are scored. Both ends of the span are
later than the as_of of every run so far, so scoring the same transactions again gives the same flags.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, func, insert, select, update

from storage.database.column_types import as_datetime
from storage.database.database import Store
from storage.database.tables import flags, monitor, mutes, rules
from storage.errors import Refused, Unknown
from storage.review.audit_trail import write_audit


@dataclass(frozen=True)
class DecisionKind:
    """Rule or mute: its table and its name in messages."""

    table: Table
    noun: str

    @property
    def key(self) -> str:
        """The primary key column."""
        return f"{self.noun}_id"


MUTE = DecisionKind(mutes, "mute")
RULE = DecisionKind(rules, "rule")


def add(
    store: Store, kind: DecisionKind, columns: Mapping[str, Any], until: int, reason: str, by: str, now: int
) -> tuple[int, int]:
    """
    Add a rule or mute, with an entry in the audit trail; returns its number and the instant it takes effect.

    Parameters
    ----------
    columns
        The columns that only this kind has.
    until
        µs; the first instant at which it is no longer in force.

    Raises
    ------
    Refused
        It would end before it begins.
    """
    with store.write_exclusive() as connection:
        start = _after_the_horizon(connection, now)
        if until <= start:
            raise Refused(
                f"this {kind.noun} would end before it begins, at {as_datetime(start):%Y-%m-%d %H:%M:%S} UTC",
                remedy="give a later end",
                code="past_expiry",
            )
        row = {
            **columns,
            "reason": reason,
            "by": by,
            "created_at": now,
            "effective_from": start,
            "until": until,
        }
        inserted = connection.execute(insert(kind.table), row)
        assert inserted.inserted_primary_key is not None
        number = int(inserted.inserted_primary_key[0])
        after = {"reason": reason, "effective_from": start, "until": until}
        write_audit(connection, by, f"add {kind.noun}", f"{kind.noun} {number}", None, after, now)
    return number, start


def end(store: Store, kind: DecisionKind, number: int, by: str, now: int) -> int:
    """
    End a rule or mute early; returns the first instant at which it is no longer in force.

    Raises
    ------
    Unknown
        There is no such rule or mute, or it has ended.
    """
    c = kind.table.c
    matching = c[kind.key] == number
    with store.write_exclusive() as connection:
        current = connection.execute(select(c.until, c.ended_at).where(matching)).one_or_none()
        at = _after_the_horizon(connection, now)
        if current is None or current.ended_at is not None or current.until <= at:
            if current is None:
                raise Unknown(f"there is no {kind.noun} {number}", code=f"unknown_{kind.noun}")
            raise Unknown(
                f"{kind.noun} {number} cannot be ended, because it has ended", code=f"{kind.noun}_ended"
            )
        connection.execute(update(kind.table).where(matching).values(ended_at=at, ended_by=by))
        ended = {"until": current.until}, {"ended_at": at}
        write_audit(connection, by, f"end {kind.noun}", f"{kind.noun} {number}", *ended, now)
    return at


def stored_decisions(store: Store, kind: DecisionKind) -> list[dict[str, Any]]:
    """All rules or mutes ever added, by number; `end` is the first instant at which one is no longer in force."""
    c = kind.table.c
    with store.read() as connection:
        rows = connection.execute(select(kind.table).order_by(c[kind.key])).mappings().all()
    return [{**row, "end": row["until"] if row["ended_at"] is None else row["ended_at"]} for row in rows]


def flagged_between(store: Store, policy: str, start: int, end: int) -> set[str]:
    """Flagged transactions with start ≤ event_time < end."""
    t = store.transactions.c
    mine = (flags.c.policy == policy) & (flags.c.transaction_id == t.transaction_id)
    rows = select(t.transaction_id).join(flags, mine).where(t.event_time >= start, t.event_time < end)
    with store.read() as connection:
        return set(connection.scalars(rows))


def flagged_by_rule(store: Store, policy: str) -> dict[int, int]:
    """Number of flags that each rule has raised."""
    mine = (flags.c.policy == policy) & (flags.c.channel == "rule")
    with store.read() as connection:
        reasons = connection.scalars(select(flags.c.reasons).where(mine)).all()
    counts: dict[int, int] = {}
    for reason in reasons:
        number = int(reason[0]["value"])
        counts[number] = counts.get(number, 0) + 1
    return counts


def muted_by(store: Store, policy: str) -> dict[int, int]:
    """Number of flags that each mute has muted."""
    f = flags.c
    rows = (
        select(f.muted_by, func.count())
        .where(f.policy == policy, f.muted_by.is_not(None))
        .group_by(f.muted_by)
    )
    with store.read() as connection:
        return {int(row[0]): int(row[1]) for row in connection.execute(rows)}


def _after_the_horizon(connection: Connection, now: int) -> int:
    """Now, or just after the newest as_of of a run: such a run may be scoring at this moment."""
    horizon = connection.scalar(select(monitor.c.horizon))
    return now if horizon is None else max(now, int(horizon) + 1)
