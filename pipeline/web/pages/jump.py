"""One box that leads anywhere: to a payment by its id, or to an entity by its value."""

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Form, Response

from pipeline.api.context import Context, RequestContext
from pipeline.expected_errors import EXPECTED_ERRORS
from pipeline.schedule.run_context import LIVE
from pipeline.services.data.payments import EntityRequest, entity_timeline, show_payment
from pipeline.services.entities import entity_filter
from pipeline.web.rendering import page

router = APIRouter()


@router.post("/jump")
def jump(context: Context, text: Annotated[str, Form(max_length=200)] = "") -> Response:
    """Go to what a text names; several entities may have the same value, and are offered all."""
    text = text.strip()
    if not text:
        return page(context, "jump.html", place="", places=(), text=text)
    places = _entities(context, text)
    if _is_payment(context, text):
        places = [("transaction", f"/flags/{quote(text, safe='')}"), *places]
    if len(places) == 1:
        return Response(status_code=204, headers={"HX-Redirect": places[0][1]})
    return page(context, "jump.html", place="", places=places, text=text)


def _is_payment(context: RequestContext, text: str) -> bool:
    try:
        show_payment(context.session, LIVE, text)
    except EXPECTED_ERRORS:
        return False
    return True


def _entities(context: RequestContext, text: str) -> list[tuple[str, str]]:
    """The entity columns that have payments of this value, with the addresses of their pages."""
    places = []
    for column in context.app.config.schema_.entities:
        try:
            stored = entity_filter(context.session, column, text)
        except EXPECTED_ERRORS:
            continue
        if entity_timeline(context.session, EntityRequest(LIVE, column, stored), limit=1).items:
            places.append((column, f"/entities/{context.app.handles.handle(column, stored)}"))
    return places
