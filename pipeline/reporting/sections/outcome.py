"""Section "Outcome": payments flagged, fraud caught and fraud missed, with amounts."""

from functools import partial
from typing import Any

from detectors.evaluation.prevalence import estimate_prevalence
from detectors.model.auto_detector import NOVELTY
from detectors.model.model import AUDIT
from pipeline.number_text import amount, counted, money
from pipeline.rendering import charts
from pipeline.rendering.elements import Chart, ReportSection, Table, Tile
from pipeline.rendering.report_data import ReportData, total
from pipeline.rendering.text import safe_text, share
from storage.queries.report_counts import Row

CAUGHT, MISSED = "caught", "missed"
WORKING = {"day": "", "working_day": " per working day"}


def section(data: ReportData) -> ReportSection:
    """Key figures, fraud caught and missed over time, and flags by channel."""
    if not data.daily:
        return ReportSection("outcome", "Outcome", missing=[_no_scores(data)])
    known = total(data.daily, "n", is_fraud=True)
    return ReportSection(
        "outcome",
        "Outcome",
        sentences=_sentences(data),
        missing=[] if known else [f"No fraud of these payments is known by now: {_no_labels(data)}"],
        tiles=_tiles(data),
        charts=[partial(caught, data)] if known else [],
        tables=[_channels(data)],
    )


def caught(data: ReportData) -> Chart:
    """Amount of known fraud by day, caught and missed."""
    caught_amount, missed_amount = total(data.daily, CAUGHT), total(data.daily, MISSED)
    return Chart(
        "caught",
        f"Fraud caught and missed ({data.bar_caption})",
        f"Bars over time of the amount of known fraud: filled what was caught, {money(caught_amount, data.currency)} in all; "
        f"hollow the loss by what was missed, {money(missed_amount, data.currency)}.",
        lambda: charts.to_spec(_draw(data)),
    )


def _draw(data: ReportData) -> Any:
    import altair

    rows = _bars(data)
    base = altair.Chart(charts.inline_data(rows)).encode(
        x=charts.time_axis("from:T"),
        x2="to:T",
        y=altair.Y("low:Q", title=f"known fraud, {data.currency}"),
        y2="high:Q",
        tooltip="tooltip:N",
    )
    return base.mark_bar(strokeWidth=2).encode(
        fill=charts.styled_channel("Fill", "which:N", {CAUGHT: charts.PRIMARY, MISSED: "transparent"}),
        stroke=charts.styled_channel("Stroke", "which:N", {CAUGHT: charts.PRIMARY, MISSED: charts.ACCENT}),
    )


def _bars(data: ReportData) -> list[dict[str, Any]]:
    """For each bar a filled part for caught fraud and a hollow one above it for missed fraud."""
    sums: dict[tuple[str, str], dict[str, list[float]]] = {}
    for row in data.daily:
        if row["is_fraud"]:
            parts = sums.setdefault(data.bar_span(row["day"]), {CAUGHT: [0, 0], MISSED: [0, 0]})
            which = CAUGHT if row["flagged"] else MISSED
            part = parts[which]
            part[0], part[1] = part[0] + row[which], part[1] + row["n"]
    return [
        {
            "from": start, "to": end, "which": which, "low": round(low, 2), "high": round(low + part[0], 2),
            "tooltip": f"{start[:10]}: {which} {counted(int(part[1]), 'fraud')}, {money(part[0], data.currency)}",
        }
        for (start, end), parts in sorted(sums.items())
        for which, part, low in ((CAUGHT, parts[CAUGHT], 0.0), (MISSED, parts[MISSED], parts[CAUGHT][0]))
        if part[1]
    ]  # fmt: skip


def _sentences(data: ReportData) -> list[str]:
    rows, currency = data.daily, data.currency
    scored, flagged = total(rows, "n"), total(rows, "n", flagged=True)
    sentences = [
        f"{counted(int(scored), 'payment was', 'payments were')} scored and {flagged:,.0f} ({share(flagged, scored)}) flagged for review, in {counted(data.cases.detected, 'case')}."
    ]
    audited = total(rows, "n", channel=AUDIT)
    if audited:
        sentences.append(
            f"{counted(int(audited), 'other was', 'others were')} drawn at random for a review, channel {AUDIT}: a fraud among them counts as missed."
        )
    frauds, caught_frauds = total(rows, "n", is_fraud=True), total(rows, "n", is_fraud=True, flagged=True)
    if frauds:
        sentences.append(
            f"Of {frauds:,.0f} frauds known by now {caught_frauds:,.0f} were caught ({share(caught_frauds, frauds)}), worth {money(total(rows, CAUGHT), currency)}; "
            f"{frauds - caught_frauds:,.0f} were missed, a loss of {money(total(rows, MISSED), currency)}."
        )
        if caught_frauds:
            sentences.append(_caught_sentence(rows, currency))
    young = total(rows, "n", mature=False)
    if young:
        sentences.append(
            f"{share(young, scored)} of the payments are not mature yet: {data.completeness_text}, "
            "and later or declined payments may still turn out to be fraud."
        )
    novel = [row for row in rows if row["channel"] == NOVELTY and row["flagged"]]
    if novel and not total(novel, "n", is_fraud=True):
        sentences.append(
            f"The outlier detector's own share of flags, channel {NOVELTY}, has found no known fraud yet: it looks for fraud "
            "that nobody labels yet."
        )
    return sentences


def _caught_sentence(rows: list[Row], currency: str) -> str:
    """What became of the caught frauds, which may be answered, stopped, both or neither: three sums that make up what was caught."""
    answered, stopped = total(rows, "in_time_n"), total(rows, "stopped_n")
    saved, lost = total(rows, "saved"), total(rows, "lost")
    returned = max(total(rows, CAUGHT) - saved - lost, 0.0)
    others = (
        f"; {money(returned, currency)} came back in another way, by refunds or won disputes"
        if returned >= 0.005
        else ""
    )
    were = ("was" if count == 1 else "were" for count in (answered, stopped))
    return (
        f"Of those caught {answered:,.0f} {next(were)} answered in time, before anybody reported them, worth {money(total(rows, 'in_time'), currency)}; "
        f"{stopped:,.0f} {next(were)} stopped before a dispute. So of what was caught {money(saved, currency)} were saved, and "
        f"{money(lost, currency)} lost although they were flagged{others}."
    )


def _tiles(data: ReportData) -> list[Tile]:
    rows, currency = data.daily, data.currency
    caught_amount, missed_amount = total(rows, CAUGHT), total(rows, MISSED)
    flagged, days = total(rows, "n", flagged=True), len({row["day"] for row in rows})
    frauds, mature_flags = _mature_flags(rows)
    tiles = [
        Tile(
            "caught",
            money(caught_amount, currency),
            f"{share(caught_amount, caught_amount + missed_amount)} of known fraud by amount",
        ),
        Tile(
            "caught and saved",
            money(total(rows, "saved"), currency),
            f"{counted(int(total(rows, 'stopped_n')), 'fraud')} stopped before a dispute",
        ),
        Tile("caught but lost", money(total(rows, "lost"), currency), "flagged, and not stopped"),
        Tile(
            "missed",
            money(missed_amount, currency),
            f"lost in {counted(int(total(rows, 'n', is_fraud=True, flagged=False)), 'fraud')} without a flag",
        ),
        Tile(
            "cases per day",
            f"{data.cases.detected / days:,.1f}",
            f"of at most {data.config.alerts.per_day:,}{WORKING[data.config.alerts.per]}; {flagged / days:,.1f} flags",
        ),
    ]
    note = (
        f"{_interval(frauds, mature_flags)}, {counted(int(mature_flags), 'mature flag')}"
        if mature_flags
        else "none is mature yet"
    )
    return [*tiles, Tile("flags that were fraud", share(frauds, mature_flags), note)]


def _mature_flags(rows: list[Row]) -> tuple[float, float]:
    """Number of frauds among the mature flags, and number of mature flags."""
    return (
        total(rows, "n", flagged=True, mature=True, is_fraud=True),
        total(rows, "n", flagged=True, mature=True),
    )


def _interval(frauds: float, flags: float) -> str:
    """Jeffreys' interval of the precision, as text; empty without flags."""
    if not flags:
        return ""
    precision = estimate_prevalence(flags, frauds, frauds)
    return f"{share(precision.display_lower, 1)} to {share(precision.display_upper, 1)}"


def _channels(data: ReportData) -> Table:
    rows = []
    for channel in sorted({row["channel"] for row in data.daily if row["flagged"]}):
        flags = [row for row in data.daily if row["channel"] == channel and row["flagged"]]
        frauds, mature_flags = _mature_flags(flags)
        rows.append([
            safe_text(channel), f"{total(flags, 'n'):,.0f}", f"{total(flags, 'n', is_fraud=True):,.0f}",
            f"{total(flags, 'n', is_fraud=False):,.0f}", share(frauds, mature_flags), _interval(frauds, mature_flags) or "–",
            amount(total(flags, CAUGHT)),
        ])  # fmt: skip
    columns = (
        "channel",
        "flags",
        "known fraud",
        "known genuine",
        "precision",
        "95 % interval",
        f"caught, {data.currency}",
    )
    right_aligned = frozenset(columns) - {"channel", "95 % interval"}
    return Table(
        "Flags by channel; precision is of mature flags, where no label counts as genuine",
        columns,
        rows,
        right_aligned,
    )


def _no_scores(data: ReportData) -> str:
    return (
        f"No payment of {data.span_text} has a score: fraudwatch backfill --from … --to … scores the past, "
        "fraudwatch doctor explains what is missing."
    )


def _no_labels(data: ReportData) -> str:
    return (
        "either there was none, or no label has arrived. fraudwatch ingest labels reads chargebacks; payments without a label "
        f"count as genuine up to {data.mature_until_text}."
        if data.scope.mature_until
        else "no labels have been ingested yet: fraudwatch ingest labels reads chargebacks."
    )
