"""Look into a store, and change it, by SQL."""

import json
from typing import Any

from sqlalchemy import text

from storage.database.cases import rebuild_cases
from storage.database.database import Store

SCORES = (
    "SELECT transaction_id, score, outlier_score, fraud_probability, decision_value, threshold, channel, flagged, expected_loss "
    "FROM scores ORDER BY transaction_id"
)
# Only the schedule lets open flags expire, so a flag that has expired is one that a backfill leaves open.
FLAGS = (
    "SELECT transaction_id, channel, reasons, CASE WHEN status = 'expired' THEN 'open' ELSE status END, reviewer "
    "FROM flags ORDER BY transaction_id"
)
RUN_TABLES = (  # what runs write
    "scores",
    "flags",
    "ledger",
    "promotions",
    "promotion_checks",
    "models",
    "choices",
)


def query(store: Store, sql: str) -> list[tuple[Any, ...]]:
    """Rows of a query; a JSON list comes as text from both engines."""
    with store.read() as connection:
        return [
            tuple(json.dumps(value) if isinstance(value, list) else value for value in row)
            for row in connection.execute(text(sql))
        ]


def count(store: Store, table: str) -> int:
    """The number of rows of a table."""
    return int(query(store, f"SELECT COUNT(*) FROM {table}")[0][0])


def execute(store: Store, *statements: str, **parameters: object) -> None:
    """Statements in one write; each takes those of the parameters that it names."""
    with store.write() as connection:
        for sql in statements:
            named = {name: value for name, value in parameters.items() if f":{name}" in sql}
            connection.execute(text(sql), named)


def change_flags(store: Store, *statements: str, **parameters: object) -> None:
    """Statements that change flags, after which their cases are computed anew."""
    execute(store, *statements, **parameters)
    with store.write() as connection:
        rebuild_cases(connection, store.fields.case_entity)


def forget(store: Store, *tables: str) -> None:
    """Take everything out of these tables; `scores WHERE flagged` takes out some of it."""
    execute(store, *(f"DELETE FROM {table}" for table in tables))
