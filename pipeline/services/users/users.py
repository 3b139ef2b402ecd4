"""Users of the console and the API: add and list them, change their password or role, disable and enable them."""

from dataclasses import dataclass, field
from datetime import datetime

from pipeline.services.session import Session
from pipeline.services.users.names import user_name
from pipeline.services.users.passwords import check_password, password_hash
from pipeline.services.users.permissions import UserRole, user_role
from storage.database.column_types import as_datetime
from storage.users import users
from storage.users.users import UserRow


@dataclass(frozen=True)
class NewUser:
    """A user to be added, who logs in by a password."""

    name: str
    role: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class StoredUser:
    """
    A user.

    Attributes
    ----------
    has_password
        Whether the user logs in by a password; otherwise at the identity provider.
    checked_at
        When the identity provider last confirmed the role; None for a local user.
    disabled_at
        None for a user who may log in.
    """

    user_id: int
    name: str
    role: UserRole
    has_password: bool
    created_at: datetime
    by: str
    checked_at: datetime | None
    disabled_at: datetime | None


def add_user(session: Session, user: NewUser) -> StoredUser:
    """
    Add a user.

    Raises
    ------
    InputError
        The name, the role or the password is not usable.
    Refused
        There is a user of that name.
    """
    name, role = user_name(user.name), user_role(user.role)
    check_password(name, user.password)
    row = users.add(session.store, name, role, password_hash(user.password), session.actor, session.now)
    return _stored_user(row)


def list_users(session: Session) -> tuple[StoredUser, ...]:
    """All users, disabled ones too, by name."""
    return tuple(map(_stored_user, users.stored_users(session.store)))


def set_password(session: Session, name: str, password: str) -> None:
    """
    Set a user's password; it ends the user's sessions.

    Raises
    ------
    InputError
        The password is too easy to guess.
    Unknown
        There is no such user.
    """
    name = user_name(name)
    check_password(name, password)
    users.set_password(session.store, name, password_hash(password), session.actor, session.now)


def set_role(session: Session, name: str, role: str) -> None:
    """
    Give a user another role; it ends the user's sessions, and the tokens that the user issued.

    Raises
    ------
    InputError
        There is no such role.
    Unknown
        There is no such user.
    """
    users.set_role(session.store, user_name(name), user_role(role), session.actor, session.now)


def disable_user(session: Session, name: str) -> None:
    """
    Disable a user; it ends the user's sessions, and the tokens that the user issued.

    Raises
    ------
    Unknown
        There is no such user, or it is disabled.
    """
    users.disable(session.store, user_name(name), session.actor, session.now)


def enable_user(session: Session, name: str) -> None:
    """
    Let a disabled user log in again.

    Raises
    ------
    Unknown
        There is no such user, or it is not disabled.
    """
    users.enable(session.store, user_name(name), session.actor, session.now)


def _stored_user(row: UserRow) -> StoredUser:
    return StoredUser(
        row.user_id,
        row.name,
        user_role(row.role),
        row.password_hash is not None,
        as_datetime(row.created_at),
        row.by,
        None if row.checked_at is None else as_datetime(row.checked_at),
        None if row.disabled_at is None else as_datetime(row.disabled_at),
    )
