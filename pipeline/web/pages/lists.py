"""Rules, mutes and the audit trail as tables, with what can be done about a row."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from markupsafe import Markup

from pipeline.api.context import Context
from pipeline.api.types import PathNumber
from pipeline.number_text import counted
from pipeline.services.audit import AuditEntry, list_audit
from pipeline.services.review.mutes import end_mute, list_mutes
from pipeline.services.review.rules import end_rule, list_rules
from pipeline.services.users.masking import HIDDEN, value_for
from pipeline.services.users.permissions import Permission
from pipeline.web.record_text import record_text
from pipeline.web.rendering import page

router = APIRouter()
ROWS_A_PAGE = 100
VIEWED = {  # by what somebody did, what the number of rows counts
    "view flag": "payment", "view flags": "flag", "view entity": "payment", "view graph": "value", "view person": "payment",
    "view verdicts": "verdict", "view audit": "entry", "export": "row",
}  # fmt: skip
Cursor = Annotated[str | None, Query(max_length=10_000)]


@router.get("/rules")
def rules(context: Context, cursor: Cursor = None) -> Response:
    """List rules, the newest first."""
    found = list_rules(
        context.session, limit=ROWS_A_PAGE, cursor=context.app.cursors.open(cursor, "/rules", [])
    )
    rows = [
        (
            context.visible_text(each.text),
            each.state,
            each.flags,
            each.until,
            each.by,
            context.visible_text(each.reason),
        )
        for each in found.items
    ]
    ends = [f"/rules/{each.rule_id}/end" if each.state != "ended" else None for each in found.items]
    return _table(
        context,
        "rules",
        "Rules",
        ("Payments are flagged where", "State", "Flags", "Until", "By", "Why"),
        rows,
        found.next_cursor,
        ends,
    )


@router.post("/rules/{rule_id}/end")
def end_one_rule(context: Context, rule_id: PathNumber) -> Response:
    """End a rule; its flags stay."""
    end_rule(context.session, rule_id)
    return Response(status_code=204, headers={"HX-Redirect": "/rules"})


@router.get("/mutes")
def mutes(context: Context, cursor: Cursor = None) -> Response:
    """List mutes, the newest first."""
    found = list_mutes(
        context.session, limit=ROWS_A_PAGE, cursor=context.app.cursors.open(cursor, "/mutes", [])
    )
    rows = [
        (
            f"{each.kind} {each.name} {value_for(context.caller, each.value) or ''}",
            each.state, each.flags, each.until, each.by, context.visible_text(each.reason),
        )
        for each in found.items
    ]  # fmt: skip
    ends = [f"/mutes/{each.mute_id}/end" if each.state != "ended" else None for each in found.items]
    return _table(
        context,
        "mutes",
        "Mutes",
        ("Flags of", "State", "Muted", "Until", "By", "Why"),
        rows,
        found.next_cursor,
        ends,
    )


@router.post("/mutes/{mute_id}/end")
def end_one_mute(context: Context, mute_id: PathNumber) -> Response:
    """End a mute; what it has muted stays muted."""
    end_mute(context.session, mute_id)
    return Response(status_code=204, headers={"HX-Redirect": "/mutes"})


@router.get("/audit")
def audit(context: Context, cursor: Cursor = None) -> Response:
    """List who changed or looked at what, the newest first; what was changed may quote values."""
    found = list_audit(
        context.session, limit=ROWS_A_PAGE, cursor=context.app.cursors.open(cursor, "/audit", [])
    )
    context.viewed("audit", "all", len(found.items))
    sees = context.caller.may(Permission.SEE_VALUES)
    rows = [
        (
            each.at,
            each.actor,
            each.action,
            each.subject,
            detail_text(each) if sees else HIDDEN if each.after or each.before else "",
        )
        for each in found.items
    ]
    return _table(context, "audit", "Audit", ("Time", "Who", "Did", "To", "What"), rows, found.next_cursor)


def detail_text(entry: AuditEntry) -> Markup:
    """What was changed, or what was looked at and how much of it."""
    after = dict(entry.after or {})
    looked_at = VIEWED.get(entry.action)
    rows = after.pop("rows", None) if looked_at else None
    text = record_text(after, entry.before)
    if not isinstance(rows, int) or looked_at is None:
        return text
    return Markup("; ").join(filter(None, [Markup.escape(counted(rows, looked_at)), text]))


def _table(
    context: Context,
    name: str,
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    next_cursor: str | None,
    ends: Sequence[str | None] = (),
) -> Response:
    """
    A list as a page.

    Parameters
    ----------
    ends
        By row, where a form that ends it goes; None where there is nothing to end.
    """
    path, categorical = f"/{name}", context.app.config.schema_.categorical
    following = context.app.cursors.seal(next_cursor, path, [])
    return page(
        context,
        "list.html",
        place=name,
        title=title,
        columns=columns,
        rows=rows,
        ends=ends if context.caller.may(Permission.WRITE_RULES) else (),
        next_address=None if following is None else f"{path}?cursor={following}",
        fields=[
            "amount",
            *context.app.config.schema_.entities,
            *context.app.config.schema_.numeric,
            *categorical,
        ],
        example=" and ".join(["amount >= 500", *(f"{name} is missing" for name in categorical[:1])]),
    )
