"""
Claims of steps, states of a tick's parts, holds, and a chained audit trail.

`runs` is written anew on SQLite, which cannot change a constraint. The first migration has created everything already in a
database that is new.
"""

import sqlalchemy as sa
from alembic import op

from storage.database import views
from storage.database.migrations.rewriting import rewrite
from storage.database.tables import audit, holds, ledger, monitor, runs, tick_steps

revision = "0204"
down_revision = "0203"

STATUS = "status IN ('running', 'done', 'failed', 'interrupted')"


def upgrade() -> None:
    """Add the columns and the tables."""
    connection = op.get_bind()
    if "readable_from" in {column["name"] for column in sa.inspect(connection).get_columns("monitor")}:
        return
    for name in views.NAMES:  # `init` creates them again
        connection.execute(sa.text(f"DROP VIEW IF EXISTS {name}"))
    for table, names in (
        (monitor, ("readable_from", "hash_key_check", "overwrite_since")),
        (audit, ("os_user", "database_user", "content_hash", "hash", "redacted_by", "salt")),
    ):
        for name in names:
            op.add_column(table.name, sa.Column(name, table.c[name].type))
    op.add_column(ledger.name, sa.Column("worker", sa.Text))
    op.add_column("watched_files", sa.Column("config_hash", sa.Text))
    op.add_column(ledger.name, sa.Column("token", sa.Integer, nullable=False, server_default="0"))
    # Claims know nothing of the processes of an older version, which have ended before the upgrade.
    connection.execute(sa.text("UPDATE ledger SET status = 'pending' WHERE status = 'running'"))
    tick_steps.create(connection)
    holds.create(connection)
    if connection.dialect.name == "postgresql":
        op.add_column("runs", sa.Column("worker", sa.Text))
        connection.execute(sa.text("ALTER TABLE runs DROP CONSTRAINT runs_status_check"))
        connection.execute(sa.text(f"ALTER TABLE runs ADD CHECK ({STATUS})"))
    else:
        rewrite(connection, runs)
    connection.execute(sa.text("UPDATE runs SET status = 'interrupted' WHERE status = 'running'"))


def downgrade() -> None:
    """There is no way back: an older version would take no notice of holds and claims."""
    raise NotImplementedError("0204 cannot be undone: an older version would take no notice of holds")
