"""
What a monitor needs that runs for months: a ledger that retries, a stored schedule, feeds, withdrawals.
"""

import sqlalchemy as sa
from alembic import op

from storage.database.column_types import IdText, Instant, Json
from storage.database.tables import BY

revision = "0002"
down_revision = "0001"

LEDGER = "policy, kind, window_start, window_end, due_at, attempts, run_id, counts, error"


def upgrade() -> None:
    """Bring a database of version 0001 to this one, with all that is in it."""
    op.execute("DROP VIEW IF EXISTS open_gaps")  # made anew once the tables are there
    _ledger()
    _schedules()
    _feeds()
    _withdrawals()
    op.add_column("policies", sa.Column("planned_until", Instant))
    op.add_column("models", sa.Column("fields", Json))
    op.add_column("scores", sa.Column("in_sample", sa.Boolean))


def downgrade() -> None:
    """A database is not taken back: restore the copy made before the upgrade."""
    raise NotImplementedError("0002 cannot be taken back: restore the copy made before the upgrade")


def _ledger() -> None:
    """`due` became `pending`; a failed entry knows when it may be tried again."""
    op.create_table(
        "ledger_2",
        sa.Column("policy", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("window_start", Instant, primary_key=True),
        sa.Column("window_end", Instant, primary_key=True),
        sa.Column("due_at", Instant, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("not_before", Instant),
        sa.Column("finished_at", Instant),
        sa.Column("run_id", sa.Integer),
        sa.Column("counts", Json),
        sa.Column("error", sa.Text),
        sa.CheckConstraint("kind IN ('score', 'train', 'drift', 'prune')"),
        sa.CheckConstraint("status IN ('pending', 'running', 'done', 'failed')"),
    )
    op.execute(
        f"INSERT INTO ledger_2 ({LEDGER}, status) "
        f"SELECT {LEDGER}, CASE status WHEN 'due' THEN 'pending' ELSE status END FROM ledger"
    )
    op.drop_table("ledger")
    op.rename_table("ledger_2", "ledger")
    op.create_index("ledger_open", "ledger", ["policy", "status", "window_end"])


def _schedules() -> None:
    op.create_table(
        "schedules",
        sa.Column("policy", sa.Text, primary_key=True),
        sa.Column("effective_from", Instant, primary_key=True),
        sa.Column("window", sa.BigInteger, nullable=False),
        sa.Column("every", sa.BigInteger, nullable=False),
        sa.Column("timezone", sa.Text, nullable=False),
        sa.Column("decided_at", Instant, nullable=False),
    )


def _feeds() -> None:
    op.create_table(
        "source_cursors",
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("cursor", sa.Text, nullable=False),
        sa.Column("read_at", Instant, nullable=False),
        sa.Column("batch_id", sa.Integer),
    )
    op.create_table(
        "watched_files",
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("path", sa.Text, primary_key=True),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("modified_ns", sa.BigInteger, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("seen_at", Instant, nullable=False),
        sa.Column("batch_id", sa.Integer),
        sa.Column("error", sa.Text),
        sa.CheckConstraint("status IN ('done', 'failed')"),
    )


def _withdrawals() -> None:
    op.create_table(
        "withdrawals",
        sa.Column("withdrawal_id", sa.Integer, primary_key=True),
        sa.Column("object", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column(BY, sa.Text, nullable=False),
        sa.Column("at", Instant, nullable=False),
        sa.Column("counts", Json),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "withdrawn_rows",
        sa.Column("withdrawal_id", sa.Integer, nullable=False),
        sa.Column("table_name", sa.Text, nullable=False),
        sa.Column("transaction_id", IdText),
        sa.Column("row", Json, nullable=False),
    )
    op.create_index("withdrawn_rows_by_withdrawal", "withdrawn_rows", ["withdrawal_id", "table_name"])
    op.create_index("withdrawn_rows_by_transaction", "withdrawn_rows", ["transaction_id"])
