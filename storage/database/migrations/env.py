"""Run by Alembic on the connection that `storage.setup` hands over, inside its transaction."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], version_table="schema_version")
context.run_migrations()
