"""Views for analysts. They are recreated by `init`, since they contain the configured columns."""

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, inspect, text

from storage.database import loss_views, rate_views
from storage.database.tables import Fields, transactions_table
from storage.frames import REVIEWERS

NAMES = (
    "flagged_transactions", "flag_cases", "latest_drift", "open_gaps", "monthly_fraud_rates", "current_labels",
    *loss_views.NAMES,
    "visible_transactions",
)  # fmt: skip
TAKEN = {
    "channel", "status", "score", "policy", "run_id", "model_id", "reasons", "threshold", "is_fraud", "muted_by", "reviewer",
    "reviewed_at", "outlier_score", "fraud_probability", "decision_value", "expected_loss", "label_source", "label_type", "known_at",
    "verdict", "verdict_id", "verdict_type", "verdict_action", "verdict_note", "claimed_by", "claimed_until",
}  # fmt: skip


def recreate(
    connection: Connection, fields: Fields, never_by_silence: Mapping[str, Sequence[str]] | None = None
) -> None:
    """Drop and create every view, in an order that their dependencies allow; `never_by_silence` are declined payments."""
    for name in NAMES:
        connection.execute(text(f"DROP VIEW IF EXISTS {name}"))
    for sql in (
        _visible(connection, fields),
        CURRENT_LABELS,
        _flagged(connection, fields),
        _cases(connection, fields),
        rate_views.monthly_rates(connection, never_by_silence or {}, _columns(connection, fields)),
        *FIXED,
    ):
        connection.exec_driver_sql(sql)
    loss_views.create(connection, fields)


def _columns(connection: Connection, fields: Fields) -> set[str]:
    """The columns of `transactions`: configured ones, and those that were configured before."""
    table, inspector = transactions_table(fields), inspect(connection)
    stored = inspector.get_columns(table.name) if inspector.has_table(table.name) else []
    return {column.name for column in table.c} | {column["name"] for column in stored}


def field_name(name: str) -> str:
    """The name of a configured field in `flagged_transactions`; it gets a prefix if a flag has a column of that name."""
    return f"transaction_{name}" if name.lower() in TAKEN else name  # SQLite ignores the case of names


def _visible(connection: Connection, fields: Fields) -> str:
    quote = connection.dialect.identifier_preparer.quote
    own = "".join(f", t.{quote(name)}" for name in fields.names)
    return f"""
        CREATE VIEW visible_transactions AS
        SELECT t.transaction_id, t.event_time,
               CASE WHEN b.history THEN t.event_time ELSE COALESCE(t.arrived_at, b.visible_at) END AS ingested_at,
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
               c.is_fraud, c.type AS label_type, c.source AS label_source, c.known_at, f.model_id, f.run_id
        FROM flags f
        JOIN transactions t ON t.transaction_id = f.transaction_id
        JOIN scores s ON s.policy = f.policy AND s.transaction_id = f.transaction_id
        LEFT JOIN current_labels c ON c.transaction_id = f.transaction_id"""


def _cases(connection: Connection, fields: Fields) -> str:
    quote = connection.dialect.identifier_preparer.quote
    entity = f"t.{quote(fields.case_entity)}" if fields.case_entity else "CAST(NULL AS TEXT)"
    at, collate = (
        ("(EXTRACT(EPOCH FROM t.event_time) * 1000000)::bigint", ' COLLATE "C"')
        if connection.dialect.name == "postgresql"
        else (
            "CAST(STRFTIME('%s', SUBSTR(t.event_time, 1, 19)) AS INTEGER) * 1000000 + CAST(SUBSTR(t.event_time, 21) AS INTEGER)",
            "",
        )
    )
    return FLAG_CASES.format(entity=entity, at=at, collate=collate)


# A case lasts 24 hours from its first flag: the next flag of its entity after that opens another. `following` is the first
# instant of an entity's flags that is 24 hours or more after each; `opened` follows it from one case to the next.
FLAG_CASES = """
    CREATE VIEW flag_cases AS
    WITH RECURSIVE unmuted AS (
        SELECT f.policy, f.transaction_id, f.status, f.channel, t.event_time, {entity} AS entity, {at} AS at,
               CASE WHEN {entity} IS NULL THEN 'flag ' || f.transaction_id{collate} ELSE 'of ' || {entity}{collate} END AS owner
        FROM flags f JOIN transactions t ON t.transaction_id = f.transaction_id
        WHERE f.muted_by IS NULL
    ), instants AS (
        SELECT policy, owner, at, MIN(at) OVER (PARTITION BY policy, owner) AS first_at,
               MIN(at) OVER (
                   PARTITION BY policy, owner ORDER BY at RANGE BETWEEN 86400000000 FOLLOWING AND UNBOUNDED FOLLOWING
               ) AS following
        FROM (SELECT DISTINCT policy, owner, at FROM unmuted) times
    ), opened AS (
        SELECT policy, owner, at, following FROM instants WHERE at = first_at
        UNION ALL
        SELECT i.policy, i.owner, i.at, i.following
        FROM opened o JOIN instants i ON i.policy = o.policy AND i.owner = o.owner AND i.at = o.following
    ), members AS (
        SELECT u.*, MAX(o.at) OVER (PARTITION BY u.policy, u.owner ORDER BY u.at) AS opened_at
        FROM unmuted u LEFT JOIN opened o ON o.policy = u.policy AND o.owner = u.owner AND o.at = u.at
    )
    SELECT policy, MIN(CASE WHEN at = opened_at THEN transaction_id END) AS case_id, entity,
           MIN(event_time) AS first_event_time, MAX(event_time) AS last_event_time, COUNT(*) AS flags,
           SUM(CASE WHEN status = 'open' THEN 1 ELSE 0 END) AS open_flags,
           SUM(CASE WHEN channel = 'audit' THEN 1 ELSE 0 END) AS audit_flags
    FROM members GROUP BY policy, owner, entity, opened_at"""


# Of a row `x` of `labels`: when it became visible here, whether it is visible, and whether it was known at `as_of`.
RECORDED = """CASE WHEN {x}.batch_id IS NULL THEN {x}.recorded_at
                        WHEN {x}_batch.history THEN {x}.known_at ELSE {x}_batch.visible_at END"""
VISIBLE = "({x}.batch_id IS NULL OR {x}_batch.status = 'done')"
# `NOT (a > b)` and not `a <= b`: SQLite would read all labels in the order of the index on known_at.
KNOWN_AS_OF = f"{VISIBLE} AND NOT ({{x}}.known_at > :as_of) AND {RECORDED} <= :as_of"


def ranked_labels(visibility: str, which: str = "") -> str:
    """
    SQL for the label that holds of each transaction: the status of `pipeline.features.label_history` by the same rules.

    A label that another one has retracted does not count, nor does "genuine" of a reviewer that a label "fraud" of
    another source contradicts later. Of the others the source that ranks first wins; within it, what became known last.

    Parameters
    ----------
    visibility
        `VISIBLE` or `KNOWN_AS_OF`: which labels are read.
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
LABELS_AS_OF = ranked_labels(KNOWN_AS_OF)

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
