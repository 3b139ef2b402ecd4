"""Users: who may log in with which role, and what changes that."""

from typing import Annotated

from fastapi import APIRouter, Form, Response

from pipeline.api.context import Context, RequestContext
from pipeline.api.types import Name, PathName
from pipeline.services.users.approvals import (
    ActionName,
    RoleChange,
    UserName,
    forbid_second_account,
    request_approval,
)
from pipeline.services.users.permissions import MEANING, USER_ROLES, UserRole, roles_with
from pipeline.services.users.users import (
    NewUser,
    add_user,
    disable_user,
    enable_user,
    list_users,
    set_password,
    set_role,
)
from pipeline.web.rendering import page

router = APIRouter()
Password = Annotated[str, Form(min_length=1, max_length=1_000)]
FormRole = Annotated[UserRole, Form()]


@router.get("/users")
def users(context: Context) -> Response:
    """List users with what can be done about each, and what each role may do."""
    may_do = [
        (meaning, ", ".join(roles_with(permission)).replace("_", " "))
        for permission, meaning in MEANING.items()
    ]
    return page(
        context,
        "users.html",
        place="users",
        users=list_users(context.session),
        roles=USER_ROLES,
        permissions=may_do,
        has_passwords=context.app.config.oidc.passwords,
    )


@router.post("/users")
def add(context: Context, name: Annotated[Name, Form()], role: FormRole, password: Password) -> Response:
    """Add a user who logs in by a password."""
    forbid_second_account(context.session, context.caller, name, role)
    add_user(context.session, NewUser(name, role, password))
    return _to("/users")


@router.post("/users/{name}/role")
def change_role(context: Context, name: PathName, role: FormRole) -> Response:
    """Give a user another role; two people must say so where the configuration says it."""
    if _needs_approval(context, "set_role", RoleChange(name, role)):
        return _to("/approvals")
    set_role(context.session, name, role)
    return _to("/users")


@router.post("/users/{name}/password")
def change_password(context: Context, name: PathName, password: Password) -> Response:
    """Give a user another password."""
    roles = {user.name: user.role for user in list_users(context.session)}
    forbid_second_account(context.session, context.caller, name, roles.get(name, "viewer"))
    set_password(context.session, name, password)
    return _to("/users")


@router.post("/users/{name}/disable")
def disable(context: Context, name: PathName) -> Response:
    """Let a user log in no more."""
    disable_user(context.session, name)
    return _to("/users")


@router.post("/users/{name}/enable")
def enable(context: Context, name: PathName) -> Response:
    """Let a user log in again; two people must say so where the configuration says it."""
    if _needs_approval(context, "enable_user", UserName(name)):
        return _to("/approvals")
    enable_user(context.session, name)
    return _to("/users")


def _needs_approval(context: RequestContext, action: ActionName, request: RoleChange | UserName) -> bool:
    """Whether another person must approve it, who is asked by this."""
    return request_approval(context.session, context.caller, action, request) is not None


def _to(address: str) -> Response:
    return Response(status_code=204, headers={"HX-Redirect": address})
