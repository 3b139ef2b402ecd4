"""A browser logs in at a real identity provider by way of the server, and is out when the group is lost."""

import time
from collections.abc import Iterator
from contextlib import closing

import httpx2
import pytest

from pipeline.api import provider_checks
from pipeline.api.provider_checks import ProviderChecks
from pipeline.services.users import oidc
from tests.support.api import ApiServer, serving
from tests.support.databases import Opener
from tests.support.oidc import LocalProvider, config_of, running_provider
from tests.support.worlds import SMALL

pytestmark = pytest.mark.one_engine


@pytest.fixture(scope="module")
def idp() -> Iterator[LocalProvider]:
    """A provider that knows ann, who is an analyst."""
    with running_provider() as provider:
        provider.set(ann={"preferred_username": "ann", "groups": ["analysts"]})
        yield provider


@pytest.fixture
def api(opener: Opener, idp: LocalProvider) -> Iterator[ApiServer]:
    """A server over an empty database, with that provider."""
    now = time.time_ns() // 1000  # tokens of the provider are of this moment
    with serving(opener(SMALL), config_of(idp.issuer), now) as running:
        yield running


def came_back(api: ApiServer, idp: LocalProvider, browser: httpx2.Client) -> httpx2.Response:
    """The answer to a browser that the provider has sent back."""
    sent = browser.get(f"{api.url}/oidc/login")
    assert (sent.status_code, sent.headers["cache-control"]) == (303, "no-store")
    answer = idp.log_in(sent.headers["location"], "ann")
    return browser.get(f"{api.url}/oidc/callback", params=answer)


def test_a_browser_comes_back_with_a_session(api: ApiServer, idp: LocalProvider) -> None:
    with httpx2.Client() as browser:
        answer = came_back(api, idp, browser)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        cookies = answer.headers.get_list("set-cookie")
        assert [cookie.partition("=")[0] for cookie in cookies] == ["fraudwatch", "fraudwatch-oidc"]
        assert all("HttpOnly" in cookie and "SameSite=lax" in cookie for cookie in cookies)
        me = browser.get(f"{api.url}/api/v1/session").json()
        assert (me["name"], me["role"]) == ("ann", "reviewer")
        assert list(browser.cookies.keys()) == ["fraudwatch"]


def test_an_answer_without_the_browser_that_began_is_refused(api: ApiServer, idp: LocalProvider) -> None:
    with httpx2.Client() as browser, httpx2.Client() as other:
        sent = browser.get(f"{api.url}/oidc/login")
        answer = idp.log_in(sent.headers["location"], "ann")
        refused = other.get(f"{api.url}/oidc/callback", params=answer)
        assert (refused.status_code, refused.json()["code"]) == (401, "bad_log_in")
        assert "set-cookie" not in refused.headers
        for parameters in ({}, {"state": "é", "code": "x" * 5000}, {"error": "<script>"}):
            forged = browser.get(f"{api.url}/oidc/callback", params=parameters)
            assert (forged.status_code, forged.json()["code"]) == (401, "bad_log_in")
            assert "<script>" not in forged.text


def test_without_a_provider_there_is_no_such_log_in(opener: Opener) -> None:
    with serving(opener(SMALL), SMALL) as api:
        for path in ("login", "callback"):
            answer = httpx2.get(f"{api.url}/oidc/{path}")
            assert (answer.status_code, answer.json()["code"]) == (404, "no_provider")


def test_a_lost_group_ends_the_session_without_any_request(
    api: ApiServer, idp: LocalProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider_checks, "EVERY_S", 0.05)
    monkeypatch.setattr(oidc, "CHECK_EVERY", -1)  # due at once
    with httpx2.Client() as browser:
        came_back(api, idp, browser)
        state = api.app.state.shared
        idp.set(ann={"preferred_username": "ann", "groups": []})
        with closing(ProviderChecks(state.session, state.provider)):
            until = time.monotonic() + 20
            while browser.get(f"{api.url}/api/v1/session").status_code == 200 and time.monotonic() < until:
                time.sleep(0.05)
        assert browser.get(f"{api.url}/api/v1/session").json()["code"] == "no_session"
