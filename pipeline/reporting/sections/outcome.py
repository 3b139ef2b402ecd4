"""What was flagged, caught and missed, with money."""

from typing import Any

from detectors.evaluation.prevalence import measure
from detectors.model.auto_detector import NOVELTY
from pipeline.rendering import charts
from pipeline.rendering.elements import Chart, Section, Table, Tile
from pipeline.rendering.report_data import Facts, total
from pipeline.rendering.text import money, safe, share
from storage.queries.report_counts import Row

CAUGHT, MISSED = "caught", "missed"


def section(facts: Facts) -> Section:
    """The first section: the numbers a team is asked for."""
    if not facts.daily:
        return Section("outcome", "What came of it", missing=[_nothing(facts)])
    known = total(facts.daily, "n", is_fraud=True)
    return Section(
        "outcome",
        "What came of it",
        said=_said(facts),
        missing=[] if known else [f"No fraud of these payments is known by now: {_no_labels(facts)}"],
        tiles=_tiles(facts),
        charts=[caught(facts)] if known else [],
        tables=[_channels(facts)],
    )


def caught(facts: Facts) -> Chart:
    """Money of known fraud by the day it happened."""
    import altair

    rows = _bars(facts)
    base = altair.Chart(charts.data(rows)).encode(
        x=charts.time_axis("from:T"),
        x2="to:T",
        y=altair.Y("low:Q", title=f"known fraud, {facts.currency}"),
        y2="high:Q",
        tooltip="told:N",
    )
    bars = base.mark_bar(strokeWidth=2).encode(
        fill=charts.styled("Fill", "which:N", {CAUGHT: charts.ONE, MISSED: "transparent"}),
        stroke=charts.styled("Stroke", "which:N", {CAUGHT: charts.ONE, MISSED: charts.TWO}),
    )
    seen = total(facts.daily, "loss", is_fraud=True, flagged=True)
    lost = total(facts.daily, "loss", is_fraud=True, flagged=False)
    return Chart(
        "caught",
        f"Fraud caught and missed ({facts.bars})",
        f"Bars over time of the money of known fraud: filled what was flagged, {money(seen, facts.currency)} in all; "
        f"hollow what was missed, {money(lost, facts.currency)}.",
        charts.finished(bars),
    )


def _bars(facts: Facts) -> list[dict[str, Any]]:
    """A filled piece from 0 and a hollow one above it, for each bar."""
    sums: dict[tuple[str, str], dict[str, list[float]]] = {}
    for row in facts.daily:
        if row["is_fraud"]:
            piece = sums.setdefault(facts.bar(row["day"]), {CAUGHT: [0, 0], MISSED: [0, 0]})
            one = piece[CAUGHT if row["flagged"] else MISSED]
            one[0], one[1] = one[0] + row["loss"], one[1] + row["n"]
    return [
        {
            "from": start, "to": end, "which": which, "low": round(low, 2), "high": round(low + one[0], 2),
            "told": f"{start[:10]}: {which} {one[1]:,.0f} frauds, {money(one[0], facts.currency)}",
        }
        for (start, end), piece in sorted(sums.items())
        for which, one, low in ((CAUGHT, piece[CAUGHT], 0.0), (MISSED, piece[MISSED], piece[CAUGHT][0]))
        if one[1]
    ]  # fmt: skip


def _said(facts: Facts) -> list[str]:
    rows, currency = facts.daily, facts.currency
    scored, flagged = total(rows, "n"), total(rows, "n", flagged=True)
    said = [
        f"{scored:,.0f} payments were scored and {flagged:,.0f} ({share(flagged, scored)}) flagged for a review."
    ]
    frauds, seen = total(rows, "n", is_fraud=True), total(rows, "n", is_fraud=True, flagged=True)
    if frauds:
        worth, lost = (total(rows, "loss", is_fraud=True, flagged=flag) for flag in (True, False))
        said.append(
            f"Of {frauds:,.0f} frauds known by now {seen:,.0f} were caught ({share(seen, frauds)}), worth {money(worth, currency)}; "
            f"{frauds - seen:,.0f} were missed, worth {money(lost, currency)}."
        )
    young = total(rows, "n", mature=False)
    if young:
        said.append(
            f"{share(young, scored)} of the payments cannot be judged yet: labels are read as complete for payments up to "
            f"{facts.matures}, and what came later, or was declined, may still turn out to be fraud."
        )
    novel = [row for row in rows if row["channel"] == NOVELTY and row["flagged"]]
    if novel and not total(novel, "n", is_fraud=True):
        said.append(
            f"The outlier detector's own share of flags, channel {NOVELTY}, found no fraud that is known by now: it watches "
            "for what nobody labels yet."
        )
    return said


def _tiles(facts: Facts) -> list[Tile]:
    rows, currency = facts.daily, facts.currency
    worth, lost = (total(rows, "loss", is_fraud=True, flagged=flag) for flag in (True, False))
    flagged, days = total(rows, "n", flagged=True), len({row["day"] for row in rows})
    right, judged = _judged(rows)
    tiles = [
        Tile("caught", money(worth, currency), f"{share(worth, worth + lost)} of known fraud money"),
        Tile(
            "missed", money(lost, currency), f"{total(rows, 'n', is_fraud=True, flagged=False):,.0f} payments"
        ),
        Tile("flags a day", f"{flagged / days:,.1f}", f"alerts.per_day is {facts.config.alerts.per_day:,}"),
    ]
    return [*tiles, Tile("flags that were fraud", share(right, judged), _interval(right, judged))]


def _judged(rows: list[Row]) -> tuple[float, float]:
    """Frauds among the flags that can be judged, and those flags."""
    return (
        total(rows, "n", flagged=True, mature=True, is_fraud=True),
        total(rows, "n", flagged=True, mature=True),
    )


def _interval(right: float, judged: float) -> str:
    """Jeffreys' interval, for people."""
    if not judged:
        return "none can be judged yet"
    found = measure(judged, right, right)
    return f"{share(found.shown_lower, 1)} to {share(found.shown_upper, 1)}, {judged:,.0f} mature flags"


def _channels(facts: Facts) -> Table:
    rows = []
    for channel in sorted({row["channel"] for row in facts.daily if row["flagged"]}):
        mine = [row for row in facts.daily if row["channel"] == channel and row["flagged"]]
        right, judged = _judged(mine)
        rows.append([
            safe(channel), f"{total(mine, 'n'):,.0f}", f"{total(mine, 'n', is_fraud=True):,.0f}",
            f"{total(mine, 'n', is_fraud=False):,.0f}", share(right, judged), _interval(right, judged),
            money(total(mine, "loss", is_fraud=True), facts.currency),
        ])  # fmt: skip
    columns = (
        "channel",
        "flags",
        "known fraud",
        "known genuine",
        "precision",
        "95 % interval",
        "money caught",
    )
    right_ = frozenset({"flags", "known fraud", "known genuine", "precision", "money caught"})
    return Table(
        "Flags by channel; precision is of mature flags, silence read as genuine", columns, rows, right_
    )


def _nothing(facts: Facts) -> str:
    return (
        f"No payment of {facts.span} has a score: fraudwatch backfill --from … --to … scores the past, "
        "fraudwatch doctor says what is in the way."
    )


def _no_labels(facts: Facts) -> str:
    return (
        "either there was none, or no label has come in. fraudwatch ingest labels reads chargebacks; silence counts as "
        f"genuine up to {facts.matures}."
    )
