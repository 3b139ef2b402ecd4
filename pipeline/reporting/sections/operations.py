"""Whether everything that was due was done, and how reviewers keep up."""

from typing import Any

import numpy as np

from pipeline.rendering import charts
from pipeline.rendering.elements import Chart, Section, Table
from pipeline.rendering.report_data import Facts
from pipeline.rendering.text import safe, share, text_of
from storage.queries import listings, report_counts
from storage.queries.report_counts import Row

GAPS = 15  # shown
REVIEWERS = 15
AGES = (
    (1, "a day or younger"),
    (3, "2 to 3 days"),
    (7, "4 to 7 days"),
    (30, "8 to 30 days"),
    (10**9, "older"),
)
STATES = ("failed", "running", "pending", "done")  # worst first
LOOKS = {  # shape, colour and area of a mark: what is done steps back
    "done": ("circle", charts.MUTED, 9),
    "pending": ("square", charts.ONE, 110),
    "running": ("triangle-up", charts.THREE, 130),
    "failed": ("cross", charts.TWO, 190),
}
ANSWERS = {"fraud": charts.ONE, "genuine": charts.MUTED, "expired": charts.GRID, "open": "transparent"}


def ledger(facts: Facts) -> Section:
    """Windows, trainings and their gaps."""
    title = "Was everything done?"
    rows = report_counts.ledger_days(facts.store, facts.scope)
    if not rows:
        return Section(
            "ledger",
            title,
            missing=[
                "Nothing was due in the span: fraudwatch run plans what is, fraudwatch backfill the past."
            ],
        )
    left = sum(row["n"] for row in rows if row["status"] != "done")
    done = sum(row["n"] for row in rows if row["status"] == "done")
    said = [
        f"{done:,} windows, trainings and other steps of the span are done"
        + (f", {left:,} are not: see below." if left else ", nothing is left.")
    ]
    gaps = _gaps(facts)
    return Section("ledger", title, said, charts=[steps_(facts)], tables=[gaps] if gaps.rows else [])


def steps_(facts: Facts) -> Chart:
    """A mark for each day and kind: the worst state of that day."""
    rows = _states(report_counts.ledger_days(facts.store, facts.scope))
    kinds = sorted({row["kind"] for row in rows})
    bad = [row["told"] for row in rows if row["status"] != "done"]
    return Chart(
        "ledger",
        "Steps by the day they end",
        f"A mark for each day and kind of step ({', '.join(kinds)}): a dot where it is done, a square pending, a triangle running, a cross failed. "
        + (f"Not done: {'; '.join(bad[:5])}{' …' if len(bad) > 5 else ''}." if bad else "All are done."),
        charts.finished(_strip(rows), height=36 * len(kinds) + 20),
    )


def _strip(rows: list[dict[str, Any]]) -> Any:
    import altair

    shapes, colours, sizes = ({name: one[place] for name, one in LOOKS.items()} for place in range(3))
    marks = altair.Chart(charts.data(rows)).mark_point(strokeWidth=2.4)
    return marks.encode(
        x=charts.time_axis("at:T", padding=12),
        y=altair.Y("kind:N", title=None, axis=altair.Axis(grid=True)),
        shape=charts.styled("Shape", "status:N", shapes),
        color=charts.styled("Color", "status:N", colours),
        size=charts.styled("Size", "status:N", sizes, legend=None),
        tooltip="told:N",
    )


def queue(facts: Facts) -> Section:
    """Flags and their answers."""
    title = "Flags and their answers"
    rows = report_counts.queue_days(facts.store, facts.scope)
    if not rows:
        return Section("queue", title, missing=[
            "Nothing was flagged in the span: fraudwatch doctor says why, for instance because no model is in force yet."
        ])  # fmt: skip
    waiting = sum(row["n"] for row in rows if row["status"] == "open")
    flags = sum(row["n"] for row in rows)
    said = [
        f"{waiting:,} of {flags:,} flags ({share(waiting, flags)}) wait for an answer: fraudwatch flags --status open lists them."
    ]
    people = report_counts.reviewers(facts.store, facts.scope, REVIEWERS)
    missing = (
        []
        if people
        else [
            "Nobody has answered a flag since the span began: fraudwatch verdict ID fraud|genuine, or labels that come in."
        ]
    )
    tables = ([_ages(facts, rows)] if waiting else []) + ([_people(people)] if people else [])
    return Section("queue", title, said, missing, charts=[answers(facts)], tables=tables)


def answers(facts: Facts) -> Chart:
    """Flags of each channel by answer."""
    import altair

    rows = _stacked(report_counts.queue_days(facts.store, facts.scope))
    channels = sorted({row["channel"] for row in rows})
    bars = altair.Chart(charts.data(rows)).mark_bar(stroke=charts.INK, strokeWidth=1.2)
    drawn = bars.encode(
        x=altair.X("low:Q", title="flags"), x2="high:Q", y=altair.Y("channel:N", title=None), tooltip="told:N",
        fill=charts.styled("Fill", "status:N", ANSWERS),
    )  # fmt: skip
    return Chart(
        "queue",
        "Flags by channel and answer",
        f"A bar for each channel ({', '.join(channels)}), from the left: fraud, genuine, expired, open. {'; '.join(row['told'] for row in rows)}.",
        charts.finished(drawn, height=34 * len(channels) + 20),
    )


def _states(rows: list[Row]) -> list[dict[str, Any]]:
    worst: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        worst.setdefault((row["kind"], row["day"]), []).append(row)
    return [
        {
            "kind": safe(kind), "at": f"{day}T00:00:00Z", "status": min((row["status"] for row in some), key=STATES.index),
            "told": f"{day} {safe(kind)}: " + ", ".join(f"{row['n']:,} {row['status']}" for row in some),
        }
        for (kind, day), some in sorted(worst.items())
    ]  # fmt: skip


def _stacked(rows: list[Row]) -> list[dict[str, Any]]:
    pieces = []
    for channel in sorted({row["channel"] for row in rows}):
        low = 0
        for status in ANSWERS:
            n = sum(row["n"] for row in rows if row["channel"] == channel and row["status"] == status)
            if n:
                told = f"{safe(channel)}: {n:,} {status}"
                pieces.append(
                    {"channel": safe(channel), "status": status, "low": low, "high": low + n, "told": told}
                )
            low += n
    return pieces


def _ages(facts: Facts, rows: list[Row]) -> Table:
    today = np.datetime64(text_of(facts.scope.as_of)[:10], "D")
    counts = dict.fromkeys((name for _, name in AGES), 0)
    for row in rows:
        if row["status"] == "open":
            age = int((today - np.datetime64(row["day"], "D")).astype(np.int64))
            counts[next(name for most, name in AGES if age <= most)] += row["n"]
    told = [[name, f"{n:,}"] for name, n in counts.items()]
    return Table(
        "Age of open flags, since the payment", ("age", "open flags"), told, frozenset({"open flags"})
    )


def _people(people: list[Row]) -> Table:
    rows = [
        [
            safe(row["reviewer"]),
            f"{row['answered']:,}",
            f"{row['fraud']:,}",
            share(row["fraud"], row["answered"]),
        ]
        for row in people
    ]
    columns = ("answered by", "flags", "fraud", "share")
    return Table("Who answered, people and sources of labels", columns, rows, frozenset(columns[1:]))


def _gaps(facts: Facts) -> Table:
    rows = [
        row
        for row in listings.gaps(facts.store, facts.scope.policy, limit=10_000)
        if row["window_end"][:19] > text_of(facts.scope.start)
        and row["window_start"][:19] < text_of(facts.scope.end)
    ]
    told = [
        [
            row["kind"],
            f"{row['window_start'][:16]} to {row['window_end'][:16]}",
            row["status"],
            safe(row["error"]),
            row["remedy"],
        ]
        for row in rows[:GAPS]
    ]
    more = f", {len(rows) - GAPS:,} more: fraudwatch gaps" if len(rows) > GAPS else ""
    return Table(f"Not done{more}", ("kind", "window", "state", "why", "what to do"), told)
