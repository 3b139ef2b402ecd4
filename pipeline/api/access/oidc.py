"""Log-in of browsers at an identity provider: they are sent there, and come back."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from pipeline.api.access.session import set_session_cookie
from pipeline.api.authorization import is_secure
from pipeline.api.context import app_state
from pipeline.errors import InputError
from pipeline.services.users.oidc import STARTED_FOR, finish_log_in, start_log_in
from pipeline.services.users.provider import CALLBACK, Provider

router = APIRouter(include_in_schema=False)  # for browsers, which show what they are sent to


@router.get("/oidc/login")
def start(request: Request) -> Response:
    """Send the browser to the identity provider."""
    started = start_log_in(app_state(request).session, _provider(request))
    answer = RedirectResponse(started.address, 303)
    answer.set_cookie(
        _cookie(request),
        started.value,
        max_age=STARTED_FOR // 1_000_000,
        httponly=True,
        secure=is_secure(request),
        samesite="lax",
        path="/",
    )
    return answer


@router.get(CALLBACK)
def finish(request: Request) -> Response:
    """Begin the session of a user whom the provider has sent back."""
    cookie = request.cookies.get(_cookie(request), "")
    parameters = dict(request.query_params)
    begun = finish_log_in(app_state(request).session, _provider(request), cookie, parameters)
    answer = RedirectResponse("/", 303)
    set_session_cookie(request, answer, begun.secret)
    answer.delete_cookie(_cookie(request), path="/", secure=is_secure(request), httponly=True, samesite="lax")
    return answer


def _provider(request: Request) -> Provider:
    provider = app_state(request).provider
    if provider is None:
        raise InputError(
            "nobody logs in at an identity provider here", remedy="log in by a password", code="no_provider"
        )
    return provider


def _cookie(request: Request) -> str:
    return "__Host-fraudwatch-oidc" if is_secure(request) else "fraudwatch-oidc"
