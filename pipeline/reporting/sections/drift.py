"""How far payments, scores and flags have moved from what models were trained on."""

import itertools
from collections.abc import Iterator
from typing import Any

from pipeline.rendering import charts
from pipeline.rendering.elements import Chart, Section, Table
from pipeline.rendering.report_data import Facts
from pipeline.rendering.text import moment, safe, text_of
from storage.frames import DAY
from storage.queries import report_counts
from storage.queries.report_counts import Row

FEATURES = 20  # rows of the heat map; each can be looked into
COLUMNS_MAX = 62  # of the heat map; longer spans show the worst of several windows
FAR = 0.5  # an effect beyond which the colour says no more
SHAPES = (
    "circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-left", "triangle-right", "stroke", "arrow", "wedge",
)  # fmt: skip
# Of a mark of `detail`, put together where it is drawn: thousands of sentences would be most of the page.
TOLD = (
    "utcFormat(toDate(datum.at), '%Y-%m-%d %H:%M') + ' ' + datum.metric + ' ' + format(datum.value, '.3g')"
    " + (datum.threshold === null ? '' : ', alarm from ' + format(datum.threshold, '.3g')) + ', effect ' + format(datum.effect, '.3f')"
    " + ', ' + format(datum.n, ',') + ' payments' + (datum.alarm ? ', an alarm' : '')"
)


def section(facts: Facts) -> Section:
    """Heat map, what is behind its rows, and the alarms."""
    title = "Drift"
    features = report_counts.drift_features(facts.store, facts.scope)
    drawn = [row for row in features[:FEATURES] if row["effect"] is not None]
    if not drawn:
        return Section("drift", title, missing=[_missing(bool(features))])
    worst = _worst(_windows(facts, drawn))
    alarmed = [row for row in features if row["alarms"]]
    names = ", ".join(safe(row["feature"]) for row in alarmed[:5]) + (" …" if len(alarmed) > 5 else "")
    said = [
        f"{len(alarmed)} of {len(features)} measured alarmed: {names}."
        if alarmed
        else "Nothing that was measured alarmed.",
        f"A cell is a window's largest effect on one scale for all measures (of distributions the share of payments that would have to change "
        f"to undo it), a dot an alarm; the {len(drawn)} that moved most are drawn.",
    ]
    held = sum(row["held"] for row in features)
    if held:
        said.append(
            f"{held} measured never alarm, for a reason that fraudwatch drift tells: histories of fraud change while labels mature."
        )
    tables = [_alarms(alarmed, worst)] if alarmed else []
    return Section("drift", title, said, charts=[heat(facts), detail(facts)], tables=tables)


def heat(facts: Facts) -> Chart:
    """The largest effect of each feature and window."""
    windows = _windows(facts, _drawn(facts))
    order = [safe(row["feature"]) for row in _drawn(facts)]
    rows = list(_cells(windows))
    worst = max(rows, key=lambda row: row["effect"])
    return Chart(
        "drift",
        "Drift by feature and window",
        f"Heat map of {len(order)} features over the windows of the span, lighter is farther from training; dots are alarms, "
        f"{sum(row['alarm'] for row in rows)} in all. The largest: {worst['told']}.",
        charts.finished(_map(rows, order), height=22 * len(order)),
        drives="drift-detail",
    )


def _map(rows: list[dict[str, Any]], order: list[str]) -> Any:
    import altair

    labels = altair.Axis(
        labelLimit=charts.narrow("135", "240"), labelFontSize=charts.narrow("9.5", "12"), grid=False
    )
    y = altair.Y("feature:N", sort=order, title=None, axis=labels)
    scale = altair.Scale(scheme=charts.SCHEME, domain=[0, FAR], clamp=True)
    legend = altair.Legend(title="effect", gradientLength=160, format=".1~f")
    cells = altair.Chart(charts.data(rows)).mark_rect(stroke=None).encode(
        x=charts.time_axis("from:T"), x2="to:T", y=y, tooltip="told:N",
        color=altair.Color("effect:Q", scale=scale, legend=legend),
    )  # fmt: skip
    alarms = [row for row in rows if row["alarm"]]
    size, edge = charts.narrow("9", "26"), charts.narrow("0.5", "1")
    dots = altair.Chart(charts.data(alarms)).mark_circle(
        size=size, opacity=1, color="#000000", stroke="#ffffff", strokeWidth=edge
    )
    return cells + dots.encode(x="middle:T", y=y, tooltip="told:N") if alarms else cells


def detail(facts: Facts) -> Chart:
    """Every measure of one feature, which the reader picks."""
    names = [safe(row["feature"]) for row in _drawn(facts)]
    rows = list(_measures(_windows(facts, _drawn(facts))))
    return Chart(
        "drift-detail",
        "One feature, measure by measure (filled: an alarm)",
        "Every drift measure of one feature over the windows, by its effect. A click on the heat map or the list picks the feature; "
        f"first shown: {names[0]}.",
        charts.finished(_lines(rows, names[0])),
        picks=names,
    )


def _lines(rows: list[dict[str, Any]], first: str) -> Any:
    import altair

    base = (
        altair.Chart(charts.data(rows))
        .transform_filter("datum.feature === shown")
        .transform_calculate(told=TOLD)
        .encode(x=charts.time_axis("at:T", padding=12), tooltip="told:N")
    )
    y = altair.Y("effect:Q", title="effect", scale=altair.Scale(zero=True))
    shapes = dict(zip(sorted({row["metric"] for row in rows}), itertools.cycle(SHAPES), strict=False))
    alarm = altair.condition("datum.alarm", altair.value(charts.TWO), altair.value("transparent"))
    lines = base.mark_line(strokeWidth=1.5, color=charts.MUTED).encode(y=y, detail="metric:N")
    dots = base.mark_point(size=45, strokeWidth=1.6, filled=False, color=charts.ONE).encode(
        y=y,
        shape=charts.styled(
            "Shape", "metric:N", shapes, legend=altair.Legend(columns=charts.narrow("3", "6"), symbolSize=70)
        ),
        fill=alarm,
    )
    return (lines + dots).add_params(altair.param(name="shown", value=first))


def _drawn(facts: Facts) -> list[Row]:
    """The rows of the heat map, in their order."""
    found = report_counts.drift_features(facts.store, facts.scope, FEATURES)
    return [row for row in found if row["effect"] is not None]


def _windows(facts: Facts, features: list[Row]) -> list[Row]:
    """Measures with the span they are drawn over; several windows become one column where there are too many."""
    rows = report_counts.drift_windows(facts.store, facts.scope, [row["feature"] for row in features])
    first, length = facts.scope.start, facts.scope.end - facts.scope.start
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


def _keep_worse(kept: dict[tuple[Any, ...], Row], key: tuple[Any, ...], row: Row) -> None:
    before = kept.get(key)
    if before is None or (row["alarm"], row["effect"]) > (before["alarm"], before["effect"]):
        kept[key] = row


def _worst(rows: list[Row]) -> dict[str, Row]:
    """The clearest measure of each feature."""
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
            "feature": safe(row["feature"]), "pick": safe(row["feature"]), "from": moment(start), "to": moment(end),
            "middle": moment((start + end) // 2), "effect": round(row["effect"], 4), "alarm": bool(row["alarm"]),
            "told": f"{text_of(row['window_start'])[:16]} {safe(row['feature'])}: {_told(row)}",
        }  # fmt: skip


def _measures(rows: list[Row]) -> Iterator[dict[str, Any]]:
    for row in rows:
        limit = None if row["threshold"] is None else float(f"{row['threshold']:.5g}")
        value = None if row["value"] is None else float(f"{row['value']:.5g}")
        yield {
            "feature": safe(row["feature"]), "metric": safe(row["metric"]).replace("_", " "), "at": moment(row["span"][0]),
            "value": value, "threshold": limit, "effect": round(row["effect"], 4), "n": row["n_current"],
            "alarm": bool(row["alarm"]),
        }  # fmt: skip


def _told(row: Row) -> str:
    value = "unknown" if row["value"] is None else f"{row['value']:.3g}"
    limit = "" if row["threshold"] is None else f", alarm from {row['threshold']:.3g}"
    return f"{safe(row['metric']).replace('_', ' ')} {value}{limit}, effect {row['effect']:.3f}{', an alarm' if row['alarm'] else ''}"


def _alarms(alarmed: list[Row], worst: dict[str, Row]) -> Table:
    rows = [
        [
            safe(row["feature"]),
            f"{row['alarms']:,}",
            text_of(one["window_start"])[:10],
            _told(one),
            f"{one['n_current']:,}",
        ]
        for row in alarmed
        if (one := worst.get(row["feature"])) is not None
    ]
    columns = ("feature", "alarms", "clearest on", "its measure", "payments")
    return Table(
        "What alarmed; fraudwatch drift tells what to do",
        columns,
        rows,
        frozenset({"alarms", "payments"}),
        folded=True,
    )


def _missing(measured: bool) -> str:
    if measured:
        return "What was measured in the span has no effect size: it was too little, or measured before fraudwatch kept them. fraudwatch drift tells more."
    return "No drift was measured in the span: it is measured for every window that is scored, against what its model remembers."
