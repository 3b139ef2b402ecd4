"""Section "Scores": the distribution of scores and the calibration of probabilities."""

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from detectors.base import STRATEGIES
from detectors.evaluation.prevalence import estimate_prevalence
from pipeline.number_text import counted
from pipeline.rendering import charts
from pipeline.rendering.elements import Chart, ReportSection
from pipeline.rendering.report_data import ReportData
from pipeline.rendering.text import share
from storage.queries.report_counts import Row

FRAUD, OTHER = "known fraud", "all others"
ODDS_MAX, ODDS_STEP = 5.0, 0.25  # log10 odds: scores from 0.00001 to 0.99999
AXIS_LABELS = {  # as `score_text` has them, in tens
    -4: "9,999 in 10,000", -3: "999 in 1,000", -2: "99 in 100", -1: "9 in 10", 0: "1 in 2",
    1: "1 in 10", 2: "1 in 100", 3: "1 in 1,000", 4: "1 in 10,000",
}  # fmt: skip
# Quantiles of the probability; bins of equal width would be nearly empty where fraud is one in thousands.
QUANTILES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 1.0)
SHARE_MIN = 1e-5  # shown for a share of 0, because the axis is logarithmic


def section(data: ReportData) -> ReportSection:
    """Distribution of scores, and calibration."""
    title = "Scores"
    if not data.score_bins:
        return ReportSection(
            "scores",
            title,
            missing=["No payment of the span has a score: fraudwatch backfill scores the past."],
        )
    sentences, missing, section_charts = [], [], [partial(distribution, data)]
    if not sum(row["frauds"] for row in data.score_bins):
        missing.append("No fraud is known, so the chart shows only the scores of all payments.")
    points = list(_calibration_points(data))
    if points:
        section_charts.append(partial(calibration, data))
        sentences.append(_calibration_sentence(points))
    else:
        missing.append(
            "Calibration needs mature payments with a fraud probability, some of them fraud: outlier detection gives no probability, and "
            f"{data.completeness_text}."
        )
    return ReportSection("scores", title, sentences, missing, charts=section_charts)


def distribution(data: ReportData) -> Chart:
    """Distribution of the scores of known fraud and of all other payments, a ridge per strategy."""
    strategies = [name for name in STRATEGIES if any(row["strategy"] == name for row in data.score_bins)]
    ridges = [
        row for place, name in enumerate(reversed(strategies)) for row in _ridge(data.score_bins, name, place)
    ]
    names = [
        {"x": -ODDS_MAX, "y": place + 0.87, "text": name} for place, name in enumerate(reversed(strategies))
    ]
    return Chart(
        "scores",
        "Distribution of scores (each shape is scaled to its tallest bin)",
        "Distribution of scores by strategy: filled for all payments not known to be fraud, outlined for known fraud. With good scores the outline is "
        "to the right of the filled shape.",
        lambda: charts.to_spec(_draw_ridges(ridges, names), height=90 * len(strategies) + 30),
    )


def _draw_ridges(ridges: list[dict[str, Any]], names: list[dict[str, Any]]) -> Any:
    """Scores on a log-odds axis, so that both ends are visible, with scores as labels."""
    import altair

    ticks = altair.Axis(
        values=list(AXIS_LABELS),
        labelExpr=f"{json.dumps(AXIS_LABELS)}[datum.value]",
        labelOverlap="greedy",
        labelSeparation=8,
    )
    x = altair.X(
        "x:Q",
        title="score: how many payments are as suspicious",
        scale=charts.fixed_scale(-ODDS_MAX, ODDS_MAX),
        axis=ticks,
    )
    y = altair.Y("high:Q", axis=None, scale=charts.fixed_scale(0, len(names)))
    square = altair.Legend(symbolType="square", symbolSize=110)
    areas = altair.Chart(charts.inline_data(ridges)).mark_area(
        interpolate="step-after", line=False, strokeWidth=2
    )
    ridges_chart = areas.encode(
        x=x, y=y, y2="low:Q", detail="strategy:N", tooltip="tooltip:N",
        fill=charts.styled_channel("Fill", "which:N", {OTHER: charts.GRID, FRAUD: "transparent"}, legend=square),
        stroke=charts.styled_channel("Stroke", "which:N", {OTHER: charts.MUTED, FRAUD: charts.ACCENT}, legend=square),
    )  # fmt: skip
    labels = altair.Chart(charts.inline_data(names)).mark_text(align="left", dx=4, fontWeight="bold")
    return ridges_chart + labels.encode(x=x, y="y:Q", text="text:N")


def calibration(data: ReportData) -> Chart:
    """Reliability diagram: predicted probability against the observed share of fraud, by probability group."""
    rows = list(_calibration_points(data))
    return Chart(
        "calibration",
        "Calibration of probabilities (mature payments in groups of rising probability)",
        f"Observed share of fraud against predicted probability, with 95 % intervals, on logarithmic axes; on the dotted line both agree. {_calibration_sentence(rows)}",
        lambda: charts.to_spec(_draw_calibration(rows)),
    )


def _draw_calibration(rows: list[dict[str, Any]]) -> Any:
    import altair

    low = min([SHARE_MIN * 10, *(row["x"] for row in rows)])
    scale = altair.Scale(type="log", domain=[low, 1], nice=False, clamp=True)
    axis = charts.share_axis(4, values=charts.log_ticks(low, 1))
    x = altair.X("x:Q", scale=scale, axis=axis, title="predicted probability (mean of a group)")
    y = altair.Y("y:Q", scale=scale, axis=axis, title="observed share of fraud")
    ends = altair.Chart(charts.inline_data([{"x": low, "y": low}, {"x": 1, "y": 1}]))
    ideal = ends.mark_line(strokeDash=[3, 3], strokeWidth=1, color=charts.MUTED).encode(x=x, y=y)
    base = altair.Chart(charts.inline_data(rows)).encode(x=x, tooltip="tooltip:N")
    colour = charts.strategy_encoding([row["strategy"] for row in rows], points=True)
    lower = altair.Y("lower:Q", scale=scale)
    bars = base.mark_rule(strokeWidth=2).encode(y=lower, y2="upper:Q", color=colour["color"])
    return ideal + bars + base.mark_point(size=80, filled=True, opacity=1).encode(y=y, **colour)


def _ridge(bins: list[Row], strategy: str, place: int) -> Iterator[dict[str, Any]]:
    strategy_bins = [row for row in bins if row["strategy"] == strategy]
    edges = np.arange(-ODDS_MAX, ODDS_MAX + ODDS_STEP / 2, ODDS_STEP)
    middle = np.clip(np.array([row["total"] / row["n"] for row in strategy_bins]), 1e-12, 1 - 1e-12)
    at = np.clip(np.digitize(np.log10(middle / (1 - middle)), edges) - 1, 0, len(edges) - 2)
    frauds = np.array([row["frauds"] for row in strategy_bins], dtype=np.float64)
    for which, weights in ((OTHER, np.array([row["n"] for row in strategy_bins]) - frauds), (FRAUD, frauds)):
        counts = np.bincount(at, weights=weights, minlength=len(edges) - 1)
        if not counts.sum():
            continue
        filled = np.flatnonzero(counts)
        for k in range(filled[0], filled[-1] + 2):
            count = counts[k] if k < len(counts) else 0.0
            yield {
                "strategy": strategy, "which": which, "x": float(edges[k]), "low": place,
                "high": round(place + 0.78 * count / counts.max(), 4),
                "tooltip": f"{strategy}, {which}: {count:,.0f} ({share(count, counts.sum())})",
            }  # fmt: skip


def _calibration_points(data: ReportData) -> Iterator[dict[str, Any]]:
    for strategy in STRATEGIES:
        bins = [row for row in data.probability_bins if row["strategy"] == strategy and row["mature_n"]]
        if sum(row["mature_frauds"] for row in bins):
            yield from _groups(strategy, bins)


def _groups(strategy: str, bins: list[Row]) -> Iterator[dict[str, Any]]:
    """Bins merged into groups at the quantiles."""
    n, predicted, frauds = (
        np.array([row[name] for row in bins], dtype=np.float64)
        for name in ("mature_n", "mature_total", "mature_frauds")
    )
    ends = (np.cumsum(n) - n / 2) / n.sum()
    group = np.digitize(ends, QUANTILES[1:-1])
    for number in np.unique(group):
        rows = group == number
        size, observed, expected = n[rows].sum(), frauds[rows].sum(), predicted[rows].sum()
        interval = estimate_prevalence(size, observed, observed)
        yield {
            "strategy": strategy, "x": max(float(expected / size), SHARE_MIN), "y": max(float(observed / size), SHARE_MIN),
            "lower": max(interval.display_lower, SHARE_MIN), "upper": interval.display_upper,
            "expected": float(expected), "observed": float(observed),
            "tooltip": f"{strategy}: predicted {share(expected, size)}, observed {share(observed, size)} "
                    f"({share(interval.display_lower, 1)} to {share(interval.display_upper, 1)}) of {counted(int(size), 'payment')}",
        }  # fmt: skip


def _calibration_sentence(points: list[dict[str, Any]]) -> str:
    expected, observed = sum(row["expected"] for row in points), sum(row["observed"] for row in points)
    return f"The probabilities of mature payments predict {counted(round(expected), 'fraud')}; {observed:,.0f} were observed."
