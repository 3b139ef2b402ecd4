"""
Whether hashed values have a display form, a fact of the database: `monitor.hash_displays`.

A database that holds rows keeps its bare hashes, since nobody can compute the display forms of values that are only
known as hashes; with other hashes, every card would begin a second history. A new database has display forms, and its
first migration has created the column already.
"""

import sqlalchemy as sa
from alembic import op

revision = "0201"
down_revision = "0200"


def upgrade() -> None:
    """Add the column."""
    connection = op.get_bind()
    if "hash_displays" in {column["name"] for column in sa.inspect(connection).get_columns("monitor")}:
        return
    op.add_column(
        "monitor", sa.Column("hash_displays", sa.Boolean, nullable=False, server_default=sa.false())
    )
    op.execute("UPDATE monitor SET hash_displays = TRUE WHERE NOT EXISTS (SELECT 1 FROM batches)")


def downgrade() -> None:
    """Go back to a schema without display forms."""
    op.drop_column("monitor", "hash_displays")
