"""Section "Quality over time": quality estimated before labels mature and realised afterwards, with intervals."""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from pipeline.monitoring.quality_text import MONEY, SHARES
from pipeline.number_text import counted, mean_money, number
from pipeline.rendering import charts
from pipeline.rendering.elements import Chart, ReportSection, Table
from pipeline.rendering.report_data import ReportData
from pipeline.rendering.text import instant_text, iso_instant, safe_text, share
from storage.queries import report_counts
from storage.queries.report_counts import Row

MAIN_METRICS = ("precision", "recall", "average_precision", "cost", "savings")  # listed first
# Calibration has its own chart; predicted and expected values are parts of estimates.
EXCLUDED_PREFIXES = ("reliability_", "predicted_", "expected_")
KIND_NAMES = {"realised": "realised", "estimated": "estimated before"}
IN_SENTENCE = ("precision", "recall", "cost")
UNKNOWN_MAX = 5


def section(data: ReportData) -> ReportSection:
    """Every metric over all models and channels, and the metrics of each channel."""
    title = "Quality over time"
    rows = data.quality_windows
    known = [
        row for row in rows if row["value"] is not None and not row["metric"].startswith(EXCLUDED_PREFIXES)
    ]
    unknown = _unknown(rows)
    if not known:
        return ReportSection("quality", title, missing=_missing(unknown))
    sentences = [*_newest_windows(known, data.currency), *_alarms(rows, data.currency)]
    by_channel = report_counts.quality_channels(data.store, data.scope)
    tables = [_channels(by_channel, data.currency)] if by_channel else []
    chart = partial(over_time, known, data.currency)
    return ReportSection("quality", title, sentences, unknown[:UNKNOWN_MAX], charts=[chart], tables=tables)


def _newest_windows(rows: list[Row], currency: str) -> Iterator[str]:
    """The newest realised window as a sentence, and the newest estimated one if it is newer."""
    main = [row for row in rows if row["metric"] in IN_SENTENCE]
    newest = {row["kind"]: row["window_end"] for row in sorted(main, key=lambda row: row["window_end"])}
    for kind, end in sorted(newest.items(), reverse=True):
        if kind == "estimated" and end <= newest.get("realised", 0):
            continue
        window = {row["metric"]: row for row in main if (row["kind"], row["window_end"]) == (kind, end)}
        start = min(row["window_start"] for row in window.values())
        values = ", ".join(
            f"{name} {_with_interval(window[name], currency)}" for name in IN_SENTENCE if name in window
        )
        yield f"{instant_text(start)[:10]} to {instant_text(end)[:10]}, {kind}: {values}."


def _alarms(rows: list[Row], currency: str) -> Iterator[str]:
    """The newest alarms as one sentence."""
    alarms = sorted((row for row in rows if row["alarm"]), key=lambda row: row["window_start"], reverse=True)
    if alarms:
        values = (
            f"{_label(row['metric'])} of {instant_text(row['window_start'])[:10]} {_value(row['metric'], row['value'], currency)}"
            for row in alarms
        )
        yield f"Alarms, where a realised value is outside the range that its estimate allowed: {_few(values)}."


def over_time(rows: list[Row], currency: str) -> Chart:
    """One metric over the windows, which the reader selects."""
    options, points = _metric_options(rows), [_point(row, currency) for row in rows]
    tooltips = [row["tooltip"] for row in points if row["metric"] == options[0]]
    return Chart(
        "quality",
        "A metric by window, realised and estimated",
        f"{options[0]} over {counted(len(tooltips), 'window')} with intervals, realised and estimated. The newest: {tooltips[-1]}.",
        lambda: charts.to_spec(_marks(points, options[0])),
        note="Filled marks are realised values, hollow ones are estimates from probabilities; bars are their intervals.",
        options=options,
    )


def _marks(points: list[dict[str, Any]], first: str) -> Any:
    import altair

    realised, estimated = KIND_NAMES.values()
    base = (
        altair.Chart(charts.inline_data(points))
        .transform_filter("datum.metric === selected")
        .encode(
            x=charts.time_axis("at:T", padding=12),
            color=charts.styled_channel(
                "Color", "kind:N", {realised: charts.PRIMARY, estimated: charts.ACCENT}
            ),
            tooltip="tooltip:N",
        )
    )
    scale, axis = altair.Scale(zero=True, nice=True), altair.Axis(format=",~r", tickCount=5)
    lower = altair.Y("lower:Q", title=None, scale=scale)
    dots = base.mark_point(size=80, strokeWidth=1.8, opacity=1).encode(
        y=altair.Y("value:Q", title=None, scale=scale, axis=axis),
        shape=charts.styled_channel("Shape", "kind:N", {realised: "circle", estimated: "diamond"}),
        fill=charts.styled_channel("Fill", "kind:N", {realised: charts.PRIMARY, estimated: "transparent"}),
    )
    bars = base.mark_rule(strokeWidth=1.6).encode(y=lower, y2="upper:Q")
    return (bars + dots).add_params(altair.param(name="selected", value=first))


def _metric_options(rows: list[Row]) -> list[str]:
    metrics = {row["metric"] for row in rows}
    ordered = [*(name for name in MAIN_METRICS if name in metrics), *sorted(metrics - set(MAIN_METRICS))]
    return [_label(name) for name in ordered]


def _point(row: Row, currency: str) -> dict[str, Any]:
    value, lower, upper = row["value"], row["lower"], row["upper"]
    # The estimate and the realised value stand side by side.
    at = (row["window_start"] + row["window_end"]) // 2
    beside = (row["window_end"] - row["window_start"]) // 8
    return {
        "metric": _label(row["metric"]), "kind": KIND_NAMES[row["kind"]],
        "at": iso_instant(at + (beside if row["kind"] == "estimated" else -beside)),
        "value": _rounded(value), "lower": _rounded(value if lower is None else lower), "upper": _rounded(value if upper is None else upper),
        "tooltip": f"{instant_text(row['window_start'])[:10]} {_label(row['metric'])}, {KIND_NAMES[row['kind']]}: {_with_interval(row, currency)}, n {row['n']:,}",
    }  # fmt: skip


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def _channels(rows: list[Row], currency: str) -> Table:
    table_rows = [
        [
            instant_text(row["window_start"])[:10], safe_text(row["channel"]), _label(row["metric"]), KIND_NAMES[row["kind"]],
            _value(row["metric"], row["value"], currency), _interval(row, currency) or "–", f"{row['n']:,}",
        ]
        for row in rows
    ]  # fmt: skip
    columns = ("window", "channel", "metric", "kind", "value", "interval", "n")
    return Table(
        "By channel, newest windows first", columns, table_rows, frozenset({"value", "n"}), collapsed=True
    )


def _label(metric: str) -> str:
    return safe_text(metric).replace("_", " ")


def _value(metric: str, value: float, currency: str) -> str:
    if metric in SHARES:
        return share(value, 1)
    return mean_money(value, currency) if metric in MONEY else number(value)


def _interval(row: Row, currency: str) -> str:
    if row["lower"] is None or row["upper"] is None:
        return ""
    return " to ".join(_value(row["metric"], row[end], currency) for end in ("lower", "upper"))


def _with_interval(row: Row, currency: str) -> str:
    interval = _interval(row, currency)
    return _value(row["metric"], row["value"], currency) + (f" ({interval})" if interval else "")


def _unknown(rows: list[Row]) -> list[str]:
    """Why metrics have no value, a sentence per reason."""
    reasons: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row["value"] is None and row["message"]:
            reasons.setdefault((row["kind"], row["message"]), []).append(row)
    return [
        f"{_few(_label(row['metric']) for row in reason_rows)} of {_few(instant_text(row['window_start'])[:10] for row in reason_rows)}, {KIND_NAMES[kind]}: {safe_text(reason)}"
        for (kind, reason), reason_rows in sorted(reasons.items())
    ]


def _few(texts: Iterable[str]) -> str:
    once = list(dict.fromkeys(texts))
    return ", ".join(once[:3]) + (f" and {len(once) - 3} more" if len(once) > 3 else "")


def _missing(unknown: list[str]) -> list[str]:
    nothing = "No quality was measured in the span: every [quality] window is estimated when it ends and measured once labels mature."
    return unknown[:UNKNOWN_MAX] or [nothing]
