"""Who gets in: every route by every role and state of token, sessions of browsers, hosts, proxies and limits."""

from collections.abc import Iterator
from datetime import timedelta

import httpx2
import pytest

from pipeline.api.problems import ApiError
from pipeline.api.request_limits import RequestLimits
from pipeline.api.routes import API, ROUTES, Access
from pipeline.config.sections import WebSection
from pipeline.services.users.permissions import PERMISSIONS, ROLES
from pipeline.services.users.tokens import NewToken, issue_token, revoke_token
from pipeline.services.users.users import NewUser, add_user, disable_user
from tests.support.api import ApiServer, serving
from tests.support.databases import Copier, Opener
from tests.support.sql import execute, query
from tests.support.users import PASSWORD, hash_fast
from tests.support.worlds import FIRST_WEEK, SMALL

pytestmark = pytest.mark.one_engine
PLACES = {
    "transaction_id": "nobody", "handle": "none", "table": "nothing", "policy": "nothing", "name": "nobody",
}  # fmt: skip


@pytest.fixture
def api(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    """A server over an empty database."""
    hash_fast(monkeypatch)
    with serving(opener(SMALL), SMALL) as running:
        yield running


def address(path: str) -> str:
    """An address of a route; nothing is there."""
    for part in path.split("/"):
        if part.startswith("{"):
            path = path.replace(part, PLACES.get(part[1:-1], "999"))
    return path


def asked(client: httpx2.Client, method: str, path: str) -> httpx2.Response:
    """A request that changes nothing, since it has no body."""
    return client.request(method, address(path), headers={"Content-Type": "application/json"})


def test_every_route_is_open_to_the_roles_of_the_table_and_closed_to_all_others(api: ApiServer) -> None:
    for (method, path), needed in ROUTES.items():
        for role in (None, *ROLES):
            response = asked(api.client(role), method, path)
            place = f"{method} {path} as {role}: {response.text[:200]}"
            if needed is Access.PUBLIC:
                assert response.status_code not in (401, 403), place
            elif role is None:
                assert (response.status_code, response.json()["code"]) == (401, "unauthenticated"), place
            elif isinstance(needed, Access) or needed in PERMISSIONS[role]:
                allowed = response.status_code not in (401, 403) or response.json()["code"] == "four_eyes"
                assert allowed, place
            else:
                assert (response.status_code, response.json()["code"]) == (403, "not_allowed"), place


def test_a_token_that_is_not_in_force_opens_nothing(api: ApiServer) -> None:
    revoked = issue_token(api.session, NewToken("gone", "administrator", timedelta(days=1)))
    revoke_token(api.session, revoked.token.token_id)
    expired = issue_token(api.session, NewToken("old", "administrator", timedelta(days=1)))
    execute(
        api.session.store,
        f"UPDATE api_tokens SET expires_at = created_at WHERE token_id = {expired.token.token_id}",
    )
    user = add_user(api.session, NewUser("ann", "administrator", PASSWORD))
    of_disabled = issue_token(
        api.session, NewToken("hers", "administrator", timedelta(days=1), 600, user.user_id)
    )
    disable_user(api.session, "ann")
    whole = api.token("viewer")
    wrong = {
        "token_revoked": (revoked.secret, of_disabled.secret),
        "token_expired": (expired.secret,),
        "no_token": ("x", whole[:-1], whole + "x", whole.upper(), "ф" * 10, "a" * 8_000),
    }
    for code, secrets in wrong.items():
        for secret in secrets:
            headers = {"Authorization": b"Bearer " + secret.encode()}
            for (method, path), needed in ROUTES.items():
                if needed is not Access.PUBLIC and (
                    path.endswith(("/flags", "/verdicts")) or secret == whole[:-1]
                ):
                    response = api.client(None).request(method, address(path), headers=headers)
                    assert (response.status_code, response.json()["code"]) == (401, code), (
                        f"{method} {path} {secret!r}"
                    )
                    assert response.headers["www-authenticate"] == "Bearer"


def test_what_is_not_in_the_table_cannot_be_reached_and_another_method_is_named(api: ApiServer) -> None:
    for path in (
        "/",
        "/docs",
        "/openapi.json",
        "/redoc",
        f"{API}/flags/",
        f"{API}//flags",
        "/api/v2/flags",
        "/healthz/x",
    ):
        response = api.client().get(path)
        assert (response.status_code, response.json()["code"]) == (404, "no_route"), path
    api.app.add_api_route("/forgotten", lambda: "open to all")
    assert api.client().get("/forgotten").status_code == 404
    for method in ("PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE"):
        response = api.client().request(method, f"{API}/verdicts")
        assert (response.status_code, response.headers["allow"]) == (405, "GET, POST"), method


# Sessions of browsers


@pytest.fixture
def browser(api: ApiServer) -> Iterator[httpx2.Client]:
    """A browser in which somebody has logged in."""
    add_user(api.session, NewUser("ann", "reviewer", PASSWORD))
    with httpx2.Client(base_url=api.url, trust_env=False) as client:
        yield client


def log_in(browser: httpx2.Client) -> str:
    response = browser.post("/api/v1/session", json={"name": "ann", "password": PASSWORD})
    assert response.status_code == 200, response.text
    cookie = response.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    csrf: str = response.json()["csrf"]
    return csrf


def test_a_session_reads_by_its_cookie_and_writes_only_with_its_own_token_from_its_own_origin(
    api: ApiServer, browser: httpx2.Client
) -> None:
    csrf = log_in(browser)
    assert browser.get("/api/v1/session").json()["name"] == "ann"
    body = {"transaction_ids": ["nobody"]}
    host = api.url
    refused = (
        {}, {"X-CSRF-Token": ""}, {"X-CSRF-Token": "x" * 64}, {"X-CSRF-Token": csrf[:-1]},
        {"X-CSRF-Token": csrf, "Origin": "https://evil.example"}, {"X-CSRF-Token": csrf, "Origin": "null"},
        {"X-CSRF-Token": csrf, "Sec-Fetch-Site": "cross-site"}, {"X-CSRF-Token": csrf, "Sec-Fetch-Site": "same-site"},
    )  # fmt: skip
    for headers in refused:
        response = browser.post("/api/v1/claims", json=body, headers=headers)
        assert (response.status_code, response.json()["code"]) == (403, "csrf"), headers
    for headers in ({}, {"Origin": host}, {"Origin": host, "Sec-Fetch-Site": "same-origin"}):
        response = browser.post("/api/v1/claims", json=body, headers={"X-CSRF-Token": csrf, **headers})
        assert response.status_code == 200, (headers, response.text)
    another = log_in(browser)
    assert browser.post("/api/v1/claims", json=body, headers={"X-CSRF-Token": csrf}).status_code == 403
    assert browser.post("/api/v1/claims", json=body, headers={"X-CSRF-Token": another}).status_code == 200
    assert browser.delete("/api/v1/session", headers={"X-CSRF-Token": another}).status_code == 204


def test_a_session_that_was_ended_or_never_began_opens_nothing(
    api: ApiServer, browser: httpx2.Client
) -> None:
    csrf = log_in(browser)
    cookie = browser.cookies["fraudwatch"]
    browser.delete("/api/v1/session", headers={"X-CSRF-Token": csrf})
    for value, code in (
        (cookie, "no_session"),
        (cookie[:-1], "no_session"),
        ("ф".encode().decode("latin-1"), "no_session"),
    ):
        header = {"Cookie": b"fraudwatch=" + value.encode("latin-1")}
        response = api.client(None).get("/api/v1/flags", headers=header)
        assert (response.status_code, response.json()["code"]) == (401, code), value
    # A cookie beside a header that names nobody does not help either.
    both = {"Cookie": f"fraudwatch={cookie}", "Authorization": "Basic YW5uOng="}
    assert api.client(None).get("/api/v1/flags", headers=both).status_code == 401


def test_a_wrong_password_and_an_unknown_name_are_answered_alike_and_a_flood_is_stopped(
    api: ApiServer, browser: httpx2.Client
) -> None:
    answers = set()
    for name in ("ann", "nobody", "x\ud7ff"):
        response = browser.post("/api/v1/session", json={"name": name, "password": "wrong"})
        answers.add((response.status_code, response.json()["code"], response.json()["detail"]))
    assert len(answers) == 1
    assert next(iter(answers))[:2] == (401, "wrong_password")
    statuses = [
        browser.post("/api/v1/session", json={"name": "ann", "password": "no"}).status_code for _ in range(40)
    ]
    assert statuses[-1] == 429
    assert "set-cookie" not in response.headers
    last = browser.post("/api/v1/session", json={"name": "ann", "password": "no"})
    assert last.headers["retry-after"] == "900"


def test_a_log_in_takes_no_session_from_the_browser_and_ends_the_one_before(
    api: ApiServer, browser: httpx2.Client
) -> None:
    browser.cookies.set("fraudwatch", "planted", domain="127.0.0.1")
    log_in(browser)
    first = browser.cookies["fraudwatch"]
    assert first != "planted"
    log_in(browser)
    assert browser.get("/api/v1/session").status_code == 200
    for ended in ("planted", first):
        answer = api.client(None).get("/api/v1/session", headers={"Cookie": f"fraudwatch={ended}"})
        assert (answer.status_code, answer.json()["code"]) == (401, "no_session")


# Hosts, proxies, headers, limits


def test_another_host_is_refused(api: ApiServer) -> None:
    for host in ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "", "[::2]:80"):
        response = api.client().get("/healthz", headers={"Host": host})
        assert (response.status_code, response.json()["code"]) == (421, "unknown_host"), host
    for host in ("localhost", "LOCALHOST:8321", "127.0.0.1:1", "[::1]:8321"):
        assert api.client().get("/healthz", headers={"Host": host}).status_code == 200, host


@pytest.mark.parametrize(("proxies", "secure"), [([], False), (["127.0.0.1"], True), (["10.0.0.0/8"], False)])
def test_forwarded_headers_are_believed_only_from_listed_proxies(
    opener: Opener, monkeypatch: pytest.MonkeyPatch, proxies: list[str], secure: bool
) -> None:
    hash_fast(monkeypatch)
    web = WebSection.model_validate({"trusted_proxies": proxies, "allowed_hosts": ["fraud.example.com"]})
    config = SMALL.model_copy(update={"web": web})
    forwarded = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https", "Host": "fraud.example.com"}
    with serving(opener(config), config) as api:
        add_user(api.session, NewUser("ann", "viewer", PASSWORD))
        body = {"name": "ann", "password": PASSWORD}
        response = api.client(None).post("/api/v1/session", json=body, headers=forwarded)
        cookie = response.headers["set-cookie"]
        assert cookie.startswith("__Host-fraudwatch=" if secure else "fraudwatch=")
        assert ("Secure" in cookie) == secure
        assert ("strict-transport-security" in response.headers) == secure
        addresses = query(api.session.store, "SELECT address FROM log_in_attempts")
        assert addresses == [("203.0.113.9" if secure else "127.0.0.1",)]


def test_every_answer_says_that_nothing_may_be_loaded_framed_or_kept(api: ApiServer) -> None:
    for path in ("/healthz", "/api/v1/flags", "/nothing", "/api/v1/flags?limit=x"):
        headers = api.client().get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'"), path
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert len(headers["x-request-id"]) == 16
        assert "server" not in headers


def test_a_token_that_sends_too_many_requests_waits(api: ApiServer) -> None:
    headers = {"Authorization": f"Bearer {api.token('viewer', per_minute=3)}"}
    responses = [api.client(None).get("/api/v1/session", headers=headers) for _ in range(5)]
    assert [each.status_code for each in responses] == [200, 200, 200, 429, 429]
    assert int(responses[-1].headers["retry-after"]) in range(1, 21)


def test_a_limit_fills_evenly() -> None:
    now = [0.0]
    limits = RequestLimits(lambda: now[0])
    for _ in range(60):
        limits.check(1, 60)
    with pytest.raises(ApiError):
        limits.check(1, 60)
    limits.check(2, 60)  # each token for itself
    now[0] = 1.5
    limits.check(1, 60)
    with pytest.raises(ApiError):
        limits.check(1, 60)
    now[0] = 2.0
    limits.check(1, 60)


def test_the_log_of_requests_has_no_query(copier: Copier, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "fraudwatch"), serving(copier(FIRST_WEEK), SMALL) as api:
        api.get("/flags?channel=outlier&status=open")
        api.post("/entities", {"column": "customer_id", "value": "c1"})
    fields = [record.fields for record in caplog.records if record.getMessage() == "request"]  # type: ignore[attr-defined]
    assert [(each["method"], each["path"], each["status"]) for each in fields] == [
        ("GET", "/api/v1/flags", 200), ("POST", "/api/v1/entities", 200),
    ]  # fmt: skip
    assert "outlier" not in str(fields)
    assert fields[0]["by"] == "token test administrator"
