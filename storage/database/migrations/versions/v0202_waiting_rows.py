"""
Rates of currencies, and rows that wait for one: `currency_rates` and `waiting_rows`.

The first migration has created them already in a database that is new.
"""

from alembic import op

from storage.database.tables import currency_rates, metadata, waiting_rows

revision = "0202"
down_revision = "0201"


def upgrade() -> None:
    """Create the tables."""
    metadata.create_all(op.get_bind(), tables=[waiting_rows, currency_rates])


def downgrade() -> None:
    """Go back to a schema without them."""
    for table in (waiting_rows, currency_rates):
        op.drop_table(table.name)
