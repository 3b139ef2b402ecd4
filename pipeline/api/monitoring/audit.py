"""The audit trail: its entries, and whether anything was changed in it."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from fastapi import APIRouter, Response

from pipeline.api.context import Context, RequestContext
from pipeline.api.listing import Listing, Parameters, json_answer
from pipeline.api.types import Name, Since, Until
from pipeline.services.admin import ChainCheck, verify_audit
from pipeline.services.audit import AuditEntry, AuditRequest, list_audit
from pipeline.services.users.masking import HIDDEN
from pipeline.services.users.permissions import Permission

router = APIRouter(prefix="/audit", tags=["Audit"])
QUOTING = ("note", "reason", "text", "value")  # members of a change that quote people, or a value of one


@dataclass(frozen=True)
class AuditCheck:
    """What the chain of hashes proves; `whole` if nothing contradicts it."""

    whole: bool
    check: ChainCheck


@router.get("", operation_id="list_audit", response_model=Listing[AuditEntry])
def list_(
    context: Context,
    parameters: Parameters,
    actor: Name | None = None,
    action: Name | None = None,
    subject: Name | None = None,
    since: Since = None,
    until: Until = None,
) -> Response:
    """List who changed or looked at what, the newest first."""
    request = AuditRequest(actor, action, subject, since, until)
    return parameters.answer(
        AuditEntry,
        partial(list_audit, context.session, request),
        partial(_visible, context),
        viewed=lambda rows: context.viewed("audit", "trail", rows),
    )


@router.get("/check", operation_id="check_audit", response_model=AuditCheck)
def check(context: Context, newest_hash: Name | None = None) -> Response:
    """Check that no entry was changed, removed or put in later; `newest_hash` of an earlier check must still be there."""
    found = verify_audit(context.session, newest_hash)
    return json_answer(AuditCheck, AuditCheck(found.is_whole, found))


def _visible(context: RequestContext, entry: AuditEntry) -> AuditEntry:
    if context.caller.may(Permission.SEE_VALUES):
        return entry
    hidden = {*QUOTING, *context.app.config.schema_.entities}
    return replace(entry, before=_without(hidden, entry.before), after=_without(hidden, entry.after))


def _without(hidden: Collection[str], change: Any) -> Any:
    if not isinstance(change, dict):
        return change
    return {
        name: HIDDEN if name in hidden and value else _without(hidden, value)
        for name, value in change.items()
    }
