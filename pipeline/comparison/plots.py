"""Curves of a comparison, as a page that needs no network, or as a picture."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.comparison.results import Compared, Curve, Line
from pipeline.errors import InputError
from pipeline.rendering import charts

FORMATS = (".html", ".svg", ".png")
SHOWN = 8  # lines that can still be told apart; the rest are in the table
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3])  # told apart in black and white, too
SIZE = {"width": 460, "height": 380}


def check(path: Path) -> None:
    """
    Make sure, before the work, that the curves can be written at its end.

    Raises
    ------
    InputError
        Another format, no such folder, or the extra `reports` is not installed.
    """
    if path.suffix not in FORMATS:
        raise InputError(f"--plot {path}: the name ends in one of {', '.join(FORMATS)}")
    if not path.absolute().parent.is_dir():
        raise InputError(f"--plot {path}: there is no folder {path.absolute().parent}; make it first")
    charts.check()


def curves(found: Compared, path: Path, currency: str) -> None:
    """Write precision–recall and cost curves of the best techniques and of no balancing."""
    import vl_convert

    spec = specification(found, currency)
    if path.suffix == ".html":
        content = vl_convert.vegalite_to_html(spec, bundle=True).encode()
    elif path.suffix == ".svg":
        content = vl_convert.vegalite_to_svg(spec).encode()
    else:
        content = vl_convert.vegalite_to_png(spec, scale=2)
    path.write_bytes(content)


def specification(found: Compared, currency: str) -> dict[str, Any]:
    """The two charts side by side, as Vega-Lite."""
    lines = [line for line in found.lines if line.curve is not None and "threshold 0" not in line.technique]
    shown = [line for place, line in enumerate(lines) if place < SHOWN or "no balancing" in line.technique]
    charts = _look([line.technique for line in shown])
    both = _precision_recall(shown, charts) | _costs(shown, charts, found.per_day, currency)
    whole: dict[str, Any] = both.resolve_scale(color="shared", strokeDash="shared").to_dict()
    return whole


def _look(names: list[str]) -> dict[str, Any]:
    """Colour and dashes of each technique, one legend for both."""
    import altair

    dashes = [DASHES[place % len(DASHES)] for place in range(len(names))]
    return {
        "color": altair.Color("technique:N", scale=altair.Scale(domain=names, scheme="tableau10")),
        "strokeDash": altair.StrokeDash("technique:N", scale=altair.Scale(domain=names, range=dashes)),
    }


def _precision_recall(lines: list[Line], charts: dict[str, Any]) -> Any:
    import altair

    points = [row for line in lines for row in _points(line, line.curve, ("recall", "precision"))]
    share = altair.Scale(domain=[0, 1])
    return _chart(points, "Precision and recall, all test spans").encode(
        x=altair.X("recall:Q", scale=share),
        y=altair.Y("precision:Q", scale=share),
        tooltip=["technique:N", "recall:Q", "precision:Q"],
        **charts,
    )


def _costs(lines: list[Line], charts: dict[str, Any], per_day: int, currency: str) -> Any:
    import altair

    points = [row for line in lines for row in _points(line, line.costs, ("flags", "cost"))]
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


def _points(line: Line, curve: Curve | None, names: tuple[str, str]) -> Iterator[dict[str, Any]]:
    for first, second in zip(*(curve or ((), ())), strict=True):
        values = (round(float(first), 4), round(float(second), 4))
        yield {"technique": line.technique, **dict(zip(names, values, strict=True))}
