"""
An index of the labels that say fraud, by which features find the known frauds of a long span.

The first migration has created it already in a database that is new.
"""

from alembic import op
from sqlalchemy.schema import CreateIndex

from storage.database.tables import LABELS_OF_FRAUD

revision = "0205"
down_revision = "0204"


def upgrade() -> None:
    """Add the index."""
    op.get_bind().execute(CreateIndex(LABELS_OF_FRAUD, if_not_exists=True))


def downgrade() -> None:
    """Remove the index."""
    LABELS_OF_FRAUD.drop(op.get_bind())
