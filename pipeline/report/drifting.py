"""How far payments, scores and flags have moved from what models were trained on."""

import itertools
from collections.abc import Iterator
from typing import Any

from pipeline.report import look
from pipeline.report.facts import Facts, moment, safe, text_of
from pipeline.report.parts import Chart, Section, Table
from storage import reporting
from storage.frames import DAY
from storage.reporting import Row

FEATURES = 20  # rows of the heat map; each can be looked into
COLUMNS_MAX = 62  # of the heat map; longer spans show the worst of several windows
# Of a mark of `detail`, put together where it is drawn: thousands of sentences would be most of the page.
TOLD = (
    "utcFormat(toDate(datum.at), '%Y-%m-%d %H:%M') + ' ' + datum.metric + ' ' + format(datum.value, '.3g') + ', threshold ' + "
    "format(datum.threshold, '.3g') + ', ' + format(datum.n, ',') + ' payments' + (datum.alarm ? ', an alarm' : '')"
)
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
FAR = 2.0  # thresholds; beyond, the colour says no more


def section(facts: Facts) -> Section:
    """Heat map, what is behind its rows, and the alarms."""
    title = "Drift"
    features = reporting.drift_features(facts.store, facts.scope)
    if not features:
        return Section("drift", title, missing=[
            "No drift was measured in the span: it is measured for every window that is scored, against the training sample of its model."
        ])  # fmt: skip
    if not any(row["ratio"] for row in features):
        return Section(
            "drift",
            title,
            missing=["Drift was measured without a threshold, so how far is far cannot be told."],
        )
    alarmed = [row for row in features if row["alarms"]]
    held = sum(row["ratio"] > 1 and not row["alarms"] for row in features)
    said = [
        f"{len(alarmed)} of {len(features)} measured alarmed: {', '.join(safe(row['feature']) for row in alarmed[:5])}{' …' if len(alarmed) > 5 else ''}."
        if alarmed
        else "No feature and no score moved beyond its threshold.",
        f"A cell is a window's largest measure as a multiple of its alarm threshold, a dot an alarm; the {min(len(features), FEATURES)} that moved most are drawn.",
    ]
    if held:
        said.append(
            f"{held} more were beyond their threshold and held back (faded, where drawn): they move whatever the payments do, as histories of "
            "fraud do while labels mature and weekdays in short windows. fraudwatch drift lists them."
        )
    tables = [_alarms(alarmed)] if alarmed else []
    return Section("drift", title, said, charts=[heat(facts), detail(facts)], tables=tables)


def heat(facts: Facts) -> Chart:
    """The largest measure of each feature and window."""
    features = reporting.drift_features(facts.store, facts.scope, FEATURES)
    order = [safe(row["feature"]) for row in features]
    rows = list(_cells(_windows(facts, features)))
    worst = max(rows, key=lambda row: row["ratio"])
    return Chart(
        "drift",
        "Drift by feature and window",
        f"Heat map of {len(order)} features over the windows of the span, lighter is farther from training; dots are alarms, "
        f"{sum(row['alarm'] for row in rows)} in all. The largest: {worst['told']}.",
        look.finished(_map(rows, order), height=22 * len(order)),
        drives="drift-detail",
    )


def _map(rows: list[dict[str, Any]], order: list[str]) -> Any:
    import altair

    labels = altair.Axis(
        labelLimit=look.narrow("135", "240"), labelFontSize=look.narrow("9.5", "12"), grid=False
    )
    y = altair.Y("feature:N", sort=order, title=None, axis=labels)
    scale = altair.Scale(scheme=look.SCHEME, domain=[0, FAR], clamp=True)
    legend = altair.Legend(title="times its threshold", gradientLength=160, format=".1~f")
    cells = altair.Chart(look.data(rows)).mark_rect(stroke=None).encode(
        x=look.time_axis("from:T"), x2="to:T", y=y, tooltip="told:N",
        color=altair.Color("ratio:Q", scale=scale, legend=legend),
        opacity=altair.condition("datum.ratio > 1 && !datum.alarm", altair.value(0.35), altair.value(1)),
    )  # fmt: skip
    alarms = [row for row in rows if row["alarm"]]
    size, edge = look.narrow("9", "26"), look.narrow("0.5", "1")
    dots = altair.Chart(look.data(alarms)).mark_circle(
        size=size, opacity=1, color="#000000", stroke="#ffffff", strokeWidth=edge
    )
    return cells + dots.encode(x="middle:T", y=y, tooltip="told:N") if alarms else cells


def detail(facts: Facts) -> Chart:
    """Every measure of one feature, which the reader picks."""
    features = reporting.drift_features(facts.store, facts.scope, FEATURES)
    names = [safe(row["feature"]) for row in features]
    return Chart(
        "drift-detail",
        "One feature, measure by measure (filled: an alarm; dashed: the threshold)",
        "Every drift measure of one feature over the windows, as a multiple of its threshold. A click on the heat map or the list picks the feature; "
        f"first shown: {names[0]}.",
        look.finished(_lines(list(_measures(_windows(facts, features))), names[0])),
        picks=names,
    )


def _lines(rows: list[dict[str, Any]], first: str) -> Any:
    import altair

    shown = altair.param(name="shown", value=first)
    base = (
        altair.Chart(look.data(rows))
        .transform_filter("datum.feature === shown")
        .transform_calculate(ratio="abs(datum.value) / datum.threshold", told=TOLD)
        .encode(x=look.time_axis("at:T", padding=12), tooltip="told:N")
    )
    y = altair.Y("ratio:Q", title="times its threshold", scale=altair.Scale(zero=True))
    shapes = dict(zip(sorted({row["metric"] for row in rows}), itertools.cycle(SHAPES)))
    alarm = altair.condition("datum.alarm", altair.value(look.TWO), altair.value("transparent"))
    lines = base.mark_line(strokeWidth=1.5, color=look.MUTED).encode(y=y, detail="metric:N")
    dots = base.mark_point(size=45, strokeWidth=1.6, filled=False, color=look.ONE).encode(
        y=y, shape=look.styled("Shape", "metric:N", shapes), fill=alarm
    )
    limit = altair.Chart(look.data([{"y": 1}])).mark_rule(strokeDash=[4, 3], color=look.TWO).encode(y="y:Q")
    return (lines + dots + limit).add_params(shown)


def _windows(facts: Facts, features: list[Row]) -> list[Row]:
    """Measures with their ratio; several windows become one column where there are too many."""
    rows = reporting.drift_windows(facts.store, facts.scope, [row["feature"] for row in features])
    first, length = facts.scope.start, facts.scope.end - facts.scope.start
    many = len({row["window_start"] for row in rows}) > COLUMNS_MAX
    step = -(-length // (COLUMNS_MAX * DAY)) * DAY if many else 0
    joined: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        if not row["threshold"] or row["value"] is None:
            continue
        span = row["window_start"], row["window_end"]
        if step:
            begin = first + (span[0] - first) // step * step
            span = begin, begin + step
        one = dict(row) | {"span": span, "ratio": abs(row["value"]) / row["threshold"]}
        key = (row["feature"], row["metric"], span)
        before = joined.get(key)
        if before is None or (one["alarm"], one["ratio"]) > (before["alarm"], before["ratio"]):
            joined[key] = one
    return list(joined.values())


def _cells(rows: list[Row]) -> Iterator[dict[str, Any]]:
    worst: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        key = (row["feature"], row["span"])
        before = worst.get(key)
        if before is None or (row["alarm"], row["ratio"]) > (before["alarm"], before["ratio"]):
            worst[key] = row
    for row in worst.values():
        start, end = row["span"]
        yield {
            "feature": safe(row["feature"]), "pick": safe(row["feature"]), "from": moment(start), "to": moment(end),
            "middle": moment((start + end) // 2), "ratio": round(row["ratio"], 3), "alarm": bool(row["alarm"]), "told": _told(row),
        }  # fmt: skip


def _measures(rows: list[Row]) -> Iterator[dict[str, Any]]:
    for row in rows:
        yield {
            "feature": safe(row["feature"]), "metric": safe(row["metric"]).replace("_", " "), "at": moment(row["span"][0]),
            "value": float(f"{row['value']:.5g}"), "threshold": float(f"{row['threshold']:.5g}"), "n": row["n_current"],
            "alarm": bool(row["alarm"]),
        }  # fmt: skip


def _told(row: Row) -> str:
    return (
        f"{text_of(row['window_start'])[:16]} {safe(row['feature'])}: {safe(row['metric']).replace('_', ' ')} {row['value']:.3g}, "
        f"threshold {row['threshold']:.3g}, {row['n_current']:,} payments{', an alarm' if row['alarm'] else ''}"
    )


def _alarms(alarmed: list[Row]) -> Table:
    rows = [[safe(row["feature"]), f"{row['alarms']:,}", f"{row['ratio']:.1f} ×"] for row in alarmed]
    return Table(
        "Features that alarmed",
        ("feature", "alarms", "largest, of its threshold"),
        rows,
        frozenset({"alarms", "largest, of its threshold"}),
        folded=True,
    )
