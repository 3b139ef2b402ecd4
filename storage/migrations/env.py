"""Run by Alembic on the connection that `storage.setup` hands over, inside its transaction."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    version_table="schema_version",
    transactional_ddl=True,  # SQLite, too, can take back a CREATE TABLE: a migration is in place whole or not at all
)
context.run_migrations()
