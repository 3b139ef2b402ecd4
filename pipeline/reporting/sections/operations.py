"""Sections "Processing status" and "Flags and verdicts": unfinished steps, and how far reviews have come."""

from functools import partial
from typing import Any

import numpy as np

from pipeline.rendering import charts
from pipeline.rendering.elements import Chart, ReportSection, Table
from pipeline.rendering.report_data import ReportData
from pipeline.rendering.text import GAP_REMEDIES, instant_text, safe_text, share
from storage.database.column_types import as_datetime
from storage.queries import report_counts
from storage.queries.report_counts import Row
from storage.queries.runs import gap_page

GAPS_MAX = 15  # shown
REVIEWERS_MAX = 15
AGE_GROUPS = (
    (1, "a day or younger"),
    (3, "2 to 3 days"),
    (7, "4 to 7 days"),
    (30, "8 to 30 days"),
    (10**9, "older"),
)
STATUSES = ("failed", "running", "pending", "done")  # worst first
STATUS_STYLES = {  # shape, colour and area of a mark; "done" is the least visible
    "done": ("circle", charts.MUTED, 9),
    "pending": ("square", charts.PRIMARY, 110),
    "running": ("triangle-up", charts.TERTIARY, 130),
    "failed": ("cross", charts.ACCENT, 190),
}
STATUS_COLOURS = {
    "fraud": charts.PRIMARY,
    "genuine": charts.MUTED,
    "closed": charts.TERTIARY,
    "expired": charts.GRID,
    "open": "transparent",
}


def ledger(data: ReportData) -> ReportSection:
    """Windows, trainings and other steps by status, with the unfinished ones."""
    title = "Processing status"
    rows = data.ledger_days
    if not rows:
        return ReportSection(
            "ledger",
            title,
            missing=[
                "Nothing was due in the span: fraudwatch run processes what is due, fraudwatch backfill the past."
            ],
        )
    left = sum(row["n"] for row in rows if row["status"] != "done")
    done = sum(row["n"] for row in rows if row["status"] == "done")
    sentences = [
        f"{done:,} windows, trainings and other steps of the span are done"
        + (f", {left:,} are not (see below)." if left else ", none is left.")
    ]
    gaps = _gaps(data)
    return ReportSection(
        "ledger", title, sentences, charts=[partial(ledger_chart, data)], tables=[gaps] if gaps.rows else []
    )


def ledger_chart(data: ReportData) -> Chart:
    """A mark per day and kind of step: the worst status of that day."""
    rows = _states(data.ledger_days)
    kinds = sorted({row["kind"] for row in rows})
    unfinished = [row["tooltip"] for row in rows if row["status"] != "done"]
    return Chart(
        "ledger",
        "Steps by end date",
        f"A mark for each day and kind of step ({', '.join(kinds)}): a dot where it is done, a square pending, a triangle running, a cross failed. "
        + (
            f"Not done: {'; '.join(unfinished[:5])}{' …' if len(unfinished) > 5 else ''}."
            if unfinished
            else "All are done."
        ),
        lambda: charts.to_spec(_draw_steps(rows), height=36 * len(kinds) + 20),
    )


def _draw_steps(rows: list[dict[str, Any]]) -> Any:
    import altair

    shapes, colours, sizes = ({name: style[at] for name, style in STATUS_STYLES.items()} for at in range(3))
    marks = altair.Chart(charts.inline_data(rows)).mark_point(strokeWidth=2.4)
    return marks.encode(
        x=charts.time_axis("at:T", padding=12),
        y=altair.Y("kind:N", title=None, axis=altair.Axis(grid=True)),
        shape=charts.styled_channel("Shape", "status:N", shapes),
        color=charts.styled_channel("Color", "status:N", colours),
        size=charts.styled_channel("Size", "status:N", sizes, legend=None),
        tooltip="tooltip:N",
    )


def queue(data: ReportData) -> ReportSection:
    """Flags by verdict, the age of open flags, and reviewers."""
    title = "Flags and verdicts"
    rows = data.queue_days
    if not rows:
        return ReportSection("queue", title, missing=[
            "Nothing was flagged in the span: fraudwatch doctor explains why, for instance because no model is in force yet."
        ])  # fmt: skip
    waiting, closed, expired = (
        sum(row["n"] for row in rows if row["status"] == status) for status in ("open", "closed", "expired")
    )
    flags = sum(row["n"] for row in rows)
    sentences = [
        f"{waiting:,} of {flags:,} flags ({share(waiting, flags)}) are open, in {data.cases.open:,} of {data.cases.all:,} cases that are "
        "not muted: fraudwatch flags list --status open lists them."
    ]
    if closed or expired:
        sentences.append(
            f"{closed:,} were closed without opinion, and {expired:,} expired without an answer."
        )
    people = report_counts.reviewers(data.store, data.scope, REVIEWERS_MAX)
    missing = (
        []
        if people
        else [
            "No flag has a verdict since the start of the span: fraudwatch verdict ID fraud|genuine records one, and so do new labels."
        ]
    )
    tables = ([_ages(data, rows)] if waiting else []) + ([_reviewers(people)] if people else [])
    return ReportSection(
        "queue", title, sentences, missing, charts=[partial(queue_chart, data)], tables=tables
    )


def queue_chart(data: ReportData) -> Chart:
    """Flags of each channel by verdict."""
    rows = _stacked(data.queue_days)
    channels = sorted({row["channel"] for row in rows})
    return Chart(
        "queue",
        "Flags by channel and verdict",
        f"A bar for each channel ({', '.join(channels)}), from the left: {', '.join(STATUS_COLOURS)}. {'; '.join(row['tooltip'] for row in rows)}.",
        lambda: charts.to_spec(_draw_queue(rows), height=34 * len(channels) + 20),
    )


def _draw_queue(rows: list[dict[str, Any]]) -> Any:
    import altair

    bars = altair.Chart(charts.inline_data(rows)).mark_bar(stroke=charts.INK, strokeWidth=1.2)
    return bars.encode(
        x=altair.X("low:Q", title="flags"), x2="high:Q", y=altair.Y("channel:N", title=None), tooltip="tooltip:N",
        fill=charts.styled_channel("Fill", "status:N", STATUS_COLOURS),
    )  # fmt: skip


def _states(rows: list[Row]) -> list[dict[str, Any]]:
    worst: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        worst.setdefault((row["kind"], row["day"]), []).append(row)
    return [
        {
            "kind": safe_text(kind), "at": f"{day}T00:00:00Z", "status": min((row["status"] for row in day_rows), key=STATUSES.index),
            "tooltip": f"{day} {safe_text(kind)}: " + ", ".join(f"{row['n']:,} {row['status']}" for row in day_rows),
        }
        for (kind, day), day_rows in sorted(worst.items())
    ]  # fmt: skip


def _stacked(rows: list[Row]) -> list[dict[str, Any]]:
    bars = []
    for channel in sorted({row["channel"] for row in rows}):
        low = 0
        for status in STATUS_COLOURS:
            n = sum(row["n"] for row in rows if row["channel"] == channel and row["status"] == status)
            if n:
                tooltip = f"{safe_text(channel)}: {n:,} {status}"
                bars.append(
                    {
                        "channel": safe_text(channel),
                        "status": status,
                        "low": low,
                        "high": low + n,
                        "tooltip": tooltip,
                    }
                )
            low += n
    return bars


def _ages(data: ReportData, rows: list[Row]) -> Table:
    today = np.datetime64(instant_text(data.scope.as_of)[:10], "D")
    counts = dict.fromkeys((name for _, name in AGE_GROUPS), 0)
    for row in rows:
        if row["status"] == "open":
            age = int((today - np.datetime64(row["day"], "D")).astype(np.int64))
            counts[next(name for most, name in AGE_GROUPS if age <= most)] += row["n"]
    age_rows = [[name, f"{n:,}"] for name, n in counts.items()]
    return Table(
        "Age of open flags, since the payment", ("age", "open flags"), age_rows, frozenset({"open flags"})
    )


def _reviewers(people: list[Row]) -> Table:
    rows = [
        [
            safe_text(row["reviewer"]),
            f"{row['answered']:,}",
            f"{row['fraud']:,}",
            share(row["fraud"], row["opinions"]),
        ]
        for row in people
    ]
    columns = ("verdict by", "flags", "fraud", "share")
    return Table("Verdicts by reviewer or label source", columns, rows, frozenset(columns[1:]))


def _gaps(data: ReportData) -> Table:
    start, end = as_datetime(data.scope.start), as_datetime(data.scope.end)
    rows = [
        row
        for row in gap_page(data.store, data.scope.policy).rows
        if row["window_end"] > start and row["window_start"] < end
    ]
    gap_rows = [
        [
            row["kind"],
            f"{row['window_start']:%Y-%m-%d %H:%M} to {row['window_end']:%Y-%m-%d %H:%M}",
            row["status"],
            safe_text(row["error"]),
            GAP_REMEDIES[row["remedy"]],
        ]
        for row in rows[:GAPS_MAX]
    ]
    more = f", {len(rows) - GAPS_MAX:,} more: fraudwatch gaps" if len(rows) > GAPS_MAX else ""
    return Table(f"Unfinished steps{more}", ("kind", "window, UTC", "status", "error", "remedy"), gap_rows)
