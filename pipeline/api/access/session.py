"""Sessions of browsers: log in by a password, who is logged in, log out."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import Field, SecretStr

from pipeline.api.authorization import is_secure, session_cookie
from pipeline.api.body import Body
from pipeline.api.context import Context, app_state
from pipeline.api.listing import json_answer
from pipeline.services.users.permissions import PERMISSIONS, Permission, Role
from pipeline.services.users.sessions import change_password, log_in, log_out

router = APIRouter(prefix="/session", tags=["Access"])


class LogInBody(Body):
    """The name and the password of a user."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    password: Annotated[SecretStr, Field(min_length=1, max_length=1_000)]


class OwnPasswordBody(Body):
    """The password that the user has, and the one to be set."""

    old: Annotated[SecretStr, Field(min_length=1, max_length=1_000)]
    new: Annotated[SecretStr, Field(min_length=1, max_length=1_000)]


@dataclass(frozen=True)
class WhoAmI:
    """
    Who sends the request, and what they may.

    `csrf` goes into the header X-CSRF-Token of every write; null for a token, which needs none.
    """

    name: str
    role: Role
    permissions: tuple[Permission, ...]
    csrf: str | None


@router.post("", operation_id="log_in", response_model=WhoAmI)
def log_in_(request: Request, body: LogInBody) -> Response:
    """Begin a session: its cookie is set, and `csrf` goes into the header X-CSRF-Token of every write."""
    address = request.client.host if request.client else ""
    begun = log_in(app_state(request).session, body.name, body.password.get_secret_value(), address)
    answer = json_answer(WhoAmI, WhoAmI(begun.name, begun.role, _permissions(begun.role), begun.csrf))
    set_session_cookie(request, answer, begun.secret)
    return answer


@router.post("/password", operation_id="change_password", response_model=WhoAmI)
def change_password_(context: Context, body: OwnPasswordBody) -> Response:
    """Set one's own password: all of one's sessions end, and this one begins anew."""
    request, caller = context.request, context.caller
    address = request.client.host if request.client else ""
    old, new = body.old.get_secret_value(), body.new.get_secret_value()
    begun = change_password(context.app.session, caller.name, old, new, address)
    answer = json_answer(WhoAmI, WhoAmI(begun.name, begun.role, _permissions(begun.role), begun.csrf))
    set_session_cookie(request, answer, begun.secret)
    return answer


def set_session_cookie(request: Request, answer: Response, secret: str) -> None:
    """
    Give the browser the secret of its session, which no script can read and no other site can send with a write.

    A session that it had before ends: nobody would ever log out of it.
    """
    name = session_cookie(request)
    if before := request.cookies.get(name):
        log_out(app_state(request).session, before)
    answer.set_cookie(
        name,
        secret,
        httponly=True,
        secure=is_secure(request),
        samesite="lax",
        path="/",
    )


@router.get("", operation_id="who_am_i", response_model=WhoAmI)
def show(context: Context) -> Response:
    """Say who sends the request, and what they may."""
    live = context.request.scope["state"].get("live_session")
    caller = context.caller
    me = WhoAmI(caller.name, caller.role, _permissions(caller.role), None if live is None else live.csrf)
    return json_answer(WhoAmI, me)


@router.delete("", operation_id="log_out", status_code=204, response_class=Response)
def log_out_(context: Context) -> Response:
    """End the session of the cookie."""
    request, cookie = context.request, session_cookie(context.request)
    log_out(context.app.session, request.cookies.get(cookie, ""))
    answer = Response(status_code=204)
    answer.delete_cookie(cookie, path="/", secure=is_secure(request), httponly=True, samesite="lax")
    return answer


def _permissions(role: Role) -> tuple[Permission, ...]:
    return tuple(permission for permission in Permission if permission in PERMISSIONS[role])
