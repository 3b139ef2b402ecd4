"""What was answered: by whom, when and how, with what became of the payments since."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Response

from pipeline.api.context import Context
from pipeline.api.review.flags import VisibleFlag
from pipeline.schedule.run_context import LIVE
from pipeline.services.review.flags import show_flags
from pipeline.services.review.verdicts import Verdict, VerdictRecord, VerdictRequest, list_verdicts
from pipeline.web.rendering import page
from pipeline.web.review_items import VERDICTS, unmarked_flag

router = APIRouter()
PATH = "/answered"
ROWS_A_PAGE = 50
When = Literal["day", "week", "month"]
SPANS: Mapping[str, timedelta] = {
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
    "month": timedelta(days=30),
}
FACETS = {
    "by": ("Answered by", {"me": "me", "anyone": "anyone"}),
    "when": ("When", {"day": "up to a day ago", "week": "up to a week ago", "month": "up to 30 days ago"}),
    "verdict": ("How", {name: VERDICTS[name] for name in ("fraud", "genuine", "no_opinion")}),
}


@dataclass(frozen=True)
class AnsweredPayment:
    """An answer that counts, with the flag as its caller may see it; None for a payment without one."""

    answer: VerdictRecord
    note: str | None
    flag: VisibleFlag | None


@router.get(PATH)
def answered(
    context: Context,
    by: Literal["me", "anyone"] = "me",
    when: When | None = None,
    verdict: Verdict | None = None,
    cursor: Annotated[str | None, Query(max_length=10_000)] = None,
) -> Response:
    """List answers, the newest first."""
    chosen = {"by": by} | ({"when": when} if when else {}) | ({"verdict": verdict} if verdict else {})
    now = datetime.fromtimestamp(context.session.now / 1_000_000, UTC)
    request = VerdictRequest(
        by=context.caller.name if by == "me" else None,
        verdict=verdict,
        since=None if when is None else now - SPANS[when],
        counting=True,
    )
    place = sorted(chosen.items())
    found = list_verdicts(
        context.session, request, limit=ROWS_A_PAGE, cursor=context.app.cursors.open(cursor, PATH, place)
    )
    flags = show_flags(context.session, LIVE, [each.transaction_id for each in found.items])
    context.viewed("flags", "answered", len(found.items), (), **chosen)
    following = context.app.cursors.seal(found.next_cursor, PATH, place)
    return page(
        context,
        "answers.html",
        place="queue",
        rows=[
            AnsweredPayment(
                each,
                context.visible_text(each.note),
                unmarked_flag(context, flags[each.transaction_id]) if each.transaction_id in flags else None,
            )
            for each in found.items
        ],
        verdicts=VERDICTS,
        facets=FACETS,
        chosen=chosen,
        path=PATH,
        with_=lambda **changes: f"{PATH}?{urlencode({k: v for k, v in {**chosen, **changes}.items() if v})}",
        list_parameters={
            name: value
            for name, value in (
                ("by", request.by), ("verdict", verdict), ("since", request.since and f"{request.since:%Y-%m-%dT%H:%M:%SZ}"),
                ("counting", "true"),
            )
            if value
        },
        next_address=None if following is None else f"{PATH}?{urlencode({**chosen, 'cursor': following})}",
        is_first=cursor is None,
    )  # fmt: skip
