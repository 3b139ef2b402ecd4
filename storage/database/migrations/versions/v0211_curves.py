"""
The precision-recall curves of comparisons.

The first migration has created the column already in a database that is new.
"""

import sqlalchemy as sa
from alembic import op

from storage.database.tables import comparisons

revision = "0211"
down_revision = "0210"


def upgrade() -> None:
    """Add the column; comparisons from before have no curves."""
    if "curves" not in {column["name"] for column in sa.inspect(op.get_bind()).get_columns("comparisons")}:
        op.add_column("comparisons", sa.Column("curves", comparisons.c.curves.type))


def downgrade() -> None:
    """Remove it."""
    op.drop_column("comparisons", "curves")
