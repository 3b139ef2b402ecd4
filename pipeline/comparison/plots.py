"""Curves of a comparison, as an offline HTML page or as an image."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from detectors.imbalance.results import Comparison, Curve, TechniqueResult
from pipeline.errors import InputError
from pipeline.rendering import charts

FORMATS = (".html", ".svg", ".png")
CURVES_MAX = 8  # that can be told apart; the others are in the table only
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3])  # so that curves differ in black and white, too
SIZE = {"width": 460, "height": 380}


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


def curves(comparison: Comparison, path: Path, currency: str) -> None:
    """Write precision–recall and cost curves of the best techniques and of training without balancing."""
    import vl_convert

    spec = specification(comparison, currency)
    if path.suffix == ".html":
        content = vl_convert.vegalite_to_html(spec, bundle=True).encode()
    elif path.suffix == ".svg":
        content = vl_convert.vegalite_to_svg(spec).encode()
    else:
        content = vl_convert.vegalite_to_png(spec, scale=2)
    path.write_bytes(content)


def specification(comparison: Comparison, currency: str) -> dict[str, Any]:
    """The two charts side by side, as Vega-Lite."""
    with_curve = [
        result
        for result in comparison.results
        if result.curve is not None and "threshold 0" not in result.technique
    ]
    plotted = [
        result
        for place, result in enumerate(with_curve)
        if place < CURVES_MAX or "no balancing" in result.technique
    ]
    charts = _line_styles([result.technique for result in plotted])
    both = _precision_recall(plotted, charts) | _costs(plotted, charts, comparison.per_day, currency)
    whole: dict[str, Any] = both.resolve_scale(color="shared", strokeDash="shared").to_dict()
    return whole


def _line_styles(names: list[str]) -> dict[str, Any]:
    """Colour and dashes of each technique, shared by both charts."""
    import altair

    dashes = [DASHES[place % len(DASHES)] for place in range(len(names))]
    return {
        "color": altair.Color("technique:N", scale=altair.Scale(domain=names, scheme="tableau10")),
        "strokeDash": altair.StrokeDash("technique:N", scale=altair.Scale(domain=names, range=dashes)),
    }


def _precision_recall(results: list[TechniqueResult], charts: dict[str, Any]) -> Any:
    import altair

    points = [row for result in results for row in _points(result, result.curve, ("recall", "precision"))]
    share = altair.Scale(domain=[0, 1])
    return _chart(points, "Precision and recall, all test spans").encode(
        x=altair.X("recall:Q", scale=share),
        y=altair.Y("precision:Q", scale=share),
        tooltip=["technique:N", "recall:Q", "precision:Q"],
        **charts,
    )


def _costs(results: list[TechniqueResult], charts: dict[str, Any], per_day: int, currency: str) -> Any:
    import altair

    points = [row for result in results for row in _points(result, result.costs, ("flags", "cost"))]
    curves = _chart(points, "Cost of reviewing the highest scores of each day").encode(
        x=altair.X("flags:Q", title="flags a day (grey: alerts.per_day)", scale=altair.Scale(type="log")),
        y=altair.Y("cost:Q", title=f"cost a day, {currency}"),
        tooltip=["technique:N", "flags:Q", "cost:Q"],
        **charts,
    )
    budget = altair.Chart(altair.Data(values=[{"at": per_day}])).mark_rule(color="grey").encode(x="at:Q")
    return curves + budget


def _chart(points: list[dict[str, Any]], title: str) -> Any:
    import altair

    return altair.Chart(altair.Data(values=points), title=title, **SIZE).mark_line()


def _points(result: TechniqueResult, curve: Curve | None, names: tuple[str, str]) -> Iterator[dict[str, Any]]:
    for first, second in zip(*(curve or ((), ())), strict=True):
        values = (round(float(first), 4), round(float(second), 4))
        yield {"technique": result.technique, **dict(zip(names, values, strict=True))}
