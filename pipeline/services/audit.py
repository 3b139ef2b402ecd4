"""The audit trail: who changed or looked at what, and when."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pipeline.services.pages import PAGE_ROWS, Page, decode_cursor, encode_cursor
from pipeline.services.records import as_record
from pipeline.services.session import Session
from storage.database.column_types import as_micros
from storage.queries.audit import AuditFilter, audit_page

Detail = str | int | float | bool | None


@dataclass(frozen=True)
class AuditRequest:
    """Which entries to list: of times in [since, until); None for any."""

    actor: str | None = None
    action: str | None = None
    subject: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True)
class AuditEntry:
    """
    An entry of the audit trail.

    Attributes
    ----------
    before, after
        What was there before and after, as JSON; None where there is nothing.
    os_user, database_user
        Who the operating system and the database say it was.
    redacted_by
        The entry that says why values of a person or a note were removed from this one.
    hash
        Covers the entry and the hash of the one before.
    """

    audit_id: int
    at: datetime
    actor: str
    action: str
    subject: str
    before: Mapping[str, Detail | tuple[Detail, ...]] | None
    after: Mapping[str, Detail | tuple[Detail, ...]] | None
    os_user: str | None
    database_user: str | None
    redacted_by: int | None
    hash: str | None


def list_audit(
    session: Session,
    request: AuditRequest = AuditRequest(),
    *,
    limit: int = PAGE_ROWS,
    cursor: str | None = None,
) -> Page[AuditEntry]:
    """
    Entries of the audit trail, the newest first.

    Raises
    ------
    InputError
        The cursor is not one of this list.
    """
    filters = AuditFilter(
        request.actor,
        request.action,
        request.subject,
        None if request.since is None else as_micros(request.since),
        None if request.until is None else as_micros(request.until),
    )
    page = audit_page(session.store, filters, limit, decode_cursor(cursor, keys=1))
    return Page(tuple(as_record(AuditEntry, row) for row in page.rows), encode_cursor(page.next_position))
