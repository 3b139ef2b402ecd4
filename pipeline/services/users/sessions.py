"""Sessions: log in by a password, find out whose session a request belongs to, log out."""

import hashlib
import hmac
import ipaddress
from dataclasses import dataclass, field
from datetime import datetime

from pipeline.errors import Forbidden, InputError, NotAuthenticated
from pipeline.services.session import Session
from pipeline.services.users.beginning import LogIn, begin_session, csrf_of
from pipeline.services.users.confirmation import require_confirmed
from pipeline.services.users.keys import derived_key
from pipeline.services.users.names import user_name
from pipeline.services.users.passwords import is_password, needs_new_hash, password_hash
from pipeline.services.users.permissions import Caller, user_role
from pipeline.services.users.secrets import secret_hash
from pipeline.services.users.users import set_password
from storage.database.column_types import as_datetime
from storage.users import log_in_attempts, sessions, users
from storage.users.sessions import SessionRow
from storage.users.users import UserRow

IPV6_BITS = 64  # of an address that one customer of a network provider has all of


@dataclass(frozen=True)
class LiveSession:
    """A session in force: its user, and what every write must send besides the cookie."""

    session_id: int
    caller: Caller
    csrf: str = field(repr=False)
    used_at: datetime
    expires_at: datetime


def log_in(session: Session, name: str, password: str, address: str) -> LogIn:
    """
    Begin a session by a password.

    Parameters
    ----------
    address
        The IP address that the request came from.

    Raises
    ------
    NotAuthenticated
        The name or the password is wrong, or the user is disabled; which of them is not said.
    Refused
        Too many log-ins have failed: of this name, or from this address.
    Forbidden
        `oidc.passwords` is false.
    """
    if not session.config.oidc.passwords:
        raise Forbidden(
            "nobody logs in by a password here",
            remedy="log in at the identity provider",
            code="passwords_off",
        )
    attempt = log_in_attempts.begin(session.store, _name_hash(session, name), _network(address), session.now)
    user = _user(session, name)
    stored = None if user is None or user.disabled_at is not None else user.password_hash
    if not is_password(stored, password) or user is None or stored is None:
        sessions.refuse(session.store, None if user is None else user.name, session.now)
        raise NotAuthenticated("the name or the password is wrong", code="wrong_password")
    begun = begin_session(session, user, attempt)
    if needs_new_hash(stored):
        users.renew_hash(session.store, user.user_id, stored, password_hash(password))
    return begun


def resolve_session(session: Session, secret: str) -> LiveSession:
    """
    The session of a cookie; it only reads.

    Raises
    ------
    NotAuthenticated
        There is no such session, or it has ended.
    """
    row = sessions.find(session.store, secret_hash(secret))
    if row is None or row.ended_at is not None:  # disabling a user ends the sessions
        raise NotAuthenticated("there is no such session", remedy="log in", code="no_session")
    ends = _end(session, row)
    if ends <= session.now:
        raise NotAuthenticated("the session has ended", remedy="log in again", code="session_ended")
    require_confirmed(session, row.user)
    caller = Caller(row.user.name, user_role(row.user.role), row.user.user_id)
    return LiveSession(
        row.session_id, caller, csrf_of(secret), as_datetime(row.used_at), as_datetime(row.expires_at)
    )


def log_out(session: Session, secret: str) -> None:
    """End the session of a cookie; nothing happens if there is none."""
    row = sessions.find(session.store, secret_hash(secret))
    if row is not None:
        sessions.end(session.store, row, session.now)


def change_password(session: Session, name: str, old: str, new: str, address: str) -> LogIn:
    """
    Let a user set a new password by the old one; it ends all of the user's sessions, and begins one.

    Raises
    ------
    InputError
        The new password is too easy to guess, or the old one.
    NotAuthenticated, Refused
        As `log_in`.
    """
    if new == old:
        raise InputError("the new password is the old one", code="weak_password")
    log_in(session, name, old, address)
    set_password(session, name, new)
    return log_in(session, name, new, address)


def _end(session: Session, row: SessionRow) -> int:
    return min(row.expires_at, row.used_at + session.config.web.session_idle)


def _user(session: Session, name: str) -> UserRow | None:
    try:
        return users.find(session.store, user_name(name))
    except InputError:
        return None


def _name_hash(session: Session, name: str) -> str:
    key = derived_key(session, "names of log-ins")
    text = name.strip().lower().encode("utf-8", "surrogatepass")
    return hmac.digest(key, text, hashlib.sha256).hex()


def _network(address: str) -> str:
    """An IPv4 address, or the network of an IPv6 address."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        mapped = parsed.ipv4_mapped
        return str(mapped) if mapped else str(ipaddress.ip_network((parsed, IPV6_BITS), strict=False))
    return str(parsed)
