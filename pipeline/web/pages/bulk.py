"""One answer for everything that is selected: first a list of what it labels, then the answer."""

from typing import Annotated

from fastapi import APIRouter, Form, Response

from pipeline.api.context import Context
from pipeline.schedule.run_context import LIVE
from pipeline.services.review.cases import case_transactions
from pipeline.services.review.flags import FlagRecord, show_flags
from pipeline.services.review.verdicts import Verdict
from pipeline.web.forms import Anyway, FlagList, NoteText, flag_versions
from pipeline.web.pages.queue import Address
from pipeline.web.pages.verdicts import take_back, write_verdicts
from pipeline.web.rendering import page
from pipeline.web.review_items import VERDICTS, unmarked_flag, versions, workers_on

router = APIRouter()
LISTED = 200  # payments that the list shows; the answer goes to all
MANY = 50  # above so many the answer that is proposed is none


@router.post("/bulk")
def preview(
    context: Context,
    address: Address,
    flags: Annotated[str, Form(max_length=2_000_000)] = "",
    verdict: Annotated[str, Form()] = "",
) -> Response:
    """List what an answer would label: the flags that are named, or without any all that the filters let through."""
    names = (
        [name for name, _ in flag_versions(flags)]
        if flags
        else list(case_transactions(context.session, address.filters).transaction_ids)
    )
    seen = dict(flag_versions(flags)) if flags else {}
    found = [
        flag for flag in show_flags(context.session, LIVE, names).values() if flag.status == "open" or seen
    ]
    channel = address.filters.channel
    context.viewed("flags", "bulk", min(len(found), LISTED))
    proposed = verdict if verdict in VERDICTS and len(found) <= MANY else "no_opinion"
    return page(
        context,
        "bulk.html",
        place="queue",
        flags=[unmarked_flag(context, flag) for flag in found[:LISTED]],
        count=len(found),
        total=_sum(found),
        currency=context.app.config.schema_.base_currency,
        versions=flags or versions(found),
        proposed=proposed,
        many=len(found) > MANY,
        workers=workers_on(context, [flag.transaction_id for flag in found]),
        channel=channel if any(flag.channel != channel for flag in found) else None,
    )


@router.post("/bulk/verdicts")
def answer(
    context: Context,
    flags: FlagList,
    verdict: Annotated[Verdict, Form()],
    note: NoteText = "",
    anyway: Anyway = False,
) -> Response:
    """Answer them all; those that somebody else works on only if `anyway` says so."""
    done = write_verdicts(context, flag_versions(flags), verdict, note, anyway=anyway)
    return page(
        context,
        "bulk_done.html",
        place="queue",
        done=done,
        label=VERDICTS[verdict],
        verdict=verdict,
        undone=False,
    )


@router.post("/bulk/undo")
def undo(context: Context, flags: FlagList) -> Response:
    """Take all of them back."""
    seen = flag_versions(flags)
    take_back(context, seen)
    return page(context, "bulk_done.html", place="queue", done=None, label="", verdict="", undone=len(seen))


def _sum(flags: list[FlagRecord]) -> str:
    return f"{sum(flag.amount_base.value for flag in flags):,.2f}"
