"""How a session begins, whatever has proven who the user is."""

from dataclasses import dataclass, field
from datetime import datetime

from pipeline.errors import NotAuthenticated
from pipeline.services.session import Session
from pipeline.services.users.permissions import UserRole, user_role
from pipeline.services.users.secrets import derived_secret, new_secret, secret_hash
from storage.database.column_types import as_datetime
from storage.users import sessions
from storage.users.users import UserRow


@dataclass(frozen=True)
class LogIn:
    """
    A session that has begun.

    Attributes
    ----------
    secret
        For the cookie; it is stored nowhere.
    csrf
        What every write of the session must send besides.
    expires_at
        When the session ends at the latest.
    """

    secret: str = field(repr=False)
    csrf: str = field(repr=False)
    name: str
    role: UserRole
    expires_at: datetime


def begin_session(session: Session, user: UserRow, attempt: int | None = None) -> LogIn:
    """
    Begin a session of a user who has proven who it is.

    Parameters
    ----------
    attempt
        The number of the attempt to log in by a password that has succeeded.

    Raises
    ------
    NotAuthenticated
        The user was disabled meanwhile, or has another password or role.
    """
    secret, now = new_secret(), session.now
    expires_at = now + session.config.web.session_absolute
    if not sessions.begin(session.store, user, secret_hash(secret), expires_at, attempt, now):
        raise NotAuthenticated("the user has just been changed", remedy="log in again", code="user_changed")
    return LogIn(secret, csrf_of(secret), user.name, user_role(user.role), as_datetime(expires_at))


def csrf_of(secret: str) -> str:
    """What every write of the session with this secret must send besides."""
    return derived_secret(secret, "csrf")
