"""Rules of analysts: try one on history, add, list and end it."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import Field, StringConstraints

from pipeline.api.body import Body
from pipeline.api.context import Context, RequestContext
from pipeline.api.expiry import ExpiringBody
from pipeline.api.listing import Listing, Parameters, json_answer
from pipeline.api.review.mutes import EndedAt
from pipeline.api.types import LongText, PathNumber
from pipeline.services.review.rules import (
    NewRule,
    RuleName,
    RulePreview,
    StoredRule,
    add_rule,
    end_rule,
    list_rules,
    preview_rule,
    rule_names,
)

router = APIRouter(prefix="/rules", tags=["Review"])
RuleText = Annotated[LongText, StringConstraints(min_length=1)]


class RuleBody(ExpiringBody):
    """A rule to be added, such as `amount > 500 and country = "NG"`."""

    text: RuleText


class PreviewBody(Body):
    """A rule to try on the newest days of the stored history."""

    text: RuleText
    days: Annotated[int, Field(ge=1, le=92)] = 28


@dataclass(frozen=True)
class RuleNames:
    """The fields and features that a rule may use."""

    names: tuple[RuleName, ...]


@router.get("", operation_id="list_rules", response_model=Listing[StoredRule])
def list_(context: Context, parameters: Parameters) -> Response:
    """List rules with the number of flags that each has raised, ended ones too, the newest first."""
    return parameters.answer(StoredRule, partial(list_rules, context.session), partial(_visible, context))


@router.post("", operation_id="add_rule", response_model=StoredRule, status_code=201)
def add(context: Context, body: RuleBody) -> Response:
    """Add a rule; it applies to transactions from now on."""
    rule = add_rule(context.session, NewRule(body.end, body.reason, body.text))
    return json_answer(StoredRule, rule, 201)


@router.get("/names", operation_id="list_rule_names", response_model=RuleNames)
def names(context: Context) -> RuleNames:
    """List the fields and features that a rule may use."""
    return RuleNames(tuple(rule_names(context.app.config)))


@router.post("/preview", operation_id="preview_rule", response_model=RulePreview)
def preview(context: Context, body: PreviewBody) -> Response:
    """Try a rule on history: how many payments it would have flagged, and how much of it was fraud."""
    return json_answer(RulePreview, preview_rule(context.session, body.text, body.days))


@router.post("/{rule_id}/end", operation_id="end_rule", response_model=EndedAt)
def end(context: Context, rule_id: PathNumber) -> Response:
    """End a rule early; its flags stay."""
    return json_answer(EndedAt, EndedAt(end_rule(context.session, rule_id)))


def _visible(context: RequestContext, rule: StoredRule) -> StoredRule:
    return replace(
        rule, text=context.visible_text(rule.text) or "", reason=context.visible_text(rule.reason) or ""
    )
