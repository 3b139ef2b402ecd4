"""Section "Drift": how far payments, scores and flags have moved from the training data of the models."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from pipeline.monitoring.drift_reference import calendar_features
from pipeline.number_text import counted, number
from pipeline.rendering import charts
from pipeline.rendering.elements import Chart, ReportSection, Table
from pipeline.rendering.report_data import ReportData
from pipeline.rendering.text import instant_text, iso_instant, safe_text
from storage.frames import DAY
from storage.queries.report_counts import Row

COLUMNS_MAX = 62  # of the heat map; in longer spans a column shows the worst of several windows
EFFECT_MAX = 0.5  # effect at which the colour scale ends
SHAPES = (
    "circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-left", "triangle-right", "stroke", "arrow", "wedge",
)  # fmt: skip
# Tooltip of a mark in `detail`, computed in the browser: thousands of sentences would be most of the page.
TOOLTIP = (
    "utcFormat(toDate(datum.at), '%Y-%m-%d %H:%M') + ' ' + datum.metric + ' ' + format(datum.value, ',.3~r')"
    " + (datum.threshold === null ? '' : ', alarm from ' + format(datum.threshold, ',.3~r')) + ', effect ' + format(datum.effect, '.3f')"
    " + ', ' + format(datum.n, ',') + ' payments' + (datum.alarm ? ', an alarm' : '')"
)


def section(data: ReportData) -> ReportSection:
    """Heat map, all metrics of one feature, and a table of alarms."""
    title = "Drift"
    features = data.drift_features
    if not data.top_drift_features:
        return ReportSection("drift", title, missing=[_missing(bool(features))])
    worst = _worst_by_feature(_windows(data))
    alarmed = [row for row in features if row["alarms"]]
    names = ", ".join(safe_text(row["feature"]) for row in alarmed[:5])
    more = f" and {len(alarmed) - 5} more" if len(alarmed) > 5 else ""
    measured = f"{counted(len(features), 'feature or other series was', 'features and other series, such as the score, were')} measured in the span, each by one or more metrics"
    sentences = [
        f"{measured}; {len(alarmed)} raised an alarm: {names}{more}."
        if alarmed
        else f"{measured}; none raised an alarm."
    ]
    suppressed = sum(row["suppressed"] for row in features)
    if suppressed:
        sentences.append(
            f"{suppressed} of them never raise an alarm, for a reason that fraudwatch drift shows: histories of fraud change while labels mature."
        )
    tables = [_alarms(alarmed, worst)] if alarmed else []
    return ReportSection(
        "drift", title, sentences, charts=[partial(heat, data), partial(detail, data)], tables=tables
    )


def heat(data: ReportData) -> Chart:
    """The largest effect of each feature and window."""
    windows = _windows(data)
    order = [safe_text(row["feature"]) for row in data.top_drift_features]
    rows = list(_cells(windows))
    last = calendar_features(data.config)
    worst = max(rows, key=lambda row: (row["alarm"], row["feature"] not in last, row["effect"]))
    return Chart(
        "drift",
        "Drift by feature and window",
        f"Heat map of {counted(len(order), 'feature')} over the windows of the span, lighter means farther from the training data; dots are alarms, "
        f"{sum(row['alarm'] for row in rows)} in all. The largest: {worst['tooltip']}.",
        lambda: charts.to_spec(_heat_map(rows, order), height=22 * len(order)),
        note="A cell shows a window's largest effect on one scale for all metrics (for distributions the share of payments that would have to change "
        f"to undo it), a dot an alarm; the {len(order)} with the largest effects are shown.",
        drives="drift-detail",
    )


def _heat_map(rows: list[dict[str, Any]], order: list[str]) -> Any:
    import altair

    labels = altair.Axis(
        labelLimit=charts.responsive("135", "240"), labelFontSize=charts.responsive("9.5", "12"), grid=False
    )
    y = altair.Y("feature:N", sort=order, title=None, axis=labels)
    scale = altair.Scale(scheme=charts.SCHEME, domain=[0, EFFECT_MAX], clamp=True)
    legend = altair.Legend(title="effect", gradientLength=160, format=".1~f")
    cells = altair.Chart(charts.inline_data(rows)).mark_rect(stroke=None).encode(
        x=charts.time_axis("from:T"), x2="to:T", y=y, tooltip="tooltip:N",
        color=altair.Color("effect:Q", scale=scale, legend=legend),
    )  # fmt: skip
    alarms = [row for row in rows if row["alarm"]]
    size, edge = charts.responsive("9", "26"), charts.responsive("0.5", "1")
    dots = altair.Chart(charts.inline_data(alarms)).mark_circle(
        size=size, opacity=1, color="#000000", stroke="#ffffff", strokeWidth=edge
    )
    return cells + dots.encode(x="middle:T", y=y, tooltip="tooltip:N") if alarms else cells


def detail(data: ReportData) -> Chart:
    """Every drift metric of one feature, which the reader selects."""
    names = [safe_text(row["feature"]) for row in data.top_drift_features]
    rows = list(_metric_points(_windows(data)))
    return Chart(
        "drift-detail",
        "One feature, metric by metric (filled: an alarm)",
        "Every drift metric of one feature over the windows, by its effect. A click on the heat map or the list selects the feature; "
        f"the first is {names[0]}.",
        lambda: charts.to_spec(_lines(rows, names[0])),
        options=names,
    )


def _lines(rows: list[dict[str, Any]], first: str) -> Any:
    import altair

    base = (
        altair.Chart(charts.inline_data(rows))
        .transform_filter("datum.feature === selected")
        .transform_calculate(tooltip=TOOLTIP)
        .encode(x=charts.time_axis("at:T", padding=12), tooltip="tooltip:N")
    )
    y = altair.Y("effect:Q", title="effect", scale=altair.Scale(zero=True))
    alarm = altair.condition("datum.alarm", altair.value(charts.ACCENT), altair.value("transparent"))
    lines = base.mark_line(strokeWidth=1.5, color=charts.MUTED).encode(y=y, detail="metric:N")
    dots = base.mark_point(size=45, strokeWidth=1.6, filled=False, color=charts.PRIMARY).encode(
        y=y,
        shape=altair.Shape(  # without a domain: the legend has the metrics of the feature alone
            "metric:N",
            title=None,
            scale=altair.Scale(range=list(SHAPES)),
            legend=altair.Legend(columns=charts.responsive("3", "6"), symbolSize=70),
        ),
        fill=alarm,
    )
    return (lines + dots).add_params(altair.param(name="selected", value=first))


def _windows(data: ReportData) -> list[Row]:
    """Metrics with the span of their column; if there are too many windows, several share a column."""
    rows = data.drift_windows
    first, length = data.scope.start, data.scope.end - data.scope.start
    many = len({row["window_start"] for row in rows}) > COLUMNS_MAX
    step = -(-length // (COLUMNS_MAX * DAY)) * DAY if many else 0
    joined: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        span = row["window_start"], row["window_end"]
        if step:
            begin = first + (span[0] - first) // step * step
            span = begin, begin + step
        _keep_worse(joined, (row["feature"], row["metric"], span), row | {"span": span})
    return list(joined.values())


def _keep_worse(worst: dict[tuple[Any, ...], Row], key: tuple[Any, ...], row: Row) -> None:
    before = worst.get(key)
    if before is None or (row["alarm"], row["effect"]) > (before["alarm"], before["effect"]):
        worst[key] = row


def _worst_by_feature(rows: list[Row]) -> dict[str, Row]:
    """The metric with the largest effect of each feature, alarms first."""
    worst: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        _keep_worse(worst, (row["feature"],), row)
    return {str(key[0]): row for key, row in worst.items()}


def _cells(rows: list[Row]) -> Iterator[dict[str, Any]]:
    worst: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        _keep_worse(worst, (row["feature"], row["span"]), row)
    for row in worst.values():
        start, end = row["span"]
        yield {
            "feature": safe_text(row["feature"]), "option": safe_text(row["feature"]), "from": iso_instant(start), "to": iso_instant(end),
            "middle": iso_instant((start + end) // 2), "effect": round(row["effect"], 4), "alarm": bool(row["alarm"]),
            "tooltip": f"{instant_text(row['window_start'])[:16]} {safe_text(row['feature'])}: {_metric_text(row)}",
        }  # fmt: skip


def _metric_points(rows: list[Row]) -> Iterator[dict[str, Any]]:
    for row in rows:
        limit = None if row["threshold"] is None else float(f"{row['threshold']:.5g}")
        value = None if row["value"] is None else float(f"{row['value']:.5g}")
        yield {
            "feature": safe_text(row["feature"]), "metric": safe_text(row["metric"]).replace("_", " "), "at": iso_instant(row["span"][0]),
            "value": value, "threshold": limit, "effect": round(row["effect"], 4), "n": row["n_current"],
            "alarm": bool(row["alarm"]),
        }  # fmt: skip


def _metric_text(row: Row) -> str:
    value = "unknown" if row["value"] is None else number(row["value"])
    limit = "" if row["threshold"] is None else f", alarm from {number(row['threshold'])}"
    return f"{safe_text(row['metric']).replace('_', ' ')} {value}{limit}, effect {row['effect']:.3f}{', an alarm' if row['alarm'] else ''}"


def _alarms(alarmed: list[Row], worst: dict[str, Row]) -> Table:
    rows = [
        [
            safe_text(row["feature"]),
            f"{row['alarms']:,}",
            instant_text(metric["window_start"])[:10],
            _metric_text(metric),
            f"{metric['n_current']:,}",
        ]
        for row in alarmed
        if (metric := worst.get(row["feature"])) is not None
    ]
    columns = ("feature", "alarms", "largest on", "metric", "payments")
    return Table(
        "Alarms; fraudwatch drift explains what to do",
        columns,
        rows,
        frozenset({"alarms", "payments"}),
        collapsed=True,
    )


def _missing(measured: bool) -> str:
    if measured:
        return "The drift metrics of the span have no effect size: there were too few payments, or an earlier version measured them. fraudwatch drift has the details."
    return "No drift was measured in the span: it is measured for every scored window, against the reference of its model."
