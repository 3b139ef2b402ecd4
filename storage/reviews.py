"""What people write: verdicts, and the audit trail of every write by a person."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, insert, select

from storage.batches import stamp
from storage.closing import close_flags, rank_sources
from storage.errors import Unknown
from storage.schema import BY, batches, flags, labels
from storage.schema import audit as audit_table
from storage.store import Store


@dataclass(frozen=True)
class VerdictOutcome:
    """What a verdict changed."""

    transaction_id: str
    before: str | None  # status of the flag; None when there is none
    after: str | None
    answer: str

    def sentence(self) -> str:
        """For the one who gave it."""
        kept = "the verdict is kept as a label"
        if self.after is None:
            return f"{self.transaction_id}: no flag to close; {kept}"
        if self.after != self.answer:
            return f"{self.transaction_id}: stays {self.after}, by a source that ranks higher; {kept}"
        if self.before == self.after:
            return f"{self.transaction_id}: {self.after}, as it was; {kept}"
        return f"{self.transaction_id}: {self.before} → {self.after}; {kept}"


def verdict(
    store: Store,
    policy: str,
    transaction_id: str,
    is_fraud: bool,
    note: str,
    actor: str,
    now: int,
    source: str = "review",
    precedence: Sequence[str] | None = None,
) -> VerdictOutcome:
    """
    Append a reviewer's answer as a label, close the flag by it, and keep a trail, in one transaction.

    Changing one's mind appends another label; the newest counts.

    Parameters
    ----------
    precedence
        `labels.precedence`, when it may have changed since `upgrade` stored it.

    Raises
    ------
    Unknown
        There is no such transaction.
    """
    with store.exclusive() as connection:
        if precedence is not None:
            rank_sources(connection, precedence)
        _refuse_unknown(connection, store, transaction_id)
        before = _status(connection, policy, transaction_id)
        label = {
            "transaction_id": transaction_id,
            "is_fraud": is_fraud,
            "source": source,
            "known_at": _known_at(connection, transaction_id, source, now),
            "recorded_at": stamp(connection, now),
            BY: actor,
        }
        connection.execute(insert(labels), label)
        close_flags(connection, [transaction_id])
        after = _status(connection, policy, transaction_id)
        changed = {"status": after, "is_fraud": is_fraud, "source": source, "note": note}
        write_audit(connection, actor, "verdict", transaction_id, {"status": before}, changed, now)
    return VerdictOutcome(transaction_id, before, after, "fraud" if is_fraud else "genuine")


def audit(store: Store, actor: str, action: str, object_: str, before: Any, after: Any, now: int) -> None:
    """Keep who did what to what, for a write that has no transaction of its own here."""
    with store.write() as connection:
        write_audit(connection, actor, action, object_, before, after, now)


def write_audit(
    connection: Connection, actor: str, action: str, object_: str, before: Any, after: Any, now: int
) -> None:
    """Keep who did what to what, inside the write that did it."""
    row = {"at": now, "actor": actor, "action": action, "object": object_, "before": before, "after": after}
    connection.execute(insert(audit_table), row)


def _refuse_unknown(connection: Connection, store: Store, transaction_id: str) -> None:
    t = store.transactions.c
    visible = (
        select(t.transaction_id)
        .join(batches, batches.c.batch_id == t.batch_id)
        .where(t.transaction_id == transaction_id, batches.c.status == "done")
    )
    if connection.scalar(visible) is None:
        raise Unknown(f"there is no transaction {transaction_id}: see fraudwatch flags for what waits")


def _status(connection: Connection, policy: str, transaction_id: str) -> str | None:
    this = (flags.c.policy == policy) & (flags.c.transaction_id == transaction_id)
    return connection.scalar(select(flags.c.status).where(this))


def _known_at(connection: Connection, transaction_id: str, source: str, now: int) -> int:
    """Now, or just after the newest verdict when the clock has not moved on: the newest counts."""
    mine = (labels.c.transaction_id == transaction_id) & (labels.c.source == source)
    newest = connection.scalar(select(func.max(labels.c.known_at)).where(mine))
    return now if newest is None else max(now, newest + 1)
