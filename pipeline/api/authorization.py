"""
Who sends a request, and whether they may: a token of a program, or the session of a browser.

Nothing outside the table of permissions can be reached, whatever routes the app has. A session's cookie comes with every request that
a browser sends, whoever's page makes it do so; therefore a write needs the session's `X-CSRF-Token`, too, which only a page of this
server knows, and must not come from another origin.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from re import Pattern
from typing import Any
from urllib.parse import urlsplit

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.api.context import AppState, app_state
from pipeline.api.problems import ERRORS_MAX, ApiError
from pipeline.api.routes import Access, Needed
from pipeline.config.key_names import did_you_mean
from pipeline.errors import NotAuthenticated
from pipeline.services.users.permissions import Caller
from pipeline.services.users.sessions import resolve_session
from pipeline.services.users.tokens import resolve_token

SAFE = ("GET", "HEAD", "OPTIONS")
CSRF_HEADER = "X-CSRF-Token"
BEARER = "bearer "


@dataclass(frozen=True)
class _RouteRule:
    """What a route needs; of one in the document also the parameters of its address, and whether it has a body."""

    method: str
    path: Pattern[str]
    needed: Needed
    parameters: frozenset[str] | None
    has_body: bool


class Authorization:
    """
    Asks who sends a request before the app reads anything of it.

    Parameters
    ----------
    document
        The OpenAPI document of the app.
    routes
        What each route needs.
    """

    def __init__(
        self, app: ASGIApp, *, document: Mapping[str, Any], routes: Mapping[tuple[str, str], Needed]
    ) -> None:
        self._app = app
        self._rules = [_rule(document, method, path, needed) for (method, path), needed in routes.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            request, rule = Request(scope, receive), self._rule_of(scope)
            await run_in_threadpool(authorize, request, app_state(request), rule.needed)
            _check_parameters(request, rule)
        await self._app(scope, receive, send)

    def _rule_of(self, scope: Scope) -> _RouteRule:
        fitting = [rule for rule in self._rules if rule.path.match(scope["path"])]
        for rule in fitting:
            if rule.method == scope["method"]:
                return rule
        if fitting:
            allowed = ", ".join(sorted({rule.method for rule in fitting}))
            raise ApiError("method_not_allowed", headers={"Allow": allowed})
        raise ApiError("no_route")


def _rule(document: Mapping[str, Any], method: str, path: str, needed: Needed) -> _RouteRule:
    operation = document["paths"].get(path, {}).get(method.lower())
    names = None
    if operation is not None:
        names = frozenset(each["name"] for each in operation.get("parameters", ()) if each["in"] == "query")
    return _RouteRule(
        method, compile_path(path)[0], needed, names, operation is not None and "requestBody" in operation
    )


def _check_parameters(request: Request, rule: _RouteRule) -> None:
    """Refuse parameters that the route does not have: a filter with a slip of the pen would list everything."""
    unknown = sorted(set(request.query_params) - rule.parameters) if rule.parameters is not None else []
    if rule.parameters is not None and unknown:
        names = sorted(rule.parameters)
        near = [did_you_mean(name, names) for name in unknown[:ERRORS_MAX]]
        errors = [
            {"pointer": f"/query/{name}", "detail": f"there is no such parameter{meant}"}
            for name, meant in zip(unknown[:ERRORS_MAX], near, strict=True)
        ]
        listed = ", ".join(names) or "none"
        raise ApiError(
            "invalid_request",
            f"there is no parameter {unknown[0]}{near[0]}; parameters of this address: {listed}",
            errors=errors,
        )
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if rule.has_body and kind != "application/json":
        raise ApiError("unsupported_media_type")


def authorize(request: Request, app: AppState, needed: Needed) -> None:
    """
    Find out who sends a request, and check that they may.

    Raises
    ------
    NotAuthenticated
        Nobody, or nobody that is known.
    ApiError
        The role does not allow it, the token has sent too many requests, or a write of a session comes from elsewhere.
    """
    if needed is Access.PUBLIC:
        return
    caller = _caller(request, app)
    request.scope["state"]["caller"] = caller
    if not isinstance(needed, Access):
        caller.require(needed)


def session_cookie(request: Request) -> str:
    """The name of the cookie of sessions: on an encrypted connection one that no other host can set."""
    return "__Host-fraudwatch" if is_secure(request) else "fraudwatch"


def is_secure(request: Request) -> bool:
    """Whether the browser's connection is encrypted."""
    return request.url.scheme == "https" or app_state(request).config.web.public_url.startswith("https:")


def _caller(request: Request, app: AppState) -> Caller:
    authorization = request.headers.get("authorization", "")
    if authorization[: len(BEARER)].lower() == BEARER:
        token = resolve_token(app.session, authorization[len(BEARER) :].strip())
        if token.caller.token_id is not None:
            app.limits.check(token.caller.token_id, token.per_minute)
        app.activity.used(token)
        return token.caller
    secret = request.cookies.get(session_cookie(request))
    if authorization or not secret:
        raise NotAuthenticated(
            "nobody is logged in",
            remedy="send Authorization: Bearer TOKEN, or log in",
            code="unauthenticated",
        )
    live = resolve_session(app.session, secret)
    if request.method not in SAFE:
        check_origin(request)
        if not hmac.compare_digest(request.headers.get(CSRF_HEADER, "").encode(), live.csrf.encode()):
            raise ApiError("csrf")
    request.scope["state"]["live_session"] = live
    app.activity.used(live)
    return live.caller


def check_origin(request: Request) -> None:
    """
    Refuse what a browser sends for a page of another origin; one that says nothing of that is no browser of today.

    A form of a page that names no referrer comes with the origin `null`, and says by `Sec-Fetch-Site` whose it is.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    foreign = site not in (None, "same-origin", "none")
    if origin == "null" and site == "same-origin":
        return
    if foreign or (
        origin is not None and urlsplit(origin).netloc.lower() != request.headers.get("host", "").lower()
    ):
        raise ApiError("csrf", "the request comes from a page of another origin")
