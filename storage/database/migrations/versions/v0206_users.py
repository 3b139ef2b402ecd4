"""
Users, their sessions, tokens, log-ins and approvals.

The first migration has created them already in a database that is new.
"""

from alembic import op

from storage.database.tables import (
    api_tokens,
    approvals,
    log_in_attempts,
    user_sessions,
    users,
    web_keys,
)

revision = "0206"
down_revision = "0205"
TABLES = (users, user_sessions, api_tokens, log_in_attempts, approvals, web_keys)


def upgrade() -> None:
    """Add the tables."""
    for table in TABLES:
        table.create(op.get_bind(), checkfirst=True)


def downgrade() -> None:
    """Remove them."""
    for table in reversed(TABLES):
        table.drop(op.get_bind())
