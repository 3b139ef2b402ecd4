"""Drift tells effect, interval, pooled windows and what it could not say; small windows keep their counts."""

import sqlalchemy as sa
from alembic import op

from storage.database.column_types import Instant, Json

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Bring a database of version 0004 to this one, with all that is in it."""
    for name in ("effect", "lower", "upper", "p_value"):
        op.add_column("drift_metrics", sa.Column(name, sa.Double))
    op.add_column("drift_metrics", sa.Column("pooled", sa.Integer, nullable=False, server_default="1"))
    op.add_column("drift_metrics", sa.Column("why", sa.Text))
    op.add_column("drift_metrics", sa.Column("detail", Json))
    op.create_table(
        "drift_sketches",
        sa.Column("policy", sa.Text, primary_key=True),
        sa.Column("window_start", Instant, primary_key=True),
        sa.Column("window_end", Instant, primary_key=True),
        sa.Column("model_id", sa.Integer, nullable=False),
        sa.Column("n", sa.Integer, nullable=False),
        sa.Column("sketch", sa.LargeBinary, nullable=False),
        sa.Column("run_id", sa.Integer, nullable=False),
    )


def downgrade() -> None:
    """A database is not taken back: restore the copy made before the upgrade."""
    raise NotImplementedError("0005 cannot be taken back: restore the copy made before the upgrade")
