"""Compared techniques as a chart: precision over recall, a line for each of the best ones."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.rendering import charts
from pipeline.rendering.elements import Chart
from pipeline.rendering.text import share

METRICS = {  # of a table of techniques, with their titles
    "ap": "Average precision",
    "precision_at_k": "Precision of the flags",
    "recall_at_k": "Recall of the flags",
    "savings": "Savings",
    "cost": "Cost",
    "seconds": "Seconds",
}
CURVES_MAX = 8  # that can be told apart; the others are in the table only
# So many that no two curves look the same; neighbours differ by colour, and curves of one colour by dash.
STYLES = tuple(
    itertools.product(
        ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3]), (charts.PRIMARY, charts.ACCENT, charts.TERTIARY)
    )
)


def plotted_techniques(names: Iterable[str]) -> list[str]:
    """Those of some techniques, best first, whose curves are drawn: the best ones, and training without balancing."""
    ranked = [name for name in names if "threshold 0" not in name]
    return [name for place, name in enumerate(ranked) if place < CURVES_MAX or "no balancing" in name]


def precision_recall(curves: Mapping[str, Mapping[str, Sequence[float]]], name: str) -> Chart:
    """
    Precision over recall.

    Parameters
    ----------
    curves
        By technique, best first, lists `recall` and `precision`.
    """
    return Chart(
        name,
        "Precision and recall of techniques",
        f"Precision over recall as the threshold falls, a line for each of {len(curves)} techniques, best first: {', '.join(curves)}.",
        lambda: charts.to_spec(_lines_of(curves)),
    )


def _lines_of(curves: Mapping[str, Mapping[str, Sequence[float]]]) -> Any:
    import altair

    axis = {"scale": altair.Scale(domain=[0, 1]), "axis": charts.share_axis(tickCount=5)}
    rows: list[dict[str, Any]] = [
        {
            "technique": name, "x": recall, "y": precision,
            "tooltip": f"{name}: precision {share(precision, 1)}, recall {share(recall, 1)}",
        }
        for name, curve in curves.items()
        for recall, precision in zip(curve["recall"], curve["precision"], strict=True)
    ]  # fmt: skip
    return technique_lines(rows, list(curves)).encode(
        x=altair.X("x:Q", title="recall", **axis), y=altair.Y("y:Q", title="precision", **axis)
    )


def technique_lines(rows: list[dict[str, Any]], names: Sequence[str]) -> Any:
    """A line per technique, in a style of its own."""
    import altair

    styles = dict(zip(names, itertools.cycle(STYLES), strict=False))
    legend = altair.Legend(columns=charts.responsive("1", "2"), labelLimit=360, symbolSize=300)
    colours = {name: colour for name, (_, colour) in styles.items()}
    dashes = {name: dash for name, (dash, _) in styles.items()}
    return (
        altair.Chart(charts.inline_data(rows))
        .mark_line(strokeWidth=2)
        .encode(
            color=charts.styled_channel("Color", "technique:N", colours, legend=legend),
            strokeDash=charts.styled_channel("StrokeDash", "technique:N", dashes, legend=legend),
            tooltip="tooltip:N",
        )
    )
