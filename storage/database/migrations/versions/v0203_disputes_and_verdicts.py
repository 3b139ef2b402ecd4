"""
Disputes, verdicts with their actions, expected losses, the entity that cases are counted by, and checks of limits.

`labels` and `flags` are written anew on SQLite, which cannot change a constraint. The first migration has created
everything already in a database that is new.
"""

import sqlalchemy as sa
from alembic import op

from storage.database import views
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
        _rewrite(connection, labels)
        _rewrite(connection, flags)
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


def _rewrite(connection: sa.Connection, table: sa.Table) -> None:
    """Write a table anew as it is defined now, with its rows; ids that were used once stay used."""
    before = f"{table.name}_before"
    for index in sa.inspect(connection).get_indexes(table.name):
        if not str(index["name"]).startswith("sqlite_autoindex"):
            connection.execute(sa.text(f"DROP INDEX {index['name']}"))
    present = [column["name"] for column in sa.inspect(connection).get_columns(table.name)]
    connection.execute(sa.text(f"ALTER TABLE {table.name} RENAME TO {before}"))
    table.create(connection)
    listed = ", ".join(f'"{name}"' for name in present)
    connection.execute(sa.text(f"INSERT INTO {table.name} ({listed}) SELECT {listed} FROM {before}"))
    if table.dialect_options["sqlite"]["autoincrement"]:
        connection.execute(sa.text(f"DELETE FROM sqlite_sequence WHERE name = '{table.name}'"))
        connection.execute(
            sa.text(f"UPDATE sqlite_sequence SET name = '{table.name}' WHERE name = '{before}'")
        )
    connection.execute(sa.text(f"DROP TABLE {before}"))
