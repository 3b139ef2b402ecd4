"""The audit trail, for lists."""

from dataclasses import dataclass

from sqlalchemy import select

from storage.database.database import Store
from storage.database.tables import audit
from storage.queries.rows import Position, RowPage, SortKey, fetch_page


@dataclass(frozen=True)
class AuditFilter:
    """Which entries to list: instants in µs; None for any."""

    actor: str | None = None
    action: str | None = None
    subject: str | None = None
    since: int | None = None
    until: int | None = None


def audit_page(
    store: Store, filters: AuditFilter, limit: int | None = None, after: Position | None = None
) -> RowPage:
    """Entries of the audit trail, the newest first."""
    c = audit.c
    rows = select(
        c.audit_id, c.at, c.actor, c.action, c.subject, c.before, c.after, c.os_user, c.database_user, c.redacted_by, c.hash
    )  # fmt: skip
    for name in ("actor", "action", "subject"):
        if getattr(filters, name) is not None:
            rows = rows.where(c[name] == getattr(filters, name))
    if filters.since is not None:
        rows = rows.where(c.at >= filters.since)
    if filters.until is not None:
        rows = rows.where(c.at < filters.until)
    return fetch_page(store, rows, [SortKey(c.audit_id, descending=True)], limit, after)
