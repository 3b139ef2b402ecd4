"""
Disputes, verdicts with their actions, expected losses, the entity that cases are counted by, and checks of limits.

`labels` and `flags` are written anew on SQLite, which cannot change a constraint. The first migration has created
everything already in a database that is new.
"""

import sqlalchemy as sa
from alembic import op

from storage.database import views
from storage.database.migrations.rewriting import rewrite
from storage.database.tables import LABEL_RETRACTIONS, LABELS_ONCE, flags, labels, limit_checks, verdicts

revision = "0203"
down_revision = "0202"

ADDED = ("type", "reason", "stage", "amount", "retracts", "bulk_id")
# Labels without a batch are verdicts; their notes are in the audit trail.
EARLIER_VERDICTS = """
    INSERT INTO verdicts (transaction_id, verdict, action, label_id, at, "by")
    SELECT transaction_id, CASE WHEN is_fraud THEN 'fraud' ELSE 'genuine' END, 'none', label_id, recorded_at, "by"
    FROM labels WHERE batch_id IS NULL ORDER BY label_id"""
STATUS = "status IN ('open', 'fraud', 'genuine', 'closed', 'expired')"


def upgrade() -> None:
    """Add the columns and the tables."""
    connection = op.get_bind()
    if "reason" in {column["name"] for column in sa.inspect(connection).get_columns("labels")}:
        return
    for name in views.NAMES:  # `init` creates them again
        connection.execute(sa.text(f"DROP VIEW IF EXISTS {name}"))
    op.add_column("scores", sa.Column("expected_loss", sa.Double))
    op.add_column("monitor", sa.Column("case_entity", sa.Text))
    verdicts.create(connection)
    limit_checks.create(connection)
    if connection.dialect.name == "postgresql":
        _change_on_postgres(connection)
    else:
        rewrite(connection, labels)
        rewrite(connection, flags)
    connection.execute(sa.text(EARLIER_VERDICTS))


def downgrade() -> None:
    """There is no way back: older versions cannot say what a dispute is."""
    raise NotImplementedError("0203 cannot be undone: disputes would become labels")


def _change_on_postgres(connection: sa.Connection) -> None:
    for name in ADDED:
        column = labels.c[name]
        op.add_column("labels", sa.Column(name, column.type))
    connection.execute(sa.text("ALTER TABLE labels ALTER COLUMN is_fraud DROP NOT NULL"))
    connection.execute(sa.text("ALTER TABLE labels DROP CONSTRAINT labels_once"))
    connection.execute(
        sa.text("ALTER TABLE labels ADD CHECK (stage IN ('inquiry', 'dispute', 'won', 'lost'))")
    )
    connection.execute(
        sa.text(
            "ALTER TABLE labels ADD CONSTRAINT labels_retraction CHECK (retracts IS NULL OR is_fraud IS NULL)"
        )
    )
    LABELS_ONCE.create(connection)
    LABEL_RETRACTIONS.create(connection)
    connection.execute(sa.text("ALTER TABLE flags DROP CONSTRAINT flags_status_check"))
    connection.execute(sa.text(f"ALTER TABLE flags ADD CHECK ({STATUS})"))
