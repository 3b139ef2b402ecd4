"""What a user asked for that another one must approve: added, decided once, and how it ended."""

from collections.abc import Mapping
from typing import Any, Literal

from sqlalchemy import Connection, Row, insert, select, update

from storage.database.database import Store
from storage.database.tables import approvals
from storage.errors import Refused, Unknown
from storage.review.audit_trail import write_audit

Decision = Literal["approved", "rejected"]
_VERB = {"approved": "approve request", "rejected": "reject request"}


def add(
    store: Store,
    action: str,
    request: Mapping[str, Any],
    user_id: int,
    expires_at: int,
    by: str,
    now: int,
) -> int:
    """Add a request, with an entry in the audit trail; returns its number."""
    row = {
        "action": action,
        "request": dict(request),
        "user_id": user_id,
        "requested_at": now,
        "expires_at": expires_at,
        "status": "pending",
    }
    with store.write_exclusive() as connection:
        inserted = connection.execute(insert(approvals), row)
        assert inserted.inserted_primary_key is not None
        number = int(inserted.inserted_primary_key[0])
        after = {"action": action, "expires_at": expires_at}
        write_audit(connection, by, "request approval", f"approval {number}", None, after, now)
    return number


def decide(
    store: Store,
    number: int,
    decision: Decision,
    request: Mapping[str, Any],
    user_id: int,
    by: str,
    now: int,
) -> None:
    """
    Approve or reject a request, with an entry in the audit trail; of two who decide at once, one wins.

    Parameters
    ----------
    request
        What is kept of it.

    Raises
    ------
    Unknown
        There is no such request.
    Refused
        It was decided already, or has expired.
    """
    with store.write_exclusive() as connection:
        row = _find(connection, number)
        if row.status != "pending":
            raise Refused(f"approval {number} was decided already", code="approval_decided")
        if row.expires_at <= now:
            raise Refused(f"approval {number} has expired", remedy="ask again", code="approval_expired")
        decided = {
            "status": decision,
            "request": dict(request),
            "decided_by": user_id,
            "decided_at": now,
        }
        _set(connection, number, decided)
        write_audit(connection, by, _VERB[decision], f"approval {number}", None, {"action": row.action}, now)


def finish(store: Store, number: int, error: str | None) -> None:
    """Note how an approved request ended: why it failed, or None if it is done."""
    with store.write() as connection:
        _set(connection, number, {"status": "done" if error is None else "failed", "error": error})


def _find(connection: Connection, number: int) -> Row[Any]:
    row = connection.execute(select(approvals).where(approvals.c.approval_id == number)).one_or_none()
    if row is None:
        raise Unknown(f"there is no approval {number}", code="unknown_approval")
    return row


def _set(connection: Connection, number: int, values: Mapping[str, Any]) -> None:
    connection.execute(update(approvals).where(approvals.c.approval_id == number).values(**values))
