"""Quality is measured by window, model and channel, as a step of the ledger."""

import sqlalchemy as sa
from alembic import op

from storage.database.column_types import Instant, Json

revision = "0006"
down_revision = "0005"

LEDGER = "policy, kind, window_start, window_end, due_at, status, attempts, not_before, finished_at, run_id, counts, error"
QUALITY = "policy, window_start, metric, kind, value, lower, upper, n, run_id"


def upgrade() -> None:
    """Bring a database of version 0005 to this one, with all that is in it."""
    op.execute("DROP VIEW IF EXISTS open_gaps")  # made anew once the tables are there
    _ledger()
    _quality()
    op.create_index("labels_by_known_at", "labels", ["known_at"])
    op.create_index("labels_by_batch", "labels", ["batch_id"])


def downgrade() -> None:
    """A database is not taken back: restore the copy made before the upgrade."""
    raise NotImplementedError("0006 cannot be taken back: restore the copy made before the upgrade")


def _ledger() -> None:
    """A kind more: `quality`."""
    op.create_table(
        "ledger_6",
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
        sa.CheckConstraint("kind IN ('score', 'train', 'drift', 'quality', 'prune')"),
        sa.CheckConstraint("status IN ('pending', 'running', 'done', 'failed')"),
    )
    op.execute(f"INSERT INTO ledger_6 ({LEDGER}) SELECT {LEDGER} FROM ledger")
    op.drop_table("ledger")
    op.rename_table("ledger_6", "ledger")
    op.create_index("ledger_open", "ledger", ["policy", "status", "window_end"])


def _quality() -> None:
    """No release wrote the table; what somebody put there is kept, for all models and channels."""
    op.create_table(
        "quality_metrics_6",
        sa.Column("policy", sa.Text, primary_key=True),
        sa.Column("window_start", Instant, primary_key=True),
        sa.Column("window_end", Instant, primary_key=True),
        sa.Column("model_id", sa.Integer, primary_key=True),
        sa.Column("channel", sa.Text, primary_key=True),
        sa.Column("metric", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("value", sa.Double),
        sa.Column("lower", sa.Double),
        sa.Column("upper", sa.Double),
        sa.Column("alarm_below", sa.Double),
        sa.Column("alarm_above", sa.Double),
        sa.Column("n", sa.Integer, nullable=False),
        sa.Column("alarm", sa.Boolean, nullable=False),
        sa.Column("said", sa.Text),
        sa.Column("as_of", Instant),
        sa.Column("run_id", sa.Integer),
        sa.CheckConstraint("kind IN ('estimated', 'realised')"),
    )
    op.execute(
        f"INSERT INTO quality_metrics_6 ({QUALITY}, window_end, model_id, channel, alarm) "
        f"SELECT {QUALITY}, window_start, 0, '', FALSE FROM quality_metrics"
    )
    op.drop_table("quality_metrics")
    op.rename_table("quality_metrics_6", "quality_metrics")
    op.create_index(
        "quality_metrics_by_measure", "quality_metrics", ["policy", "metric", "kind", "window_start"]
    )
