"""
Which columns may hold a value of a person, and in what form; beside `tables`, which has the columns.

Every column of text, JSON or bytes is declared here (a test finds one that is not), and erasing and exporting a person go through
the declared ones. A transaction's id names a payment, not a person; the names of those who work with the monitor stay, too.
"""

from collections.abc import Mapping
from typing import Literal

from sqlalchemy import LargeBinary, Table, Text

from storage.database import tables
from storage.database.column_types import Json
from storage.database.tables import Fields

# own: a value of the column itself (an entity). value: one of the column that another column of the row names.
# text: sentences, or objects with sentences. rule: the text of a rule, which quotes values, too. row: a row of another table.
Form = Literal["own", "value", "text", "rule", "row"]

# Of a `value`: which column has the name of its column; of a `row`: which has that of its table.
NAMED_BY = {"mutes": "name", "holds": "name", "limit_checks": "field", "withdrawn_rows": "table_name"}
# Of what table the rows in a column of form `row` are; "" if another column says so.
ROWS_OF = {"rejected_rows": "transactions", "waiting_rows": "transactions", "withdrawn_rows": ""}

MAY_HOLD: Mapping[str, Mapping[str, Form]] = {
    "batches": {"source": "text"},
    "rejected_rows": {"row": "row", "reason": "text"},
    "waiting_rows": {"row": "row"},
    "labels": {"reason": "text", "type": "text", "source": "text"},
    "verdicts": {"note": "text", "type": "text"},
    "ledger": {"error": "text"},
    "source_cursors": {"cursor": "text"},
    "watched_files": {"path": "text", "error": "text"},
    "withdrawals": {"reason": "text"},
    "withdrawn_rows": {"row": "row"},
    "runs": {"config": "text", "error": "text"},
    "choices": {"sentence": "text", "next_change": "text", "evidence": "text"},
    "promotions": {"reason": "text"},
    "flags": {"reasons": "rule"},
    "drift_metrics": {"suppressed_because": "text", "detail": "text"},
    "quality_metrics": {"message": "text"},
    "limit_checks": {"value": "value"},
    "tick_steps": {"error": "text"},
    "holds": {"value": "value", "reason": "text"},
    "audit": {"before": "text", "after": "text"},
    "outbox": {"subject": "text", "body": "text", "error": "text"},
    "mutes": {"value": "value", "reason": "text"},
    "rules": {"text": "rule", "reason": "text"},
    "readiness": {"message": "text", "remedy": "text", "numbers": "text"},
    "comparisons": {"config_text": "text", "sentence": "text", "notes": "text"},
    "promotion_checks": {"sentence": "text"},
    "approvals": {"request": "text", "error": "text"},
    "notes": {"text": "text"},
    "saved_filters": {"name": "text"},
}

# Ids, words of our own, names of settings, columns and staff, hashes of whole rows and files; and of bytes: models, which have
# 48-bit hashes of the values of categorical fields, and none of entities.
CANNOT: Mapping[str, tuple[str, ...]] = {
    "monitor": ("name", "case_entity", "readable_from", "hash_key_check"),
    "batches": ("kind", "status", "content_hash", "holder"),
    "waiting_rows": ("transaction_id", "currency"),
    "currency_rates": ("currency", "source"),
    "labels": ("transaction_id", "by", "stage", "bulk_id"),
    "verdicts": ("transaction_id", "verdict", "action", "bulk_id", "by"),
    "label_precedence": ("source",),
    "refund_kinds": ("kind",),
    "policies": ("policy",),
    "backfilled_spans": ("policy",),
    "scoring_queue": ("policy", "transaction_id"),
    "ledger": ("policy", "kind", "status", "counts", "worker"),
    "schedules": ("policy", "timezone"),
    "source_cursors": ("source",),
    "watched_files": ("source", "status", "config_hash"),
    "withdrawals": ("subject", "by", "counts"),
    "withdrawn_rows": ("table_name", "transaction_id"),
    "runs": ("policy", "kind", "status", "counts", "worker"),
    "choices": ("policy", "strategy", "proposed", "rule"),
    "models": (
        "strategy", "feature_names", "fields", "thresholds", "config_hash", "versions", "sample_scores", "sha256",
        "artifact",
    ),
    "promotions": ("policy", "by"),
    "scores": ("policy", "transaction_id", "channel", "strategy"),
    "flags": ("policy", "transaction_id", "channel", "status", "reviewer", "case_id"),
    "cases": ("policy", "case_id", "channels"),
    "case_counts": ("policy", "channels"),
    "flag_notifications_pending": ("policy", "transaction_id"),
    "drift_metrics": ("policy", "feature", "metric"),
    "drift_histograms": ("policy", "histograms"),
    "quality_metrics": ("policy", "channel", "metric", "kind"),
    "limit_checks": ("name", "field", "level"),
    "leases": ("name", "holder", "process"),
    "tick_steps": ("name", "code"),
    "holds": ("name", "by", "ended_by"),
    "audit": (
        "actor", "action", "subject", "os_user", "database_user", "content_hash", "hash", "salt",
    ),
    "outbox": ("key", "event", "status"),
    "mutes": ("kind", "name", "by", "ended_by"),
    "rules": ("fields", "by", "ended_by"),
    "readiness": ("policy", "level", "code"),
    "comparisons": ("by", "settings", "folds", "curves"),
    "comparison_results": ("technique", "metric"),
    "promotion_checks": ("policy", "verdict", "rule"),
    "users": ("name", "role", "password_hash", "issuer", "subject", "refresh_token", "by"),
    "user_sessions": ("secret_hash",),
    "api_tokens": ("name", "secret_hash", "role", "by", "revoked_by"),
    "log_in_attempts": ("name_hash", "address"),
    "approvals": ("action", "status"),
    "web_keys": ("secret",),
    "notes": ("transaction_id", "by"),
    "claims": ("policy", "transaction_id", "by"),
    "saved_filters": ("path",),
    "idempotency_keys": ("caller", "key", "request_hash", "answer"),
    "transactions": ("transaction_id", "currency", "kind", "original_id"),
    "revisions": ("transaction_id", "currency", "kind", "original_id"),
}  # fmt: skip


def personal_columns(fields: Fields, table: str) -> dict[str, Form]:
    """The columns of a table that may hold a value of a person, with its form."""
    if table in ("transactions", "revisions"):
        own: dict[str, Form] = dict.fromkeys(fields.entities, "own")
        return own | dict.fromkeys(fields.categorical, "text")
    return dict(MAY_HOLD.get(table, {}))


def all_tables(fields: Fields) -> list[Table]:
    """Every table, with the configured columns."""
    return [tables.transactions_table(fields), tables.revisions_table(fields), *tables.metadata.sorted_tables]


def undeclared(fields: Fields) -> list[str]:
    """The columns of text, JSON or bytes that are not declared, or twice, as TABLE.COLUMN; none may be."""
    return [
        f"{table.name}.{column.name}"
        for table in all_tables(fields)
        for column in table.columns
        if _may_hold_text(column.type)
        and (column.name in personal_columns(fields, table.name))
        == (column.name in CANNOT.get(table.name, ()))
    ]


def _may_hold_text(kind: object) -> bool:
    return isinstance(kind, Text | LargeBinary | Json)
