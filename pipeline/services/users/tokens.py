"""Tokens of programs: issue, list and revoke them, and find out whose token a request has."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pipeline.errors import InputError, NotAuthenticated
from pipeline.services.session import Session
from pipeline.services.users.confirmation import require_confirmed
from pipeline.services.users.names import NAME_MAX
from pipeline.services.users.permissions import Caller, Role, token_role
from pipeline.services.users.secrets import new_secret, secret_hash
from storage.database.column_types import as_datetime, as_micros
from storage.frames import DAY
from storage.users import tokens
from storage.users.tokens import TokenRow

PREFIX = "fw_"  # by which scanners for secrets can find a token
LONGEST = 366 * DAY  # µs
PER_MINUTE = 600  # requests, unless it is said otherwise


@dataclass(frozen=True)
class NewToken:
    """
    A token to be issued.

    Attributes
    ----------
    name
        Of the program.
    until
        When it expires: an instant, or a span from now on; a year at most.
    per_minute
        Number of requests that it allows.
    user_id
        Who issues it; it ends with that user. None for the operator of the machine.
    """

    name: str
    role: str
    until: datetime | timedelta
    per_minute: int = PER_MINUTE
    user_id: int | None = None


@dataclass(frozen=True)
class StoredToken:
    """A token without its secret; the name is that of the program."""

    token_id: int
    name: str
    role: Role
    per_minute: int
    by: str
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True)
class IssuedToken:
    """A token and its secret, which is shown now and never again."""

    token: StoredToken
    secret: str = field(repr=False)


@dataclass(frozen=True)
class LiveToken:
    """A token in force, and for whom it speaks."""

    caller: Caller
    per_minute: int
    last_used_at: datetime | None


def issue_token(session: Session, new: NewToken) -> IssuedToken:
    """
    Issue a token.

    Raises
    ------
    InputError
        The name or the role is not usable, or the token would expire in the past or in more than a year.
    """
    now = session.now
    until = as_micros(new.until if isinstance(new.until, datetime) else as_datetime(now) + new.until)
    if not now < until <= now + LONGEST:
        raise InputError(
            f"a token expires within {LONGEST // DAY} days from now, not at {as_datetime(until):%Y-%m-%d %H:%M} UTC",
            remedy="give another end",
            code="bad_expiry",
        )
    if not 0 < len(new.name.strip()) <= NAME_MAX or not new.name.isprintable():
        raise InputError(
            f"the name of a token has 1 to {NAME_MAX} visible characters",
            remedy="name the program",
            code="bad_token_name",
        )
    if new.per_minute < 1:
        raise InputError(
            f"a token allows 1 request per minute or more, got {new.per_minute}", code="bad_limit"
        )
    secret = PREFIX + new_secret()
    row = tokens.issue(
        session.store,
        new.name.strip(),
        secret_hash(secret),
        token_role(new.role),
        new.per_minute,
        until,
        new.user_id,
        session.actor,
        now,
    )
    return IssuedToken(_stored(row), secret)


def list_tokens(session: Session) -> tuple[StoredToken, ...]:
    """All tokens, expired and revoked ones too, the newest first."""
    return tuple(map(_stored, tokens.stored_tokens(session.store)))


def revoke_token(session: Session, token_id: int) -> None:
    """
    Revoke a token.

    Raises
    ------
    Unknown
        There is no such token, or it is revoked.
    """
    tokens.revoke(session.store, token_id, session.actor, session.now)


def resolve_token(session: Session, secret: str) -> LiveToken:
    """
    The token of a request; it only reads.

    Raises
    ------
    NotAuthenticated
        There is no such token, it was revoked, as by disabling the user who issued it, or it has expired.
    """
    found = tokens.find(session.store, secret_hash(secret))
    if found is None:
        raise NotAuthenticated("there is no such token", code="no_token")
    token, user = found
    if token.revoked_at is not None:
        raise NotAuthenticated("the token was revoked", remedy="issue another", code="token_revoked")
    if token.expires_at <= session.now:
        raise NotAuthenticated("the token has expired", remedy="issue another", code="token_expired")
    if user is not None:
        require_confirmed(session, user)
    used = None if token.last_used_at is None else as_datetime(token.last_used_at)
    caller = Caller(f"token {token.name}", token_role(token.role), token.user_id, token.token_id)
    return LiveToken(caller, token.per_minute, used)


def _stored(row: TokenRow) -> StoredToken:
    return StoredToken(
        row.token_id,
        row.name,
        token_role(row.role),
        row.per_minute,
        row.by,
        as_datetime(row.created_at),
        as_datetime(row.expires_at),
        None if row.last_used_at is None else as_datetime(row.last_used_at),
        None if row.revoked_at is None else as_datetime(row.revoked_at),
    )
