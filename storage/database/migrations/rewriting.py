"""Changing constraints on SQLite, which cannot: the table is written anew."""

import sqlalchemy as sa


def rewrite(connection: sa.Connection, table: sa.Table) -> None:
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
