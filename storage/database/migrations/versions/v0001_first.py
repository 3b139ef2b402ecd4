"""
The first schema: every system table, `transactions` and `revisions` without configured fields.

Spelled out rather than taken from `storage.schema`, which moves on: a database made by this version and brought
up to date must end up the same as one made today.
"""

import sqlalchemy as sa
from alembic import op

from storage.database.column_types import IdText, Instant, Json, Money
from storage.database.tables import BY

revision = "0001"
down_revision = None

DONE = sa.text("status = 'done'")


def upgrade() -> None:
    """Create the tables of version 0001; later versions alter them and leave this file as it is."""
    _ingest()
    _work()
    _learning()
    _results()
    _transactions()


def downgrade() -> None:
    """There is nothing before the first version."""
    raise NotImplementedError("0001 is the first schema version")


def _ingest() -> None:
    """Who owns the database, what was loaded, and what it said of labels."""
    op.create_table(
        "monitor",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("horizon", Instant),
        sa.Column("visible_at", Instant),
    )
    op.create_table(
        "batches",
        sa.Column("batch_id", sa.Integer, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("history", sa.Boolean, nullable=False),
        sa.Column("content_hash", sa.Text),
        sa.Column("read", sa.Integer, nullable=False, server_default="0"),
        sa.Column("accepted", sa.Integer, nullable=False, server_default="0"),
        sa.Column("duplicate", sa.Integer, nullable=False, server_default="0"),
        sa.Column("revised", sa.Integer, nullable=False, server_default="0"),
        sa.Column("rejected", sa.Integer, nullable=False, server_default="0"),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("started_at", Instant, nullable=False),
        sa.Column("visible_at", Instant),
        sa.Column("complete_through", Instant),
        sa.CheckConstraint("kind IN ('transactions', 'labels')"),
        sa.CheckConstraint(
            "status <> 'done' OR (read = accepted + duplicate + revised + rejected AND visible_at IS NOT NULL)",
            name="batches_nothing_lost",
        ),
        sa.CheckConstraint("status IN ('loading', 'done', 'withdrawn')"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "batches_content",
        "batches",
        ["kind", "content_hash"],
        unique=True,
        sqlite_where=DONE,
        postgresql_where=DONE,
    )
    op.create_table(
        "rejected_rows",
        sa.Column("batch_id", sa.Integer, sa.ForeignKey("batches.batch_id"), primary_key=True),
        sa.Column("row_number", sa.Integer, primary_key=True),
        sa.Column("row", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.create_table(
        "labels",
        sa.Column("label_id", sa.Integer, primary_key=True),
        sa.Column("transaction_id", IdText, nullable=False),
        sa.Column("is_fraud", sa.Boolean, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("known_at", Instant, nullable=False),
        sa.Column("recorded_at", Instant),
        sa.Column("batch_id", sa.Integer),
        sa.Column(BY, sa.Text, nullable=False),
        sa.CheckConstraint("(batch_id IS NULL) = (recorded_at IS NOT NULL)", name="labels_recorded"),
        sa.UniqueConstraint("transaction_id", "source", "known_at", "is_fraud", name="labels_once"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "label_precedence",
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("place", sa.Integer, nullable=False),
    )


def _work() -> None:
    """What there is to do, who is at it, and what was done."""
    op.create_table(
        "policies",
        sa.Column("policy", sa.Text, primary_key=True),
        sa.Column("starts_at", Instant, nullable=False),
    )
    op.create_table(
        "covered_spans",
        sa.Column("policy", sa.Text, primary_key=True),
        sa.Column("span_start", Instant, primary_key=True),
        sa.Column("span_end", Instant, primary_key=True),
    )
    op.create_table(
        "unscored",
        sa.Column("policy", sa.Text, primary_key=True),
        sa.Column("transaction_id", IdText, primary_key=True),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "ledger",
        sa.Column("policy", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("window_start", Instant, primary_key=True),
        sa.Column("window_end", Instant, primary_key=True),
        sa.Column("due_at", Instant, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("run_id", sa.Integer),
        sa.Column("counts", Json),
        sa.Column("error", sa.Text),
        sa.CheckConstraint("kind IN ('score', 'train', 'drift', 'prune')"),
        sa.CheckConstraint("status IN ('due', 'running', 'done', 'failed')"),
    )
    op.create_table(
        "runs",
        sa.Column("run_id", sa.Integer, primary_key=True),
        sa.Column("policy", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("started_at", Instant, nullable=False),
        sa.Column("finished_at", Instant),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("newest_batch", sa.Integer, nullable=False),
        sa.Column("config", sa.Text, nullable=False),
        sa.Column("counts", Json),
        sa.Column("error", sa.Text),
        sa.CheckConstraint("kind IN ('schedule', 'backfill', 'manual', 'late', 'train')"),
        sa.CheckConstraint("status IN ('running', 'done', 'failed')"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("process", sa.Text, nullable=False),
        sa.Column("token", sa.Integer, nullable=False),
        sa.Column("expires_at", Instant),
    )
    op.create_table(
        "audit",
        sa.Column("audit_id", sa.Integer, primary_key=True),
        sa.Column("at", Instant, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("object", sa.Text, nullable=False),
        sa.Column("before", Json),
        sa.Column("after", Json),
        sqlite_autoincrement=True,
    )


def _learning() -> None:
    """Choices, models and when each scores."""
    op.create_table(
        "choices",
        sa.Column("choice_id", sa.Integer, primary_key=True),
        sa.Column("policy", sa.Text, nullable=False),
        sa.Column("training_date", Instant, nullable=False),
        sa.Column("run_id", sa.Integer),
        sa.Column("mature", sa.Integer, nullable=False),
        sa.Column("positives", sa.Integer, nullable=False),
        sa.Column("effective_positives", sa.Double, nullable=False),
        sa.Column("prevalence", sa.Double),
        sa.Column("prevalence_lower", sa.Double),
        sa.Column("prevalence_upper", sa.Double),
        sa.Column("strategy", sa.Text, nullable=False),
        sa.Column("proposed", sa.Text),
        sa.Column("outlier_share", sa.Double),
        sa.Column("rule", sa.Text, nullable=False),
        sa.Column("sentence", sa.Text, nullable=False),
        sa.Column("what_would_change", sa.Text),
        sa.Column("evidence", Json),
        sqlite_autoincrement=True,
    )
    op.create_index("choices_by_date", "choices", ["policy", "training_date"])
    op.create_table(
        "models",
        sa.Column("model_id", sa.Integer, primary_key=True),
        sa.Column("choice_id", sa.Integer, sa.ForeignKey("choices.choice_id")),
        sa.Column("run_id", sa.Integer),
        sa.Column("trained_at", Instant, nullable=False),
        sa.Column("strategy", sa.Text, nullable=False),
        sa.Column("span_start", Instant),
        sa.Column("span_end", Instant),
        sa.Column("n_mature", sa.Integer),
        sa.Column("n_fraud", sa.Integer),
        sa.Column("feature_names", Json, nullable=False),
        sa.Column("thresholds", Json, nullable=False),
        sa.Column("config_hash", sa.Text),
        sa.Column("versions", Json),
        sa.Column("sample_scores", Json),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("artefact", sa.LargeBinary, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "promotions",
        sa.Column("policy", sa.Text, primary_key=True),
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("effective_from", Instant, nullable=False),
        sa.Column("model_id", sa.Integer, sa.ForeignKey("models.model_id"), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column(BY, sa.Text, nullable=False),
        sa.Column("promoted_at", Instant, nullable=False),
    )


def _results() -> None:
    """Scores, flags, drift and quality."""
    op.create_table(
        "scores",
        sa.Column("policy", sa.Text, primary_key=True),
        sa.Column("transaction_id", IdText, primary_key=True),
        sa.Column("run_id", sa.Integer, nullable=False),
        sa.Column("model_id", sa.Integer, nullable=False),
        sa.Column("score", sa.Double, nullable=False),
        sa.Column("outlier_score", sa.Double),
        sa.Column("fraud_probability", sa.Double),
        sa.Column("decision_value", sa.Double),
        sa.Column("threshold", sa.Double),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("flagged", sa.Boolean, nullable=False),
        sa.Column("strategy", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "flags",
        sa.Column("policy", sa.Text, primary_key=True),
        sa.Column("transaction_id", IdText, primary_key=True),
        sa.Column("run_id", sa.Integer, nullable=False),
        sa.Column("model_id", sa.Integer, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("reasons", Json, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("reviewed_at", Instant),
        sa.Column("reviewer", sa.Text),
        sa.CheckConstraint("status IN ('open', 'fraud', 'genuine', 'expired')"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "drift_metrics",
        sa.Column("policy", sa.Text, primary_key=True),
        sa.Column("window_start", Instant, primary_key=True),
        sa.Column("window_end", Instant, primary_key=True),
        sa.Column("feature", sa.Text, primary_key=True),
        sa.Column("metric", sa.Text, primary_key=True),
        sa.Column("value", sa.Double),
        sa.Column("threshold", sa.Double),
        sa.Column("alarm", sa.Boolean, nullable=False),
        sa.Column("n_reference", sa.Integer, nullable=False),
        sa.Column("n_current", sa.Integer, nullable=False),
        sa.Column("run_id", sa.Integer, nullable=False),
    )
    op.create_table(
        "quality_metrics",
        sa.Column("policy", sa.Text, primary_key=True),
        sa.Column("window_start", Instant, primary_key=True),
        sa.Column("metric", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("value", sa.Double),
        sa.Column("lower", sa.Double),
        sa.Column("upper", sa.Double),
        sa.Column("n", sa.Integer, nullable=False),
        sa.Column("run_id", sa.Integer),
        sa.CheckConstraint("kind IN ('estimated', 'realised')"),
    )


def _transactions() -> None:
    """The two tables that grow columns with the configuration."""
    op.create_table(
        "transactions",
        sa.Column("transaction_id", IdText, primary_key=True),
        sa.Column("event_time", Instant, nullable=False),
        sa.Column("amount", Money, nullable=False),
        sa.Column("amount_base", Money, nullable=False),
        sa.Column("currency", sa.Text),
        sa.Column("kind", sa.Text),
        sa.Column("original_id", IdText),
        sa.Column("batch_id", sa.Integer, nullable=False),
    )
    op.create_index("transactions_by_time", "transactions", ["event_time"])
    op.create_table(
        "revisions",
        sa.Column("transaction_id", IdText, primary_key=True),
        sa.Column("revision", sa.Integer, primary_key=True),
        sa.Column("event_time", Instant, nullable=False),
        sa.Column("amount", Money, nullable=False),
        sa.Column("amount_base", Money, nullable=False),
        sa.Column("currency", sa.Text),
        sa.Column("kind", sa.Text),
        sa.Column("original_id", IdText),
        sa.Column("batch_id", sa.Integer, nullable=False),
    )
