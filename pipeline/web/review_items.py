"""Flags and cases as pages show them to their caller: masked, with handles, and without a mark on what was drawn at random."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from pipeline.api.context import RequestContext
from pipeline.api.review.flags import VisibleFlag, visible_flag
from pipeline.services.records import Amount
from pipeline.services.review.cases import AUDIT, AnswerTime, Case
from pipeline.services.review.claims import claims_of_others
from pipeline.services.review.flags import FlagRecord
from pipeline.services.users.masking import value_for

AUDIT_REASON = "AUDIT_SAMPLE"
VERDICTS = {
    "fraud": "Fraud",
    "genuine": "Genuine",
    "no_opinion": "Closed without opinion",
    "retracted": "Taken back",
}
STATUSES = {
    "open": "Open", "fraud": "Fraud", "genuine": "Genuine", "closed": "Closed without opinion", "expired": "Expired",
}  # fmt: skip


@dataclass(frozen=True)
class VisibleCase:
    """
    A case as its caller may see it.

    Attributes
    ----------
    column, value, handle
        Of its entity; None without one.
    versions
        JSON of the open flags' ids and versions, for verdicts.
    """

    case_id: str
    column: str | None
    value: str | None
    handle: str | None
    flags: tuple[VisibleFlag, ...]
    answered: int
    expected_loss: Amount | None
    claimed_by: str | None
    answer: AnswerTime
    versions: str


def unmarked_flag(context: RequestContext, flag: FlagRecord) -> VisibleFlag:
    """A flag as the caller may see it; one of the audit sample looks like all others until it is answered."""
    if flag.channel == AUDIT and flag.status == "open":
        reasons = tuple(reason for reason in flag.reasons if reason.code != AUDIT_REASON)
        flag = replace(flag, channel="", reasons=reasons)
    return visible_flag(context, flag)


def visible_case(context: RequestContext, case: Case) -> VisibleCase:
    """A case as the caller may see it."""
    column, stored = case.entity or (None, None)
    handle = None if column is None or stored is None else context.app.handles.handle(column, stored)
    return VisibleCase(
        case.case_id,
        column,
        value_for(context.caller, stored),
        handle,
        tuple(unmarked_flag(context, flag) for flag in case.flags),
        case.answered,
        case.expected_loss,
        case.claimed_by,
        case.answer,
        versions(case.flags),
    )


def workers_on(context: RequestContext, transaction_ids: Sequence[str]) -> dict[str, str]:
    """Who else works on each of these flags, by transaction."""
    claims = claims_of_others(context.session, transaction_ids)
    return {claim.transaction_id: claim.by for claim in claims}


def versions(flags: Iterable[FlagRecord]) -> str:
    """The ids of flags with the version that a verdict on each sends as `if_seen`."""
    return json.dumps([[flag.transaction_id, flag.version] for flag in flags], separators=(",", ":"))
