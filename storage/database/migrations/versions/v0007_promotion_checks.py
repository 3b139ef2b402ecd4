"""What each new model was worth against the one in force is kept."""

import sqlalchemy as sa
from alembic import op

from storage.database.column_types import Instant

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Bring a database of version 0006 to this one, with all that is in it."""
    op.create_table(
        "promotion_checks",
        sa.Column("policy", sa.Text, primary_key=True),
        sa.Column("model_id", sa.Integer, sa.ForeignKey("models.model_id"), primary_key=True),
        sa.Column("training_date", Instant, nullable=False),
        sa.Column("against", sa.Integer),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.Column("rule", sa.Text, nullable=False),
        sa.Column("sentence", sa.Text, nullable=False),
        sa.Column("window_start", Instant),
        sa.Column("window_end", Instant),
        sa.Column("transactions", sa.Integer),
        sa.Column("frauds", sa.Integer),
        sa.Column("effective_frauds", sa.Double),
        sa.Column("ap", sa.Double),
        sa.Column("ap_in_force", sa.Double),
        sa.Column("ap_difference", sa.Double),
        sa.Column("ap_lower", sa.Double),
        sa.Column("ap_upper", sa.Double),
        sa.Column("cost", sa.Double),
        sa.Column("cost_in_force", sa.Double),
        sa.Column("cost_difference", sa.Double),
        sa.Column("cost_lower", sa.Double),
        sa.Column("cost_upper", sa.Double),
        sa.Column("run_id", sa.Integer),
        sa.CheckConstraint("verdict IN ('promoted', 'refused')"),
    )
    op.create_index("promotion_checks_by_date", "promotion_checks", ["policy", "training_date"])


def downgrade() -> None:
    """A database is not taken back: restore the copy made before the upgrade."""
    raise NotImplementedError("0007 cannot be taken back: restore the copy made before the upgrade")
