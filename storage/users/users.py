"""Users: each change with its entry in the audit trail, and with the end of what it makes untrue."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select, update

from storage.database.database import Store
from storage.database.tables import api_tokens, user_sessions, users
from storage.errors import Refused, Unknown
from storage.review.audit_trail import write_audit


@dataclass(frozen=True)
class UserRow:
    """A row of `users`; instants in µs."""

    user_id: int
    name: str
    role: str
    password_hash: str | None
    issuer: str | None
    subject: str | None
    refresh_token: bytes | None
    checked_at: int | None
    check_claimed_at: int | None
    created_at: int
    by: str
    disabled_at: int | None


def add(store: Store, name: str, role: str, password_hash: str, by: str, now: int) -> UserRow:
    """
    Add a user who logs in by a password.

    Raises
    ------
    Refused
        There is a user of that name.
    """
    row = {"name": name, "role": role, "password_hash": password_hash, "by": by, "created_at": now}
    with store.write_exclusive() as connection:
        refuse_known_name(connection, name)
        connection.execute(insert(users), row)
        write_audit(connection, by, "add user", f"user {name}", None, {"role": role}, now)
        return find_in(connection, name)


def refuse_known_name(connection: Connection, name: str) -> None:
    """
    Check that a name is free.

    Raises
    ------
    Refused
        A user has it, disabled or not.
    """
    if connection.scalar(select(users.c.user_id).where(users.c.name == name)) is not None:
        raise Refused(f"there is a user {name} already", remedy="choose another name", code="user_name_taken")


def find(store: Store, name: str) -> UserRow | None:
    """The user of a name, disabled or not; None if there is none."""
    with store.read() as connection:
        row = connection.execute(select(users).where(users.c.name == name)).mappings().one_or_none()
    return None if row is None else UserRow(**row)


def find_in(connection: Connection, name: str) -> UserRow:
    """
    The user of a name.

    Raises
    ------
    Unknown
        There is none.
    """
    row = connection.execute(select(users).where(users.c.name == name)).mappings().one_or_none()
    if row is None:
        raise Unknown(f"there is no user {name}", code="unknown_user")
    return UserRow(**row)


def stored_users(store: Store) -> list[UserRow]:
    """All users, disabled ones too, by name."""
    with store.read() as connection:
        rows = connection.execute(select(users)).mappings().all()
    return sorted((UserRow(**row) for row in rows), key=lambda row: row.name)


def set_password(store: Store, name: str, password_hash: str, by: str, now: int) -> None:
    """
    Set a new password, which ends the user's sessions.

    Raises
    ------
    Unknown
        There is no such user.
    """
    with store.write_exclusive() as connection:
        user = find_in(connection, name)
        _change(connection, user, {"password_hash": password_hash})
        end_sessions(connection, user.user_id, now)
        write_audit(connection, by, "set password", f"user {name}", None, None, now)


def renew_hash(store: Store, user_id: int, old: str, new: str) -> None:
    """Store the same password by newer parameters, unless it was changed meanwhile."""
    with store.write() as connection:
        mine = (users.c.user_id == user_id) & (users.c.password_hash == old)
        connection.execute(update(users).where(mine).values(password_hash=new))


def set_role(store: Store, name: str, role: str, by: str, now: int) -> None:
    """
    Give a user another role, which ends the user's sessions and tokens; nothing happens if it is the same.

    Raises
    ------
    Unknown
        There is no such user.
    """
    with store.write_exclusive() as connection:
        user = find_in(connection, name)
        if user.role != role:
            change_role(connection, user, role, by, now)


def change_role(connection: Connection, user: UserRow, role: str, by: str, now: int) -> None:
    """`set_role` in a transaction, for a role that is another one."""
    _change(connection, user, {"role": role})
    end_access(connection, user.user_id, by, now)
    write_audit(connection, by, "set role", f"user {user.name}", {"role": user.role}, {"role": role}, now)


def disable(store: Store, name: str, by: str, now: int) -> None:
    """
    Disable a user, which ends the user's sessions and tokens.

    Raises
    ------
    Unknown
        There is no such user, or it is disabled.
    """
    with store.write_exclusive() as connection:
        user = find_in(connection, name)
        if user.disabled_at is not None:
            raise Unknown(f"user {name} is disabled already", code="user_disabled")
        _change(connection, user, {"disabled_at": now, "refresh_token": None})
        end_access(connection, user.user_id, by, now)
        write_audit(connection, by, "disable user", f"user {name}", None, {"disabled_at": now}, now)


def enable(store: Store, name: str, by: str, now: int) -> None:
    """
    Let a disabled user log in again; ended sessions and tokens stay ended.

    Raises
    ------
    Unknown
        There is no such user, or it is not disabled.
    """
    with store.write_exclusive() as connection:
        user = find_in(connection, name)
        if user.disabled_at is None:
            raise Unknown(f"user {name} is not disabled", code="user_not_disabled")
        _change(connection, user, {"disabled_at": None})
        before = {"disabled_at": user.disabled_at}
        write_audit(connection, by, "enable user", f"user {name}", before, None, now)


def end_access(connection: Connection, user_id: int, by: str, now: int) -> None:
    """End the sessions of a user, and revoke the tokens that the user issued."""
    end_sessions(connection, user_id, now)
    mine = (api_tokens.c.user_id == user_id) & api_tokens.c.revoked_at.is_(None)
    connection.execute(update(api_tokens).where(mine).values(revoked_at=now, revoked_by=by))


def end_sessions(connection: Connection, user_id: int, now: int) -> None:
    """End the sessions of a user."""
    mine = (user_sessions.c.user_id == user_id) & user_sessions.c.ended_at.is_(None)
    connection.execute(update(user_sessions).where(mine).values(ended_at=now))


def _change(connection: Connection, user: UserRow, values: Mapping[str, Any]) -> None:
    connection.execute(update(users).where(users.c.user_id == user.user_id).values(**values))
