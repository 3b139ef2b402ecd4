"""Users: add and list them, change their password or role, disable and enable them."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import Field, SecretStr

from pipeline.api.access.approvals import ASKED, approval_answer
from pipeline.api.body import Body
from pipeline.api.context import Context
from pipeline.api.listing import json_answer
from pipeline.api.types import Name, PathName
from pipeline.services.users.approvals import RoleChange, UserName, forbid_second_account
from pipeline.services.users.permissions import UserRole
from pipeline.services.users.users import (
    NewUser,
    StoredUser,
    add_user,
    disable_user,
    enable_user,
    list_users,
    set_password,
    set_role,
)

router = APIRouter(prefix="/users", tags=["Access"])
Password = Annotated[SecretStr, Field(min_length=1, max_length=1_000)]


class UserBody(Body):
    """A user to be added, who logs in by a password."""

    name: Name
    role: UserRole
    password: Password


class RoleBody(Body):
    """The role that a user gets."""

    role: UserRole


class PasswordBody(Body):
    """The password that a user gets."""

    password: Password


@dataclass(frozen=True)
class Users:
    """All users."""

    users: tuple[StoredUser, ...]


@router.get("", operation_id="list_users", response_model=Users)
def list_(context: Context) -> Response:
    """List the users."""
    return json_answer(Users, Users(list_users(context.session)))


@router.post("", operation_id="add_user", response_model=StoredUser, status_code=201)
def add(context: Context, body: UserBody) -> Response:
    """Add a user."""
    forbid_second_account(context.session, context.caller, body.name, body.role)
    user = add_user(context.session, NewUser(body.name, body.role, body.password.get_secret_value()))
    return json_answer(StoredUser, user, 201)


@router.post(
    "/{name}/role", operation_id="set_role", status_code=204, responses=ASKED, response_class=Response
)
def role(context: Context, name: PathName, body: RoleBody) -> Response:
    """Give a user another role; it ends the user's sessions."""
    if (pending := approval_answer(context, "set_role", RoleChange(name, body.role))) is not None:
        return pending
    set_role(context.session, name, body.role)
    return Response(status_code=204)


@router.post("/{name}/password", operation_id="set_password", status_code=204, response_class=Response)
def password(context: Context, name: PathName, body: PasswordBody) -> Response:
    """Give a user another password; it ends the user's sessions."""
    roles = {user.name: user.role for user in list_users(context.session)}
    forbid_second_account(context.session, context.caller, name, roles.get(name.strip().lower(), "viewer"))
    set_password(context.session, name, body.password.get_secret_value())
    return Response(status_code=204)


@router.post("/{name}/disable", operation_id="disable_user", status_code=204, response_class=Response)
def disable(context: Context, name: PathName) -> Response:
    """Let a user log in no more; sessions and tokens of the user end."""
    disable_user(context.session, name)
    return Response(status_code=204)


@router.post(
    "/{name}/enable", operation_id="enable_user", status_code=204, responses=ASKED, response_class=Response
)
def enable(context: Context, name: PathName) -> Response:
    """Let a user log in again."""
    if (pending := approval_answer(context, "enable_user", UserName(name))) is not None:
        return pending
    enable_user(context.session, name)
    return Response(status_code=204)
