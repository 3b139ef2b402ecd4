"""Pictures that are drawn here, as SVG: payments of an entity over time, the graph around it, and intervals of a metric."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from math import cos, log10, pi, sin

from markupsafe import Markup

from pipeline.number_text import counted
from pipeline.services.data.payments import PaymentRecord
from pipeline.services.entity_graph import EntityGraph
from pipeline.services.records import Amount

HEIGHT, TOP, BOTTOM = 110, 10, 20  # of a timeline, px; it is as wide as its place
RING = 150  # px between hops of the graph
LABELS_MAX = 40  # nodes with a name in the picture
NAME_WIDTH, NAME_HEIGHT = 90, 14  # px that a name takes
ROW_HEIGHT = 38  # of a picture of intervals, px
ENDS = (1, 8, 3, 1)  # by hop, how many ends of the outermost ring a node takes at least


@dataclass(frozen=True)
class Interval:
    """A value with its interval, which may be missing."""

    name: str
    value: float
    lower: float | None
    upper: float | None


@dataclass(frozen=True)
class Node:
    """A node of the graph as its viewer may see it."""

    name: str
    address: str
    kind: str
    hint: str


def draw_timeline(payments: Sequence[PaymentRecord], highlight: str | None) -> Markup:
    """
    Payments by time and amount, the amounts on a logarithmic axis.

    Parameters
    ----------
    highlight
        The id of the payment that is looked at.
    """
    positive = [float(each.amount_base.value) for each in payments if each.amount_base.value > 0]
    if not positive:
        return Markup()
    low, high = log10(min(positive)), log10(max(positive))
    if high - low < 0.3:
        low, high = low - 0.2, high + 0.2
    first, last = payments[0].event_time, payments[-1].event_time
    span = max((last - first).total_seconds(), 1.0)

    def x(at: datetime) -> float:
        return 100 * (at - first).total_seconds() / span

    def y(amount: Amount) -> float:
        share = (log10(max(float(amount.value), 10**low)) - low) / (high - low)
        return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)

    dots = []
    for each in sorted(
        payments, key=lambda each: (each.transaction_id == highlight, each.status is not None)
    ):
        kind = _kind(each, highlight)
        size = 5 if kind == "this" else 3.6 if kind else 2.6
        dots.append(
            f'<circle class="dot {kind}" cx="{x(each.event_time):.2f}%" cy="{y(each.amount_base):.1f}" r="{size}"/>'
        )
    ticks = [Markup()] + [
        Markup('<text x="-12" y="{:.1f}" text-anchor="end">{}</text>').format(
            place + 4, f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
        )
        for value, place in ((10**high, TOP), (10**low, HEIGHT - BOTTOM))
    ]
    axis = Markup(
        '<line class="axis" x1="0" x2="100%" y1="{0}" y2="{0}"/><text x="0" y="{1}">{2}</text><text x="100%" y="{1}" text-anchor="end">{3}</text>'
    ).format(HEIGHT - BOTTOM + 3, HEIGHT - 3, f"{first:%d %b %Y}", f"{last:%d %b %Y}")
    label = f"{counted(len(payments), 'payment')} from {first:%d %b %Y} to {last:%d %b %Y} by amount"
    return Markup('<svg class="drawn timeline" height="{}" role="img" aria-label="{}">{}{}{}</svg>').format(
        HEIGHT,
        label,
        axis,
        Markup().join(ticks),
        Markup("".join(dots)),  # noqa: S704 - numbers, and classes of our own
    )


def _kind(payment: PaymentRecord, highlight: str | None) -> str:
    if payment.transaction_id == highlight:
        return "this"
    if payment.is_fraud:
        return "fraud"
    if payment.status is not None:
        return "genuine" if payment.status == "genuine" else "flagged"
    return ""


def draw_intervals(intervals: Sequence[Interval], title: str) -> Markup:
    """Values as dots on one axis from 0 on, each under its name, with its interval as a line."""
    if not intervals:
        return Markup()
    highest = max(max(each.value, each.upper or 0.0) for each in intervals) or 1.0
    height = ROW_HEIGHT * len(intervals) + BOTTOM

    def x(value: float) -> str:
        return f"{100 * max(value, 0.0) / highest:.2f}%"

    rows = []
    for place, each in enumerate(intervals):
        y = ROW_HEIGHT * (place + 1) - 10
        whisker = Markup()
        if each.lower is not None and each.upper is not None:
            whisker = Markup('<line class="whisker" x1="{}" x2="{}" y1="{y}" y2="{y}"/>').format(
                x(each.lower), x(each.upper), y=y
            )
        rows.append(
            Markup(
                '<text class="name" y="{}">{}</text>{}<circle class="dot this" cx="{}" cy="{}" r="4"/>'
            ).format(y - 10, each.name, whisker, x(each.value), y)
        )
    ticks = Markup().join(
        Markup('<text x="{}" y="{}" text-anchor="{}">{:.3g}</text>').format(
            x(value), height - 3, anchor, value
        )
        for value, anchor in ((0.0, "start"), (highest / 2, "middle"), (highest, "end"))
    )
    axis = Markup('<line class="axis" x1="0" x2="100%" y1="{y}" y2="{y}"/>').format(y=height - BOTTOM + 2)
    label = (
        f"{title} of {counted(len(intervals), 'technique')} with 95 % intervals; the table beneath lists them"
    )
    return Markup('<svg class="drawn intervals" height="{}" role="img" aria-label="{}">{}{}{}</svg>').format(
        height, label, axis, Markup().join(rows), ticks
    )


def draw_graph(graph: EntityGraph, nodes: Sequence[Node]) -> Markup:
    """
    The graph as rings around its first node: each ring a hop further, each node in the sector of the one it was graph from.

    Only the lines to that one are drawn; all of them would hide each other.
    """
    places = _places(graph)
    across = max((abs(x) for x, _ in places), default=0.0) + NAME_WIDTH + 20
    down = max((abs(y) for _, y in places), default=0.0) + 2 * NAME_HEIGHT
    edges = Markup().join(
        Markup('<line class="edge {}" x1="{:.0f}" y1="{:.0f}" x2="{:.0f}" y2="{:.0f}"/>').format(
            "fraud" if node.frauds and node.hop > 0 else "", *places[node.parent], *places[at]
        )
        for at, node in enumerate(graph.nodes)
        if node.parent is not None
    )
    named = _named(graph, places)
    drawn = Markup().join(
        Markup('<a href="{}"><title>{}</title>{}{}</a>').format(
            node.address,
            node.hint,
            _mark(node, *places[at], 9 if at == 0 else 6),
            _name(node, *places[at]) if at in named else "",
        )
        for at, node in enumerate(nodes)
    )
    label = f"Graph of {counted(len(nodes), 'value')} with shared payments; the table beneath lists them"
    return Markup(
        '<svg class="drawn graph" width="{2:.0f}" height="{3:.0f}" viewBox="{0:.0f} {1:.0f} {2:.0f} {3:.0f}" role="group" '
        'aria-label="{4}">{5}{6}</svg>'
    ).format(-across, -down, 2 * across, 2 * down, label, edges, drawn)


def _named(graph: EntityGraph, places: Sequence[tuple[float, float]]) -> set[int]:
    """The nodes whose name is written: the nearest and those with fraud, where there is room."""
    named: list[int] = []
    for at in sorted(
        range(len(places)), key=lambda at: (graph.nodes[at].hop > 1, not graph.nodes[at].frauds, at)
    ):
        x, y = places[at]
        if all(
            abs(x - places[other][0]) > NAME_WIDTH or abs(y - places[other][1]) > NAME_HEIGHT
            for other in named
        ):
            named.append(at)
    return set(named[:LABELS_MAX])


def _mark(node: Node, x: float, y: float, size: float) -> Markup:
    return Markup('<circle class="node {}" cx="{:.0f}" cy="{:.0f}" r="{}"/>').format(node.kind, x, y, size)


def _name(node: Node, x: float, y: float) -> Markup:
    anchor, shift = ("end", -11) if x < -1 else ("start", 11)
    return Markup('<text class="name" x="{:.0f}" y="{:.0f}" text-anchor="{}">{}</text>').format(
        x + shift, y + 4, anchor, node.name
    )


def _places(graph: EntityGraph) -> list[tuple[float, float]]:
    """Coordinates of the nodes: a node's share of the circle is as large as its number of ends."""
    children: dict[int, list[int]] = {}
    for place, node in enumerate(graph.nodes):
        if node.parent is not None:
            children.setdefault(node.parent, []).append(place)
    ends = [0] * len(graph.nodes)
    for place in reversed(range(len(graph.nodes))):
        ends[place] = max(ENDS[graph.nodes[place].hop], sum(ends[child] for child in children.get(place, ())))
    places = [(0.0, 0.0)] * len(graph.nodes)
    waiting = [(0, -pi / 2, 1.5 * pi)]
    while waiting:
        place, begin, end = waiting.pop()
        at = begin
        for child in children.get(place, ()):
            width = (end - begin) * ends[child] / max(1, sum(ends[each] for each in children[place]))
            middle, radius = at + width / 2, RING * graph.nodes[child].hop
            places[child] = (radius * cos(middle), radius * sin(middle))
            waiting.append((child, at, at + width))
            at += width
    return places
