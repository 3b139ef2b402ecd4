"""Messages that wait to be sent, mutes, and rules of people's own."""

import sqlalchemy as sa
from alembic import op

from storage.database.column_types import IdText, Instant, Json
from storage.database.tables import BY

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Bring a database of the version before to this one, with all that is in it."""
    op.add_column("flags", sa.Column("muted_by", sa.Integer))
    op.add_column("monitor", sa.Column("notify_since", Instant))
    op.create_table(
        "untold_flags",
        sa.Column("policy", sa.Text, primary_key=True),
        sa.Column("transaction_id", IdText, primary_key=True),
        sqlite_with_rowid=False,
    )
    _outbox()
    _decisions_of_people()


def _outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("message_id", sa.Integer, primary_key=True),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("target", sa.Integer, nullable=False),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("due_at", Instant, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("sent_at", Instant),
        sa.Column("merged_into", sa.Integer),
        sa.Column("error", sa.Text),
        sa.CheckConstraint("status IN ('pending', 'sending', 'sent', 'merged', 'failed', 'dropped')"),
        sa.UniqueConstraint("key", "target", name="outbox_once"),
        sqlite_autoincrement=True,
    )
    op.create_index("outbox_by_status", "outbox", ["status", "target", "sent_at"])


def _decisions_of_people() -> None:
    op.create_table(
        "mutes",
        sa.Column("mute_id", sa.Integer, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("value", sa.Text),
        sa.Column("reason", sa.Text, nullable=False),
        *_lifetime(),
        sa.CheckConstraint("kind IN ('entity', 'feature', 'channel')"),
        sa.CheckConstraint("(kind = 'entity') = (value IS NOT NULL)", name="mutes_value"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "rules",
        sa.Column("rule_id", sa.Integer, primary_key=True),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("fields", Json, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        *_lifetime(),
        sqlite_autoincrement=True,
    )


def _lifetime() -> "list[sa.Column[str] | sa.Column[int]]":
    return [
        sa.Column(BY, sa.Text, nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("effective_from", Instant, nullable=False),
        sa.Column("until", Instant, nullable=False),
        sa.Column("ended_at", Instant),
        sa.Column("ended_by", sa.Text),
    ]


def downgrade() -> None:
    """A database is not taken back: restore the copy made before the upgrade."""
    raise NotImplementedError("0004 cannot be taken back: restore the copy made before the upgrade")
