"""Log in at an identity provider, and ask it again whether users still are in their groups."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from pipeline.config.sections import OidcSection
from pipeline.errors import Forbidden, InputError, NotAuthenticated, SourceUnavailable
from pipeline.services.session import Session
from pipeline.services.users.beginning import LogIn, begin_session
from pipeline.services.users.names import user_name
from pipeline.services.users.permissions import UserRole
from pipeline.services.users.provider import GrantEnded, Identity, Provider
from pipeline.services.users.sealing import Sealer, sealer
from pipeline.services.users.secrets import new_secret
from storage.frames import MINUTE, SECOND
from storage.users import provider_users
from storage.users.users import UserRow

STARTED_FOR = 10 * MINUTE  # µs that a user has to log in at the provider
CHECK_EVERY = 5 * MINUTE  # µs; a third of `confirmation.CONFIRMED_FOR`, so that a check may fail twice
# Who is in groups of several roles has the first of these.
ROLE_ORDER: tuple[UserRole, ...] = (
    "administrator", "model_owner", "rule_author", "reviewer", "auditor", "viewer",
)  # fmt: skip


@dataclass(frozen=True)
class StartedLogIn:
    """Where the browser is sent, and what it must bring back: a cookie that only this server can read."""

    address: str
    value: str = field(repr=False)


def start_log_in(session: Session, provider: Provider) -> StartedLogIn:
    """
    Begin to log in at the identity provider.

    Raises
    ------
    SourceUnavailable
        It does not answer.
    """
    state, nonce, verifier = new_secret(), new_secret(), new_secret()
    address = provider.authorization_url(state, nonce, verifier)
    return StartedLogIn(address, _started(session).seal([session.now, state, nonce, verifier]))


def finish_log_in(session: Session, provider: Provider, cookie: str, answer: Mapping[str, str]) -> LogIn:
    """
    Begin a session of a user whom the provider has sent back; who comes for the first time is added.

    Parameters
    ----------
    answer
        The parameters of the address that the browser was sent to: `state`, and `code` or `error`.

    Raises
    ------
    NotAuthenticated
        The browser did not begin here, took too long, or the provider's answer does not hold.
    Forbidden
        The user is in no group that has a role, or is disabled.
    SourceUnavailable
        The provider does not answer.
    """
    nonce, verifier = _expected(session, cookie, answer)
    if answer.get("iss", provider.issuer) != provider.issuer:  # RFC 9207
        _refuse()
    if "code" not in answer:
        raise NotAuthenticated(
            "the identity provider refused the log-in", remedy="log in again", code="bad_log_in"
        )
    identity = provider.redeem(answer["code"], nonce, verifier, session.now // SECOND)
    role = _role_of(session.config.oidc, identity)
    if role is None:
        raise Forbidden(
            "none of your groups has a role here", remedy="ask an administrator of fraudwatch", code="no_role"
        )
    return begin_session(session, _entered(session, provider, identity, role))


def check_users(session: Session, provider: Provider) -> int:
    """
    Ask the provider about each user with access whom it has not confirmed lately; returns the number of those it was asked about.

    Another role, or none, ends the user's sessions and tokens. While the provider does not answer, users whom it confirmed are believed
    for a while (`confirmation.CONFIRMED_FOR`).

    Raises
    ------
    SourceUnavailable
        The provider does not answer.
    """
    asked = 0
    for user in provider_users.due(session.store, session.now - CHECK_EVERY, session.now):
        if user.issuer == provider.issuer and provider_users.claim(session.store, user, session.now):
            _check(session, provider, user)
            asked += 1
    return asked


def _check(session: Session, provider: Provider, user: UserRow) -> None:
    try:
        refresh_token = _tokens(session).unseal((user.refresh_token or b"").decode())
        identity = provider.refresh(refresh_token, user.subject or "", session.now // SECOND)
    except (GrantEnded, ValueError):
        provider_users.end_unconfirmed(session.store, user, session.now)
        return
    except NotAuthenticated as error:
        raise SourceUnavailable(str(error), code="provider_unreachable") from error
    role = _role_of(session.config.oidc, identity)
    provider_users.confirm(session.store, user, role, _sealed(session, identity), session.now)


def _role_of(oidc: OidcSection, identity: Identity) -> UserRole | None:
    """The role that a user's groups give; None if they give none."""
    groups = identity.claims.get(oidc.groups, [])
    names = {groups} if isinstance(groups, str) else {name for name in groups if isinstance(name, str)}
    roles = {oidc.roles[name] for name in names if name in oidc.roles}
    return next((role for role in ROLE_ORDER if role in roles), None)


def _entered(session: Session, provider: Provider, identity: Identity, role: UserRole) -> UserRow:
    claim = identity.claims.get(session.config.oidc.user_name)
    try:
        name = user_name(str(claim or ""))
    except InputError as error:
        raise Forbidden(
            f"the identity provider gives no usable name in the claim {session.config.oidc.user_name}",
            remedy="set oidc.user_name to a claim with one",
            code="no_user_name",
        ) from error
    return provider_users.enter(
        session.store, provider.issuer, identity.subject, name, role, _sealed(session, identity), session.now
    )


def _expected(session: Session, cookie: str, answer: Mapping[str, str]) -> tuple[str, str]:
    """The nonce and the verifier of a log-in that began here, with this browser, and not long ago."""
    try:
        began, state, nonce, verifier = _started(session).unseal(cookie)
    except ValueError:
        _refuse()
    if answer.get("state") != state or session.now - began > STARTED_FOR:
        _refuse()
    return nonce, verifier


def _refuse() -> NoReturn:
    raise NotAuthenticated(
        "this log-in did not begin here, or took over 10 minutes", remedy="log in again", code="bad_log_in"
    )


def _sealed(session: Session, identity: Identity) -> bytes | None:
    token = identity.refresh_token
    return None if token is None else _tokens(session).seal(token).encode()


def _started(session: Session) -> Sealer:
    return sealer(session, "log-ins that began")


def _tokens(session: Session) -> Sealer:
    """With the client's secret in its key: the database alone does not open a refresh token."""
    return sealer(session, "refresh tokens", session.config.oidc_secret())
