"""Who and what known fraud and flags gather at, and the payments worth a look."""

from pipeline.rendering.elements import Section, Table
from pipeline.rendering.report_data import Facts
from pipeline.rendering.text import money, safe
from pipeline.sanitize import for_terminal
from storage.queries import listings, report_counts

SHOWN = 5  # of each entity column
PAYMENTS = 10
REASONS = 3


def section(facts: Facts) -> Section:
    """A table for each entity column, and the highest scores."""
    title = "Where fraud gathers"
    tables = [
        table for table in (_top(facts, column) for column in facts.config.schema_.entities) if table.rows
    ]
    payments = _payments(facts)
    if not tables and not payments.rows:
        return Section("entities", title, missing=["No payment of the span is flagged or known to be fraud."])
    hashed = [name for name in facts.config.schema_.entities if name in facts.config.schema_.hash]
    said = [f"{', '.join(hashed)}: pseudonyms, as they are stored."] if hashed else []
    return Section("entities", title, said, tables=[*tables, *([payments] if payments.rows else [])])


def _top(facts: Facts, column: str) -> Table:
    rows = [
        [
            safe(row["entity"]),
            f"{row['flags']:,}",
            f"{row['frauds']:,}",
            money(row["caught"], ""),
            money(row["missed"], ""),
        ]
        for row in report_counts.top_entities(facts.store, facts.scope, column, SHOWN)
    ]
    columns = (column, "flags", "known frauds", f"caught, {facts.currency}", f"missed, {facts.currency}")
    return Table(f"{column}: most money of known fraud first", columns, rows, frozenset(columns[1:]))


def _payments(facts: Facts) -> Table:
    scope = facts.scope
    rows = [
        [
            for_terminal(row["transaction_id"]), row["event_time"][:16], f"{row['amount_base']:,.2f}", row["channel"], f"{row['score']:.4f}", row["status"],
            "; ".join(safe(reason["text"]) for reason in row["reasons"][:REASONS]),
        ]
        for row in listings.top_flags(facts.store, scope.policy, scope.start, scope.end, PAYMENTS)
    ]  # fmt: skip
    columns = ("payment", "time", f"amount, {facts.currency}", "channel", "score", "status", "why")
    return Table("The highest scores among flags", columns, rows, frozenset({columns[2], "score"}))
