"""
Payments that are scored as they arrive: when each arrived, which promotion was the newest then, and the runs that score them.

The first migration has created the columns already in a database that is new.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

from storage.database.column_types import Instant
from storage.database.migrations.rewriting import rewrite
from storage.database.tables import runs

revision = "0208"
down_revision = "0207"

COLUMNS: dict[str, tuple[sa.Column[Any], ...]] = {
    "batches": (sa.Column("on_arrival", sa.Boolean, nullable=False, server_default=sa.text("false")),),
    "transactions": (sa.Column("arrived_at", Instant), sa.Column("arrived_promotion", sa.Integer)),
}


def upgrade() -> None:
    """Add the columns, and a kind of run."""
    connection = op.get_bind()
    if "on_arrival" in {column["name"] for column in sa.inspect(connection).get_columns("batches")}:
        return
    for table, columns in COLUMNS.items():
        for column in columns:
            op.add_column(table, column)
    if connection.dialect.name == "postgresql":
        kinds = ", ".join(f"'{kind}'" for kind in ("schedule", "backfill", "manual", "arrival", "train"))
        connection.execute(sa.text("ALTER TABLE runs DROP CONSTRAINT runs_kind_check"))
        connection.execute(sa.text(f"ALTER TABLE runs ADD CHECK (kind IN ({kinds}))"))
    else:
        rewrite(connection, runs)


def downgrade() -> None:
    """There is no way back: older versions do not know when a payment arrived, and would compute other features of it."""
    raise NotImplementedError("0208 cannot be undone: payments would lose when they arrived")
