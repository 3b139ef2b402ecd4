"""Who may do what: permissions, roles as one table of them, and the caller of a service."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, get_args

from pipeline.errors import Forbidden, InputError

Role = Literal["viewer", "reviewer", "rule_author", "model_owner", "administrator", "auditor", "scorer"]
UserRole = Literal["viewer", "reviewer", "rule_author", "model_owner", "administrator", "auditor"]
ROLES: tuple[Role, ...] = get_args(Role)
USER_ROLES: tuple[UserRole, ...] = get_args(UserRole)


class Permission(StrEnum):
    """What a role may allow."""

    VIEW = "view"
    SEE_VALUES = "see_values"
    ANSWER = "answer"
    WRITE_RULES = "write_rules"
    MANAGE_MODELS = "manage_models"
    MANAGE_RUNS = "manage_runs"
    SCORE = "score"
    INGEST = "ingest"
    EXPORT = "export"
    UNDO = "undo"
    ERASE = "erase"
    VIEW_AUDIT = "view_audit"
    MANAGE_USERS = "manage_users"


MEANING: Mapping[Permission, str] = {
    Permission.VIEW: "flags, entities, rules, models, runs, drift and quality, with the values of entities masked",
    Permission.SEE_VALUES: "values of entities and notes as they are stored",
    Permission.ANSWER: "verdicts, labels, notes and claims",
    Permission.WRITE_RULES: "rules and mutes",
    Permission.MANAGE_MODELS: "promote and roll back models, train, compare",
    Permission.MANAGE_RUNS: "run, backfill, fill gaps, send messages again",
    Permission.SCORE: "score transactions, stored or not",
    Permission.INGEST: "send transactions and labels",
    Permission.EXPORT: "export tables and whole lists",
    Permission.UNDO: "withdraw a batch or a run",
    Permission.ERASE: "show, export and erase what is stored of a person; holds",
    Permission.VIEW_AUDIT: "the audit trail",
    Permission.MANAGE_USERS: "users, their roles, tokens",
}
_REVIEWER = frozenset({Permission.VIEW, Permission.SEE_VALUES, Permission.ANSWER})
_RULE_AUTHOR = _REVIEWER | {Permission.WRITE_RULES}
_MODEL_OWNER = _RULE_AUTHOR | {
    Permission.MANAGE_MODELS,
    Permission.MANAGE_RUNS,
    Permission.SCORE,
    Permission.EXPORT,
}
PERMISSIONS: Mapping[Role, frozenset[Permission]] = {
    "viewer": frozenset({Permission.VIEW}),
    "reviewer": _REVIEWER,
    "rule_author": _RULE_AUTHOR,
    "model_owner": _MODEL_OWNER,
    "administrator": frozenset(Permission),
    "auditor": frozenset({Permission.VIEW, Permission.VIEW_AUDIT}),
    "scorer": frozenset({Permission.SCORE, Permission.INGEST}),
}


@dataclass(frozen=True)
class Caller:
    """
    A user, or a program with a token.

    Attributes
    ----------
    name
        As the audit trail names it.
    user_id
        Of the user, or of who issued the token; None for a token of the operator of the machine.
    token_id
        None for a user.
    """

    name: str
    role: Role
    user_id: int | None
    token_id: int | None = None

    def may(self, permission: Permission) -> bool:
        """Whether the caller's role allows it."""
        return permission in PERMISSIONS[self.role]

    def require(self, permission: Permission) -> None:
        """
        Check that the caller's role allows it.

        Raises
        ------
        Forbidden
            It does not.
        """
        if not self.may(permission):
            raise Forbidden(
                f"the role {self.role} does not allow {permission.value}",
                remedy=f"ask somebody whose role allows it: {', '.join(roles_with(permission))}",
            )


def roles_with(permission: Permission) -> tuple[Role, ...]:
    """The roles that allow it."""
    return tuple(role for role in ROLES if permission in PERMISSIONS[role])


def user_role(text: str) -> UserRole:
    """
    The role of a user from text.

    Raises
    ------
    InputError
        It is none.
    """
    for role in USER_ROLES:
        if role == text:
            return role
    raise InputError(
        f"{text!r} is no role of a user", remedy=f"choose {', '.join(USER_ROLES)}", code="unknown_role"
    )


def token_role(text: str) -> Role:
    """
    The role of a token from text.

    Raises
    ------
    InputError
        It is none.
    """
    for role in ROLES:
        if role == text:
            return role
    raise InputError(f"{text!r} is no role", remedy=f"choose {', '.join(ROLES)}", code="unknown_role")
