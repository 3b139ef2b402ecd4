"""Claims on flags (table `claims`): whoever has one works on the flag, and nobody else begins to; it ends by itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import and_, delete, insert, select, text

from storage.database import bulk
from storage.database.database import Store
from storage.database.tables import batches, claims, flags
from storage.review.audit_trail import write_audits

NotClaimed = Literal["unknown_transaction", "no_flag", "claimed"]


@dataclass(frozen=True)
class ClaimResult:
    """Who has claimed a flag until when (µs), after somebody tried to; None where there is no flag. `code` says why the flag is not theirs."""

    transaction_id: str
    by: str | None
    until: int | None
    code: NotClaimed | None = None


def claim(
    store: Store, policy: str, ids: Sequence[str], actor: str, until: int, now: int
) -> list[ClaimResult]:
    """Claim each of these flags that nobody else has claimed; one's own claim is prolonged."""
    distinct = list(dict.fromkeys(ids))
    f, c = flags.c, claims.c
    with store.write_exclusive() as connection, bulk.staged_ids(connection, distinct) as stage:
        mine = text(f"SELECT transaction_id FROM {stage}")
        flagged = set(
            connection.scalars(select(f.transaction_id).where(f.policy == policy, f.transaction_id.in_(mine)))
        )
        t = store.transactions.c
        done = select(batches.c.batch_id).where(batches.c.status == "done")
        known = select(t.transaction_id).where(t.transaction_id.in_(mine), t.batch_id.in_(done))
        stored = set(connection.scalars(known)) if len(flagged) < len(distinct) else flagged
        others = select(claims).where(
            c.policy == policy, c.transaction_id.in_(mine), c.until > now, c.by != actor
        )
        taken = {row.transaction_id: row for row in connection.execute(others)}
        free = [name for name in distinct if name in flagged and name not in taken]
        if free:
            connection.execute(delete(claims).where(c.policy == policy, c.transaction_id.in_(free)))
            rows = [
                {"policy": policy, "transaction_id": name, "by": actor, "claimed_at": now, "until": until}
                for name in free
            ]
            connection.execute(insert(claims), rows)
            changes = [{"subject": name, "before": None, "after": {"until": until}} for name in free]
            write_audits(connection, actor, "claim", changes, now)
    return [
        ClaimResult(name, taken[name].by, taken[name].until, "claimed")
        if name in taken
        else ClaimResult(name, actor, until)
        if name in flagged
        else ClaimResult(name, None, None, "no_flag" if name in stored else "unknown_transaction")
        for name in distinct
    ]


def release(store: Store, policy: str, ids: Sequence[str], actor: str, now: int) -> list[str]:
    """End one's own claims on these flags; returns the transactions whose claim ended."""
    c = claims.c
    own = and_(c.policy == policy, c.transaction_id.in_(list(ids)), c.by == actor, c.until > now)
    with store.write_exclusive() as connection:
        released = list(connection.scalars(select(c.transaction_id).where(own).order_by(c.transaction_id)))
        if released:
            connection.execute(delete(claims).where(c.policy == policy, c.transaction_id.in_(released)))
            changes = [{"subject": name, "before": None, "after": None} for name in released]
            write_audits(connection, actor, "release claim", changes, now)
    return released
