"""How scores are distributed, and whether probabilities can be taken at their word."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from detectors.evaluation.prevalence import measure
from pipeline.rendering import charts as look
from pipeline.rendering.elements import Chart, Section
from pipeline.rendering.report_data import Facts
from pipeline.rendering.text import share
from storage.queries.report_counts import Row

FRAUD, OTHER = "known fraud", "all others"
ODDS_MAX, ODDS_STEP = 5.0, 0.25  # log10 odds: scores from 0.00001 to 0.99999
LABELS = {
    -4: "0.0001",
    -3: "0.001",
    -2: "0.01",
    -1: "0.1",
    0: "0.5",
    1: "0.9",
    2: "0.99",
    3: "0.999",
    4: "0.9999",
}
# Shares of payments, by rising probability: equal widths would say nothing where fraud is one in thousands.
QUANTILES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 1.0)
FLOOR = 1e-5  # what is drawn for a share of nothing


def section(facts: Facts) -> Section:
    """Scores and probabilities."""
    title = "Scores"
    if not facts.score_bins:
        return Section(
            "scores",
            title,
            missing=["No payment of the span has a score: fraudwatch backfill scores the past."],
        )
    said, missing, charts = [], [], [distribution(facts)]
    if not sum(row["frauds"] for row in facts.score_bins):
        missing.append("No fraud is known, so only the scores of all payments are drawn.")
    points = list(_points(facts))
    if points:
        charts.append(calibration(facts))
        said.append(_honesty(points))
    else:
        missing.append(
            "Calibration needs mature payments with a fraud probability, some of them fraud: outlier detection gives none, and labels "
            f"are read as complete for payments up to {facts.matures}."
        )
    return Section("scores", title, said, missing, charts=charts)


def distribution(facts: Facts) -> Chart:
    """Where scores of known fraud and of all others lie, a ridge for each strategy."""
    here = [name for name in look.STRATEGIES if any(row["strategy"] == name for row in facts.score_bins)]
    ridges = [
        row for place, name in enumerate(reversed(here)) for row in _ridge(facts.score_bins, name, place)
    ]
    names = [{"x": -ODDS_MAX, "y": place + 0.87, "text": name} for place, name in enumerate(reversed(here))]
    return Chart(
        "scores",
        "Where scores lie (each shape is as tall as its tallest bin)",
        "Distribution of scores by strategy: filled all payments not known to be fraud, outlined known fraud. Good scores have the outline to "
        "the right of the filled shape.",
        look.finished(_ridges(ridges, names), height=90 * len(here) + 30),
    )


def _ridges(ridges: list[dict[str, Any]], names: list[dict[str, Any]]) -> Any:
    """Scores by their odds, so that both ends can be seen, labelled as scores."""
    import altair

    ticks = altair.Axis(
        values=list(LABELS),
        labelExpr=f"{json.dumps(LABELS)}[datum.value]",
        labelOverlap="greedy",
        labelSeparation=8,
    )
    x = altair.X("x:Q", title="score", scale=look.limits(-ODDS_MAX, ODDS_MAX), axis=ticks)
    y = altair.Y("high:Q", axis=None, scale=look.limits(0, len(names)))
    square = altair.Legend(symbolType="square", symbolSize=110)
    areas = altair.Chart(look.data(ridges)).mark_area(interpolate="step-after", line=False, strokeWidth=2)
    drawn = areas.encode(
        x=x, y=y, y2="low:Q", detail="strategy:N", tooltip="told:N",
        fill=look.styled("Fill", "which:N", {OTHER: look.GRID, FRAUD: "transparent"}, legend=square),
        stroke=look.styled("Stroke", "which:N", {OTHER: look.MUTED, FRAUD: look.TWO}, legend=square),
    )  # fmt: skip
    labels = altair.Chart(look.data(names)).mark_text(align="left", dx=4, fontWeight="bold")
    return drawn + labels.encode(x=x, y="y:Q", text="text:N")


def calibration(facts: Facts) -> Chart:
    """Probability promised against fraud found, in groups of rising probability."""
    rows = list(_points(facts))
    return Chart(
        "calibration",
        "Are probabilities kept? (mature payments in groups of rising probability)",
        f"Share of fraud found against the probability promised, with 95 % intervals, on logarithmic axes; on the dotted line both agree. {_honesty(rows)}",
        look.finished(_promises(rows)),
    )


def _promises(rows: list[dict[str, Any]]) -> Any:
    import altair

    low = min([FLOOR * 10, *(row["x"] for row in rows)])
    scale = altair.Scale(type="log", domain=[low, 1], nice=False, clamp=True)
    axis = altair.Axis(format="~%", values=look.log_ticks(low, 1))
    x = altair.X("x:Q", scale=scale, axis=axis, title="probability promised (mean of a group)")
    y = altair.Y("y:Q", scale=scale, axis=axis, title="share that was fraud")
    ends = altair.Chart(look.data([{"x": low, "y": low}, {"x": 1, "y": 1}]))
    ideal = ends.mark_line(strokeDash=[3, 3], strokeWidth=1, color=look.MUTED).encode(x=x, y=y)
    base = altair.Chart(look.data(rows)).encode(x=x, tooltip="told:N")
    colour = look.by_strategy([row["strategy"] for row in rows], points=True)
    lower = altair.Y("lower:Q", scale=scale)
    bars = base.mark_rule(strokeWidth=2).encode(y=lower, y2="upper:Q", color=colour["color"])
    return ideal + bars + base.mark_point(size=80, filled=True, opacity=1).encode(y=y, **colour)


def _ridge(bins: list[Row], strategy: str, place: int) -> Iterator[dict[str, Any]]:
    mine = [row for row in bins if row["strategy"] == strategy]
    edges = np.arange(-ODDS_MAX, ODDS_MAX + ODDS_STEP / 2, ODDS_STEP)
    middle = np.clip(np.array([row["total"] / row["n"] for row in mine]), 1e-12, 1 - 1e-12)
    at = np.clip(np.digitize(np.log10(middle / (1 - middle)), edges) - 1, 0, len(edges) - 2)
    frauds = np.array([row["frauds"] for row in mine], dtype=np.float64)
    for which, weights in ((OTHER, np.array([row["n"] for row in mine]) - frauds), (FRAUD, frauds)):
        counts = np.bincount(at, weights=weights, minlength=len(edges) - 1)
        if not counts.sum():
            continue
        filled = np.flatnonzero(counts)
        for k in range(filled[0], filled[-1] + 2):
            count = counts[k] if k < len(counts) else 0.0
            yield {
                "strategy": strategy, "which": which, "x": float(edges[k]), "low": place,
                "high": round(place + 0.78 * count / counts.max(), 4),
                "told": f"{strategy}, {which}: {count:,.0f} ({share(count, counts.sum())})",
            }  # fmt: skip


def _points(facts: Facts) -> Iterator[dict[str, Any]]:
    for strategy in look.STRATEGIES:
        bins = [row for row in facts.probability_bins if row["strategy"] == strategy and row["mature_n"]]
        if sum(row["mature_frauds"] for row in bins):
            yield from _groups(strategy, bins)


def _groups(strategy: str, bins: list[Row]) -> Iterator[dict[str, Any]]:
    """Bins joined to groups that end where the quantiles do."""
    n, promised, frauds = (
        np.array([row[name] for row in bins], dtype=np.float64)
        for name in ("mature_n", "mature_total", "mature_frauds")
    )
    ends = (np.cumsum(n) - n / 2) / n.sum()
    group = np.digitize(ends, QUANTILES[1:-1])
    for one in np.unique(group):
        rows = group == one
        size, found, expected = n[rows].sum(), frauds[rows].sum(), promised[rows].sum()
        interval = measure(size, found, found)
        yield {
            "strategy": strategy, "x": max(float(expected / size), FLOOR), "y": max(float(found / size), FLOOR),
            "lower": max(interval.shown_lower, FLOOR), "upper": interval.shown_upper,
            "expected": float(expected), "found": float(found),
            "told": f"{strategy}: promised {share(expected, size)}, found {share(found, size)} "
                    f"({share(interval.shown_lower, 1)} to {share(interval.shown_upper, 1)}) of {size:,.0f} payments",
        }  # fmt: skip


def _honesty(points: list[dict[str, Any]]) -> str:
    expected, found = sum(row["expected"] for row in points), sum(row["found"] for row in points)
    return f"Probabilities of mature payments promised {expected:,.0f} frauds, and {found:,.0f} were found."
