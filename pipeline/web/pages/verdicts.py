"""Answers to flags from the queue and from a flag's page, their undoing, and claims."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter, Form, Response

from pipeline.api.context import Context, RequestContext
from pipeline.services.review.cases import case_of
from pipeline.services.review.claims import NewClaim, claim, release
from pipeline.services.review.verdicts import (
    Action,
    NewVerdict,
    UndoneVerdict,
    Verdict,
    VerdictBatch,
    VerdictRow,
    VerdictRowResult,
    record_each,
    undo,
)
from pipeline.services.users.approvals import request_approval
from pipeline.web.forms import Anyway, FlagList, NoteText, flag_versions
from pipeline.web.rendering import page
from pipeline.web.review_items import VERDICTS, visible_case, workers_on

router = APIRouter()
ROWS_A_WRITE = 500  # a write of so many takes well under a second, and others' come between
UNDONE = "undone in the console"
Place = Annotated[Literal["queue", "flag"], Form()]  # which page a form is on


@dataclass(frozen=True)
class Written:
    """
    What became of answers.

    Attributes
    ----------
    needs_approval
        Whether another person must approve them; nothing is written then.
    claimed
        The ids and versions of flags that others work on, so that they were left alone.
    workers
        Who works on those.
    """

    written: tuple[VerdictRowResult, ...]
    refused: tuple[VerdictRowResult, ...]
    needs_approval: bool = False
    claimed: tuple[tuple[str, str | None], ...] = ()
    workers: tuple[str, ...] = ()

    @property
    def versions(self) -> str:
        """The ids that were written with their versions now, for an undo."""
        return json.dumps([[row.transaction_id, row.current.version] for row in self.written])


def write_verdicts(
    context: RequestContext,
    versions: Sequence[tuple[str, str | None]],
    verdict: Verdict,
    note: str,
    fraud_type: str | None = None,
    action: Action = "none",
    *,
    anyway: bool,
) -> Written:
    """
    Write one answer for all of these flags, in chunks, or ask for the approval of what needs two people.

    Parameters
    ----------
    anyway
        Also for flags that others have claimed.
    """
    workers = {} if anyway else workers_on(context, [name for name, _ in versions])
    claimed = tuple(row for row in versions if row[0] in workers)
    versions = [row for row in versions if row[0] not in workers]
    left = (claimed, tuple(sorted(set(workers.values()))))
    if verdict == "genuine" and versions:
        ids = tuple(name for name, _ in versions)
        answer = NewVerdict(ids, verdict, None, action, note)
        if request_approval(context.session, context.caller, "record_verdict", answer) is not None:
            return Written((), (), True, *left)
    results: list[VerdictRowResult] = []
    for first in range(0, len(versions), ROWS_A_WRITE):
        part = versions[first : first + ROWS_A_WRITE]
        rows = tuple(VerdictRow(name, verdict, fraud_type, action, note, version) for name, version in part)
        results += record_each(context.session, VerdictBatch(rows)).results
    written = tuple(row for row in results if row.code is None)
    return Written(written, tuple(row for row in results if row.code is not None), False, *left)


def take_back(context: RequestContext, versions: Sequence[tuple[str, str | None]]) -> None:
    """
    Undo the newest verdict on each of these payments.

    Raises
    ------
    Refused
        Somebody has answered one of them since; nothing is undone.
    """
    seen = {name: version for name, version in versions if version is not None}
    undo(context.session, UndoneVerdict(tuple(name for name, _ in versions), UNDONE, seen))


@router.post("/verdicts")
def answer(
    context: Context,
    flags: FlagList,
    verdict: Annotated[Verdict, Form()],
    entity: Annotated[str, Form(max_length=1_000)] = "",
    note: NoteText = "",
    fraud_type: Annotated[str, Form(alias="type", max_length=200)] = "",
    action: Annotated[Action, Form()] = "none",
    place: Place = "queue",
    anyway: Anyway = False,
) -> Response:
    """Answer the open payments of a case, or one payment; those that somebody else works on only if `anyway` says so."""
    seen = flag_versions(flags)
    done = write_verdicts(context, seen, verdict, note, fraud_type or None, action, anyway=anyway)
    return page(
        context,
        "answered.html",
        place="queue",
        tag="li" if place == "queue" else "div",
        form_place=place,
        written=done.written,
        written_ids=done.versions,
        refused=done.refused,
        needs_approval=done.needs_approval,
        workers=done.workers,
        claimed=done.claimed,
        claimed_ids=json.dumps(done.claimed),
        fraud_type=fraud_type,
        action=action,
        opens=seen[0][0],
        verdict=verdict,
        label=VERDICTS[verdict],
        note=note,
        entity=entity,
    )


@router.post("/verdicts/undo")
def undo_(context: Context, flags: FlagList, place: Place = "queue") -> Response:
    """Take answers back; the case is as it was before."""
    seen = flag_versions(flags)
    take_back(context, seen)
    return _after(context, [name for name, _ in seen], place)


@router.post("/claims")
def claim_(
    context: Context,
    flags: FlagList,
    release_: Annotated[str, Form(alias="release")] = "",
    place: Place = "queue",
) -> Response:
    """Claim the payments of a case, or give them back."""
    ids = tuple(name for name, _ in flag_versions(flags))
    if release_:
        release(context.session, ids)
    else:
        claim(context.session, NewClaim(ids))
    return _after(context, ids, place)


def _after(context: RequestContext, ids: Sequence[str], place: str) -> Response:
    """The case as it is now, for its place in the queue; the page of a flag is loaded again."""
    if place == "flag":
        return Response(status_code=204, headers={"HX-Refresh": "true"})
    case = case_of(context.session, ids)
    context.viewed("flags", "case", len(case.flags))
    return page(context, "case.html", place="queue", case=visible_case(context, case))
