"""
Notes, claims, answers by Idempotency-Key, and the orders of flags.

The first migration has created them already in a database that is new.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.schema import CreateIndex

from storage.database.tables import FLAG_ORDERS, claims, flags, idempotency_keys, notes

revision = "0207"
down_revision = "0206"
TABLES = (notes, claims, idempotency_keys)
COPY = """
    UPDATE flags SET loss_order = COALESCE(s.expected_loss, -1.0), score = s.score, event_time = t.event_time,
                     amount_base = t.amount_base
    FROM scores s, transactions t
    WHERE s.policy = flags.policy AND s.transaction_id = flags.transaction_id AND t.transaction_id = flags.transaction_id"""
COLUMNS = ("loss_order", "score", "event_time", "amount_base")


def upgrade() -> None:
    """Add the tables, the columns and their indexes."""
    connection = op.get_bind()
    for table in TABLES:
        table.create(connection, checkfirst=True)
    present = {column["name"] for column in sa.inspect(connection).get_columns("flags")}
    for name in COLUMNS:
        if name not in present:
            op.add_column("flags", sa.Column(name, flags.c[name].type))
    if not present.issuperset(COLUMNS):
        connection.execute(sa.text(COPY))
    for index in FLAG_ORDERS:
        connection.execute(CreateIndex(index, if_not_exists=True))


def downgrade() -> None:
    """Remove them."""
    for index in FLAG_ORDERS:
        index.drop(op.get_bind())
    for name in COLUMNS:
        op.drop_column("flags", name)
    for table in reversed(TABLES):
        table.drop(op.get_bind())
