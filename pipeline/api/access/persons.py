"""A person: what is stored of them, erasing it, and holds that keep it."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import Field

from pipeline.api.access.approvals import ASKED, approval_answer
from pipeline.api.body import Body
from pipeline.api.context import Context
from pipeline.api.expiry import ExpiringBody
from pipeline.api.listing import json_answer
from pipeline.api.types import Name, PathNumber
from pipeline.services.holds import NewHold, StoredHold, add_hold, end_hold, list_holds
from pipeline.services.person import EntityValue, Erasure, PersonSummary, erase, export, summarise
from pipeline.services.users.approvals import Erasing

router = APIRouter(tags=["Persons"])


class PersonValueBody(Body):
    """A value that stands for a person, as people know it."""

    column: Name
    value: Name


class PersonBody(Body):
    """The values that stand for a person."""

    values: Annotated[list[PersonValueBody], Field(min_length=1, max_length=100)]

    def entity_values(self) -> tuple[EntityValue, ...]:
        """As the services take them."""
        return tuple(EntityValue(each.column, each.value) for each in self.values)


class HoldBody(ExpiringBody):
    """A value, with its payments, that is not to be erased or pruned."""

    column: Name
    value: Name


@dataclass(frozen=True)
class Holds:
    """All holds, ended ones too."""

    holds: tuple[StoredHold, ...]


@router.post("/persons/summary", operation_id="summarise_person", response_model=PersonSummary)
def summary(context: Context, body: PersonBody) -> Response:
    """Count what is stored of a person, and propose other values of theirs."""
    found = summarise(context.session, body.entity_values())
    context.viewed("person", "summary", sum(found.counts.values()), body.entity_values())
    return json_answer(PersonSummary, found)


@router.post("/persons/export", operation_id="export_person", response_class=Response)
def export_(context: Context, body: PersonBody) -> Response:
    """Give everything that is stored of a person, as JSON."""
    found = export(context.session, body.entity_values())
    context.viewed("person", "export", sum(found.counts.values()), body.entity_values())
    return Response(found.document, media_type="application/json")


@router.post("/persons/erase", operation_id="erase_person", response_model=Erasure, responses=ASKED)
def erase_(context: Context, body: PersonBody) -> Response:
    """Replace the values of a person by random pseudonyms everywhere."""
    values = body.entity_values()
    if (pending := approval_answer(context, "erase", Erasing(values))) is not None:
        return pending
    return json_answer(Erasure, erase(context.session, values))


@router.get("/holds", operation_id="list_holds", response_model=Holds)
def holds(context: Context) -> Response:
    """List the holds, the newest first."""
    return json_answer(Holds, Holds(list_holds(context.session)))


@router.post("/holds", operation_id="add_hold", response_model=StoredHold, status_code=201)
def hold(context: Context, body: HoldBody) -> Response:
    """Keep a value and its payments from being erased or pruned."""
    new = NewHold(body.column, body.value, body.end, body.reason)
    return json_answer(StoredHold, add_hold(context.session, new), 201)


@router.post("/holds/{hold_id}/end", operation_id="end_hold", status_code=204, response_class=Response)
def end(context: Context, hold_id: PathNumber) -> Response:
    """End a hold early."""
    end_hold(context.session, hold_id)
    return Response(status_code=204)
