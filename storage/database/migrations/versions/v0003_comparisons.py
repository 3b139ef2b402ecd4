"""Comparisons of techniques are kept, and what was found before each training."""

import sqlalchemy as sa
from alembic import op

from storage.database.column_types import Instant, Json
from storage.database.tables import BY

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Bring a database of version 0002 to this one, with all that is in it."""
    op.create_table(
        "comparisons",
        sa.Column("comparison_id", sa.Integer, primary_key=True),
        sa.Column("at", Instant, nullable=False),
        sa.Column(BY, sa.Text, nullable=False),
        sa.Column("config_text", sa.Text, nullable=False),
        sa.Column("settings", Json, nullable=False),
        sa.Column("folds", Json, nullable=False),
        sa.Column("notes", Json, nullable=False),
        sa.Column("sentence", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "comparison_results",
        sa.Column("comparison_id", sa.Integer, sa.ForeignKey("comparisons.comparison_id"), primary_key=True),
        sa.Column("technique", sa.Text, primary_key=True),
        sa.Column("measure", sa.Text, primary_key=True),
        sa.Column("place", sa.Integer, nullable=False),
        sa.Column("value", sa.Double),
        sa.Column("lower", sa.Double),
        sa.Column("upper", sa.Double),
    )
    op.create_table(
        "readiness",
        sa.Column("policy", sa.Text, primary_key=True),
        sa.Column("training_date", Instant, primary_key=True),
        sa.Column("place", sa.Integer, primary_key=True),
        sa.Column("level", sa.Text, nullable=False),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("said", sa.Text, nullable=False),
        sa.Column("remedy", sa.Text, nullable=False),
        sa.Column("numbers", Json, nullable=False),
        sa.Column("run_id", sa.Integer),
        sa.CheckConstraint("level IN ('error', 'warning', 'hint')"),
    )


def downgrade() -> None:
    """A database is not taken back: restore the copy made before the upgrade."""
    raise NotImplementedError("0003 cannot be taken back: restore the copy made before the upgrade")
