"""
The look of charts: values differ by fill, dash and shape first and by colour second.

Colours are CSS variables of the page, so one chart serves light and dark schemes and print; `with_colours` puts in the
light colours for image files. Adjacent colours differ in lightness, which survives a photocopier and every kind of
colour blindness; areas use cividis (Nuñez, Anderton & Renslow 2018), whose lightness only rises.
"""

import json
import math
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from detectors.base import STRATEGIES
from pipeline.errors import InputError
from pipeline.rendering.elements import Chart, VegaSpec

PAPER, INK, MUTED, GRID = "var(--paper)", "var(--ink)", "var(--muted)", "var(--grid)"
PRIMARY, ACCENT, TERTIARY = "var(--primary)", "var(--accent)", "var(--tertiary)"
LIGHT = {
    "paper": "#ffffff", "ink": "#1b1f24", "muted": "#5b6570", "grid": "#e3e7eb",
    "primary": "#00305f", "accent": "#b86e00", "tertiary": "#00857a",
}  # fmt: skip
DARK = {
    "paper": "#14181d", "ink": "#e8ebee", "muted": "#a3adb8", "grid": "#2c343d",
    "primary": "#9cc3ff", "accent": "#ffc04d", "tertiary": "#4fd1c0",
}  # fmt: skip
COLOURS = dict(zip(STRATEGIES, (ACCENT, TERTIARY, PRIMARY), strict=True))
SHAPES = dict(zip(STRATEGIES, ("circle", "square", "triangle-up"), strict=True))
DASHES = dict(zip(STRATEGIES, ([2, 3], [7, 3], [1, 0]), strict=True))
IMAGE_WIDTH, NARROW_WIDTH = 760, 360  # px of an image before scaling, for a screen and for a telephone
TITLE_CHARACTER = 7.5  # px that a character of a title takes
CONTAINER = f"(containerSize()[0] || {IMAGE_WIDTH})"
HEIGHT = 260
SCHEME = "cividis"
URL_PATTERN = re.compile(r"https?://(?!www\.w3\.org/)[^\s\"'`)]*")  # w3.org: XML namespaces, never fetched
CONFIG: VegaSpec = {
    "background": "transparent",
    "font": "sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": INK, "titleColor": INK, "gridColor": GRID, "domainColor": MUTED, "tickColor": MUTED,
        "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "labelLimit": 240,
    },
    "legend": {
        "labelColor": INK, "titleColor": INK, "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal",
        "orient": "top", "symbolStrokeWidth": 2,
    },
    "text": {"color": INK, "fontSize": 12},
}  # fmt: skip


def require_chart_libraries() -> None:
    """
    Check that the chart libraries are installed.

    Raises
    ------
    InputError
        The extra `reports` is not installed.
    """
    try:
        import altair  # noqa: F401
        import vl_convert  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"charts need {error.name}",
            remedy="pip install 'fraudwatch[reports]'",
            code="charts_not_installed",
        ) from None


def inline_data(rows: list[dict[str, Any]]) -> Any:
    """
    Rows embedded in the chart's specification, as JSON until `to_spec`.

    Altair checks and copies each value of a list of rows several times, which takes ten times as long as everything else.
    """
    import altair

    return altair.Data(values=json.dumps(rows))


def to_spec(chart: Any, height: int | None = HEIGHT) -> VegaSpec:
    """A chart as wide as its container, as Vega-Lite without any URL."""
    sized = (
        chart.properties(width="container")
        if height is None
        else chart.properties(width="container", height=height)
    )
    spec: VegaSpec = sized.properties(autosize={"type": "fit-x", "contains": "padding"}).to_dict(
        validate=True
    )
    del spec["$schema"]
    for part in (spec, *spec.get("layer", ())):
        if isinstance(part.get("data", {}).get("values"), str):
            part["data"] = {"values": json.loads(part["data"]["values"])}
    data = {name: json.loads(rows) for name, rows in spec.get("datasets", {}).items()}
    return spec | {"config": CONFIG} | ({"datasets": data} if data else {})


def strategy_encoding(present: Iterable[str], *, points: bool = False) -> dict[str, Any]:
    """Colour and dash, or colour and shape, of the strategies present; a strategy styles the same in every chart."""
    import altair

    domain = [name for name in STRATEGIES if name in set(present)]
    colours, shapes, dashes = ([styles[name] for name in domain] for styles in (COLOURS, SHAPES, DASHES))
    legend = altair.Legend(symbolSize=90) if points else None
    colour = altair.Color(
        "strategy:N", scale=altair.Scale(domain=domain, range=colours), title=None, legend=legend
    )
    if points:
        shape = altair.Shape(
            "strategy:N", scale=altair.Scale(domain=domain, range=shapes), title=None, legend=legend
        )
        return {"color": colour, "shape": shape}
    dash = altair.StrokeDash("strategy:N", scale=altair.Scale(domain=domain, range=dashes), legend=None)
    return {"color": colour, "strokeDash": dash}


def styled_channel(channel: str, field: str, styles: Mapping[str, Any], **more: Any) -> Any:
    """An encoding channel such as Fill or Shape with a style per value; legends of the same values are merged."""
    import altair

    scale = altair.Scale(domain=list(styles), range=list(styles.values()))
    return getattr(altair, channel)(field, scale=scale, title=None, **more)


def share_axis(digits: int = 0, **more: Any) -> Any:
    """An axis of shares, whose labels have a space before the sign as everywhere."""
    import altair

    return altair.Axis(labelExpr=f"format(100 * datum.value, ',.{digits}~f') + ' %'", **more)


def fixed_scale(low: float, high: float) -> Any:
    """A scale with exactly these limits."""
    import altair

    return altair.Scale(domain=[low, high], nice=False)


def log_ticks(low: float, high: float, parts: Sequence[int] = (1,)) -> list[float]:
    """Round values between two limits, `parts` of each power of ten, so that a logarithmic axis has few ticks."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [
        float(f"{part}e{power}")
        for power in powers
        for part in parts
        if low <= float(f"{part}e{power}") <= high
    ]


def responsive(then: str, otherwise: str) -> dict[str, str]:
    """One value on narrow screens, another on wide ones; image files count as wide."""
    return {"expr": f"{CONTAINER} < 560 ? {then} : {otherwise}"}


def time_axis(field: str, padding: int = 0) -> Any:
    """A time axis in UTC days, with fewer labels on narrow screens. Points need a padding, bars none."""
    import altair

    return altair.X(
        field,
        scale=altair.Scale(type="utc", padding=padding),
        title=None,
        axis=altair.Axis(
            format="%d %b",
            labelOverlap="greedy",
            grid=False,
            tickCount=responsive("3", "9"),
            labelSeparation=8,
        ),
    )


def with_colours(spec: VegaSpec, colours: dict[str, str] = LIGHT) -> VegaSpec:
    """The specification with colours in place of CSS variables."""
    text = re.sub(r"var\(--(\w+)\)", lambda match: colours[match[1]], json.dumps(spec))
    plain: VegaSpec = json.loads(text)
    return plain


def compile_to_vega(spec: VegaSpec) -> VegaSpec:
    """Compile Vega-Lite to Vega; the page contains a Vega runtime only."""
    import vl_convert

    vega: VegaSpec = vl_convert.vegalite_to_vega(spec)
    vega.pop("$schema", None)
    return vega


def render_image(
    charts: Sequence[Chart],
    image_format: str,
    option: str = "",
    colours: dict[str, str] = LIGHT,
    width: int = IMAGE_WIDTH,
) -> bytes:
    """Charts below each other as PNG or SVG, with their titles; `option` is one of those of a single chart."""
    import vl_convert

    parts = [_titled(chart, option, width) for chart in charts]
    below = {"vconcat": [{key: part[key] for key in part.keys() - {"autosize", "config"}} for part in parts]}
    frame = {"config": CONFIG, "background": PAPER, "padding": 12}
    spec = with_colours((parts[0] if len(parts) == 1 else below) | frame, colours)
    if image_format == "svg":
        return vl_convert.vegalite_to_svg(spec).encode()
    png: bytes = vl_convert.vegalite_to_png(spec, scale=2)
    return png


def _titled(chart: Chart, option: str, width: int) -> VegaSpec:
    """A chart of the width of an image, with its title and the option chosen."""
    text = f"{chart.title}: {option or chart.options[0]}" if chart.options else chart.title
    lines = textwrap.wrap(text, int(width / TITLE_CHARACTER))
    title = {"text": lines, "anchor": "start", "color": INK, "fontSize": 15, "offset": 12}
    spec = chart.spec | {"width": width, "title": title}
    if width < IMAGE_WIDTH:
        spec = json.loads(json.dumps(spec).replace(CONTAINER, str(width)))
    if option:
        spec["params"] = [
            param | {"value": option} if param["name"] == "selected" else param for param in spec["params"]
        ]
    return spec


def vega_bundle() -> str:
    """Vega and vega-embed as one script, without the URLs of its help pages and editor."""
    import vl_convert

    return URL_PATTERN.sub("about:blank", vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))
