"""Rates of fraud and disputes, in SQL: the view `monthly_fraud_rates`, and the parts that queries as of an instant share."""

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import Connection

# Payments that happened, in their newest version: no refunds, nothing declined. `own` are further columns.
SETTLED = """
    SELECT transaction_id, event_time, amount{names}
    FROM (
        SELECT t.transaction_id, t.event_time,
               CASE WHEN r.transaction_id IS NULL THEN t.amount_base ELSE r.amount_base END AS amount{values}
        FROM visible_transactions t
        LEFT JOIN (
            SELECT v.*, ROW_NUMBER() OVER (PARTITION BY v.transaction_id ORDER BY v.revision DESC) AS rank_of_revision
            FROM revisions v JOIN batches b ON b.batch_id = v.batch_id
            WHERE b.status = 'done' {revision_known}
        ) r ON r.transaction_id = t.transaction_id AND r.rank_of_revision <= 1
        WHERE (t.kind IS NULL OR t.kind NOT IN (SELECT kind FROM refund_kinds)) {payment_known}
    ) newest
    WHERE {chosen}"""
# When a payment was first reported as fraud, by anybody, and first disputed, by somebody outside. A report of fraud to a
# card scheme (TC40, SAFE), an inquiry, and a refund in place of a dispute are no disputes.
REPORTED = """
    SELECT l.transaction_id, MIN(CASE WHEN l.is_fraud THEN l.known_at END) AS fraud_at,
           MIN(CASE WHEN (l.is_fraud OR (l.is_fraud IS NULL AND l.type IS NOT NULL))
                     AND l.source NOT IN ('review', 'audit', 'investigation')
                     AND COALESCE(l.stage, '') <> 'inquiry' AND COALESCE(l.type, '') <> 'early_refund'
                     AND SUBSTR(UPPER(COALESCE(l.reason, '')), 1, 4) NOT IN ('TC40', 'SAFE')
                    THEN l.known_at END) AS dispute_at
    FROM visible_labels l
    WHERE l.label_id NOT IN (
        SELECT r.retracts FROM visible_labels r
        JOIN labels o ON o.label_id = r.retracts AND o.transaction_id = r.transaction_id)
    GROUP BY l.transaction_id"""
VISIBLE_LABELS = """
    SELECT l.*, b.visible_at, COALESCE(b.history, FALSE) AS history
    FROM labels l LEFT JOIN batches b ON b.batch_id = l.batch_id
    WHERE (l.batch_id IS NULL OR b.status = 'done') {known}"""
LABEL_KNOWN = """
      AND l.known_at <= :as_of AND (b.history OR COALESCE(b.visible_at, l.recorded_at) <= :as_of)"""
SETTLED_AS_OF = {
    "revision_known": "AND (b.history OR b.visible_at <= :as_of)",
    "payment_known": "AND t.event_time <= :as_of AND t.ingested_at <= :as_of",
}


def newest_values(quoted_names: Sequence[str]) -> dict[str, str]:
    """Further columns of `SETTLED`, by the names of its places."""
    value = "CASE WHEN r.transaction_id IS NULL THEN t.{0} ELSE r.{0} END AS {0}"
    return {
        "names": "".join(f", {name}" for name in quoted_names),
        "values": "".join(f", {value.format(name)}" for name in quoted_names),
    }


def monthly_rates(
    connection: Connection, never_by_silence: Mapping[str, Sequence[str]], present: Collection[str]
) -> str:
    """Rates by calendar month of UTC; the command `rates` has them by month of schedule.timezone, and as of any time."""
    quote = connection.dialect.identifier_preparer.quote
    never = {quote(name): values for name, values in never_by_silence.items() if name in present}
    literals = {
        name: ", ".join(f"'{value.replace(chr(39), chr(39) * 2)}'" for value in values)
        for name, values in never.items()
    }
    chosen = [f"COALESCE({name}, '') NOT IN ({values})" for name, values in literals.items()]
    settled = SETTLED.format(
        revision_known="",
        payment_known="",
        chosen=" AND ".join(chosen) or "TRUE",
        **newest_values(list(never)),
    )
    zoned = "({} AT TIME ZONE 'UTC')" if connection.dialect.name == "postgresql" else "{}"
    month = f"SUBSTR(CAST({zoned} AS TEXT), 1, 7)"
    return f"""
        CREATE VIEW monthly_fraud_rates AS
        WITH visible_labels AS ({VISIBLE_LABELS.format(known="")}), reported AS ({REPORTED}), settled AS ({settled}),
        reports AS (
            SELECT s.transaction_id, s.event_time, s.amount, CASE WHEN c.is_fraud THEN r.fraud_at END AS fraud_at, r.dispute_at
            FROM settled s
            LEFT JOIN reported r ON r.transaction_id = s.transaction_id
            LEFT JOIN current_labels c ON c.transaction_id = s.transaction_id
        ),
        counted AS (
            SELECT 'payment' AS month_of, {month.format("event_time")} AS month, 1 AS payments, amount AS payments_value,
                   CASE WHEN fraud_at IS NULL THEN 0 ELSE 1 END AS frauds, CASE WHEN fraud_at IS NULL THEN 0 ELSE amount END AS frauds_value,
                   CASE WHEN dispute_at IS NULL THEN 0 ELSE 1 END AS disputes, CASE WHEN dispute_at IS NULL THEN 0 ELSE amount END AS disputes_value
            FROM reports
            UNION ALL
            SELECT 'report', {month.format("event_time")}, 1, amount, 0, 0, 0, 0 FROM reports
            UNION ALL
            SELECT 'report', {month.format("fraud_at")}, 0, 0, 1, amount, 0, 0 FROM reports WHERE fraud_at IS NOT NULL
            UNION ALL
            SELECT 'report', {month.format("dispute_at")}, 0, 0, 0, 0, 1, amount FROM reports WHERE dispute_at IS NOT NULL
        ),
        summed AS (
            SELECT month_of, month, SUM(payments) AS payments, ROUND(SUM(payments_value), 4) AS payments_value, SUM(frauds) AS frauds,
                   ROUND(SUM(frauds_value), 4) AS frauds_value, SUM(disputes) AS disputes, ROUND(SUM(disputes_value), 4) AS disputes_value
            FROM counted GROUP BY 1, 2
        )
        SELECT summed.*, 10000.0 * frauds / NULLIF(payments, 0) AS fraud_basis_points,
               10000.0 * frauds_value / NULLIF(payments_value, 0) AS fraud_value_basis_points,
               10000.0 * disputes / NULLIF(payments, 0) AS dispute_basis_points,
               10000.0 * disputes_value / NULLIF(payments_value, 0) AS dispute_value_basis_points
        FROM summed"""
