"""Users, sessions, tokens: who gets in, what ends their access, and that no secret is stored; on both engines."""

import re
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher

from pipeline.errors import Forbidden
from pipeline.services.session import Session
from pipeline.services.users import passwords, sessions, tokens, users
from pipeline.services.users.handles import EntityHandle, EntityHandles, entity_handles
from pipeline.services.users.masking import HIDDEN, masked, text_for, value_for
from pipeline.services.users.permissions import MEANING, PERMISSIONS, ROLES, Caller, Permission, roles_with
from pipeline.services.users.sealing import Sealer
from pipeline.services.users.sessions import LogIn, log_in, log_out, resolve_session
from pipeline.services.users.tokens import NewToken, issue_token, resolve_token, revoke_token
from pipeline.services.users.users import NewUser, add_user
from storage.database.column_types import as_datetime
from storage.database.tables import metadata
from storage.frames import DAY
from storage.queries.export import NOT_EXPORTED, names
from storage.users import log_in_attempts
from tests.support.databases import Opener
from tests.support.sql import query
from tests.support.users import PASSWORD, audited, code, hash_fast
from tests.support.worlds import NOW, SMALL

OTHER = "four green bicycles sing"


@pytest.fixture(autouse=True)
def cheap_hashes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same algorithm with less work, but for the tests of the work itself."""
    passwords._nobodys_hash.cache_clear()
    if request.node.get_closest_marker("one_engine") is None:
        hash_fast(monkeypatch)


@pytest.fixture
def session(opener: Opener) -> Session:
    """An empty database at a fixed time, with a reviewer whose name is ann."""
    session = Session(opener(SMALL), SMALL, "root", clock=lambda: NOW)
    add_user(session, NewUser("Ann", "reviewer", PASSWORD))
    return session


def at(session: Session, instant: int) -> Session:
    return replace(session, clock=lambda: instant)


def with_web(session: Session, **keys: Any) -> Session:
    config = session.config.model_copy(update={"web": session.config.web.model_copy(update=keys)})
    return replace(session, config=config)


def enter(session: Session, password: str = PASSWORD, name: str = "ann", address: str = "192.0.2.1") -> LogIn:
    return log_in(session, name, password, address)


# Log in, log out, and what ends a session.


def test_a_user_logs_in_and_out(session: Session) -> None:
    begun = enter(session, name=" ANN ")
    live = resolve_session(session, begun.secret)
    assert live.caller == Caller("ann", "reviewer", live.caller.user_id)
    assert (live.csrf, live.expires_at) == (begun.csrf, begun.expires_at)
    log_out(session, begun.secret)
    log_out(session, begun.secret)
    assert code(resolve_session, session, begun.secret) == "no_session"
    assert audited(session) == [
        ("root", "add user", "user ann"), ("ann", "log in", "user ann"), ("ann", "log out", "user ann"),
    ]  # fmt: skip


def test_every_log_in_has_a_secret_of_its_own_and_none_is_stored(session: Session) -> None:
    begun = [enter(session) for _ in range(3)]
    issued = issue_token(session, NewToken("shop", "scorer", timedelta(days=1)))
    secrets = [*(each.secret for each in begun), *(each.csrf for each in begun), issued.secret, PASSWORD]
    assert len(set(secrets)) == 8
    names = ("users", "user_sessions", "api_tokens", "log_in_attempts", "audit", "web_keys")
    stored = "".join(str(query(session.store, f"SELECT * FROM {name}")) for name in names)
    assert [secret for secret in secrets if secret in stored or secret.removeprefix("fw_") in stored] == []
    assert [each for each in (*begun, issued) if each.secret in repr(each)] == []
    assert [each for each in begun if each.csrf in repr(each)] == []
    assert "$argon2id$" in stored


@pytest.mark.parametrize(
    "password", ["", PASSWORD[:-1], PASSWORD.upper(), PASSWORD + " ", "x" * 10**6, "\ud800", "\0"]
)
def test_a_wrong_password_is_refused(session: Session, password: str) -> None:
    assert code(enter, session, password) == "wrong_password"
    assert audited(session)[-1] == ("log-in", "refuse log-in", "user ann")


@pytest.mark.parametrize("name", ["bob", "", "ann\0", "ann' OR '1'='1", "x" * 10**5, "\ud800"])
def test_a_name_that_there_is_not_gets_the_same_answer_and_is_stored_nowhere(
    session: Session, name: str
) -> None:
    assert code(enter, session, PASSWORD, name) == "wrong_password"
    assert audited(session)[-1] == ("log-in", "refuse log-in", "an unknown user")
    if name:
        assert name not in str(query(session.store, "SELECT name_hash, address FROM log_in_attempts"))


def test_the_same_password_typed_in_another_composition_is_the_same(session: Session) -> None:
    users.set_password(session, "ann", "Zoë likes tall ladders")
    assert enter(session, "Zoe\u0308 likes tall ladders").name == "ann"


def test_a_session_ends_without_requests_and_at_the_latest_after_its_span(session: Session) -> None:
    begun = enter(session)
    idle, absolute = session.config.web.session_idle, session.config.web.session_absolute
    assert resolve_session(at(session, NOW + idle - 1), begun.secret)
    assert code(resolve_session, at(session, NOW + idle), begun.secret) == "session_ended"
    busy = with_web(session, session_idle=absolute)
    assert resolve_session(at(busy, NOW + absolute - 1), begun.secret)
    assert code(resolve_session, at(busy, NOW + absolute), begun.secret) == "session_ended"


def ending(session: Session, change: str) -> None:
    {
        "password": lambda: users.set_password(session, "ann", OTHER),
        "role": lambda: users.set_role(session, "ann", "viewer"),
        "disabled": lambda: users.disable_user(session, "ann"),
    }[change]()


@pytest.mark.parametrize("change", ["password", "role", "disabled"])
def test_a_change_of_password_or_role_and_disabling_end_the_sessions_of_that_user_only(
    session: Session, change: str
) -> None:
    add_user(session, NewUser("bob", "reviewer", PASSWORD))
    mine, other = enter(session), enter(session, name="bob")
    ending(session, change)
    assert code(resolve_session, session, mine.secret) == "no_session"
    assert resolve_session(session, other.secret).caller.name == "bob"
    if change == "disabled":
        assert code(enter, session) == "wrong_password"
        users.enable_user(session, "ann")
        assert code(resolve_session, session, mine.secret) == "no_session"
    assert enter(session, OTHER if change == "password" else PASSWORD).name == "ann"


def test_the_same_role_again_ends_nothing(session: Session) -> None:
    begun = enter(session)
    users.set_role(session, "ann", "reviewer")
    assert resolve_session(session, begun.secret)


@pytest.mark.parametrize("change", ["password", "role", "disabled"])
def test_a_log_in_that_a_change_overtakes_begins_no_session(
    session: Session, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = passwords.is_password

    def overtaken(stored: str | None, password: str) -> bool:
        outcome = right(stored, password)
        ending(session, change)
        return outcome

    monkeypatch.setattr(sessions, "is_password", overtaken)
    assert code(enter, session) == "user_changed"
    assert query(session.store, "SELECT COUNT(*) FROM user_sessions WHERE ended_at IS NULL") == [(0,)]


def test_users_change_their_own_password_with_the_old_one(session: Session) -> None:
    before = enter(session)
    change = (session, "ann", PASSWORD, OTHER, "192.0.2.1")
    assert (
        code(sessions.change_password, session, "ann", OTHER, "sixteen tons of coal", "192.0.2.1")
        == "wrong_password"
    )
    begun = sessions.change_password(*change)
    assert code(resolve_session, session, before.secret) == "no_session"
    assert resolve_session(session, begun.secret).caller.name == "ann"
    assert code(enter, session) == "wrong_password"
    assert code(sessions.change_password, session, "ann", OTHER, OTHER, "192.0.2.1") == "weak_password"


def test_a_hash_by_old_parameters_is_renewed_at_the_next_log_in(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stored() -> str:
        return str(query(session.store, "SELECT password_hash FROM users")[0][0])

    first = stored()
    enter(session)
    assert stored() == first
    monkeypatch.setattr(
        passwords, "_hasher", lambda: PasswordHasher(time_cost=2, memory_cost=64, parallelism=1)
    )
    begun = enter(session)
    assert "t=2" in stored()
    assert resolve_session(session, begun.secret)


# Log-ins are limited.


def test_failed_log_ins_of_a_name_are_limited_from_any_address(session: Session) -> None:
    for number in range(log_in_attempts.FAILURES_OF_A_NAME):
        assert code(enter, session, "wrong", address=f"192.0.2.{number}") == "wrong_password"
    assert code(enter, session, address="192.0.2.99") == "too_many_log_ins"
    later = at(session, NOW + log_in_attempts.WINDOW)
    assert enter(later, address="192.0.2.99").name == "ann"


def test_failed_log_ins_from_an_address_are_limited_for_any_name(session: Session) -> None:
    for number in range(log_in_attempts.FAILURES_OF_AN_ADDRESS):
        assert code(enter, session, "wrong", f"name{number}") == "wrong_password"
    assert code(enter, session) == "too_many_log_ins"
    assert enter(session, address="192.0.2.2").name == "ann"


def test_log_ins_that_succeed_are_not_limited(session: Session) -> None:
    for _ in range(log_in_attempts.FAILURES_OF_AN_ADDRESS + 1):
        enter(session)


def test_a_refused_log_in_is_not_stored_so_that_a_flood_ends_by_itself(session: Session) -> None:
    for _ in range(log_in_attempts.FAILURES_OF_A_NAME + 20):
        code(enter, session, "wrong")
    assert query(session.store, "SELECT COUNT(*) FROM log_in_attempts") == [
        (log_in_attempts.FAILURES_OF_A_NAME,)
    ]
    enter(at(session, NOW + 2 * DAY))
    assert query(session.store, "SELECT COUNT(*) FROM log_in_attempts") == [(1,)]


@pytest.mark.parametrize(
    ("one", "same", "other"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1"),  # a network of 64 bits is one customer
        ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"),
        ("fe80::1%eth0", "fe80::2%eth1", "192.0.2.2"),
        ("", "not an address", "192.0.2.2"),
    ],
)
def test_an_address_is_what_one_customer_has(session: Session, one: str, same: str, other: str) -> None:
    for number in range(log_in_attempts.FAILURES_OF_AN_ADDRESS):
        code(enter, session, "wrong", f"name{number}", one if number % 2 else same)
    assert code(enter, session, address=same) == "too_many_log_ins"
    assert enter(session, address=other).name == "ann"


@pytest.mark.one_engine
def test_an_unknown_name_and_a_disabled_user_take_as_long_as_a_wrong_password(session: Session) -> None:
    def spent(name: str) -> float:
        """Least processor time of a refused log-in, argon2's threads included."""
        took = []
        for number in range(3):
            began = time.process_time()
            code(enter, session, "wrong", name, f"192.0.2.{number}")
            took.append(time.process_time() - began)
        return min(took)

    add_user(session, NewUser("bob", "reviewer", PASSWORD))
    users.disable_user(session, "bob")
    spent("nobody")  # makes the hash that nobody's password has
    wrong = spent("ann")
    assert wrong > 0.02
    for name in ("nobody", "bob", "no name"):
        assert 0.6 < spent(name) / wrong < 1.6


# Users.


def test_users_are_listed_by_name(session: Session) -> None:
    add_user(session, NewUser("Álvaro@Example.com", "auditor", PASSWORD))
    add_user(session, NewUser("zoe", "administrator", PASSWORD))
    users.disable_user(session, "ZOE")
    listed = [(user.name, user.role, user.has_password, user.by) for user in users.list_users(session)]
    assert listed == [
        ("ann", "reviewer", True, "root"), ("zoe", "administrator", True, "root"), ("álvaro@example.com", "auditor", True, "root"),
    ]  # fmt: skip
    assert [user.disabled_at for user in users.list_users(session)] == [None, as_datetime(NOW), None]


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda session: add_user(session, NewUser("ANN", "viewer", PASSWORD)), "user_name_taken"),
        (lambda session: add_user(session, NewUser("a b", "viewer", PASSWORD)), "bad_user_name"),
        (lambda session: add_user(session, NewUser("", "viewer", PASSWORD)), "bad_user_name"),
        (lambda session: add_user(session, NewUser("a\u202eb", "viewer", PASSWORD)), "bad_user_name"),
        (lambda session: add_user(session, NewUser("a" * 101, "viewer", PASSWORD)), "bad_user_name"),
        (lambda session: add_user(session, NewUser("bob", "scorer", PASSWORD)), "unknown_role"),
        (lambda session: add_user(session, NewUser("bob", "viewer", "short")), "weak_password"),
        (lambda session: add_user(session, NewUser("bob", "viewer", "x" * 1001)), "weak_password"),
        (lambda session: add_user(session, NewUser("bob", "viewer", "abababababababab")), "weak_password"),
        (
            lambda session: add_user(session, NewUser("robert", "viewer", "I am Robert the First")),
            "weak_password",
        ),
        (lambda session: users.set_password(session, "ann", "short"), "weak_password"),
        (lambda session: users.set_password(session, "nobody", PASSWORD), "unknown_user"),
        (lambda session: users.set_role(session, "nobody", "viewer"), "unknown_user"),
        (lambda session: users.set_role(session, "ann", "scorer"), "unknown_role"),
        (lambda session: users.disable_user(session, "nobody"), "unknown_user"),
        (lambda session: users.enable_user(session, "ann"), "user_not_disabled"),
        (
            lambda session: (users.disable_user(session, "ann"), users.disable_user(session, "ann")),
            "user_disabled",
        ),
    ],
)
def test_what_cannot_be_is_refused(session: Session, call: Any, expected: str) -> None:
    assert code(call, session) == expected


# Tokens.


def token(session: Session, **keys: Any) -> str:
    return issue_token(
        session, NewToken(**{"name": "shop", "role": "scorer", "until": timedelta(days=9)} | keys)
    ).secret


def test_a_token_speaks_for_its_program_until_it_expires_or_is_revoked(session: Session) -> None:
    secret = token(session, per_minute=5)
    live = resolve_token(session, secret)
    assert (live.caller, live.per_minute) == (Caller("token shop", "scorer", None, 1), 5)
    assert code(resolve_token, at(session, NOW + 9 * DAY), secret) == "token_expired"
    revoke_token(session, 1)
    assert code(resolve_token, session, secret) == "token_revoked"
    assert code(revoke_token, session, 1) == "token_ended"
    assert code(revoke_token, session, 2) == "unknown_token"
    assert [each[1:] for each in audited(session)[1:]] == [
        ("issue token", "token 1"),
        ("revoke token", "token 1"),
    ]


@pytest.mark.parametrize("secret", ["", "fw_", "x", "\0", "\ud800", "fw_" + "A" * 43])
def test_a_token_that_was_never_issued_is_refused(session: Session, secret: str) -> None:
    token(session)
    assert code(resolve_token, session, secret) == "no_token"


def test_a_cookie_is_no_token_and_a_token_no_cookie(session: Session) -> None:
    begun, secret = enter(session), token(session)
    assert code(resolve_token, session, begun.secret) == "no_token"
    assert code(resolve_session, session, secret) == "no_session"


@pytest.mark.parametrize("change", ["role", "disabled"])
def test_a_token_ends_with_the_role_of_the_user_who_issued_it(session: Session, change: str) -> None:
    user = users.list_users(session)[0]
    mine, operators = token(session, user_id=user.user_id), token(session)
    users.set_password(session, "ann", OTHER)
    assert resolve_token(session, mine).caller.user_id == user.user_id
    ending(session, change)
    assert code(resolve_token, session, mine) == "token_revoked"
    assert resolve_token(session, operators)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"until": timedelta(days=367)}, "bad_expiry"),
        ({"until": as_datetime(NOW)}, "bad_expiry"),
        ({"role": "root"}, "unknown_role"),
        ({"name": " "}, "bad_token_name"),
        ({"name": "a\nb"}, "bad_token_name"),
        ({"per_minute": 0}, "bad_limit"),
    ],
)
def test_a_token_that_cannot_be_is_not_issued(session: Session, keys: dict[str, Any], expected: str) -> None:
    assert code(token, session, **keys) == expected
    assert tokens.list_tokens(session) == ()


# Roles.


def test_every_permission_has_a_meaning_and_a_role_besides_the_administrators() -> None:
    assert set(MEANING) == set(Permission)
    only = {Permission.UNDO, Permission.ERASE, Permission.MANAGE_USERS}
    for permission in set(Permission) - only:
        assert [role for role in ROLES if permission in PERMISSIONS[role] and role != "administrator"], (
            permission
        )


def test_a_scorer_reads_nothing_and_a_reader_writes_nothing() -> None:
    assert PERMISSIONS["scorer"] == {Permission.SCORE, Permission.INGEST}
    assert PERMISSIONS["viewer"] == {Permission.VIEW}
    assert PERMISSIONS["auditor"] == {Permission.VIEW, Permission.VIEW_AUDIT}


def test_what_a_role_does_not_allow_is_forbidden() -> None:
    caller = Caller("ann", "reviewer", 1)
    caller.require(Permission.ANSWER)
    with pytest.raises(
        Forbidden, match="reviewer does not allow undo: ask somebody whose role allows it: administrator"
    ):
        caller.require(Permission.UNDO)


# Handles and masks.


VALUES = ["C1", "", "é", "💳", "x" * 10_000, "a\0b", '"', "../../etc", "\ud800"]


@pytest.mark.parametrize("value", VALUES)
def test_a_handle_stands_for_its_value_and_shows_nothing_of_it(session: Session, value: str) -> None:
    handles = entity_handles(session)
    handle = handles.handle("card_id", value)
    assert handles.resolve(handle) == EntityHandle("card_id", value)
    assert handle == entity_handles(session).handle("card_id", value)
    assert handle.replace("-", "").replace("_", "").isalnum()
    assert handle != handles.handle("customer_id", value)
    assert len(value) < 3 or value not in handle


def test_a_handle_that_was_not_made_here_is_refused(session: Session) -> None:
    handles = entity_handles(session)
    handle = handles.handle("card_id", "4242")
    turned = [
        handle[:n] + ("A" if handle[n] != "A" else "B") + handle[n + 1 :] for n in range(len(handle) - 1)
    ]
    for forged in [
        "",
        "A",
        "?",
        "é",
        "\ud800",
        handle[:-4],
        handle + "AAAA",
        handle + "!",
        "!!!!" + handle,
        handle * 2,
        *turned,
    ]:
        assert code(handles.resolve, forged) == "bad_handle", forged


def test_handles_are_those_of_one_database(session: Session) -> None:
    handles = entity_handles(session)
    assert code(EntityHandles(Sealer(b"x" * 64)).resolve, handles.handle("card_id", "1")) == "bad_handle"
    assert len(set(query(session.store, "SELECT secret FROM web_keys"))) == 1


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ("C001234", "•••34"),
        ("C12", HIDDEN),
        ("", HIDDEN),
        ("4242424242424242", "•••• 4242"),
        ("ann@example.com", "a…@example.com"),
        ("•••• 4242 · " + "0" * 64, "•••• 4242"),
        ("0" * 64, HIDDEN),
        ("DE89370400440532013000", "DE… 3000"),
    ],
)
def test_viewers_see_the_form_of_a_value(value: str, seen: str) -> None:
    assert masked(value) == seen
    for role in ROLES:
        caller = Caller("x", role, 1)
        sees = role in ("reviewer", "rule_author", "model_owner", "administrator")
        assert value_for(caller, value) == (value if sees else seen)
        assert text_for(caller, "card 4242 of Ann") == ("card 4242 of Ann" if sees else HIDDEN)
        assert (value_for(caller, None), text_for(caller, None)) == (None, None)


def test_the_page_of_users_says_what_each_role_allows() -> None:
    page = (Path(__file__).parents[1] / "docs/users.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| ([a-z_, ]+) \|$", page, re.MULTILINE)
    told = {name: (meaning, tuple(roles.split(", "))) for name, meaning, roles in rows}
    assert told == {p.value: (MEANING[p], roles_with(p)) for p in Permission}


def test_no_table_with_secrets_is_exported(session: Session) -> None:
    secrets = ("password_hash", "secret", "secret_hash", "name_hash", "refresh_token")
    with_secrets = {table.name for table in metadata.sorted_tables if set(secrets) & set(table.c.keys())}
    assert with_secrets <= NOT_EXPORTED <= set(metadata.tables)
    assert not with_secrets & set(names(session.store))
