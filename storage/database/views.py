"""Views for analysts. They are recreated by `init`, since they contain the configured columns."""

from sqlalchemy import Connection, text

from storage.database.tables import Fields
from storage.frames import REVIEWERS

NAMES = (
    "flagged_transactions", "latest_drift", "open_gaps", "current_labels", "transaction_losses", "visible_transactions",
)  # fmt: skip
TAKEN = {
    "channel", "status", "score", "policy", "run_id", "model_id", "reasons", "threshold", "is_fraud", "muted_by",
}  # fmt: skip


def recreate(connection: Connection, fields: Fields) -> None:
    """Drop and create every view, in an order that their dependencies allow."""
    for name in NAMES:
        connection.execute(text(f"DROP VIEW IF EXISTS {name}"))
    for sql in (
        _visible(connection, fields),
        TRANSACTION_LOSSES,
        CURRENT_LABELS,
        _flagged(connection, fields),
        *FIXED,
    ):
        connection.exec_driver_sql(sql)


def field_name(name: str) -> str:
    """The name of a configured field in `flagged_transactions`; it gets a prefix if a flag has a column of that name."""
    return f"transaction_{name}" if name in TAKEN else name


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
               f.channel, s.score, s.outlier_score, s.fraud_probability, s.decision_value, s.threshold,
               f.reasons, f.status, f.reviewed_at, f.reviewer, f.muted_by,
               c.is_fraud, c.type AS label_type, c.source AS label_source, c.known_at, f.model_id, f.run_id
        FROM flags f
        JOIN transactions t ON t.transaction_id = f.transaction_id
        JOIN scores s ON s.policy = f.policy AND s.transaction_id = f.transaction_id
        LEFT JOIN current_labels c ON c.transaction_id = f.transaction_id"""


# Of a row `x` of `labels`: when it became visible here, whether it is visible, and whether it was known at `as_of`.
RECORDED = """CASE WHEN {x}.batch_id IS NULL THEN {x}.recorded_at
                        WHEN {x}_batch.history THEN {x}.known_at ELSE {x}_batch.visible_at END"""
VISIBLE = "({x}.batch_id IS NULL OR {x}_batch.status = 'done')"
# `NOT (a > b)` and not `a <= b`: SQLite would read all labels in the order of the index on known_at.
KNOWN = f"{VISIBLE} AND NOT ({{x}}.known_at > :as_of) AND {RECORDED} <= :as_of"


def ranked_labels(visibility: str, which: str = "") -> str:
    """
    SQL for the label that holds of each transaction: the status of `pipeline.features.label_history` by the same rules.

    A label that another one has retracted does not count, nor does "genuine" of a reviewer that a label "fraud" of
    another source contradicts later. Of the others the source that ranks first wins; within it, what became known last.

    Parameters
    ----------
    visibility
        `VISIBLE` or `KNOWN`: which labels are read.
    which
        A further condition on the transactions of labels `{x}`: "AND {x}.transaction_id IN …".
    """

    def rows(x: str) -> str:
        return f"labels {x} LEFT JOIN batches {x}_batch ON {x}_batch.batch_id = {x}.batch_id"

    def chosen(x: str) -> str:
        return f"{visibility} {which}".format(x=x)

    reviewers = f"({', '.join(repr(source) for source in REVIEWERS)})"
    retracted = f"""(
            SELECT r.retracts FROM {rows("r")}
            JOIN labels o ON o.label_id = r.retracts AND o.transaction_id = r.transaction_id
            WHERE r.retracts IS NOT NULL AND {chosen("r")})"""
    # `<= 1` and not `= 1`: Postgres takes a third of the rows for the answer instead of 0.5 %, and so joins them by hash
    # instead of looking through all for every score.
    return f"""
    SELECT transaction_id, is_fraud, type, reason, stage, source, known_at, recorded_at, "by", batch_id, label_id
    FROM (
        SELECT l.transaction_id, l.is_fraud, l.type, l.reason, l.stage, l.source, l.known_at, l."by", l.batch_id,
               l.label_id, {RECORDED.format(x="l")} AS recorded_at,
               ROW_NUMBER() OVER (
                   PARTITION BY l.transaction_id
                   ORDER BY COALESCE(p.rank, 1000000), l.known_at DESC, l.label_id DESC
               ) AS rank_of_label
        FROM {rows("l")}
        LEFT JOIN label_precedence p ON p.source = l.source
        WHERE {chosen("l")}
          AND l.retracts IS NULL AND (l.is_fraud IS NOT NULL OR l.type IS NOT NULL)
          AND l.label_id NOT IN {retracted}
          AND l.label_id NOT IN (
            SELECT g.label_id FROM labels g JOIN labels f ON f.transaction_id = g.transaction_id AND f.known_at > g.known_at
            LEFT JOIN batches f_batch ON f_batch.batch_id = f.batch_id
            WHERE g.source IN {reviewers} AND NOT g.is_fraud {which.format(x="g")} AND f.source NOT IN {reviewers} AND f.is_fraud
              AND {chosen("f")} AND f.label_id NOT IN {retracted})
    ) ranked
    WHERE rank_of_label <= 1"""


CURRENT_LABELS = f"CREATE VIEW current_labels AS {ranked_labels(VISIBLE)}"
LABELS_AS_OF = ranked_labels(KNOWN)

# The amount of the newest version of row `x` of `visible_transactions`.
NEWEST_AMOUNT = """COALESCE((
                   SELECT r.amount_base FROM revisions r JOIN batches b ON b.batch_id = r.batch_id
                   WHERE r.transaction_id = {x}.transaction_id AND b.status = 'done' {revision_known}
                   ORDER BY r.revision DESC LIMIT 1
               ), {x}.amount_base)"""
# Scalar subqueries, so that a query computes them only for the transactions whose loss it asks for.
LOSSES = f"""
    SELECT transaction_id, amount, refunded, amount - refunded AS loss
    FROM (
        SELECT t.transaction_id, {NEWEST_AMOUNT.replace("{x}", "t")} AS amount,
               COALESCE((
                   SELECT SUM(ABS({NEWEST_AMOUNT.replace("{x}", "g")})) FROM visible_transactions g
                   WHERE g.original_id = t.transaction_id AND g.kind IN (SELECT kind FROM refund_kinds) {{refund_known}}
               ), 0) AS refunded
        FROM visible_transactions t
    ) newest"""
TRANSACTION_LOSSES = f"CREATE VIEW transaction_losses AS {LOSSES.format(revision_known='', refund_known='')}"
LOSSES_AS_OF = LOSSES.format(
    revision_known="AND (b.history OR b.visible_at <= :as_of)",
    refund_known="AND g.event_time <= :as_of AND g.ingested_at <= :as_of",
)

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
