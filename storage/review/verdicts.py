"""Reviewers' verdicts, and the audit trail of everything that a person changes."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select

from storage.database.database import Store
from storage.database.tables import audit, flags, labels
from storage.errors import Unknown
from storage.review.flag_status import close_flags

AUDIT = "audit"  # channel of flags of the random audit sample, and source of the labels from their verdicts


@dataclass(frozen=True)
class VerdictOutcome:
    """What a verdict changed."""

    transaction_id: str
    before: str  # status of the flag
    after: str


def verdict(
    store: Store,
    policy: str,
    transaction_id: str,
    is_fraud: bool,
    note: str,
    actor: str,
    now: int,
) -> VerdictOutcome:
    """
    Store a verdict as a label, set the flag's status from it, and write to the audit trail, in one transaction.

    The label's source is `audit` for a flag of the audit sample, `review` for any other.

    Raises
    ------
    Unknown
        There is no flag on this transaction.
    """
    matching = (flags.c.policy == policy) & (flags.c.transaction_id == transaction_id)
    with store.write_exclusive() as connection:
        flag = connection.execute(select(flags.c.status, flags.c.channel).where(matching)).one_or_none()
        if flag is None:
            raise Unknown(f"transaction {transaction_id} has no flag to answer", code="unknown_flag")
        before, source = flag.status, AUDIT if flag.channel == AUDIT else "review"
        label = {
            "transaction_id": transaction_id, "is_fraud": is_fraud, "source": source,
            "known_at": _moment(connection, transaction_id, source, now), "by": actor,
        }  # fmt: skip
        connection.execute(insert(labels), label | {"recorded_at": label["known_at"]})
        close_flags(connection, [transaction_id])
        after = str(connection.scalar(select(flags.c.status).where(matching)))
        changed = {"status": after, "is_fraud": is_fraud, "note": note}
        write_audit(connection, actor, "verdict", transaction_id, {"status": before}, changed, now)
    return VerdictOutcome(transaction_id, before, after)


def _moment(connection: Connection, transaction_id: str, source: str, now: int) -> int:
    """Now, or just after the newest verdict if the clock has not advanced: the newest verdict counts."""
    mine = (labels.c.transaction_id == transaction_id) & (labels.c.source == source)
    newest = connection.scalars(
        select(labels.c.known_at).where(mine).order_by(labels.c.known_at.desc()).limit(1)
    ).one_or_none()
    return now if newest is None else max(now, newest + 1)


def write_audit(
    connection: Connection, actor: str, action: str, subject: str, before: Any, after: Any, now: int
) -> None:
    """Add a row to the audit trail, inside the transaction of the change."""
    row = {"at": now, "actor": actor, "action": action, "subject": subject, "before": before, "after": after}
    connection.execute(insert(audit), row)
