"""Section "Entities": the entities with most fraud and flags, and the payments with the highest scores."""

from pipeline.rendering.elements import ReportSection, Table
from pipeline.rendering.report_data import ReportData
from pipeline.rendering.text import money, safe_text
from pipeline.sanitize import for_terminal
from storage.queries import report_counts
from storage.queries.flags import top_flags

ROWS_MAX = 5  # of each entity column
PAYMENTS_MAX = 10
REASONS_MAX = 3


def section(data: ReportData) -> ReportSection:
    """A table per entity column, and the payments with the highest scores."""
    title = "Entities with most fraud"
    tables = [
        table
        for table in (_top_entities(data, column) for column in data.config.schema_.entities)
        if table.rows
    ]
    payments = _payments(data)
    if not tables and not payments.rows:
        return ReportSection(
            "entities", title, missing=["No payment of the span is flagged or known to be fraud."]
        )
    hashed = [name for name in data.config.schema_.entities if name in data.config.schema_.hash]
    sentences = [f"{', '.join(hashed)}: stored as pseudonyms."] if hashed else []
    return ReportSection(
        "entities", title, sentences, tables=[*tables, *([payments] if payments.rows else [])]
    )


def _top_entities(data: ReportData, column: str) -> Table:
    rows = [
        [
            safe_text(row["entity"]),
            f"{row['flags']:,}",
            f"{row['frauds']:,}",
            money(row["caught"], ""),
            money(row["missed"], ""),
        ]
        for row in report_counts.top_entities(data.store, data.scope, column, ROWS_MAX)
    ]
    columns = (column, "flags", "known frauds", f"caught, {data.currency}", f"missed, {data.currency}")
    return Table(f"{column}: largest amount of known fraud first", columns, rows, frozenset(columns[1:]))


def _payments(data: ReportData) -> Table:
    scope = data.scope
    rows = [
        [
            for_terminal(row["transaction_id"]), f"{row['event_time']:%Y-%m-%d %H:%M}", f"{row['amount_base']:,.2f}", row["channel"], f"{row['score']:.4f}", row["status"],
            "; ".join(safe_text(reason["text"]) for reason in row["reasons"][:REASONS_MAX]),
        ]
        for row in top_flags(data.store, scope.policy, scope.start, scope.end, PAYMENTS_MAX)
    ]  # fmt: skip
    columns = ("payment", "time", f"amount, {data.currency}", "channel", "score", "status", "reasons")
    return Table("Flags with the highest scores", columns, rows, frozenset({columns[2], "score"}))
