"""Alembic runs this file on the connection of `storage.database.setup`, inside its transaction."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], version_table="schema_version")
context.run_migrations()
