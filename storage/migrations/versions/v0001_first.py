"""The first schema: every system table, `transactions` and `revisions` without configured fields."""

from alembic import op

from storage.schema import Fields, metadata, revisions_table, transactions_table

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables of version 0001; later versions alter them and leave this file as it is."""
    bind = op.get_bind()
    metadata.create_all(bind, checkfirst=False)
    transactions_table(Fields()).create(bind)
    revisions_table(Fields()).create(bind)


def downgrade() -> None:
    """There is nothing before the first version."""
    raise NotImplementedError("0001 is the first schema version")
