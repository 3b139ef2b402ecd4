"""Sections "Entities with most fraud" and "Largest expected losses"."""

from pipeline.number_text import amount, score_text
from pipeline.rendering.elements import ReportSection, Table
from pipeline.rendering.report_data import ReportData
from pipeline.rendering.text import safe_text
from pipeline.sanitize import for_terminal
from storage.queries import report_counts
from storage.queries.flags import top_flags
from storage.queries.report_counts import Row

ROWS_MAX = 5  # of each entity column
PAYMENTS_MAX = 10
REASONS_MAX = 3


def top_entities(data: ReportData) -> ReportSection:
    """A table per entity column."""
    title = "Entities with most fraud"
    tables = [
        table
        for table in (_top_entities(data, column) for column in data.config.schema_.entities)
        if table.rows
    ]
    if not tables:
        return ReportSection(
            "entities", title, missing=["No payment of the span is flagged or known to be fraud."]
        )
    hashed = [name for name in data.config.schema_.entities if name in data.config.schema_.hash]
    sentences = [f"{', '.join(hashed)}: stored as pseudonyms."] if hashed else []
    return ReportSection("entities", title, sentences, tables=tables)


def largest_losses(data: ReportData) -> ReportSection:
    """The flagged payments with the largest expected losses, with reasons."""
    title, payments = "Largest expected losses", _payments(data)
    if not payments.rows:
        return ReportSection("payments", title, missing=["No payment of the span is flagged."])
    return ReportSection("payments", title, tables=[payments])


def _top_entities(data: ReportData, column: str) -> Table:
    rows = [
        [
            safe_text(row["entity"]),
            f"{row['flags']:,}",
            f"{row['frauds']:,}",
            amount(row["caught"]),
            amount(row["missed"]),
        ]
        for row in report_counts.top_entities(data.store, data.scope, column, ROWS_MAX)
    ]
    columns = (column, "flags", "known frauds", f"caught, {data.currency}", f"missed, {data.currency}")
    return Table(f"{column}: largest amount of known fraud first", columns, rows, frozenset(columns[1:]))


def _payments(data: ReportData) -> Table:
    scope = data.scope
    rows = [
        [
            for_terminal(row["transaction_id"]), f"{row['event_time']:%Y-%m-%d %H:%M}", amount(row["amount_base"]), row["channel"], score_text(row["score"]),
            _expected_loss(row), row["status"],
            "; ".join(safe_text(reason["text"]) for reason in row["reasons"][:REASONS_MAX]),
        ]
        for row in top_flags(data.store, scope.policy, scope.start, scope.end, PAYMENTS_MAX)
    ]  # fmt: skip
    columns = (
        "payment", "time, UTC", f"amount, {data.currency}", "channel", "score", "expected loss", "status", "reasons",
    )  # fmt: skip
    title = "The largest expected loss first (≤: an upper guess, without a fraud probability), with reasons"
    return Table(title, columns, rows, frozenset({columns[2], "score", "expected loss"}))


def _expected_loss(row: Row) -> str:
    if row["expected_loss"] is None:
        return "–"
    return ("≤ " if row["fraud_probability"] is None else "") + amount(round(row["expected_loss"], 2))
