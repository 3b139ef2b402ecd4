"""Users who log in at an identity provider: how they come, and what it says of them later."""

from sqlalchemy import Connection, exists, insert, or_, select, update

from storage.database.database import Store
from storage.database.tables import api_tokens, user_sessions, users
from storage.errors import Refused
from storage.frames import MINUTE
from storage.review.audit_trail import write_audit
from storage.users.users import UserRow, change_role, end_access, end_sessions, find_in, refuse_known_name

CLAIM = MINUTE  # µs that a process has to ask about a user, before another one does


def enter(
    store: Store, issuer: str, subject: str, name: str, role: str, refresh_token: bytes | None, now: int
) -> UserRow:
    """
    The user whom the provider has just named, added at the first log-in; with the role that it gives now.

    Parameters
    ----------
    subject
        The user, as the provider names it for ever.
    name
        For a user who is new.

    Raises
    ------
    Refused
        The user is new, and another one has the name; or the user is disabled.
    """
    confirmed = {"refresh_token": refresh_token, "checked_at": now, "check_claimed_at": None}
    mine = (users.c.issuer == issuer) & (users.c.subject == subject)
    with store.write_exclusive() as connection:
        row = connection.execute(select(users).where(mine)).mappings().one_or_none()
        if row is None:
            refuse_known_name(connection, name)
            new = {"name": name, "role": role, "issuer": issuer, "subject": subject, "by": issuer}
            connection.execute(insert(users), new | {"created_at": now} | confirmed)
            write_audit(connection, issuer, "add user", f"user {name}", None, {"role": role}, now)
            return find_in(connection, name)
        user = UserRow(**row)
        if user.disabled_at is not None:
            raise Refused(f"user {user.name} is disabled", code="user_disabled")
        connection.execute(update(users).where(mine).values(**confirmed))
        if user.role != role:
            change_role(connection, user, role, issuer, now)
        return find_in(connection, user.name)


def due(store: Store, before: int, now: int) -> list[UserRow]:
    """
    Users of a provider who have access, and whom it has not confirmed since an instant (µs).

    Those about whom it was asked in vain come last, so that one of them does not keep the others waiting.
    """
    s, t = user_sessions.c, api_tokens.c
    session = exists().where(s.user_id == users.c.user_id, s.ended_at.is_(None), s.expires_at > now)
    token = exists().where(t.user_id == users.c.user_id, t.revoked_at.is_(None), t.expires_at > now)
    query = select(users).where(
        users.c.refresh_token.is_not(None),
        users.c.disabled_at.is_(None),
        users.c.checked_at < before,
        or_(session, token),
    )
    last_try = users.c.check_claimed_at.asc().nulls_first()
    with store.read() as connection:
        return [UserRow(**row) for row in connection.execute(query.order_by(last_try)).mappings()]


def claim(store: Store, user: UserRow, now: int) -> bool:
    """Claim to ask about a user, so that no two processes use one refresh token; False if another one does."""
    c = users.c
    free = or_(c.check_claimed_at.is_(None), c.check_claimed_at < now - CLAIM)
    same = (c.user_id == user.user_id) & (c.checked_at == user.checked_at)
    with store.write() as connection:
        return bool(connection.execute(update(users).where(same, free).values(check_claimed_at=now)).rowcount)


def confirm(store: Store, user: UserRow, role: str | None, refresh_token: bytes | None, now: int) -> None:
    """
    Store what the provider says of a user: another role ends sessions and tokens, and so does none.

    Parameters
    ----------
    refresh_token
        The newest one; None keeps that before it.
    """
    issuer = user.issuer or ""
    values = {"checked_at": now, "check_claimed_at": None}
    kept = {} if refresh_token is None else {"refresh_token": refresh_token}
    with store.write_exclusive() as connection:
        connection.execute(update(users).where(users.c.user_id == user.user_id).values(**values, **kept))
        current = find_in(connection, user.name)
        if role is None:
            _forget(connection, current)
            end_access(connection, user.user_id, issuer, now)
            write_audit(
                connection, issuer, "end access", f"user {user.name}", {"role": current.role}, None, now
            )
        elif current.role != role:
            change_role(connection, current, role, issuer, now)


def end_unconfirmed(store: Store, user: UserRow, now: int) -> None:
    """End the sessions of a user of whom the provider says nothing any more; tokens wait for the next log-in."""
    issuer = user.issuer or ""
    with store.write_exclusive() as connection:
        _forget(connection, user)
        end_sessions(connection, user.user_id, now)
        write_audit(connection, issuer, "end sessions", f"user {user.name}", None, None, now)


def _forget(connection: Connection, user: UserRow) -> None:
    mine = users.c.user_id == user.user_id
    connection.execute(update(users).where(mine).values(refresh_token=None, check_claimed_at=None))
