"""
Mutes and rules: what people decided, from when until when it holds.

A decision holds for transactions that happen from its beginning until its end, whenever they are scored. Both lie after
every instant that a run was promised to know all about, so what was scored already would be scored the same again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, func, insert, select, update

from storage.database.database import Store
from storage.database.tables import flags, monitor, mutes, rules
from storage.errors import Unknown
from storage.review.verdicts import write_audit


@dataclass(frozen=True)
class Standing:
    """A kind of decision: where it is kept, and what it is called."""

    table: Table
    noun: str

    @property
    def key(self) -> str:
        """The column that numbers them."""
        return f"{self.noun}_id"


MUTE = Standing(mutes, "mute")
RULE = Standing(rules, "rule")


def add(
    store: Store, kind: Standing, said: Mapping[str, Any], until: int, reason: str, by: str, now: int
) -> tuple[int, int]:
    """
    Keep a decision, with a trail of who made it; returns its number and from when on it holds.

    Parameters
    ----------
    said
        The columns that are the kind's own.
    until
        µs; the first instant at which it no longer holds.
    """
    with store.exclusive() as connection:
        start = _after_the_horizon(connection, now)
        row = {**said, "reason": reason, "by": by, "created_at": now, "effective_from": start, "until": until}
        made = connection.execute(insert(kind.table), row)
        assert made.inserted_primary_key is not None
        number = int(made.inserted_primary_key[0])
        after = {"reason": reason, "effective_from": start, "until": until}
        write_audit(connection, by, f"add {kind.noun}", f"{kind.noun} {number}", None, after, now)
    return number, start


def end(store: Store, kind: Standing, number: int, by: str, now: int) -> int:
    """
    End a decision before its time; returns the first instant at which it no longer holds.

    Raises
    ------
    Unknown
        There is no such decision, or it has ended.
    """
    c = kind.table.c
    this = c[kind.key] == number
    with store.exclusive() as connection:
        found = connection.execute(select(c.until, c.ended_at).where(this)).one_or_none()
        at = _after_the_horizon(connection, now)
        if found is None or found.ended_at is not None or found.until <= at:
            state = "there is none" if found is None else "it has ended"
            raise Unknown(
                f"{kind.noun} {number} cannot be ended: {state}; fraudwatch {kind.noun} list shows them"
            )
        connection.execute(update(kind.table).where(this).values(ended_at=at, ended_by=by))
        ended = {"until": found.until}, {"ended_at": at}
        write_audit(connection, by, f"end {kind.noun}", f"{kind.noun} {number}", *ended, now)
    return at


def every(store: Store, kind: Standing) -> list[dict[str, Any]]:
    """All that were ever made, in the order of their numbers; `end` is the first instant they no longer hold at."""
    c = kind.table.c
    with store.read() as connection:
        rows = connection.execute(select(kind.table).order_by(c[kind.key])).mappings().all()
    return [{**row, "end": row["until"] if row["ended_at"] is None else row["ended_at"]} for row in rows]


def flagged_between(store: Store, policy: str, start: int, end: int) -> set[str]:
    """The transactions with start ≤ event_time < end that have a flag."""
    t = store.transactions.c
    mine = (flags.c.policy == policy) & (flags.c.transaction_id == t.transaction_id)
    rows = select(t.transaction_id).join(flags, mine).where(t.event_time >= start, t.event_time < end)
    with store.read() as connection:
        return set(connection.scalars(rows))


def flagged_by_rule(store: Store, policy: str) -> dict[int, int]:
    """How many flags each rule has raised."""
    mine = (flags.c.policy == policy) & (flags.c.channel == "rule")
    with store.read() as connection:
        reasons = connection.scalars(select(flags.c.reasons).where(mine)).all()
    counts: dict[int, int] = {}
    for one in reasons:
        number = int(one[0]["value"])
        counts[number] = counts.get(number, 0) + 1
    return counts


def muted_by(store: Store, policy: str) -> dict[int, int]:
    """How many flags each mute has marked."""
    f = flags.c
    rows = (
        select(f.muted_by, func.count())
        .where(f.policy == policy, f.muted_by.is_not(None))
        .group_by(f.muted_by)
    )
    with store.read() as connection:
        return {int(row[0]): int(row[1]) for row in connection.execute(rows)}


def _after_the_horizon(connection: Connection, now: int) -> int:
    """Now, or just after what a run was promised to know all about: its rows may be in the making."""
    horizon = connection.scalar(select(monitor.c.horizon))
    return now if horizon is None else max(now, int(horizon) + 1)
