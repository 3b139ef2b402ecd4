"""Quality over time: realised once labels mature, estimated before, with intervals."""

from collections.abc import Iterable
from typing import Any

from pipeline.rendering import charts
from pipeline.rendering.elements import Chart, Section, Table
from pipeline.rendering.report_data import Facts
from pipeline.rendering.text import moment, safe, text_of
from storage.queries import report_counts
from storage.queries.report_counts import Row

FIRST = ("precision", "recall", "average_precision", "cost", "savings")  # what people ask for first
APART = (
    "reliability_",
    "predicted_",
    "expected_",
)  # calibration has a chart of its own; the last are parts of estimates
NAMES = {"realised": "realised", "estimated": "estimated before"}
UNKNOWN_MAX = 5


def section(facts: Facts) -> Section:
    """Every measure of all models and channels together, and the precision of each channel."""
    title = "Quality over time"
    rows = report_counts.quality_windows(facts.store, facts.scope)
    known = [row for row in rows if row["value"] is not None and not row["metric"].startswith(APART)]
    unknown = _unknown(rows)
    if not known:
        return Section("quality", title, missing=_missing(unknown))
    alarms = [row for row in rows if row["alarm"]]
    said = [
        f"{_label(row['metric'])} of {text_of(row['window_start'])[:10]} is {_number(row['value'])}, which its estimate did not allow for: an alarm."
        for row in alarms[-UNKNOWN_MAX:]
    ]
    said.append(
        "Filled marks came true, hollow ones are estimates from probabilities; bars are their intervals."
    )
    by_channel = report_counts.quality_channels(facts.store, facts.scope)
    tables = [_channels(by_channel)] if by_channel else []
    return Section("quality", title, said, unknown[:UNKNOWN_MAX], charts=[over_time(known)], tables=tables)


def over_time(rows: list[Row]) -> Chart:
    """One measure over the windows, which the reader picks."""
    picks, points = _picks(rows), list(map(_point, rows))
    told = [row["told"] for row in points if row["metric"] == picks[0]]
    return Chart(
        "quality",
        "A measure by window, as it came true and as it was estimated",
        f"{picks[0]} over {len(told)} windows with intervals, realised and estimated. The newest: {told[-1]}.",
        charts.finished(_marks(points, picks[0])),
        picks=picks,
    )


def _marks(points: list[dict[str, Any]], first: str) -> Any:
    import altair

    realised, estimated = NAMES.values()
    base = (
        altair.Chart(charts.data(points))
        .transform_filter("datum.metric === shown")
        .encode(
            x=charts.time_axis("at:T", padding=12),
            color=charts.styled("Color", "kind:N", {realised: charts.ONE, estimated: charts.TWO}),
            tooltip="told:N",
        )
    )
    scale, axis = altair.Scale(zero=True, nice=True), altair.Axis(format=",~g", tickCount=5)
    lower = altair.Y("lower:Q", title=None, scale=scale)
    dots = base.mark_point(size=80, strokeWidth=1.8, opacity=1).encode(
        y=altair.Y("value:Q", title=None, scale=scale, axis=axis),
        shape=charts.styled("Shape", "kind:N", {realised: "circle", estimated: "diamond"}),
        fill=charts.styled("Fill", "kind:N", {realised: charts.ONE, estimated: "transparent"}),
    )
    bars = base.mark_rule(strokeWidth=1.6).encode(y=lower, y2="upper:Q")
    return (bars + dots).add_params(altair.param(name="shown", value=first))


def _picks(rows: list[Row]) -> list[str]:
    measures = {row["metric"] for row in rows}
    ordered = [*(name for name in FIRST if name in measures), *sorted(measures - set(FIRST))]
    return [_label(name) for name in ordered]


def _point(row: Row) -> dict[str, Any]:
    value, lower, upper = row["value"], row["lower"], row["upper"]
    between = "" if lower is None or upper is None else f" ({_number(lower)} to {_number(upper)})"
    # An estimate stands beside what came true, not on it.
    at = (row["window_start"] + row["window_end"]) // 2
    beside = (row["window_end"] - row["window_start"]) // 8
    return {
        "metric": _label(row["metric"]), "kind": NAMES[row["kind"]],
        "at": moment(at + (beside if row["kind"] == "estimated" else -beside)),
        "value": _rounded(value), "lower": _rounded(value if lower is None else lower), "upper": _rounded(value if upper is None else upper),
        "told": f"{text_of(row['window_start'])[:10]} {_label(row['metric'])}, {NAMES[row['kind']]}: {_number(value)}{between}, n {row['n']:,}",
    }  # fmt: skip


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def _channels(rows: list[Row]) -> Table:
    told = [
        [
            text_of(row["window_start"])[:10], safe(row["channel"]), _label(row["metric"]), NAMES[row["kind"]], _number(row["value"]),
            "–" if row["lower"] is None else f"{_number(row['lower'])} to {_number(row['upper'])}", f"{row['n']:,}",
        ]
        for row in rows
    ]  # fmt: skip
    columns = ("window", "channel", "measure", "kind", "value", "interval", "n")
    return Table("By channel, newest windows first", columns, told, frozenset({"value", "n"}), folded=True)


def _label(metric: str) -> str:
    return safe(metric).replace("_", " ")


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _unknown(rows: list[Row]) -> list[str]:
    """Why something could not be told, a sentence for each reason."""
    reasons: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row["value"] is None and row["said"]:
            reasons.setdefault((row["kind"], row["said"]), []).append(row)
    return [
        f"{_few(_label(row['metric']) for row in some)} of {_few(text_of(row['window_start'])[:10] for row in some)}, {NAMES[kind]}: {safe(said)}"
        for (kind, said), some in sorted(reasons.items())
    ]


def _few(texts: Iterable[str]) -> str:
    once = list(dict.fromkeys(texts))
    return ", ".join(once[:3]) + (f" and {len(once) - 3} more" if len(once) > 3 else "")


def _missing(unknown: list[str]) -> list[str]:
    nothing = "No quality was measured in the span: every [quality] window is measured when it ends and again once labels mature."
    return unknown[:UNKNOWN_MAX] or [nothing]
