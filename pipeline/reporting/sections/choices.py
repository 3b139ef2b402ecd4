"""Section "Strategy choices": the prevalence of fraud and the strategy chosen at each training."""

import math
from functools import partial
from typing import Any

from detectors.evaluation.prevalence import describe_cases
from pipeline.number_text import number
from pipeline.rendering import charts
from pipeline.rendering.elements import Chart, ReportSection, Table
from pipeline.rendering.report_data import ReportData
from pipeline.rendering.text import safe_text

ROWS_MAX = 12  # newest choices listed
PER_PAYMENTS = 10_000


def section(data: ReportData) -> ReportSection:
    """Choices up to the end of the span."""
    title = "Strategy choices"
    if not data.choices:
        return ReportSection(
            "choices",
            title,
            missing=["No training has chosen a strategy yet: start it with fraudwatch train."],
        )
    newest = data.choices[-1]
    sentences = [f"Now: {safe_text(newest['sentence'])}"]
    if newest["next_change"]:
        sentences.append(f"Next change: {safe_text(newest['next_change'])}")
    measured = [row for row in data.choices if row["prevalence_upper"] is not None and row["mature"]]
    missing = (
        []
        if measured
        else ["No transaction was mature at any training, so prevalence could not be measured yet."]
    )
    section_charts = [partial(prevalence, data)] if measured else []
    return ReportSection("choices", title, sentences, missing, charts=section_charts, tables=[_table(data)])


def prevalence(data: ReportData) -> Chart:
    """Prevalence with its interval at each training; the shape shows the strategy."""
    rows = _rows(data)
    return Chart(
        "choice",
        "Prevalence of fraud and strategy",
        f"Prevalence of fraud with its 95 % interval at {len(rows)} trainings; the shape shows the strategy chosen. "
        f"The newest: {rows[-1]['tooltip']}.",
        lambda: charts.to_spec(_draw(rows)),
    )


def _draw(rows: list[dict[str, Any]]) -> Any:
    import altair

    colour = charts.strategy_encoding([row["strategy"] for row in rows], points=True)
    floor, top = min(row["floor"] for row in rows), max(row["upper"] for row in rows)
    base = altair.Chart(charts.inline_data(rows)).encode(
        x=charts.time_axis("at:T", padding=12), tooltip="tooltip:N"
    )
    scale = altair.Scale(type="log", domain=[floor, top * 1.15], nice=False)
    y = altair.Y(
        "prevalence:Q",
        scale=scale,
        title="frauds in 10,000 payments",
        axis=altair.Axis(values=charts.log_ticks(floor, top, (1, 2, 5)), format=",~r"),
    )
    bars = base.mark_rule(strokeWidth=2).encode(
        y=altair.Y("lower:Q", scale=scale), y2="upper:Q", color=colour["color"]
    )
    line = base.mark_line(strokeWidth=1, color=charts.MUTED).encode(y=y)
    dots = base.mark_point(size=90, filled=True, opacity=1).encode(y=y, **colour)
    layers = [line, bars, dots]
    for side, align, shift in (("!datum.is_late", "left", 7), ("datum.is_late", "right", -7)):
        names = base.transform_filter(side).mark_text(align=align, dx=shift, dy=-9, fontWeight="bold")
        layers.append(names.encode(y=y, text="change:N"))
    return altair.layer(*layers)


def _rows(data: ReportData) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    before = ""
    measured = [row for row in data.choices if row["prevalence_upper"] is not None and row["mature"]]
    values = [
        row[name] for row in measured for name in ("prevalence", "prevalence_lower", "prevalence_upper")
    ]
    floor = min(value for value in values if value) * PER_PAYMENTS / 2
    for row in measured:
        value, lower, upper = (
            (row[name] or 0) * PER_PAYMENTS for name in ("prevalence", "prevalence_lower", "prevalence_upper")
        )
        rows.append({
            "at": f"{row['training_date']:%Y-%m-%dT%H:%M:%SZ}",
            "strategy": row["strategy"],
            "change": row["strategy"] if row["strategy"] != before else "",
            "is_late": len(rows) >= len(measured) / 2,  # its name goes to the left, where there is room
            "prevalence": max(value, floor), "lower": max(lower, floor), "upper": upper, "floor": floor,
            "tooltip": f"{row['training_date']:%Y-%m-%d}: {row['strategy']}, {number(value, 2)} in 10,000 ({number(lower, 2)} to {number(upper, 2)}), "
                    f"{describe_cases(row['effective_positives'])}",
        })  # fmt: skip
        before = row["strategy"]
    return rows


def _table(data: ReportData) -> Table:
    newest = data.choices[-ROWS_MAX:]
    rows = [
        [
            f"{row['training_date']:%Y-%m-%d}", safe_text(row["strategy"]), f"{math.floor(row['effective_positives']):,}", f"{row['mature']:,}",
            safe_text(row["sentence"]),
        ]
        for row in reversed(newest)
    ]  # fmt: skip
    columns = ("training", "strategy", "independent fraud cases", "mature", "reason")
    return Table(
        "Choices, newest first; fraudwatch strategy list has all",
        columns,
        rows,
        frozenset(columns[2:4]),
        collapsed=True,
    )
