"""Checks the chain of the audit trail, and deletes its oldest rows without breaking it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, delete, func, select

from storage.database import audit_guard
from storage.database.database import Store
from storage.database.tables import audit
from storage.review.audit_trail import content_hash, row_hash, write_audit

ROWS_AT_ONCE = 5_000
REDACTING = ("erase", "prune")  # actions whose rows say why others were redacted
PRUNED = "audit "  # `subject` of a row that says up to which number the oldest rows were deleted

Fault = Literal["changed_or_missing_before", "content_changed", "not_chained", "redacted_without_reason"]


@dataclass(frozen=True)
class ChainCheck:
    """
    What the chain of the audit trail proves.

    Attributes
    ----------
    rows, redacted
        Number of rows with a hash, and of those whose content is no longer proven, since a person or a note was removed from it.
    older
        Number of rows from before there were hashes.
    newest_hash
        Kept elsewhere, it proves later that no row up to this one is gone.
    first_broken, fault
        The first row that breaks the chain, and how; None if it is whole.
    has_expected
        Whether a row has the hash that was asked for; None if none was.
    is_guarded
        Whether the triggers that refuse changes are in force.
    """

    rows: int
    redacted: int
    older: int
    newest_hash: str | None
    first_broken: int | None = None
    fault: Fault | None = None
    has_expected: bool | None = None
    is_guarded: bool = True

    @property
    def is_whole(self) -> bool:
        """Whether nothing contradicts the trail."""
        return self.first_broken is None and self.has_expected is not False and self.is_guarded


def check_chain(store: Store, expected: str | None = None) -> ChainCheck:
    """
    Compute the chain anew.

    Parameters
    ----------
    expected
        The hash of a row that must be there, as an earlier check named it.
    """
    c = audit.c
    with store.read() as connection:
        guarded = audit_guard.is_guarded(connection, store.schema)
        reasons = set(connection.scalars(select(c.audit_id).where(c.action.in_(REDACTING))))
        beginnings = {"", *_pruned_hashes(connection)}
        rows = redacted = older = 0
        previous: str | None = None
        found = None if expected is None else expected in beginnings - {""}
        query = select(audit).order_by(c.audit_id).execution_options(yield_per=ROWS_AT_ONCE)
        with connection.execute(query) as result:
            for row in result.mappings():
                if row["hash"] is None and previous is None:
                    older += 1
                    continue
                fault = _fault(row, beginnings if previous is None else {previous}, reasons)
                if fault is not None:
                    return ChainCheck(rows, redacted, older, previous, row["audit_id"], fault, found, guarded)
                rows, redacted = rows + 1, redacted + (row["redacted_by"] is not None)
                previous = row["hash"]
                found = found or expected == previous if found is not None else None
    return ChainCheck(rows, redacted, older, previous, has_expected=found, is_guarded=guarded)


def _pruned_hashes(connection: Connection) -> Iterator[str]:
    """Hashes of rows that were deleted as the newest of the oldest ones: the chain may begin after them."""
    pruned = (audit.c.action == "prune") & audit.c.subject.startswith(PRUNED)
    for after in connection.scalars(select(audit.c.after).where(pruned)):
        if after and after.get("previous_hash"):
            yield after["previous_hash"]


def _fault(row: Mapping[Any, Any], previous: set[str], reasons: set[int]) -> Fault | None:
    if row["hash"] is None:
        return "not_chained"
    if row["hash"] not in {row_hash(row, each) for each in previous}:
        return "changed_or_missing_before"
    if row["redacted_by"] is not None:
        later = row["redacted_by"] in reasons and row["redacted_by"] > row["audit_id"]
        return None if later and row["salt"] is None else "redacted_without_reason"
    if row["content_hash"] != content_hash(row["salt"] or "", row["before"], row["after"]):
        return "content_changed"
    return None


def count_oldest(store: Store, instant: int) -> int:
    """Number of the oldest rows that are all from before an instant (µs)."""
    with store.read() as connection:
        through = _through(connection, instant)
        query = select(func.count()).select_from(audit).where(audit.c.audit_id <= (through or 0))
        return int(connection.scalar(query) or 0)


def delete_oldest(store: Store, instant: int, actor: str, now: int) -> int:
    """
    Delete the oldest rows that are all from before an instant; returns their number.

    The trail keeps a row about it, with the hash that the chain begins after.
    """
    c = audit.c
    with store.write_exclusive() as connection:
        through = _through(connection, instant)
        if through is None:
            return 0
        oldest = c.audit_id <= through
        last = connection.scalar(select(c.hash).where(c.audit_id == through))
        rows = int(connection.scalar(select(func.count()).select_from(audit).where(oldest)) or 0)
        after = {"rows": rows, "previous_hash": last}
        write_audit(connection, actor, "prune", f"{PRUNED}{through}", None, after, now)
        connection.execute(delete(audit).where(oldest))
        return rows


def _through(connection: Connection, instant: int) -> int | None:
    """The number of the last row of the oldest ones that are all from before an instant; None if there are none."""
    c = audit.c
    first_kept = connection.scalar(select(func.min(c.audit_id)).where(c.at >= instant))
    older = select(func.max(c.audit_id))
    through: int | None = connection.scalar(
        older if first_kept is None else older.where(c.audit_id < first_kept)
    )
    return through
