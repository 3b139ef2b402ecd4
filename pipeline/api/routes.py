"""
Who may use which route: one table of method and path, and the permission that each needs.

What is not in the table cannot be reached, so no route is open by mistake; `pipeline.services.users.permissions` says which
roles have a permission.
"""

from collections.abc import Mapping
from enum import Enum
from typing import TypeAlias

from pipeline.services.users.permissions import Permission


class Access(Enum):
    """What a route needs that needs no permission."""

    PUBLIC = "nothing: it shows nothing of the monitor"
    CALLER = "to be logged in, or a token"


Needed: TypeAlias = Permission | Access
VIEW, ANSWER, WRITE_RULES = Permission.VIEW, Permission.ANSWER, Permission.WRITE_RULES
API = "/api/v1"

_PAGES: Mapping[tuple[str, str], Needed] = {
    ("GET", "/healthz"): Access.PUBLIC,
    ("GET", "/readyz"): Access.PUBLIC,
    ("GET", "/metrics"): VIEW,
    ("GET", "/docs/problems.md"): Access.PUBLIC,
    ("GET", "/oidc/login"): Access.PUBLIC,
    ("GET", "/oidc/callback"): Access.PUBLIC,
}
_API: Mapping[tuple[str, str], Needed] = {
    ("GET", "/openapi.json"): Access.PUBLIC,
    # who asks
    ("POST", "/session"): Access.PUBLIC,
    ("GET", "/session"): Access.CALLER,
    ("DELETE", "/session"): Access.CALLER,
    ("POST", "/session/password"): Access.CALLER,
    ("GET", "/approvals"): VIEW,  # deciding needs the permission of what is asked for
    ("POST", "/approvals/{approval_id}/approve"): VIEW,
    ("POST", "/approvals/{approval_id}/reject"): VIEW,
    ("GET", "/users"): Permission.MANAGE_USERS,
    ("POST", "/users"): Permission.MANAGE_USERS,
    ("POST", "/users/{name}/role"): Permission.MANAGE_USERS,
    ("POST", "/users/{name}/password"): Permission.MANAGE_USERS,
    ("POST", "/users/{name}/disable"): Permission.MANAGE_USERS,
    ("POST", "/users/{name}/enable"): Permission.MANAGE_USERS,
    ("GET", "/tokens"): Permission.MANAGE_USERS,
    ("POST", "/tokens"): Permission.MANAGE_USERS,
    ("POST", "/tokens/{token_id}/revoke"): Permission.MANAGE_USERS,
    ("POST", "/persons/summary"): Permission.ERASE,
    ("POST", "/persons/export"): Permission.ERASE,
    ("POST", "/persons/erase"): Permission.ERASE,
    ("GET", "/holds"): Permission.ERASE,
    ("POST", "/holds"): Permission.ERASE,
    ("POST", "/holds/{hold_id}/end"): Permission.ERASE,
    # review
    ("GET", "/flags"): VIEW,
    ("GET", "/flags/count"): VIEW,
    ("GET", "/flags/{transaction_id}"): VIEW,
    ("GET", "/missed"): VIEW,
    ("GET", "/verdicts"): VIEW,
    ("POST", "/verdicts"): ANSWER,
    ("POST", "/verdicts/undo"): ANSWER,
    ("POST", "/labels"): ANSWER,
    ("POST", "/labels/retract"): ANSWER,
    ("POST", "/labels/submit"): Permission.INGEST,
    ("GET", "/notes"): VIEW,
    ("GET", "/claims"): VIEW,
    ("POST", "/claims"): ANSWER,
    ("POST", "/claims/release"): ANSWER,
    ("GET", "/mutes"): VIEW,
    ("POST", "/mutes"): WRITE_RULES,
    ("POST", "/mutes/{mute_id}/end"): WRITE_RULES,
    ("GET", "/rules"): VIEW,
    ("POST", "/rules"): WRITE_RULES,
    ("GET", "/rules/names"): VIEW,
    ("POST", "/rules/preview"): WRITE_RULES,
    ("POST", "/rules/{rule_id}/end"): WRITE_RULES,
    # payments
    ("POST", "/transactions"): Permission.INGEST,
    ("POST", "/score"): Permission.SCORE,
    ("GET", "/transactions/{transaction_id}"): VIEW,
    ("GET", "/transactions/{transaction_id}/labels"): VIEW,
    ("POST", "/transactions/{transaction_id}/verdict"): ANSWER,
    ("POST", "/transactions/{transaction_id}/notes"): ANSWER,
    ("POST", "/entities"): VIEW,
    ("GET", "/entities/{handle}"): VIEW,
    ("GET", "/entities/{handle}/transactions"): VIEW,
    ("GET", "/feeds"): VIEW,
    ("GET", "/waiting"): VIEW,
    ("GET", "/export/{table}"): Permission.EXPORT,
    # models
    ("GET", "/models"): VIEW,
    ("GET", "/models/{model_id}"): VIEW,
    ("POST", "/models/{model_id}/promote"): Permission.MANAGE_MODELS,
    ("POST", "/models/rollback"): Permission.MANAGE_MODELS,
    ("GET", "/choices"): VIEW,
    ("GET", "/choices/newest"): VIEW,
    ("GET", "/choices/{choice_id}"): VIEW,
    ("GET", "/readiness"): VIEW,
    ("GET", "/comparisons"): VIEW,
    ("GET", "/comparisons/{comparison_id}"): VIEW,
    ("GET", "/policies/{policy}/diff"): VIEW,
    ("GET", "/policies/{policy}/differences"): VIEW,
    # monitoring and runs
    ("GET", "/drift"): VIEW,
    ("GET", "/quality"): VIEW,
    ("GET", "/rates"): VIEW,
    ("GET", "/limits"): VIEW,
    ("GET", "/messages"): VIEW,
    ("GET", "/runs"): VIEW,
    ("POST", "/runs/{run_id}/undo"): Permission.UNDO,
    ("POST", "/batches/{batch_id}/undo"): Permission.UNDO,
    ("GET", "/gaps"): VIEW,
    ("GET", "/windows"): VIEW,
    ("GET", "/backfills"): VIEW,
    ("POST", "/runs"): Permission.MANAGE_RUNS,
    ("POST", "/backfills"): Permission.MANAGE_RUNS,
    ("POST", "/trainings"): Permission.MANAGE_MODELS,
    ("POST", "/comparisons"): Permission.MANAGE_MODELS,
    ("GET", "/jobs"): VIEW,
    ("GET", "/jobs/{job_id}"): VIEW,
    ("POST", "/jobs/{job_id}/stop"): Permission.MANAGE_RUNS,
    ("GET", "/audit"): Permission.VIEW_AUDIT,
    ("GET", "/audit/check"): Permission.VIEW_AUDIT,
}

ROUTES: Mapping[tuple[str, str], Needed] = {
    **_PAGES,
    **{(method, API + path): needed for (method, path), needed in _API.items()},
}
