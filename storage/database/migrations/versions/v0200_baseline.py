"""
The schema of version 0.2.0: all tables, without the configured columns, and the views.

It creates the tables of `storage.database.tables`, so a later migration must first replace them here by the tables as
they are now: a new database runs this file and then the later ones.
"""

from alembic import op

from storage.database import views
from storage.database.tables import Fields, metadata, revisions_table, transactions_table

revision = "0200"
down_revision = None


def upgrade() -> None:
    """Create the tables and views in an empty database."""
    connection = op.get_bind()
    metadata.create_all(connection, checkfirst=False)
    for table in (transactions_table(Fields()), revisions_table(Fields())):
        table.create(connection)
    views.recreate(connection, Fields())


def downgrade() -> None:
    """There is no earlier schema."""
    raise NotImplementedError("0200 is the first schema version")
