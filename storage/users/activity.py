"""What users looked at, and when sessions and tokens were used: written together, apart from the answers themselves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, bindparam, update

from storage.database.database import Store
from storage.database.tables import api_tokens, user_sessions
from storage.review.audit_trail import write_audits


@dataclass(frozen=True)
class ViewRow:
    """What somebody looked at; `at` in µs, `after` with the number of rows."""

    at: int
    actor: str
    action: str
    subject: str
    after: Mapping[str, Any]


def record(
    store: Store, views: Sequence[ViewRow], sessions: Mapping[int, int], tokens: Mapping[int, int]
) -> None:
    """
    Add views to the audit trail, and set when sessions and tokens were last used.

    Parameters
    ----------
    sessions, tokens
        The number of each that was used, with the newest time (µs).
    """
    with store.write_exclusive() as connection:
        _touch(connection, user_sessions, "session_id", "used_at", sessions)
        _touch(connection, api_tokens, "token_id", "last_used_at", tokens)
        if views:
            changes = [
                {
                    "at": view.at,
                    "actor": view.actor,
                    "action": view.action,
                    "subject": view.subject,
                    "before": None,
                    "after": dict(view.after),
                }
                for view in views
            ]
            write_audits(connection, "", "", changes, views[-1].at)


def _touch(connection: Connection, table: Table, key: str, column: str, used: Mapping[int, int]) -> None:
    """A time is never set back: a process may be late with an older one."""
    if used:
        newer = table.c[column].is_(None) | (table.c[column] < bindparam("at", type_=table.c[column].type))
        touching = update(table).where(table.c[key] == bindparam("number"), newer)
        rows = [{"number": number, "at": at} for number, at in sorted(used.items())]
        connection.execute(touching.values({column: bindparam("at", type_=table.c[column].type)}), rows)
