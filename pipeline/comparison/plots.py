"""Curves of a comparison, as an offline HTML page or as an image."""

import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from detectors.imbalance.results import Comparison, Curve, TechniqueResult
from pipeline.errors import InputError
from pipeline.files import complete_file
from pipeline.number_text import mean_money, number
from pipeline.rendering import charts, html_page
from pipeline.rendering.elements import Chart, ReportPage, ReportSection
from pipeline.rendering.text import share

FORMATS = (".html", ".svg", ".png")
CURVES_MAX = 8  # that can be told apart; the others are in the table only
# So many that no two curves look the same; neighbours differ by colour, and curves of one colour by dash.
STYLES = tuple(
    itertools.product(
        ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3]), (charts.PRIMARY, charts.ACCENT, charts.TERTIARY)
    )
)


def check(path: Path) -> None:
    """
    Check, before the comparison starts, that its curves can be written.

    Raises
    ------
    InputError
        The format is not supported, the folder does not exist, or the extra `reports` is not installed.
    """
    if path.suffix not in FORMATS:
        raise InputError(
            f"curves cannot be written to {path}",
            remedy=f"the name must end in one of {', '.join(FORMATS)}",
            code="file_type",
        )
    if not path.absolute().parent.is_dir():
        raise InputError(
            f"curves cannot be written to {path}",
            remedy=f"create the folder {path.absolute().parent} first",
            code="no_folder",
        )
    charts.require_chart_libraries()


def curves(comparison: Comparison, path: Path, name: str, currency: str) -> None:
    """Write precision–recall and cost curves of the best techniques and of training without balancing."""
    results = _plotted(comparison)
    makers = [partial(_precision_recall, results), partial(_costs, results, comparison.per_day, currency)]
    if path.suffix == ".html":
        title = "Comparison of techniques"
        section = ReportSection("curves", "Curves of all test spans", [comparison.sentence], charts=makers)
        spans = f"{len(comparison.folds)} test spans, each after its training"
        content = html_page.render(ReportPage(f"{name}: {title}", name, title, spans, [section])).encode()
    else:
        content = charts.render_image([make() for make in makers], path.suffix[1:])
    with complete_file(path) as file:
        file.write_bytes(content)


def _plotted(comparison: Comparison) -> list[TechniqueResult]:
    with_curve = [
        result
        for result in comparison.results
        if result.curve is not None and "threshold 0" not in result.technique
    ]
    return [
        result
        for place, result in enumerate(with_curve)
        if place < CURVES_MAX or "no balancing" in result.technique
    ]


def _precision_recall(results: list[TechniqueResult]) -> Chart:
    return Chart(
        "precision-recall",
        "Precision and recall",
        f"Precision over recall as the threshold falls, a line for each of {len(results)} techniques.",
        lambda: charts.to_spec(_precision_recall_lines(results)),
    )


def _precision_recall_lines(results: list[TechniqueResult]) -> Any:
    import altair

    axis = {"scale": altair.Scale(domain=[0, 1]), "axis": altair.Axis(format="%", tickCount=5)}
    rows: list[dict[str, Any]] = [
        {
            "technique": result.technique, "x": recall, "y": precision,
            "tooltip": f"{result.technique}: precision {share(precision, 1)}, recall {share(recall, 1)}",
        }
        for result in results
        for recall, precision in _points(result.curve)
    ]  # fmt: skip
    return _lines(rows, results).encode(
        x=altair.X("x:Q", title="recall", **axis), y=altair.Y("y:Q", title="precision", **axis)
    )


def _costs(results: list[TechniqueResult], per_day: int, currency: str) -> Chart:
    return Chart(
        "cost",
        f"Cost of reviewing the highest scores of each day (the line: alerts.per_day, {per_day:,})",
        f"Cost per day over flags per day, a line for each of {len(results)} techniques.",
        lambda: charts.to_spec(_cost_lines(results, per_day, currency)),
    )


def _cost_lines(results: list[TechniqueResult], per_day: int, currency: str) -> Any:
    import altair

    rows: list[dict[str, Any]] = [
        {
            "technique": result.technique, "x": flags, "y": cost,
            "tooltip": f"{result.technique}: {number(flags)} flags and {mean_money(cost, currency)} per day",
        }
        for result in results
        for flags, cost in _points(result.costs)
    ]  # fmt: skip
    ends = [row["x"] for row in rows]
    powers = altair.Axis(values=charts.log_ticks(min(ends), max(ends)), format=",~r")
    x = altair.X("x:Q", title="flags per day", scale=altair.Scale(type="log", nice=False), axis=powers)
    y = altair.Y("y:Q", title=f"cost per day, {currency}", axis=altair.Axis(tickCount=5, format=",.0f"))
    budget = altair.Chart(charts.inline_data([{"x": per_day}])).mark_rule(color=charts.MUTED)
    return _lines(rows, results).encode(x=x, y=y) + budget.encode(x=x)


def _lines(rows: list[dict[str, Any]], results: list[TechniqueResult]) -> Any:
    """A line per technique, in a style of its own."""
    import altair

    styles = dict(zip((result.technique for result in results), itertools.cycle(STYLES), strict=False))
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


def _points(curve: Curve | None) -> Iterator[tuple[float, float]]:
    for first, second in zip(*(curve or ((), ())), strict=True):
        yield round(float(first), 4), round(float(second), 4)
