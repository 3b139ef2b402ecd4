"""What other thresholds would have brought: precision–recall and cost, with the point where flags were raised."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.evaluation.metrics import Steps, average_precision, steps
from pipeline.rendering import charts
from pipeline.rendering.elements import Chart, Section
from pipeline.rendering.report_data import Facts, total
from pipeline.rendering.text import money, share
from storage.queries.report_counts import Row

POINTS_MAX = 160  # of a curve; more cannot be told apart


@dataclass(frozen=True)
class Curve:
    """Mature scores of one strategy."""

    strategy: str
    steps: Steps
    ap: float
    missed: NDArray[np.float64]  # (k + 1,) cost of the frauds below each step
    days: int
    flags: float  # at the operating point, mature
    right: float  # frauds among them
    cost: float  # of the operating point, a day


def section(facts: Facts) -> Section:
    """Curves of every strategy that has a mature fraud."""
    title = "What other thresholds would have brought"
    found = curves(facts)
    if not found:
        return Section("curves", title, missing=[_missing(facts)])
    said = [
        f"{one.strategy}: average precision {one.ap:.2f} over {one.steps.positives:,.0f} mature frauds; its flags had a precision of "
        f"{share(one.right, one.flags)} at a recall of {share(one.right, one.steps.positives)}, and cost {money(one.cost, facts.currency)} a day."
        for one in found
    ]
    said.append(
        "Scores of different strategies are not on one scale, so each has its own curve. A mark is where flags were really raised: "
        "thresholds of several weeks and channels, so it may lie beside the curve."
    )
    return Section("curves", title, said, charts=[precision_recall(facts), cost(facts)])


def curves(facts: Facts) -> list[Curve]:
    """One for each strategy with mature frauds, and genuine payments to tell them from."""
    made = [_curve(facts, name) for name in charts.STRATEGIES]
    return [one for one in made if one is not None]


def precision_recall(facts: Facts) -> Chart:
    """Precision over recall."""
    found = curves(facts)
    rows = [row for one in found for row in _precision(one)]
    marks: list[dict[str, Any]] = [
        {
            "strategy": one.strategy, "x": one.right / one.steps.positives, "y": one.right / one.flags if one.flags else 0,
            "told": f"{one.strategy}, as flagged: precision {share(one.right, one.flags)}, recall {share(one.right, one.steps.positives)}",
        }
        for one in found
    ]  # fmt: skip
    told = "; ".join(row["told"] for row in marks)
    return Chart(
        "precision-recall",
        "Precision and recall of mature payments",
        f"Precision over recall as the threshold falls, a line for each strategy; marks: {told}.",
        _drawn(rows, marks, ("recall", "precision"), share_axes=True),
    )


def cost(facts: Facts) -> Chart:
    """Cost a day over flags a day."""
    found = curves(facts)
    rows = [row for one in found for row in _costs(one, facts)]
    marks: list[dict[str, Any]] = [
        {
            "strategy": one.strategy, "x": max(one.flags / one.days, 0.1), "y": one.cost,
            "told": f"{one.strategy}, as flagged: {one.flags / one.days:,.1f} flags and {money(one.cost, facts.currency)} a day",
        }
        for one in found
    ]  # fmt: skip
    review = money(facts.config.costs.review, facts.currency)
    told = "; ".join(row["told"] for row in marks)
    return Chart(
        "cost",
        "Cost of missed fraud and needless reviews",
        f"Cost a day over flags a day, a line for each strategy; a needless review costs {review}. Marks: {told}.",
        _drawn(rows, marks, ("flags a day", f"cost a day, {facts.currency}"), share_axes=False),
    )


def _curve(facts: Facts, strategy: str) -> Curve | None:
    bins = [row for row in facts.score_bins if row["strategy"] == strategy]
    frauds = np.array([row["mature_frauds"] for row in bins], dtype=np.float64)
    genuine = np.array([row["mature_n"] for row in bins], dtype=np.float64) - frauds
    if not frauds.sum() or not genuine.sum():
        return None
    scores = np.array([row["low"] for row in bins])
    y, twice = np.repeat([1.0, 0.0], len(bins)), np.tile(scores, 2)
    counts = np.concatenate([frauds, genuine])
    mine = [row for row in facts.daily if row["strategy"] == strategy and row["mature"]]
    flags, right = total(mine, "n", flagged=True), total(mine, "n", flagged=True, is_fraud=True)
    days = len({row["day"] for row in mine})
    lost = _lost(
        facts,
        total(mine, "n", flagged=False, is_fraud=True),
        total(mine, "loss", flagged=False, is_fraud=True),
    )
    spent = (lost + (flags - right) * facts.config.costs.review) / days
    return Curve(
        strategy,
        steps(y, twice, counts),
        average_precision(y, twice, counts),
        _missed(facts, bins),
        days,
        flags,
        right,
        spent,
    )


def _missed(facts: Facts, bins: list[Row]) -> NDArray[np.float64]:
    """What the frauds below each step cost, highest step first; the first step flags nothing."""
    each = [_lost(facts, row["mature_frauds"], row["mature_loss"]) for row in bins]
    return np.cumsum(np.append(0.0, each))[::-1].copy()


def _lost(facts: Facts, frauds: float, loss: float) -> float:
    costs = facts.config.costs
    return max(loss, 0.0) if costs.missed == "amount" else frauds * costs.missed_fraud * costs.review


def _precision(one: Curve) -> Iterator[dict[str, Any]]:
    found = one.steps
    for k in _thinned(found.tp / found.positives)[1:]:
        recall, precision = found.tp[k] / found.positives, found.tp[k] / (found.tp[k] + found.fp[k])
        yield {
            "strategy": one.strategy, "place": int(k), "x": round(float(recall), 5), "y": round(float(precision), 5),
            "told": f"{one.strategy}, score from {found.threshold[k]:.4g}: precision {share(precision, 1)}, recall {share(recall, 1)}",
        }  # fmt: skip


def _costs(one: Curve, facts: Facts) -> Iterator[dict[str, Any]]:
    found, review = one.steps, facts.config.costs.review
    flags = (found.tp + found.fp) / one.days
    for k in _thinned(np.log(np.maximum(flags, 0.1))):
        if flags[k] < 0.1:
            continue
        spent = (one.missed[k] + found.fp[k] * review) / one.days
        yield {
            "strategy": one.strategy, "place": int(k), "x": round(float(flags[k]), 4), "y": round(float(spent), 2),
            "told": f"{one.strategy}, score from {found.threshold[k]:.4g}: {flags[k]:,.1f} flags and {money(spent, facts.currency)} a day",
        }  # fmt: skip


def _thinned(along: NDArray[np.float64]) -> NDArray[np.int64]:
    """Places of at most so many points, evenly along the axis; the first and the last are among them."""
    last = len(along) - 1
    wanted = np.linspace(along[0], along[last], POINTS_MAX)
    return np.unique(np.append(np.minimum(np.searchsorted(along, wanted), last), [0, last])).astype(np.int64)


def _drawn(
    rows: list[dict[str, Any]], marks: list[dict[str, Any]], titles: tuple[str, str], *, share_axes: bool
) -> Any:
    import altair

    scale = altair.Scale(domain=[0, 1]) if share_axes else altair.Scale(type="log", nice=False)
    percent = altair.Axis(format="%", tickCount=5)
    ends = [row["x"] for row in rows]
    powers = altair.Axis(values=charts.log_ticks(min(ends), max(ends)), format=",~g")
    x = altair.X("x:Q", title=titles[0], scale=scale, axis=percent if share_axes else powers)
    high = altair.Scale(domain=[0, 1]) if share_axes else altair.Scale(zero=True)
    amount = altair.Axis(tickCount=5, format=",.0f")
    y = altair.Y("y:Q", title=titles[1], scale=high, axis=percent if share_axes else amount)
    here = [row["strategy"] for row in marks]
    lines = (
        altair.Chart(charts.data(rows))
        .mark_line(strokeWidth=2)
        .encode(x=x, y=y, order="place:Q", tooltip="told:N", **charts.by_strategy(here))
    )
    dots = (
        altair.Chart(charts.data(marks))
        .mark_point(size=170, filled=True, opacity=1, stroke=charts.PAPER)
        .encode(x=x, y=y, tooltip="told:N", **charts.by_strategy(here, points=True))
    )
    names = [
        altair.Chart(charts.data([row]))
        .mark_text(align="left", dx=9, dy=beside, fontWeight="bold")
        .encode(x=x, y=y, text="strategy:N")
        for row, beside in zip(marks, (15, -13, 1), strict=False)
    ]
    return charts.finished(altair.layer(lines, dots, *names))


def _missing(facts: Facts) -> str:
    if not facts.daily:
        return "No payment of the span has a score, so there is nothing to judge: fraudwatch backfill scores the past."
    if not total(facts.daily, "n", mature=True):
        return (
            f"No payment of the span is mature: labels are read as complete for payments up to {facts.matures}. Ask again later, or for an "
            "earlier span; fraudwatch ingest labels --complete-through says how far labels are complete."
        )
    return "No mature payment of the span is known to be fraud (or all of them are), so precision and recall cannot be told."
