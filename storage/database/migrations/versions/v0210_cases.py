"""
The cases of the queue, with the flags that they have, and filters under names.

The first migration has created the tables already in a database that is new.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.schema import CreateIndex

from storage.database.cases import rebuild_cases, stored_entity
from storage.database.tables import case_counts, cases, flags, saved_filters

revision = "0210"
down_revision = "0208"
INDEXES = [index for index in flags.indexes if index.name in ("flags_by_case", "flags_by_transaction")]


def upgrade() -> None:
    """Add the tables and the column, and fill them from the flags."""
    connection = op.get_bind()
    for table in (cases, case_counts, saved_filters):
        table.create(connection, checkfirst=True)
    if "case_id" in {column["name"] for column in sa.inspect(connection).get_columns("flags")}:
        return
    op.add_column("flags", sa.Column("case_id", flags.c.case_id.type))
    for index in INDEXES:
        connection.execute(CreateIndex(index, if_not_exists=True))
    rebuild_cases(connection, stored_entity(connection))


def downgrade() -> None:
    """Remove them."""
    connection = op.get_bind()
    for index in INDEXES:
        index.drop(connection)
    op.drop_column("flags", "case_id")
    for table in (saved_filters, case_counts, cases):
        table.drop(connection)
