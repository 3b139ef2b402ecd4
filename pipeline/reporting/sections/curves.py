"""Section "Results by threshold": precision–recall and cost curves with the operating point."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.base import STRATEGIES
from detectors.evaluation.metrics import CumulativeCounts, average_precision, cumulative_counts
from pipeline.number_text import mean_money, money, score_text
from pipeline.rendering import charts
from pipeline.rendering.elements import Chart, ReportSection
from pipeline.rendering.report_data import ReportData, total
from pipeline.rendering.text import share
from storage.queries.report_counts import Row

POINTS_MAX = 160  # of a curve; more are not visible


@dataclass(frozen=True)
class ThresholdCurve:
    """Precision, recall and cost of one strategy over all thresholds, on mature payments."""

    strategy: str
    steps: CumulativeCounts
    ap: float
    missed_cost: NDArray[np.float64]  # (k + 1,) cost of the frauds below each threshold
    days: int
    flags: float  # at the operating point, mature
    true_positives: float  # frauds among the flags
    cost: float  # at the operating point, per day


def section(data: ReportData) -> ReportSection:
    """Curves of every strategy that has a mature fraud."""
    title = "Results by threshold"
    strategy_curves = curves(data)
    if not strategy_curves:
        return ReportSection("curves", title, missing=[_missing(data)])
    sentences = [
        f"{curve.strategy}: average precision {curve.ap:.2f} over {curve.steps.positives:,.0f} mature frauds; its flags had a precision of "
        f"{share(curve.true_positives, curve.flags)} at a recall of {share(curve.true_positives, curve.steps.positives)} and cost {mean_money(curve.cost, data.currency)} per day."
        for curve in strategy_curves
    ]
    return ReportSection(
        "curves",
        title,
        sentences,
        charts=[partial(precision_recall, strategy_curves), partial(cost, data, strategy_curves)],
    )


def curves(data: ReportData) -> list[ThresholdCurve]:
    """One curve per strategy that has both mature frauds and mature genuine payments."""
    candidates = [_curve(data, name) for name in STRATEGIES]
    return [curve for curve in candidates if curve is not None]


def precision_recall(strategy_curves: list[ThresholdCurve]) -> Chart:
    """Precision over recall."""
    rows = [row for curve in strategy_curves for row in _precision_points(curve)]
    marks: list[dict[str, Any]] = [
        {
            "strategy": curve.strategy, "x": curve.true_positives / curve.steps.positives, "y": curve.true_positives / curve.flags if curve.flags else 0,
            "tooltip": f"{curve.strategy}, as flagged: precision {share(curve.true_positives, curve.flags)}, recall {share(curve.true_positives, curve.steps.positives)}",
        }
        for curve in strategy_curves
    ]  # fmt: skip
    operating_points = "; ".join(row["tooltip"] for row in marks)
    return Chart(
        "precision-recall",
        "Precision and recall of mature payments",
        f"Precision over recall as the threshold falls, a line for each strategy; marks: {operating_points}.",
        lambda: _draw(rows, marks, ("recall", "precision"), share_axes=True),
        note="Scores of different strategies are not on one scale, so each has its own curve. A mark is the operating point: it "
        "combines the thresholds of several weeks and channels, so it may lie beside the curve.",
    )


def cost(data: ReportData, strategy_curves: list[ThresholdCurve]) -> Chart:
    """Cost per day over flags per day."""
    rows = [row for curve in strategy_curves for row in _cost_points(curve, data)]
    marks: list[dict[str, Any]] = [
        {
            "strategy": curve.strategy, "x": max(curve.flags / curve.days, 0.1), "y": curve.cost,
            "tooltip": f"{curve.strategy}, as flagged: {curve.flags / curve.days:,.1f} flags and {mean_money(curve.cost, data.currency)} per day",
        }
        for curve in strategy_curves
    ]  # fmt: skip
    review = money(data.config.costs.review, data.currency)
    operating_points = "; ".join(row["tooltip"] for row in marks)
    return Chart(
        "cost",
        "Cost of missed fraud and unnecessary reviews",
        f"Cost per day over flags per day, a line for each strategy; an unnecessary review costs {review}. Marks: {operating_points}.",
        lambda: _draw(rows, marks, ("flags per day", f"cost per day, {data.currency}"), share_axes=False),
    )


def _curve(data: ReportData, strategy: str) -> ThresholdCurve | None:
    bins = [row for row in data.score_bins if row["strategy"] == strategy]
    frauds = np.array([row["mature_frauds"] for row in bins], dtype=np.float64)
    genuine = np.array([row["mature_n"] for row in bins], dtype=np.float64) - frauds
    if not frauds.sum() or not genuine.sum():
        return None
    scores = np.array([row["low"] for row in bins])
    y, both_scores = np.repeat([1.0, 0.0], len(bins)), np.tile(scores, 2)
    counts = np.concatenate([frauds, genuine])
    rows = [row for row in data.daily if row["strategy"] == strategy and row["mature"]]
    flags, true_positives = total(rows, "n", flagged=True), total(rows, "n", flagged=True, is_fraud=True)
    days = len({row["day"] for row in rows})
    missed_cost = _cost_of_missed(
        data,
        total(rows, "n", flagged=False, is_fraud=True),
        total(rows, "missed"),
    )
    daily_cost = (missed_cost + (flags - true_positives) * data.config.costs.review) / days
    return ThresholdCurve(
        strategy,
        cumulative_counts(y, both_scores, counts),
        average_precision(y, both_scores, counts),
        _missed_costs(data, bins),
        days,
        flags,
        true_positives,
        daily_cost,
    )


def _missed_costs(data: ReportData, bins: list[Row]) -> NDArray[np.float64]:
    """Cost of the frauds below each threshold, from the highest threshold on; the first one flags nothing."""
    costs = [_cost_of_missed(data, row["mature_frauds"], row["mature_loss"]) for row in bins]
    return np.cumsum(np.append(0.0, costs))[::-1].copy()


def _cost_of_missed(data: ReportData, frauds: float, loss: float) -> float:
    costs = data.config.costs
    return (
        max(loss, 0.0) if costs.missed_fraud_basis == "amount" else frauds * costs.missed_fraud * costs.review
    )


def _precision_points(curve: ThresholdCurve) -> Iterator[dict[str, Any]]:
    steps = curve.steps
    for k in _thin(steps.tp / steps.positives)[1:]:
        recall, precision = steps.tp[k] / steps.positives, steps.tp[k] / (steps.tp[k] + steps.fp[k])
        yield {
            "strategy": curve.strategy, "place": int(k), "x": round(float(recall), 5), "y": round(float(precision), 5),
            "tooltip": f"{curve.strategy}, score from {score_text(steps.threshold[k])}: precision {share(precision, 1)}, recall {share(recall, 1)}",
        }  # fmt: skip


def _cost_points(curve: ThresholdCurve, data: ReportData) -> Iterator[dict[str, Any]]:
    steps, review = curve.steps, data.config.costs.review
    flags = (steps.tp + steps.fp) / curve.days
    for k in _thin(np.log(np.maximum(flags, 0.1))):
        if flags[k] < 0.1:
            continue
        daily_cost = (curve.missed_cost[k] + steps.fp[k] * review) / curve.days
        yield {
            "strategy": curve.strategy, "place": int(k), "x": round(float(flags[k]), 4), "y": round(float(daily_cost), 2),
            "tooltip": f"{curve.strategy}, score from {score_text(steps.threshold[k])}: {flags[k]:,.1f} flags and {mean_money(daily_cost, data.currency)} per day",
        }  # fmt: skip


def _thin(along: NDArray[np.float64]) -> NDArray[np.int64]:
    """Indices of at most POINTS_MAX points, evenly spaced along the axis, with the first and the last."""
    last = len(along) - 1
    targets = np.linspace(along[0], along[last], POINTS_MAX)
    return np.unique(np.append(np.minimum(np.searchsorted(along, targets), last), [0, last])).astype(np.int64)


def _draw(
    rows: list[dict[str, Any]], marks: list[dict[str, Any]], titles: tuple[str, str], *, share_axes: bool
) -> Any:
    import altair

    scale = altair.Scale(domain=[0, 1]) if share_axes else altair.Scale(type="log", nice=False)
    percent = charts.share_axis(tickCount=5)
    ends = [row["x"] for row in rows]
    powers = altair.Axis(values=charts.log_ticks(min(ends), max(ends)), format=",~r")
    x = altair.X("x:Q", title=titles[0], scale=scale, axis=percent if share_axes else powers)
    high = altair.Scale(domain=[0, 1]) if share_axes else altair.Scale(zero=True)
    amount = altair.Axis(tickCount=5, format=",.0f")
    y = altair.Y("y:Q", title=titles[1], scale=high, axis=percent if share_axes else amount)
    strategies = [row["strategy"] for row in marks]
    lines = (
        altair.Chart(charts.inline_data(rows))
        .mark_line(strokeWidth=2)
        .encode(x=x, y=y, order="place:Q", tooltip="tooltip:N", **charts.strategy_encoding(strategies))
    )
    dots = (
        altair.Chart(charts.inline_data(marks))
        .mark_point(size=170, filled=True, opacity=1, stroke=charts.PAPER)
        .encode(x=x, y=y, tooltip="tooltip:N", **charts.strategy_encoding(strategies, points=True))
    )
    names = [
        altair.Chart(charts.inline_data([row]))
        .mark_text(align="left", dx=9, dy=beside, fontWeight="bold")
        .encode(x=x, y=y, text="strategy:N")
        for row, beside in zip(marks, (15, -13, 1), strict=False)
    ]
    return charts.to_spec(altair.layer(lines, dots, *names))


def _missing(data: ReportData) -> str:
    if not data.daily:
        return (
            "No payment of the span has a score, so there is no curve: fraudwatch backfill scores the past."
        )
    if not total(data.daily, "n", mature=True):
        return (
            f"No payment of the span is mature: {data.completeness_text}. Try again later or choose an "
            "earlier span; fraudwatch ingest labels --complete-through sets how far labels are complete."
        )
    return "No mature payment of the span is known to be fraud (or all of them are), so precision and recall are undefined."
