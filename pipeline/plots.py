"""Curves of a comparison, as a page that needs no network, or as a picture."""

from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.findings import Compared

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
    try:
        import altair  # noqa: F401
        import vl_convert  # noqa: F401
    except ImportError as error:
        raise InputError(f"--plot needs {error.name}: pip install 'fraudwatch[reports]'") from None


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
    import altair

    lines = [line for line in found.lines if line.curve is not None and "threshold 0" not in line.technique]
    shown = [line for place, line in enumerate(lines) if place < SHOWN or "no balancing" in line.technique]
    names = [line.technique for line in shown]
    precision, costs = [], []
    for line in shown:
        assert line.curve is not None
        assert line.costs is not None
        precision += [
            {"technique": line.technique, "recall": round(float(r), 4), "precision": round(float(p), 4)}
            for r, p in zip(*line.curve, strict=True)
        ]
        costs += [
            {"technique": line.technique, "flags": round(float(f), 2), "cost": round(float(c), 2)}
            for f, c in zip(*line.costs, strict=True)
        ]
    dashes = [DASHES[place % len(DASHES)] for place in range(len(names))]
    look = {
        "color": altair.Color("technique:N", scale=altair.Scale(domain=names, scheme="tableau10")),
        "strokeDash": altair.StrokeDash("technique:N", scale=altair.Scale(domain=names, range=dashes)),
    }
    budget = (
        altair.Chart(altair.Data(values=[{"at": found.per_day}])).mark_rule(color="grey").encode(x="at:Q")
    )
    left = (
        altair.Chart(altair.Data(values=precision), title="Precision and recall, all test spans", **SIZE)
        .mark_line()
        .encode(
            x=altair.X("recall:Q", scale=altair.Scale(domain=[0, 1])),
            y=altair.Y("precision:Q", scale=altair.Scale(domain=[0, 1])),
            tooltip=["technique:N", "recall:Q", "precision:Q"],
            **look,
        )
    )
    right = (
        altair.Chart(
            altair.Data(values=costs), title="Cost of reviewing the highest scores of each day", **SIZE
        )
        .mark_line()
        .encode(
            x=altair.X("flags:Q", title="flags a day (grey: alerts.per_day)", scale=altair.Scale(type="log")),
            y=altair.Y("cost:Q", title=f"cost a day, {currency}"),
            tooltip=["technique:N", "flags:Q", "cost:Q"],
            **look,
        )
    )
    whole: dict[str, Any] = (
        (left | (right + budget)).resolve_scale(color="shared", strokeDash="shared").to_dict()
    )
    return whole
