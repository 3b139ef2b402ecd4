"""Holds: values of a person that erase and prune leave alone until an instant, with the reason."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, insert, select, update

from storage.admin.personal_rows import PersonValue
from storage.database.column_types import as_datetime
from storage.database.database import Store
from storage.database.tables import holds
from storage.errors import Refused, Unknown
from storage.review.audit_trail import write_audit


def add(store: Store, column: str, value: str, until: int, reason: str, by: str, now: int) -> int:
    """Add a hold on a value as it is stored; returns its number."""
    row = {"name": column, "value": value, "reason": reason, "by": by, "created_at": now, "until": until}
    with store.write_exclusive() as connection:
        inserted = connection.execute(insert(holds), row)
        assert inserted.inserted_primary_key is not None
        number = int(inserted.inserted_primary_key[0])
        after = {"column": column, "reason": reason, "until": until}
        write_audit(connection, by, "add hold", f"hold {number}", None, after, now)
    return number


def end(store: Store, number: int, by: str, now: int) -> None:
    """
    End a hold early.

    Raises
    ------
    Unknown
        There is no such hold, or it has ended.
    """
    with store.write_exclusive() as connection:
        row = connection.execute(select(holds).where(holds.c.hold_id == number)).one_or_none()
        if row is None:
            raise Unknown(f"there is no hold {number}", code="unknown_hold")
        if row.ended_at is not None or row.until <= now:
            raise Unknown(f"hold {number} cannot be ended, because it has ended", code="hold_ended")
        ending = update(holds).where(holds.c.hold_id == number)
        connection.execute(ending.values(ended_at=now, ended_by=by))
        change = {"until": row.until}, {"ended_at": now}
        write_audit(connection, by, "end hold", f"hold {number}", *change, now)


def stored_holds(store: Store) -> list[dict[str, Any]]:
    """All holds ever added, the newest first."""
    with store.read() as connection:
        rows = connection.execute(select(holds).order_by(holds.c.hold_id.desc())).mappings()
        return [dict(row) for row in rows]


def refuse_on_hold(connection: Connection, values: Sequence[PersonValue], now: int) -> None:
    """
    Check that no hold keeps one of the values.

    Raises
    ------
    Refused
        One does.
    """
    for value in values:
        same = (holds.c.name == value.column) & (holds.c.value == value.stored)
        held = connection.execute(select(holds).where(same, _in_force(now)).limit(1)).one_or_none()
        if held is not None:
            raise Refused(
                f"hold {held.hold_id} keeps this {value.column} until {as_datetime(held.until):%Y-%m-%d %H:%M} UTC "
                f"({held.reason}), so nothing was erased",
                remedy="end the hold first",
                code="held",
            )


def without_hold(connection: Connection, store: Store, now: int) -> ColumnElement[bool]:
    """The condition of transactions that no hold keeps."""
    rows = connection.execute(select(holds.c.name, holds.c.value).where(_in_force(now))).all()
    columns = store.transactions.c
    return and_(True, *(columns[row.name].is_distinct_from(row.value) for row in rows if row.name in columns))


def _in_force(now: int) -> ColumnElement[bool]:
    return holds.c.ended_at.is_(None) & (holds.c.until > now)
