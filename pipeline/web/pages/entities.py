"""An entity: its whole history, any payment of which can be labelled, and the graph of what shares payments with it."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from pipeline.api.context import Context, RequestContext
from pipeline.api.data.transactions import visible_payment
from pipeline.api.types import PathHandle
from pipeline.rendering.text import safe_text
from pipeline.schedule.run_context import LIVE
from pipeline.services.data.payments import EntityRequest, entity_timeline
from pipeline.services.entity_graph import (
    HOPS,
    NEIGHBOURS_MAX,
    NODES_MAX,
    EntityGraph,
    GraphNode,
    entity_graph,
)
from pipeline.services.person import EntityValue
from pipeline.services.users.masking import value_for
from pipeline.web.drawings import Node, draw_graph, draw_timeline
from pipeline.web.rendering import page

router = APIRouter()
PAYMENTS_A_PAGE = 100


@router.get("/entities/{handle}")
def show(
    context: Context, handle: PathHandle, cursor: Annotated[str | None, Query(max_length=10_000)] = None
) -> Response:
    """Show the payments of an entity, the newest first."""
    entity = context.app.handles.resolve(handle)
    request = EntityRequest(LIVE, entity.column, entity.value)
    path = f"/entities/{handle}"
    found = entity_timeline(
        context.session, request, limit=PAYMENTS_A_PAGE, cursor=context.app.cursors.open(cursor, path, [])
    )
    context.viewed("entity", entity.column, len(found.items), [EntityValue(entity.column, entity.value)])
    following = context.app.cursors.seal(found.next_cursor, path, [])
    return page(
        context,
        "entity.html",
        place="queue",
        column=entity.column,
        value=value_for(context.caller, entity.value),
        handle=handle,
        payments=[visible_payment(context, each) for each in found.items],
        currency=context.app.config.schema_.base_currency,
        picture=draw_timeline(tuple(reversed(found.items)), None),
        next_address=None if following is None else f"{path}?cursor={following}",
        is_first=cursor is None,
    )


@router.get("/entities/{handle}/graph")
def show_graph(context: Context, handle: PathHandle) -> Response:
    """Show the graph around an entity, as a picture and as a table."""
    entity = context.app.handles.resolve(handle)
    found = entity_graph(context.session, entity.column, entity.value)
    context.viewed("graph", entity.column, len(found.nodes), [EntityValue(entity.column, entity.value)])
    nodes = [_node(context, each) for each in found.nodes]
    return page(
        context,
        "graph.html",
        place="queue",
        picture=draw_graph(found, nodes),
        rows=list(zip(found.nodes, nodes, strict=True)),
        found=found,
        handle=handle,
        hops=HOPS,
        most=NODES_MAX,
        neighbours=NEIGHBOURS_MAX,
        parents=_parents(found, nodes),
    )


def _node(context: RequestContext, node: GraphNode) -> Node:
    name = safe_text(value_for(context.caller, node.value))
    title = node.column.removesuffix("_id").replace("_", " ")
    kind = "root" if node.hop == 0 else "fraud" if node.frauds else "flagged" if node.flagged else ""
    more = "or more " if node.is_cut else ""
    hint = (
        f"{title} {name}: {node.payments:,} {more}payments, {node.flagged:,} flagged, {node.frauds:,} fraud"
    )
    return Node(name, f"/entities/{context.app.handles.handle(node.column, node.value)}", kind, hint)


def _parents(graph: EntityGraph, nodes: list[Node]) -> list[str]:
    return ["" if each.parent is None else nodes[each.parent].name for each in graph.nodes]
