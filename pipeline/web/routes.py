"""Who may use which page: as the table of the API, method and path, and what each needs."""

from collections.abc import Mapping

from pipeline.api.routes import Access, Needed
from pipeline.services.users.permissions import Permission

VIEW, ANSWER, WRITE_RULES = Permission.VIEW, Permission.ANSWER, Permission.WRITE_RULES

PAGE_ROUTES: Mapping[tuple[str, str], Needed] = {
    ("GET", "/static/{version}/{name}"): Access.PUBLIC,
    ("GET", "/log-in"): Access.PUBLIC,
    ("POST", "/log-in"): Access.PUBLIC,
    ("POST", "/log-out"): Access.CALLER,
    ("GET", "/"): VIEW,
    ("POST", "/jump"): VIEW,
    # review
    ("GET", "/queue"): VIEW,
    ("POST", "/queue/filters"): VIEW,
    ("POST", "/queue/filters/remove"): VIEW,
    ("POST", "/verdicts"): ANSWER,
    ("POST", "/verdicts/undo"): ANSWER,
    ("POST", "/claims"): ANSWER,
    ("POST", "/bulk"): ANSWER,
    ("POST", "/bulk/verdicts"): ANSWER,
    ("POST", "/bulk/undo"): ANSWER,
    ("GET", "/flags/{transaction_id}"): VIEW,
    ("POST", "/flags/{transaction_id}/notes"): ANSWER,
    ("POST", "/mutes/preview"): WRITE_RULES,
    ("POST", "/mutes"): WRITE_RULES,
    ("POST", "/rules/preview"): WRITE_RULES,
    ("POST", "/rules"): WRITE_RULES,
    ("POST", "/labels"): ANSWER,
    ("GET", "/entities/{handle}"): VIEW,
    ("GET", "/entities/{handle}/graph"): VIEW,
    ("GET", "/answered"): VIEW,
    ("GET", "/missed"): VIEW,
    # monitoring
    ("GET", "/overview"): VIEW,
    ("GET", "/strategy"): VIEW,
    ("GET", "/drift"): VIEW,
    ("GET", "/runs"): VIEW,
    ("GET", "/runs/work"): VIEW,
    ("GET", "/runs/matrix"): VIEW,
    ("POST", "/runs/now"): Permission.MANAGE_RUNS,
    ("POST", "/runs/backfill"): Permission.MANAGE_RUNS,
    ("POST", "/runs/train"): Permission.MANAGE_MODELS,
    ("POST", "/runs/compare"): Permission.MANAGE_MODELS,
    ("POST", "/jobs/{job_id}/stop"): Permission.MANAGE_RUNS,
    ("GET", "/comparisons/newest"): VIEW,
    ("GET", "/drift/newest"): VIEW,
    ("GET", "/sections/{name}"): VIEW,
    ("GET", "/charts/{name}/{scheme}/{width}"): VIEW,
    # administration
    ("GET", "/models"): VIEW,
    ("GET", "/models/{model_id}"): VIEW,
    ("POST", "/models/{model_id}/promote"): Permission.MANAGE_MODELS,
    ("POST", "/models/rollback"): Permission.MANAGE_MODELS,
    ("GET", "/rules"): VIEW,
    ("POST", "/rules/{rule_id}/end"): WRITE_RULES,
    ("GET", "/mutes"): VIEW,
    ("POST", "/mutes/{mute_id}/end"): WRITE_RULES,
    ("GET", "/approvals"): VIEW,
    ("POST", "/approvals/{approval_id}/approve"): VIEW,  # deciding needs the permission of what was asked for
    ("POST", "/approvals/{approval_id}/reject"): VIEW,
    ("GET", "/users"): Permission.MANAGE_USERS,
    ("POST", "/users"): Permission.MANAGE_USERS,
    ("POST", "/users/{name}/role"): Permission.MANAGE_USERS,
    ("POST", "/users/{name}/password"): Permission.MANAGE_USERS,
    ("POST", "/users/{name}/disable"): Permission.MANAGE_USERS,
    ("POST", "/users/{name}/enable"): Permission.MANAGE_USERS,
    ("GET", "/audit"): Permission.VIEW_AUDIT,
}
