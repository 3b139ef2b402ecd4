"""
How charts look: told apart by fill, dash and shape first, by colour second.

Colours are variables of the page, so that one drawing serves light and dark schemes and paper; `concrete` puts the
light ones in for pictures. Those that stand side by side differ in lightness, which survives a photocopier and every kind
of colour blindness; areas use cividis (Nuñez, Anderton & Renslow 2018), whose lightness only rises.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.errors import InputError
from pipeline.rendering.elements import Chart, Spec

PAPER, INK, MUTED, GRID = "var(--paper)", "var(--ink)", "var(--muted)", "var(--grid)"
ONE, TWO, THREE = "var(--one)", "var(--two)", "var(--three)"
LIGHT = {
    "paper": "#ffffff", "ink": "#1b1f24", "muted": "#5b6570", "grid": "#e3e7eb",
    "one": "#00305f", "two": "#b86e00", "three": "#00857a",
}  # fmt: skip
DARK = {
    "paper": "#14181d", "ink": "#e8ebee", "muted": "#a3adb8", "grid": "#2c343d",
    "one": "#9cc3ff", "two": "#ffc04d", "three": "#4fd1c0",
}  # fmt: skip
STRATEGIES = ("outlier", "blend", "classification")
COLOURS = dict(zip(STRATEGIES, (TWO, THREE, ONE), strict=True))
SHAPES = dict(zip(STRATEGIES, ("circle", "square", "triangle-up"), strict=True))
DASHES = dict(zip(STRATEGIES, ([2, 3], [7, 3], [1, 0]), strict=True))
PICTURE_WIDTH = 760  # px of a picture before scaling
HEIGHT = 260
SCHEME = "cividis"
ADDRESS = re.compile(
    r"https?://(?!www\.w3\.org/)[^\s\"'`)]*"
)  # w3.org: names of XML vocabularies, never fetched
CONFIG: Spec = {
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


def check() -> None:
    """
    Make sure, before the work, that charts can be drawn.

    Raises
    ------
    InputError
        The extra `reports` is not installed.
    """
    try:
        import altair  # noqa: F401
        import vl_convert  # noqa: F401
    except ImportError as error:
        raise InputError(f"charts need {error.name}: pip install 'fraudwatch[reports]'") from None


def data(rows: list[dict[str, Any]]) -> Any:
    """Rows inside the chart itself."""
    import altair

    return altair.Data(values=rows)


def finished(chart: Any, height: int | None = HEIGHT) -> Spec:
    """A chart as wide as its place, as Vega-Lite without a single address."""
    sized = (
        chart.properties(width="container")
        if height is None
        else chart.properties(width="container", height=height)
    )
    spec: Spec = sized.properties(autosize={"type": "fit-x", "contains": "padding"}).to_dict(validate=True)
    del spec["$schema"]
    return spec | {"config": CONFIG}


def by_strategy(present: Iterable[str], *, points: bool = False) -> dict[str, Any]:
    """Colour and dash, or colour and shape, of the strategies that are there; a strategy looks the same everywhere."""
    import altair

    domain = [name for name in STRATEGIES if name in set(present)]
    colours, shapes, dashes = ([look[name] for name in domain] for look in (COLOURS, SHAPES, DASHES))
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


def styled(channel: str, field: str, looks: Mapping[str, Any], **more: Any) -> Any:
    """A channel such as Fill or Shape, with the look of each value; legends of the same values become one."""
    import altair

    scale = altair.Scale(domain=list(looks), range=list(looks.values()))
    return getattr(altair, channel)(field, scale=scale, title=None, **more)


def limits(low: float, high: float) -> Any:
    """A scale from here to there, exactly."""
    import altair

    return altair.Scale(domain=[low, high], nice=False)


def log_ticks(low: float, high: float, parts: Sequence[int] = (1,)) -> list[float]:
    """Round values between two ends, `parts` of each power of ten, so that a logarithmic axis is not a fence."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [
        float(f"{part}e{power}")
        for power in powers
        for part in parts
        if low <= float(f"{part}e{power}") <= high
    ]


def narrow(then: str, otherwise: str) -> dict[str, str]:
    """One setting on a telephone, another elsewhere; a picture without a page is elsewhere."""
    return {"expr": f"(containerSize()[0] || {PICTURE_WIDTH}) < 560 ? {then} : {otherwise}"}


def time_axis(field: str, padding: int = 0) -> Any:
    """Days, in UTC wherever the page is opened; fewer labels where there is less room. Marks need a padding, bars none."""
    import altair

    return altair.X(
        field,
        scale=altair.Scale(type="utc", padding=padding),
        title=None,
        axis=altair.Axis(
            format="%d %b", labelOverlap="greedy", grid=False, tickCount=narrow("3", "9"), labelSeparation=8
        ),
    )


def concrete(spec: Spec, colours: dict[str, str] = LIGHT) -> Spec:
    """The same with colours in place of the page's variables."""
    text = re.sub(r"var\(--(\w+)\)", lambda found: colours[found[1]], json.dumps(spec))
    plain: Spec = json.loads(text)
    return plain


def compiled(spec: Spec) -> Spec:
    """Vega-Lite → Vega, which is all that the page has to understand."""
    import vl_convert

    vega: Spec = vl_convert.vegalite_to_vega(spec)
    vega.pop("$schema", None)
    return vega


def picture(chart: Chart, form: str, show: str = "") -> bytes:
    """A chart alone, as PNG or SVG on white, with its title; `show` is what its reader would pick."""
    import vl_convert

    told = f"{chart.title}: {show or chart.picks[0]}" if chart.picks else chart.title
    title = {"text": told, "anchor": "start", "color": LIGHT["ink"], "fontSize": 15, "offset": 12}
    spec = concrete(chart.spec) | {
        "width": PICTURE_WIDTH,
        "background": LIGHT["paper"],
        "title": title,
        "padding": 12,
    }
    if show:
        spec["params"] = [one | {"value": show} if one["name"] == "shown" else one for one in spec["params"]]
    if form == "svg":
        return vl_convert.vegalite_to_svg(spec).encode()
    png: bytes = vl_convert.vegalite_to_png(spec, scale=2)
    return png


def bundle() -> str:
    """The drawing library as one script; the addresses of its help pages and editor are taken out of it."""
    import vl_convert

    return ADDRESS.sub("about:blank", vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))
