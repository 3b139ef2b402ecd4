"""
The audit trail of everything that a person changes (table `audit`): rows are only added, each with the hash of the one before.

`hash` covers the row and the hash of the row before, so a row that was changed, removed or put in later breaks the chain.
Of `before` and `after` it covers a salted hash, so that a person can be erased from them without breaking it.
"""

import getpass
import hashlib
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, insert, select, text, update

from storage.database.column_types import plain
from storage.database.tables import audit

AUDIT_LOCK = 7_215_002  # Postgres advisory lock: one transaction at a time continues the chain
SALT_BYTES = 16
COVERED = ("at", "actor", "action", "subject", "os_user", "database_user", "content_hash")


def write_audit(
    connection: Connection, actor: str, action: str, subject: str, before: Any, after: Any, now: int
) -> int:
    """Add a row to the audit trail, inside the transaction of the change; returns its number."""
    change = {"subject": subject, "before": before, "after": after}
    return write_audits(connection, actor, action, [change], now)


def write_audits(
    connection: Connection, actor: str, action: str, changes: Sequence[Mapping[str, Any]], now: int
) -> int:
    """
    The same for several changes at once; returns the last one's number.

    Each has its `subject`, `before` and `after`, and may have an `at`, `actor` and `action` of its own.
    """
    database_user = None
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": AUDIT_LOCK})
        database_user = connection.scalar(text("SELECT session_user"))
    newest = select(audit.c.audit_id, audit.c.hash).order_by(audit.c.audit_id.desc()).limit(1)
    previous = row.hash or "" if (row := connection.execute(newest).one_or_none()) else ""
    shared = {
        "at": now, "actor": actor, "action": action, "os_user": os_user(), "database_user": database_user,
    }  # fmt: skip
    rows = []
    for change in changes:
        salt = secrets.token_hex(SALT_BYTES)
        entry = shared | dict(change) | {"salt": salt}
        entry["content_hash"] = content_hash(salt, change["before"], change["after"])
        previous = entry["hash"] = row_hash(entry, previous)
        rows.append(entry)
    connection.execute(insert(audit), rows)
    return int(connection.execute(newest).one().audit_id)


def redact(connection: Connection, audit_id: int, before: Any, after: Any, by: int) -> None:
    """Replace what a row says was changed; `by` is the number of the later row that says why."""
    row = update(audit).where(audit.c.audit_id == audit_id)
    connection.execute(row.values(before=before, after=after, redacted_by=by, salt=None))


def content_hash(salt: str, before: Any, after: Any) -> str:
    """The hash of what was changed; without the salt it can be compared with nothing."""
    content = json.dumps([_canonical(plain(before)), _canonical(plain(after))], sort_keys=True)
    return hashlib.sha256(f"{salt}\n{content}".encode()).hexdigest()


def row_hash(row: Mapping[str, Any], previous: str) -> str:
    """The hash of a row, given the hash of the row before it, "" for the first."""
    values = [*(row[name] for name in COVERED), previous]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


@cache
def os_user() -> str:
    """Who the operating system says this process belongs to, and who became that user by sudo."""
    try:
        from pwd import getpwuid

        user = getpwuid(os.getuid()).pw_name
    except (ImportError, KeyError):  # Windows; a container whose user has no name
        user = f"uid {os.getuid()}" if hasattr(os, "getuid") else getpass.getuser()
    sudo = os.environ.get("SUDO_USER", "")
    return f"{user} (sudo by {sudo})" if sudo else user


def _canonical(value: Any) -> Any:
    """JSON as both engines give it back: Postgres reads 1e16 as a whole number."""
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
