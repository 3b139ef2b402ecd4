"""The graph around an entity: which cards, devices, e-mail addresses … share payments with it, and with those."""

from dataclasses import dataclass

from pipeline.schedule.run_context import LIVE
from pipeline.services.entities import require_entity_column
from pipeline.services.session import Session
from storage.queries.entity_graph import Value, ValuePayments, flagged_and_fraud, payments_of_values

HOPS = 3
NODES_MAX = 300
NEIGHBOURS_MAX = (
    100  # a value with more, such as a large merchant, connects people who have nothing in common
)
PAYMENTS_MAX = (
    200  # the newest ones of a value, which are read: enough to see that it has too many neighbours
)


@dataclass(frozen=True)
class GraphNode:
    """
    A value of an entity.

    Attributes
    ----------
    value
        As it is stored.
    parent
        The place in the list of the node that it was nodes_by_value from, None for the first one; both share `shared` payments.
    payments, flagged, frauds
        Number of payments, at most `PAYMENTS_MAX`, and of those flagged and known to be fraud.
    is_cut
        Whether there are more payments.
    is_leaf
        Whether it has too many neighbours to be followed.
    """

    column: str
    value: str
    hop: int
    parent: int | None
    shared: int
    payments: int
    is_cut: bool
    flagged: int
    frauds: int
    is_leaf: bool


@dataclass(frozen=True)
class EntityGraph:
    """
    Values that share payments, the nearest first.

    Attributes
    ----------
    edges
        Places of two nodes that share payments, and on how many.
    is_cut
        Whether there are more nodes within the hops.
    """

    nodes: tuple[GraphNode, ...]
    edges: tuple[tuple[int, int, int], ...]
    is_cut: bool


def entity_graph(session: Session, column: str, value: str) -> EntityGraph:
    """
    What shares payments with a value, within three hops.

    Parameters
    ----------
    value
        As it is stored.

    Raises
    ------
    InputError
        There is no such entity column.
    """
    require_entity_column(session, column)
    root = (column, value)
    nodes_by_value: dict[Value, tuple[int, Value | None, int]] = {root: (0, None, 0)}
    payments: dict[Value, ValuePayments] = {}
    frontier, is_cut = [root], False
    for hop in range(HOPS + 1):
        payments |= payments_of_values(session.store, frontier, PAYMENTS_MAX)
        if hop == HOPS:
            break
        reached: list[Value] = []
        for node in sorted(
            frontier, key=lambda each: len(payments[each].neighbours)
        ):  # the closest-knit first
            if hop and len(payments[node].neighbours) > NEIGHBOURS_MAX:
                continue
            for other, shared in sorted(
                payments[node].neighbours.items(), key=lambda each: (-each[1], each[0])
            ):
                if other in nodes_by_value:
                    continue
                if len(nodes_by_value) == NODES_MAX:
                    is_cut = True
                    break
                nodes_by_value[other] = (hop + 1, node, shared)
                reached.append(other)
        frontier = reached
    return _graph(session, nodes_by_value, payments, is_cut)


def _graph(
    session: Session,
    nodes_by_value: dict[Value, tuple[int, Value | None, int]],
    payments: dict[Value, ValuePayments],
    is_cut: bool,
) -> EntityGraph:
    ids = list(dict.fromkeys(name for each in payments.values() for name in each.ids))
    flagged, frauds = flagged_and_fraud(session.store, LIVE, ids)
    places = {value: place for place, value in enumerate(nodes_by_value)}
    nodes = []
    for value, (hop, parent, shared) in nodes_by_value.items():
        mine = payments[value]
        nodes.append(
            GraphNode(
                column=value[0],
                value=value[1],
                hop=hop,
                parent=None if parent is None else places[parent],
                shared=shared,
                payments=len(mine.ids),
                is_cut=mine.is_cut,
                flagged=len(flagged.intersection(mine.ids)),
                frauds=len(frauds.intersection(mine.ids)),
                is_leaf=hop > 0 and len(mine.neighbours) > NEIGHBOURS_MAX,
            )
        )
    edges = {
        (min(places[one], places[other]), max(places[one], places[other])): count
        for one in nodes_by_value
        if not nodes[places[one]].is_leaf
        for other, count in payments[one].neighbours.items()
        if other in nodes_by_value
    }
    return EntityGraph(tuple(nodes), tuple((*pair, count) for pair, count in sorted(edges.items())), is_cut)
