"""Curves of a comparison, as an offline HTML page or as an image."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from detectors.imbalance.results import Comparison, Curve, TechniqueResult
from pipeline.comparison.results import curve_rows
from pipeline.errors import InputError
from pipeline.files import complete_file
from pipeline.number_text import mean_money, number
from pipeline.rendering import charts, html_page
from pipeline.rendering.elements import Chart, ReportPage, ReportSection
from pipeline.rendering.technique_curves import plotted_techniques, precision_recall, technique_lines

FORMATS = (".html", ".svg", ".png")


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
    pairs = curve_rows(comparison)
    chosen = {result.technique: pairs[result.technique] for result in results}
    makers = [
        partial(precision_recall, chosen, "precision-recall"),
        partial(_costs, results, comparison.per_day, currency),
    ]
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
    by_name = {result.technique: result for result in comparison.results if result.curve is not None}
    return [by_name[name] for name in plotted_techniques(by_name)]


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
    return technique_lines(rows, [each.technique for each in results]).encode(x=x, y=y) + budget.encode(x=x)


def _points(curve: Curve | None) -> Iterator[tuple[float, float]]:
    for first, second in zip(*(curve or ((), ())), strict=True):
        yield round(float(first), 4), round(float(second), 4)
