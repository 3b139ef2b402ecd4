"""Missed frauds: what was not flagged, or was cleared by a person, and what would have caught it."""

from datetime import UTC, date, datetime, time
from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Response

from pipeline.api.context import Context
from pipeline.api.review.missed import visible_miss
from pipeline.schedule.run_context import LIVE
from pipeline.services.review.missed import (
    MissedRequest,
    MissKind,
    count_missed,
    list_missed,
    missed_since,
)
from pipeline.web.rendering import page

router = APIRouter()
PATH = "/missed"
ROWS_A_PAGE = 30


@router.get(PATH)
def missed(
    context: Context,
    since: Annotated[date | None, Query(ge=date(1970, 1, 1), le=date(2200, 1, 1))] = None,
    kind: MissKind | Literal[""] = "",
    cursor: Annotated[str | None, Query(max_length=10_000)] = None,
) -> Response:
    """Show frauds that became known since a day and had no flag, or had been cleared."""
    first = None if since is None else datetime.combine(since, time(), UTC)
    begin = missed_since(context.session, MissedRequest(LIVE, first))
    filters = {"since": f"{begin:%Y-%m-%d}", **({"kind": kind} if kind else {})}
    request = MissedRequest(LIVE, begin, kind or None)
    place = sorted(filters.items())
    found = list_missed(
        context.session, request, limit=ROWS_A_PAGE, cursor=context.app.cursors.open(cursor, PATH, place)
    )
    context.viewed("flags", "missed", len(found.items), (), **filters)
    following = context.app.cursors.seal(found.next_cursor, PATH, place)
    return page(
        context,
        "missed.html",
        place="missed",
        rows=[visible_miss(context, each) for each in found.items],
        counts={each.kind: each for each in count_missed(context.session, MissedRequest(LIVE, begin))},
        begin=begin,
        kind=kind,
        list_parameters={**filters, "since": f"{begin:%Y-%m-%dT%H:%M:%SZ}"},
        next_address=None if following is None else f"{PATH}?{urlencode({**filters, 'cursor': following})}",
        is_first=cursor is None,
    )
