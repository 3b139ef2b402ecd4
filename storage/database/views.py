"""Views for analysts. They are recreated by `init`, since they contain the configured columns."""

from sqlalchemy import Connection, text

from storage.database import loss_views
from storage.database.tables import Fields

NAMES = (
    "flagged_transactions", "latest_drift", "open_gaps", "current_labels", *loss_views.NAMES, "visible_transactions",
)  # fmt: skip
TAKEN = {
    "channel", "status", "score", "policy", "run_id", "model_id", "reasons", "threshold", "is_fraud", "muted_by", "reviewer",
    "reviewed_at", "outlier_score", "fraud_probability", "decision_value", "expected_loss", "label_source", "known_at",
}  # fmt: skip


def recreate(connection: Connection, fields: Fields) -> None:
    """Drop and create every view, in an order that their dependencies allow."""
    for name in NAMES:
        connection.execute(text(f"DROP VIEW IF EXISTS {name}"))
    for sql in (
        _visible(connection, fields),
        CURRENT_LABELS,
        _flagged(connection, fields),
        *FIXED,
    ):
        connection.exec_driver_sql(sql)
    loss_views.create(connection, fields)


def field_name(name: str) -> str:
    """The name of a configured field in `flagged_transactions`; it gets a prefix if a flag has a column of that name."""
    return f"transaction_{name}" if name.lower() in TAKEN else name  # SQLite ignores the case of names


def _visible(connection: Connection, fields: Fields) -> str:
    quote = connection.dialect.identifier_preparer.quote
    own = "".join(f", t.{quote(name)}" for name in fields.names)
    return f"""
        CREATE VIEW visible_transactions AS
        SELECT t.transaction_id, t.event_time,
               CASE WHEN b.history THEN t.event_time ELSE b.visible_at END AS ingested_at,
               t.amount, t.currency, t.amount_base, t.kind, t.original_id{own}, t.batch_id
        FROM transactions t JOIN batches b ON b.batch_id = t.batch_id
        WHERE b.status = 'done'"""


def _flagged(connection: Connection, fields: Fields) -> str:
    quote = connection.dialect.identifier_preparer.quote
    own = "".join(f", t.{quote(name)} AS {quote(field_name(name))}" for name in fields.names)
    return f"""
        CREATE VIEW flagged_transactions AS
        SELECT f.policy, f.transaction_id, t.event_time, t.amount, t.currency, t.amount_base{own},
               f.channel, s.score, s.outlier_score, s.fraud_probability, s.decision_value, s.threshold, s.expected_loss,
               f.reasons, f.status, f.reviewed_at, f.reviewer, f.muted_by,
               c.is_fraud, c.source AS label_source, c.known_at, f.model_id, f.run_id
        FROM flags f
        JOIN transactions t ON t.transaction_id = f.transaction_id
        JOIN scores s ON s.policy = f.policy AND s.transaction_id = f.transaction_id
        LEFT JOIN current_labels c ON c.transaction_id = f.transaction_id"""


# The source that ranks first wins; within it, what became known last. `<= 1` and not `= 1`: Postgres takes a third of
# the rows for the answer instead of 0.5 %, and so joins them by hash instead of looking through all for every score.
RANKED_LABELS = """
    SELECT transaction_id, is_fraud, source, known_at, recorded_at, "by", label_id
    FROM (
        SELECT v.*, ROW_NUMBER() OVER (
                   PARTITION BY v.transaction_id
                   ORDER BY COALESCE(p.rank, 1000000), v.known_at DESC, v.label_id DESC
               ) AS rank_of_label
        FROM (
            SELECT l.transaction_id, l.is_fraud, l.source, l.known_at, l."by", l.label_id,
                   CASE WHEN l.batch_id IS NULL THEN l.recorded_at
                        WHEN b.history THEN l.known_at ELSE b.visible_at END AS recorded_at
            FROM labels l LEFT JOIN batches b ON b.batch_id = l.batch_id
            WHERE l.batch_id IS NULL OR b.status = 'done'
        ) v
        LEFT JOIN label_precedence p ON p.source = v.source
        {which}
    ) ranked
    WHERE rank_of_label <= 1"""
CURRENT_LABELS = f"CREATE VIEW current_labels AS {RANKED_LABELS.format(which='')}"
LABELS_AS_OF = RANKED_LABELS.format(which="WHERE v.known_at <= :as_of AND v.recorded_at <= :as_of")

FIXED = (
    """
    CREATE VIEW latest_drift AS
    SELECT d.* FROM drift_metrics d
    JOIN (SELECT policy, MAX(window_end) AS window_end FROM drift_metrics GROUP BY policy) newest
      ON newest.policy = d.policy AND newest.window_end = d.window_end""",
    """
    CREATE VIEW open_gaps AS
    SELECT policy, kind, window_start, window_end, due_at, status, attempts, not_before, error
    FROM ledger WHERE status <> 'done'""",
)
