"""
Four eyes: what one user asks for and another one approves, of the actions that `web.four_eyes` names.

A request is stored as it was asked for, and an approval carries out just that, in the name of who asked. The operator of the machine,
who could change the setting as well, needs no approval.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import TypeAdapter

from pipeline.config.sections import FourEyesAction
from pipeline.errors import Forbidden
from pipeline.expected_errors import EXPECTED_ERRORS, storable_text
from pipeline.services import admin, person
from pipeline.services.admin import UndoRequest
from pipeline.services.entities import entity_filter
from pipeline.services.models import models
from pipeline.services.models.models import PromotionRequest
from pipeline.services.pages import PAGE_ROWS, Page, decode_cursor, encode_cursor
from pipeline.services.person import EntityValue
from pipeline.services.review import labels, mutes, verdicts
from pipeline.services.review.labels import NewLabel
from pipeline.services.review.mutes import EntityTarget, NewMute
from pipeline.services.review.verdicts import NewVerdict
from pipeline.services.session import Session
from pipeline.services.users import users
from pipeline.services.users.masking import HIDDEN
from pipeline.services.users.permissions import Caller, Permission, user_role
from storage.database.column_types import as_datetime, as_micros
from storage.queries.approvals import amount_of, approval_page, approval_row, was_rejected
from storage.queries.rows import Row
from storage.users import approvals
from storage.users.users import find

LONG_MUTE = timedelta(days=30)
Status = Literal["pending", "approved", "done", "failed", "rejected", "expired"]
ActionName = Literal[
    "promote", "undo_batch", "undo_run", "erase", "set_role", "enable_user", "add_mute", "record_verdict", "add_labels",
]  # fmt: skip


@dataclass(frozen=True)
class RoleChange:
    """A user who is to have another role."""

    name: str
    role: str


@dataclass(frozen=True)
class UserName:
    """A user who is to be enabled."""

    name: str


@dataclass(frozen=True)
class Erasing:
    """The values of a person who is to be erased."""

    values: tuple[EntityValue, ...]


ApprovalRequest = (
    PromotionRequest | UndoRequest | Erasing | RoleChange | UserName | NewMute | NewVerdict | NewLabel
)


@dataclass(frozen=True)
class _GraveAction:
    """Which setting it belongs to, who may do it, of what request, which of those need two people, and how it is done."""

    setting: FourEyesAction
    permission: Permission
    kind: type[Any]
    is_grave: Callable[[Session, Any], bool]
    run: Callable[[Session, Any], Any]


def _always(_session: Session, _request: Any) -> bool:
    return True


def _against_the_gate(session: Session, request: PromotionRequest) -> bool:
    return was_rejected(session.store, request.policy, request.model_id)


def _is_long(session: Session, mute: NewMute) -> bool:
    now = as_datetime(session.now)
    return (mute.until - now if isinstance(mute.until, datetime) else mute.until) > LONG_MUTE


def _is_bulk_genuine(session: Session, answer: NewVerdict | NewLabel) -> bool:
    web, ids = session.config.web, tuple(dict.fromkeys(answer.transaction_ids))
    if answer.verdict != "genuine":
        return False
    return len(ids) > web.bulk_rows or (
        web.bulk_amount > 0 and len(ids) > 0 and amount_of(session.store, ids) > web.bulk_amount
    )


_ACTIONS: Mapping[ActionName, _GraveAction] = {
    "promote": _GraveAction(
        "promote", Permission.MANAGE_MODELS, PromotionRequest, _against_the_gate, models.promote
    ),
    "undo_batch": _GraveAction("undo", Permission.UNDO, UndoRequest, _always, admin.undo_batch),
    "undo_run": _GraveAction("undo", Permission.UNDO, UndoRequest, _always, admin.undo_run),
    "erase": _GraveAction(
        "erase",
        Permission.ERASE,
        Erasing,
        _always,
        lambda session, request: person.erase(session, request.values),
    ),
    "set_role": _GraveAction(
        "role",
        Permission.MANAGE_USERS,
        RoleChange,
        _always,
        lambda session, request: users.set_role(session, request.name, request.role),
    ),
    "enable_user": _GraveAction(
        "role",
        Permission.MANAGE_USERS,
        UserName,
        _always,
        lambda session, request: users.enable_user(session, request.name),
    ),
    "add_mute": _GraveAction("mute", Permission.WRITE_RULES, NewMute, _is_long, mutes.add_mute),
    "record_verdict": _GraveAction(
        "bulk_genuine", Permission.ANSWER, NewVerdict, _is_bulk_genuine, verdicts.record
    ),
    "add_labels": _GraveAction(
        "bulk_genuine", Permission.ANSWER, NewLabel, _is_bulk_genuine, labels.add_labels
    ),
}


@dataclass(frozen=True)
class Approval:
    """
    What a user asked for, and what became of it.

    Attributes
    ----------
    request
        Values of `schema.hash` columns are as they are stored.
    error
        Why it failed after it was approved.
    """

    approval_id: int
    action: ActionName
    request: ApprovalRequest
    requested_by: str
    requested_at: datetime
    expires_at: datetime
    status: Status
    decided_by: str | None
    decided_at: datetime | None
    error: str | None


def request_approval(
    session: Session, caller: Caller, action: ActionName, request: ApprovalRequest
) -> Approval | None:
    """
    Store a request for another user to approve; None if the caller may do it alone, and nothing is stored.

    Raises
    ------
    Forbidden
        The caller's role does not allow it, or a program asks for what needs two people.
    """
    if not needs_approval(session, caller, action, request):
        return None
    if caller.user_id is None or caller.token_id is not None:
        raise Forbidden(
            "this needs two people, and a token is none", remedy="log in and ask for it", code="four_eyes"
        )
    stored = _stored(action, _without_plain_values(session, request))
    expires_at = session.now + session.config.web.four_eyes_expire
    number = approvals.add(
        session.store, action, stored, caller.user_id, expires_at, caller.name, session.now
    )
    return _approval(session, approval_row(session.store, number))


def needs_approval(session: Session, caller: Caller, action: ActionName, request: ApprovalRequest) -> bool:
    """
    Whether another user must approve what the caller wants to do.

    Raises
    ------
    Forbidden
        The caller's role does not allow it at all.
    """
    kind = _ACTIONS[action]
    caller.require(kind.permission)
    return kind.setting in session.config.web.four_eyes and kind.is_grave(session, request)


def may_decide(caller: Caller, action: ActionName) -> bool:
    """Whether the caller may decide on requests of such an action; on one's own one can only withdraw it."""
    return caller.token_id is None and caller.may(_ACTIONS[action].permission)


def forbid_second_account(session: Session, caller: Caller, name: str, role: str) -> None:
    """
    Check that somebody who adds a user, or sets another's password, does not get a second pair of eyes by it.

    Raises
    ------
    Forbidden
        Roles need two people, and the user's role allows more than a viewer's.
    """
    caller.require(Permission.MANAGE_USERS)
    if "role" in session.config.web.four_eyes and name != caller.name and role != "viewer":
        raise Forbidden(
            f"one person alone may not make a log-in of the role {role}",
            remedy="add a viewer and ask for the role, or do it on the machine",
            code="four_eyes",
        )


def list_approvals(session: Session, *, limit: int = PAGE_ROWS, cursor: str | None = None) -> Page[Approval]:
    """
    All requests, the newest first.

    Raises
    ------
    InputError
        The cursor is not one of this list.
    """
    page = approval_page(session.store, limit, decode_cursor(cursor, keys=1))
    return Page(tuple(_approval(session, row) for row in page.rows), encode_cursor(page.next_position))


def approve(session: Session, caller: Caller, approval_id: int) -> Approval:
    """
    Approve a request and carry it out, in the name of who asked; one that fails says why.

    Raises
    ------
    Unknown
        There is no such request.
    Forbidden
        The caller asked for it, or may not do it, or is a program; or who asked may not do it any more.
    Refused
        It was decided already, or has expired.
    """
    row = approval_row(session.store, approval_id)
    action = _ACTIONS[row["action"]]
    _require_another(caller, action, row)
    _require_asker(session, action, row)
    _decide(session, caller, row, "approved")
    error = None
    try:
        action.run(replace(session, actor=row["requested_by"]), _request(row))
    except EXPECTED_ERRORS as failure:
        error = storable_text(failure)
    approvals.finish(session.store, approval_id, error)
    return _approval(session, approval_row(session.store, approval_id))


def reject(session: Session, caller: Caller, approval_id: int) -> Approval:
    """
    Reject a request, or withdraw one's own.

    Raises
    ------
    Unknown
        There is no such request.
    Forbidden
        The caller may not do what was asked for, or is a program.
    Refused
        It was decided already, or has expired.
    """
    row = approval_row(session.store, approval_id)
    _require_person(caller)
    caller.require(_ACTIONS[row["action"]].permission)
    _decide(session, caller, row, "rejected")
    return _approval(session, approval_row(session.store, approval_id))


def _decide(session: Session, caller: Caller, row: Row, decision: approvals.Decision) -> None:
    """Decide; of a person who is to be erased only the columns stay in the request, which would name them for ever."""
    request = _request(row)
    if isinstance(request, Erasing):
        request = Erasing(tuple(EntityValue(value.column, HIDDEN) for value in request.values))
    assert caller.user_id is not None
    approvals.decide(
        session.store,
        row["approval_id"],
        decision,
        _stored(row["action"], request),
        caller.user_id,
        caller.name,
        session.now,
    )


def _require_person(caller: Caller) -> None:
    if caller.user_id is None or caller.token_id is not None:
        raise Forbidden("a token cannot decide for a person", remedy="log in", code="four_eyes")


def _require_another(caller: Caller, action: _GraveAction, row: Row) -> None:
    _require_person(caller)
    caller.require(action.permission)
    if caller.user_id == row["user_id"]:
        raise Forbidden("who asked for it cannot approve it", remedy="ask somebody else", code="four_eyes")


def _require_asker(session: Session, action: _GraveAction, row: Row) -> None:
    user = find(session.store, row["requested_by"])
    assert user is not None
    asker = Caller(user.name, user_role(user.role), user.user_id)
    if user.disabled_at is not None or not asker.may(action.permission):
        raise Forbidden(
            f"{user.name}, who asked for it, may not do it any more", remedy="reject it", code="four_eyes"
        )


def _without_plain_values(session: Session, request: ApprovalRequest) -> ApprovalRequest:
    """The same request with values of entities as they are stored: of a `schema.hash` column none is stored in plain text."""
    if isinstance(request, Erasing):
        return Erasing(
            tuple(
                EntityValue(value.column, entity_filter(session, value.column, value.value))
                for value in request.values
            )
        )
    if isinstance(request, NewMute) and isinstance(request.target, EntityTarget):
        target = request.target
        stored = entity_filter(session, target.column, target.value)
        return replace(request, target=EntityTarget(target.column, stored))
    return request


def _stored(action: ActionName, request: ApprovalRequest) -> dict[str, Any]:
    stored: dict[str, Any] = TypeAdapter(_ACTIONS[action].kind).dump_python(request, mode="json")
    return stored


def _request(row: Row) -> ApprovalRequest:
    kind = _ACTIONS[row["action"]].kind
    request: ApprovalRequest = TypeAdapter(kind).validate_python(row["request"])
    return request


def _approval(session: Session, row: Row) -> Approval:
    action: ActionName = row["action"]
    status: Status = row["status"]
    if status == "pending" and as_micros(row["expires_at"]) <= session.now:
        status = "expired"
    return Approval(
        row["approval_id"],
        action,
        _request(row),
        row["requested_by"],
        row["requested_at"],
        row["expires_at"],
        status,
        row["decided_by_name"],
        row["decided_at"],
        row["error"],
    )
