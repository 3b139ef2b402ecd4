"""The audit trail of everything that a person changes (table `audit`)."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, insert

from storage.database.tables import audit


def write_audit(
    connection: Connection, actor: str, action: str, subject: str, before: Any, after: Any, now: int
) -> None:
    """Add a row to the audit trail, inside the transaction of the change."""
    change = {"subject": subject, "before": before, "after": after}
    write_audits(connection, actor, action, [change], now)


def write_audits(
    connection: Connection, actor: str, action: str, changes: Sequence[Mapping[str, Any]], now: int
) -> None:
    """The same for several changes at once, each with its `subject`, `before` and `after`."""
    row = {"at": now, "actor": actor, "action": action}
    connection.execute(insert(audit), [row | dict(change) for change in changes])
