"""Sessions of users who have logged in. Only the hash of a session's secret is stored."""

from dataclasses import dataclass

from sqlalchemy import delete, insert, select, update

from storage.database.database import Store
from storage.database.tables import user_sessions, users
from storage.frames import DAY
from storage.review.audit_trail import write_audit
from storage.users import log_in_attempts
from storage.users.users import UserRow, find_in

RETENTION = 30 * DAY  # µs; rows of sessions that have ended


@dataclass(frozen=True)
class SessionRow:
    """A session with its user; instants in µs."""

    session_id: int
    created_at: int
    used_at: int
    expires_at: int
    ended_at: int | None
    user: UserRow


def begin(
    store: Store, user: UserRow, secret_hash: str, expires_at: int, attempt: int | None, now: int
) -> bool:
    """
    Add a session, with an entry in the audit trail; rows of sessions that ended long ago go.

    Returns False, and adds none, if the user was disabled meanwhile, or has another password or role.

    Parameters
    ----------
    attempt
        The number of the log-in by a password that has succeeded; None without one.
    """
    row = {
        "secret_hash": secret_hash,
        "user_id": user.user_id,
        "created_at": now,
        "used_at": now,
        "expires_at": expires_at,
    }
    with store.write_exclusive() as connection:
        current = find_in(connection, user.name)
        if (current.role, current.password_hash) != (user.role, user.password_hash) or current.disabled_at:
            return False
        connection.execute(delete(user_sessions).where(user_sessions.c.expires_at < now - RETENTION))
        if attempt is not None:
            log_in_attempts.succeed(connection, attempt)
        connection.execute(insert(user_sessions), row)
        write_audit(connection, user.name, "log in", f"user {user.name}", None, None, now)
    return True


def refuse(store: Store, name: str | None, now: int) -> None:
    """Note in the audit trail that a log-in was refused: of a user, or of a name that no user has."""
    subject = "an unknown user" if name is None else f"user {name}"
    with store.write_exclusive() as connection:
        write_audit(connection, "log-in", "refuse log-in", subject, None, None, now)


def find(store: Store, secret_hash: str) -> SessionRow | None:
    """The session whose secret has this hash, ended or not; None if there is none."""
    s = user_sessions.c
    own = [s.session_id, s.created_at.label("began_at"), s.used_at, s.expires_at, s.ended_at]
    query = select(*own, users).join(users, users.c.user_id == s.user_id).where(s.secret_hash == secret_hash)
    with store.read() as connection:
        row = connection.execute(query).mappings().one_or_none()
    if row is None:
        return None
    user = UserRow(**{column.name: row[column.name] for column in users.columns})
    return SessionRow(
        row["session_id"], row["began_at"], row["used_at"], row["expires_at"], row["ended_at"], user
    )


def end(store: Store, session: SessionRow, now: int) -> None:
    """End a session, with an entry in the audit trail; one that has ended stays as it is."""
    name = session.user.name
    mine = (user_sessions.c.session_id == session.session_id) & user_sessions.c.ended_at.is_(None)
    with store.write_exclusive() as connection:
        if connection.execute(update(user_sessions).where(mine).values(ended_at=now)).rowcount:
            write_audit(connection, name, "log out", f"user {name}", None, None, now)
