"""Log in by a password, and log out."""

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Form, Query, Request, Response

from pipeline.api.access.session import set_session_cookie
from pipeline.api.authorization import check_origin, is_secure, session_cookie
from pipeline.api.context import Context, app_state
from pipeline.errors import NotAuthenticated
from pipeline.services.users.sessions import log_in, log_out
from pipeline.web.rendering import redirect, render

router = APIRouter()
START = "/"


@router.get("/log-in")
def show_log_in(request: Request, next: Annotated[str, Query(max_length=4_000)] = START) -> Response:  # noqa: A002
    """Ask for the name and the password."""
    return _form(request, next, "", "")


@router.post("/log-in")
def log_in_(
    request: Request,
    name: Annotated[str, Form(max_length=200)] = "",
    password: Annotated[str, Form(max_length=1_000)] = "",
    next: Annotated[str, Form(max_length=4_000)] = START,  # noqa: A002
) -> Response:
    """Begin a session, and go on to the page that was asked for."""
    check_origin(request)
    address = request.client.host if request.client else ""
    try:
        begun = log_in(app_state(request).session, name, password, address)
    except NotAuthenticated as error:
        return _form(request, next, name, str(error), 401)
    answer = redirect(_own(next))
    set_session_cookie(request, answer, begun.secret)
    return answer


@router.post("/log-out")
def log_out_(context: Context) -> Response:
    """End the session of the cookie."""
    request, cookie = context.request, session_cookie(context.request)
    log_out(context.app.session, request.cookies.get(cookie, ""))
    answer = Response(status_code=204, headers={"HX-Redirect": "/log-in"})
    answer.delete_cookie(cookie, path="/", secure=is_secure(request), httponly=True, samesite="lax")
    return answer


def _form(request: Request, following: str, name: str, message: str, status: int = 200) -> Response:
    app = app_state(request)
    return render(
        "log_in.html",
        None,
        status,
        monitor=app.config.monitor.name,
        has_provider=app.provider is not None,
        has_passwords=app.config.oidc.passwords,
        next=_own(following),
        name=name,
        message=message,
        csrf="",
        place="",
    )


def _own(address: str) -> str:
    """An address of this server: whoever makes a link to the log-in does not choose where it leads."""
    parts = urlsplit(address)
    is_own = (
        not (parts.scheme or parts.netloc)
        and address.startswith("/")
        and not address.startswith(("//", "/\\"))
    )
    return address if is_own and address.isprintable() else START
