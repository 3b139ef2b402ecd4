"""Log in at a real identity provider, and lose it with the group; what a forged answer brings: nothing."""

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from pydantic import SecretStr

from pipeline.errors import SourceUnavailable
from pipeline.services.session import Session
from pipeline.services.users import confirmation, oidc, users
from pipeline.services.users.oidc import check_users, finish_log_in, start_log_in
from pipeline.services.users.provider import Identity, Provider
from pipeline.services.users.sessions import LogIn, log_in, resolve_session
from pipeline.services.users.tokens import NewToken, issue_token, resolve_token
from storage.frames import MINUTE, SECOND
from storage.users import provider_users
from tests.support.databases import Opener
from tests.support.oidc import LocalProvider, config_of, running_provider
from tests.support.sql import query
from tests.support.users import PASSWORD, add_caller, audited, code, hash_fast
from tests.support.worlds import SMALL


@pytest.fixture(scope="session")
def idp() -> Iterator[LocalProvider]:
    """One provider for all tests of this file."""
    with running_provider() as provider:
        yield provider


@pytest.fixture
def session(opener: Opener, idp: LocalProvider, monkeypatch: pytest.MonkeyPatch) -> Session:
    """An empty database; the provider knows ann, who is an analyst and a chief."""
    hash_fast(monkeypatch)
    idp.set(
        settings={"idTokenHasClaims": False, "away": False},
        ann={"preferred_username": "Ann", "groups": ["analysts", "chiefs", "others"]},
        zoe={"preferred_username": "zoe", "groups": ["others"]},
    )
    now = time.time_ns() // 1000  # tokens of the provider are of this moment
    return Session(opener(SMALL), config_of(idp.issuer), "serve", clock=lambda: now)


@pytest.fixture
def provider(session: Session) -> Provider:
    """What the server asks the provider with."""
    return Provider(session.config)


def at(session: Session, instant: int) -> Session:
    return replace(session, clock=lambda: instant)


def enter(session: Session, provider: Provider, idp: LocalProvider, user: str = "ann") -> LogIn:
    started = start_log_in(session, provider)
    return finish_log_in(session, provider, started.value, idp.log_in(started.address, user))


def test_who_logs_in_at_the_provider_gets_the_first_role_of_the_groups(
    session: Session, provider: Provider, idp: LocalProvider
) -> None:
    started = start_log_in(session, provider)
    for part in ("response_type=code", "code_challenge_method=S256", "nonce=", "state=", "scope=openid"):
        assert part in started.address
    begun = finish_log_in(session, provider, started.value, idp.log_in(started.address, "ann"))
    assert (begun.name, begun.role) == ("ann", "administrator")
    assert resolve_session(session, begun.secret).caller.may
    assert [(user.name, user.has_password) for user in users.list_users(session)] == [("ann", False)]
    enter(session, provider, idp)
    assert audited(session) == [
        (idp.issuer, "add user", "user ann"), ("ann", "log in", "user ann"), ("ann", "log in", "user ann"),
    ]  # fmt: skip


def test_groups_may_be_in_the_id_token(session: Session, provider: Provider, idp: LocalProvider) -> None:
    idp.set(settings={"idTokenHasClaims": True})
    assert enter(session, provider, idp).role == "administrator"


def test_nobody_enters_without_a_group_a_name_or_the_providers_consent(
    session: Session, provider: Provider, idp: LocalProvider
) -> None:
    assert code(enter, session, provider, idp, "zoe") == "no_role"
    idp.set(joe={"groups": ["chiefs"]}, eve={"preferred_username": "e v e", "groups": "chiefs"})
    assert code(enter, session, provider, idp, "joe") == "no_user_name"
    assert code(enter, session, provider, idp, "eve") == "no_user_name"
    assert code(enter, session, provider, idp, "nobody") == "bad_log_in"
    assert users.list_users(session) == ()


def test_nobody_takes_over_a_local_user_of_the_same_name(
    session: Session, provider: Provider, idp: LocalProvider
) -> None:
    add_caller(session, "ann", "viewer")
    assert code(enter, session, provider, idp) == "user_name_taken"


def test_a_disabled_user_stays_out(session: Session, provider: Provider, idp: LocalProvider) -> None:
    enter(session, provider, idp)
    users.disable_user(session, "ann")
    assert code(enter, session, provider, idp) == "user_disabled"


def test_an_answer_that_was_not_asked_for_is_refused(
    session: Session, provider: Provider, idp: LocalProvider
) -> None:
    first, second = start_log_in(session, provider), start_log_in(session, provider)
    answer = idp.log_in(first.address, "ann")
    for cookie, forged in [
        (second.value, answer),  # another log-in of this server: the state
        (first.value, answer | {"state": "x"}),
        (first.value, {"code": answer["code"]}),
        ("", answer),
        (first.value[:-2] + "xx", answer),
        (first.value, answer | {"iss": "https://evil.example.com"}),  # mix-up
        (first.value, answer | {"code": "x"}),
        (first.value, {"state": answer["state"], "error": "access_denied"}),
    ]:
        assert code(finish_log_in, session, provider, cookie, forged) == "bad_log_in", forged
    late = at(session, session.now + oidc.STARTED_FOR + 1)
    assert code(finish_log_in, late, provider, first.value, answer) == "bad_log_in"
    assert finish_log_in(session, provider, first.value, answer).name == "ann"
    assert code(finish_log_in, session, provider, first.value, answer) == "bad_log_in"  # a code is used once


def test_a_code_that_belongs_to_another_log_in_is_refused(
    session: Session, provider: Provider, idp: LocalProvider
) -> None:
    mine, theirs = start_log_in(session, provider), start_log_in(session, provider)
    injected = idp.log_in(mine.address, "ann") | {"code": idp.log_in(theirs.address, "ann")["code"]}
    assert code(finish_log_in, session, provider, mine.value, injected) == "bad_log_in"  # PKCE


def test_an_id_token_of_another_nonce_client_or_time_is_refused(
    session: Session, provider: Provider, idp: LocalProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer() -> tuple[str, dict[str, str]]:
        started = start_log_in(session, provider)
        return started.value, idp.log_in(started.address, "ann")

    for later in (-7200, 7200):
        cookie, given = answer()
        _, _, nonce, verifier = oidc._started(session).unseal(cookie)
        with pytest.raises(Exception, match="does not hold"):
            provider.redeem(given["code"], nonce, verifier, session.now // SECOND + later)
    cookie, given = answer()
    _, _, _, verifier = oidc._started(session).unseal(cookie)
    with pytest.raises(Exception, match="does not hold"):
        provider.redeem(given["code"], "another nonce", verifier, session.now // SECOND)
    cookie, given = answer()
    _, _, nonce, verifier = oidc._started(session).unseal(cookie)
    strict = Provider(config_of(idp.issuer))
    monkeypatch.setattr("pipeline.services.users.provider.ALGORITHMS", ("ES256",))
    with pytest.raises(Exception, match="does not hold"):
        strict.redeem(given["code"], nonce, verifier, session.now // SECOND)


@pytest.mark.parametrize("in_id_token", [False, True])
def test_a_lost_group_ends_sessions_and_tokens_at_the_next_check(
    session: Session, provider: Provider, idp: LocalProvider, in_id_token: bool
) -> None:
    idp.set(settings={"idTokenHasClaims": in_id_token})
    begun = enter(session, provider, idp)
    user = users.list_users(session)[0]
    token = issue_token(session, NewToken("shop", "viewer", timedelta(days=9), user_id=user.user_id)).secret
    assert check_users(session, provider) == 0  # confirmed just now
    later = at(session, session.now + oidc.CHECK_EVERY + 1)
    assert check_users(later, provider) == 1
    assert resolve_session(later, begun.secret)
    assert resolve_token(later, token)
    assert check_users(later, provider) == 0
    idp.set(ann={"preferred_username": "Ann", "groups": ["others"]})
    lost = at(
        session, session.now + 2 * oidc.CHECK_EVERY + 2
    )  # with the refresh token that the first check brought
    assert check_users(lost, provider) == 1
    assert code(resolve_session, lost, begun.secret) == "no_session"
    assert code(resolve_token, lost, token) == "token_revoked"
    assert audited(session)[-1] == (idp.issuer, "end access", "user ann")
    assert code(enter, lost, provider, idp) == "no_role"
    assert check_users(at(session, session.now + 4 * oidc.CHECK_EVERY), provider) == 0


def test_another_group_is_another_role_and_ends_the_session(
    session: Session, provider: Provider, idp: LocalProvider
) -> None:
    begun = enter(session, provider, idp)
    idp.set(ann={"preferred_username": "Ann", "groups": ["owners"]})
    later = at(session, session.now + oidc.CHECK_EVERY + 1)
    check_users(later, provider)
    assert code(resolve_session, later, begun.secret) == "no_session"
    assert users.list_users(session)[0].role == "model_owner"
    assert enter(later, provider, idp).role == "model_owner"


def test_a_user_whom_the_provider_does_not_know_any_more_loses_the_session(
    session: Session, provider: Provider, idp: LocalProvider
) -> None:
    begun = enter(session, provider, idp)
    idp.set(ann=None)
    later = at(session, session.now + oidc.CHECK_EVERY + 1)
    assert check_users(later, provider) == 1
    assert code(resolve_session, later, begun.secret) == "no_session"


def test_while_the_provider_is_away_users_are_believed_for_a_quarter_of_an_hour(
    session: Session, provider: Provider, idp: LocalProvider
) -> None:
    begun = enter(session, provider, idp)
    user = users.list_users(session)[0]
    token = issue_token(session, NewToken("shop", "viewer", timedelta(days=9), user_id=user.user_id)).secret
    idp.set(settings={"away": True})
    later = at(session, session.now + confirmation.CONFIRMED_FOR - 1)
    assert code(check_users, later, provider) == "provider_unreachable"
    assert code(start_log_in, later, Provider(session.config)) == "provider_unreachable"
    assert resolve_session(later, begun.secret)
    late = at(session, session.now + confirmation.CONFIRMED_FOR)
    assert code(resolve_session, late, begun.secret) == "role_unconfirmed"
    assert code(resolve_token, late, token) == "role_unconfirmed"
    idp.set(settings={"away": False})
    assert check_users(at(session, session.now + confirmation.CONFIRMED_FOR + MINUTE), provider) == 1
    assert resolve_session(late, begun.secret)
    assert resolve_token(late, token)


def test_one_user_of_whom_the_provider_says_nothing_does_not_keep_others_waiting(
    session: Session, provider: Provider, idp: LocalProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    idp.set(eve={"preferred_username": "eve", "groups": ["owners"]})
    enter(session, provider, idp)
    enter(session, provider, idp, "eve")
    answer = provider.refresh

    def failing(refresh_token: str, subject: str, now_s: int) -> Identity:
        if subject == "ann":
            raise SourceUnavailable("away", code="provider_unreachable")
        return answer(refresh_token, subject, now_s)

    monkeypatch.setattr(provider, "refresh", failing)
    later = session.now + oidc.CHECK_EVERY + 1
    assert code(check_users, at(session, later), provider) == "provider_unreachable"
    again = later + provider_users.CLAIM + 1
    assert code(check_users, at(session, again), provider) == "provider_unreachable"
    (waiting,) = provider_users.due(session.store, again, again)
    assert waiting.name == "ann"


def test_two_processes_do_not_use_one_refresh_token(
    session: Session, provider: Provider, idp: LocalProvider
) -> None:
    enter(session, provider, idp)
    later = session.now + oidc.CHECK_EVERY + 1
    (user,) = provider_users.due(session.store, later - oidc.CHECK_EVERY, later)
    assert provider_users.claim(session.store, user, later)
    assert not provider_users.claim(session.store, user, later)
    assert check_users(at(session, later), provider) == 0
    assert check_users(at(session, later + provider_users.CLAIM + 1), provider) == 1


def test_the_database_alone_opens_no_refresh_token(
    session: Session, provider: Provider, idp: LocalProvider
) -> None:
    enter(session, provider, idp)
    ((stored,),) = query(session.store, "SELECT refresh_token FROM users")
    sealed = bytes(stored).decode()
    assert oidc._tokens(session).unseal(sealed)
    thief = config_of(idp.issuer)
    thief._secrets["S"] = SecretStr("another secret")
    with pytest.raises(ValueError, match="not sealed"):
        oidc._tokens(replace(session, config=thief)).unseal(sealed)


def test_passwords_can_be_off(session: Session, idp: LocalProvider) -> None:
    add_caller(session, "bob", "viewer")
    assert log_in(session, "bob", PASSWORD, "192.0.2.1")
    off = replace(session, config=config_of(idp.issuer, passwords=False))
    assert code(log_in, off, "bob", PASSWORD, "192.0.2.1") == "passwords_off"


def test_a_provider_that_calls_itself_otherwise_is_refused(session: Session, idp: LocalProvider) -> None:
    other = Provider(config_of(idp.issuer.replace("localhost", "127.0.0.1")))
    assert code(start_log_in, session, other) == "other_issuer"
