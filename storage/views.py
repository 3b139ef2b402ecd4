"""
Views for people. They show every column that `transactions` has, also those no longer configured.

On Postgres they are replaced, not dropped, so that what a DBA granted on them stays; that allows new columns at
the end only, which is where the configured fields are.
"""

from collections.abc import Sequence

from sqlalchemy import Connection

from storage.columns import POSTGRES

# Columns of flagged_transactions that are ours; a field of the same name is shown as transaction_<name>.
FLAGGED = (
    "policy", "transaction_id", "event_time", "amount", "currency", "amount_base", "kind", "channel", "score",
    "outlier_score", "fraud_probability", "decision_value", "threshold", "strategy", "reasons", "status",
    "reviewed_at", "reviewer", "is_fraud", "label_source", "known_at", "model_id", "run_id",
)  # fmt: skip
VISIBLE = (
    "transaction_id", "event_time", "ingested_at", "amount", "currency", "amount_base", "kind", "original_id",
    "batch_id",
)  # fmt: skip

CURRENT_LABELS = """
    SELECT transaction_id, is_fraud, source, known_at, recorded_at, "by", label_id
    FROM (
        SELECT l.transaction_id, l.is_fraud, l.source, l.known_at, l."by", l.label_id,
               CASE WHEN l.batch_id IS NULL THEN l.recorded_at
                    WHEN b.history THEN l.known_at ELSE b.visible_at END AS recorded_at,
               ROW_NUMBER() OVER (
                   PARTITION BY l.transaction_id
                   ORDER BY COALESCE(p.place, 1000000), l.known_at DESC, l.label_id DESC
               ) AS place_of_label
        FROM labels l
        LEFT JOIN batches b ON b.batch_id = l.batch_id
        LEFT JOIN label_precedence p ON p.source = l.source
        WHERE l.batch_id IS NULL OR b.status = 'done'
    ) ranked
    WHERE place_of_label = 1"""

VISIBLE_TRANSACTIONS = """
    SELECT t.transaction_id, t.event_time,
           CASE WHEN b.history THEN t.event_time ELSE b.visible_at END AS ingested_at,
           t.amount, t.currency, t.amount_base, t.kind, t.original_id, t.batch_id{fields}
    FROM transactions t JOIN batches b ON b.batch_id = t.batch_id
    WHERE b.status = 'done'"""

# The label is looked up flag by flag: flags are few, and ranking all labels for them would take seconds.
FLAGGED_TRANSACTIONS = """
    SELECT f.policy, f.transaction_id, t.event_time, t.amount, t.currency, t.amount_base, t.kind, f.channel,
           s.score, s.outlier_score, s.fraud_probability, s.decision_value, s.threshold, s.strategy, f.reasons,
           f.status, f.reviewed_at, f.reviewer, c.is_fraud, c.source AS label_source, c.known_at, f.model_id,
           f.run_id{fields}
    FROM flags f
    JOIN transactions t ON t.transaction_id = f.transaction_id
    JOIN scores s ON s.policy = f.policy AND s.transaction_id = f.transaction_id
    LEFT JOIN labels c ON c.label_id = (
        SELECT l.label_id
        FROM labels l
        LEFT JOIN batches b ON b.batch_id = l.batch_id
        LEFT JOIN label_precedence p ON p.source = l.source
        WHERE l.transaction_id = f.transaction_id AND (l.batch_id IS NULL OR b.status = 'done')
        ORDER BY COALESCE(p.place, 1000000), l.known_at DESC, l.label_id DESC
        LIMIT 1)"""

LATEST_DRIFT = """
    SELECT d.policy, d.window_start, d.window_end, d.feature, d.metric, d.value, d.threshold, d.alarm,
           d.n_reference, d.n_current, d.run_id
    FROM drift_metrics d
    WHERE d.window_end = (SELECT MAX(n.window_end) FROM drift_metrics n WHERE n.policy = d.policy)"""

OPEN_GAPS = """
    SELECT policy, kind, window_start, window_end, due_at, status, attempts, run_id, error
    FROM ledger WHERE status <> 'done'"""

NAMES = ("flagged_transactions", "current_labels", "latest_drift", "open_gaps", "visible_transactions")


def recreate(connection: Connection, fields: Sequence[str]) -> None:
    """Create the views, or bring them up to date with the fields there are."""
    for name, sql in definitions(connection, fields).items():
        if connection.dialect.name == POSTGRES:
            connection.exec_driver_sql(f"CREATE OR REPLACE VIEW {name} AS {sql}")
        else:
            connection.exec_driver_sql(f"DROP VIEW IF EXISTS {name}")
            connection.exec_driver_sql(f"CREATE VIEW {name} AS {sql}")


def definitions(connection: Connection, fields: Sequence[str]) -> dict[str, str]:
    """Name and query of each view."""
    quote = connection.dialect.identifier_preparer.quote

    def listed(taken: Sequence[str]) -> str:
        shown = field_names(fields, taken)
        return "".join(f", t.{quote(name)} AS {quote(shown[name])}" for name in fields)

    return {
        "visible_transactions": VISIBLE_TRANSACTIONS.format(fields=listed(VISIBLE)),
        "current_labels": CURRENT_LABELS,
        "flagged_transactions": FLAGGED_TRANSACTIONS.format(fields=listed(FLAGGED)),
        "latest_drift": LATEST_DRIFT,
        "open_gaps": OPEN_GAPS,
    }


def field_names(fields: Sequence[str], taken: Sequence[str] = FLAGGED) -> dict[str, str]:
    """What each field is called in a view: its name, or transaction_<name> where that is one of ours."""
    used = {name.lower() for name in (*taken, *fields)}
    return {name: _free(name, used) if name.lower() in taken else name for name in fields}


def field_name(name: str) -> str:
    """What a field is called in `flagged_transactions`."""
    return field_names([name])[name]


def _free(name: str, used: set[str]) -> str:
    shown = f"transaction_{name}"
    while shown.lower() in used:
        shown = f"transaction_{shown}"
    return shown
