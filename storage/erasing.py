"""Making a person who asks unrecognisable, in every table that may hold their value."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, Text, and_, cast, select, text, update

from storage import schema
from storage.errors import Unknown
from storage.reviews import write_audit
from storage.store import Store

PREFIX = "erased-"
JSON_PLACES = (
    (schema.flags, "reasons"), (schema.withdrawn_rows, "row"), (schema.withdrawals, "counts"),
    (schema.audit, "before"), (schema.audit, "after"), (schema.runs, "counts"), (schema.ledger, "counts"),
)  # fmt: skip
TEXT_PLACES = (
    (schema.rejected_rows, "row"), (schema.rejected_rows, "reason"), (schema.runs, "error"),
    (schema.ledger, "error"), (schema.withdrawals, "reason"), (schema.watched_files, "error"),
)  # fmt: skip


@dataclass(frozen=True)
class Erasure:
    """What stands now for the person, and where it was put."""

    column: str
    pseudonym: str
    counts: Mapping[str, int]

    def sentence(self) -> str:
        """For the one who asked; it does not repeat the value."""
        told = ", ".join(f"{n:,} in {table}" for table, n in self.counts.items() if n)
        return f"{self.column}: the value is {self.pseudonym} now ({told})"


def erase(store: Store, column: str, value: str, actor: str, now: int) -> Erasure:
    """
    Put a random pseudonym in place of an entity's value, in one transaction.

    Rows keep their pseudonym in common, so counts and histories stay what they were. No table keeps the way back.
    On SQLite the old bytes are overwritten, in the file and in its log.

    Raises
    ------
    Unknown
        No stored row holds this value.
    """
    pseudonym = PREFIX + secrets.token_hex(8)
    with store.exclusive() as connection:
        if store.dialect == "sqlite":
            connection.execute(text("PRAGMA secure_delete = ON"))
        counts = {}
        for table in (store.transactions, store.revisions):
            place = table.c[column]
            changed = connection.execute(update(table).where(place == value).values({column: pseudonym}))
            counts[table.name] = changed.rowcount
        for table, name in (*JSON_PLACES, *TEXT_PLACES):
            found = _replace(connection, table, name, value, pseudonym)
            counts[table.name] = counts.get(table.name, 0) + found
        if not any(counts.values()):
            raise Unknown(f"no stored row has that {column}: nothing was erased")
        write_audit(connection, actor, "erase", f"{column} {pseudonym}", None, counts, now)
    if store.dialect == "sqlite":
        with store.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    return Erasure(column, pseudonym, counts)


def _replace(connection: Connection, table: Table, name: str, value: str, pseudonym: str) -> int:
    """Look at rows whose text holds the value, change those in which it is a value of its own."""
    needle = json.dumps(value, ensure_ascii=False)[1:-1]
    like = f"%{needle.replace('!', '!!').replace('%', '!%').replace('_', '!_')}%"
    key = list(table.primary_key) or [table.c.withdrawal_id, table.c.table_name, table.c.transaction_id]
    holds = cast(table.c[name], Text).like(like, escape="!")
    changed = 0
    for row in connection.execute(select(*key, table.c[name].label("held")).where(holds)).all():
        fresh = _in_json(row.held, value, pseudonym)
        if fresh != row.held:
            this = and_(*(column.is_not_distinct_from(row[place]) for place, column in enumerate(key)))
            same = this if table.primary_key else and_(this, cast(table.c[name], Text).like(like, escape="!"))
            changed += connection.execute(update(table).where(same).values({name: fresh})).rowcount
    return changed


def _in_json(held: Any, value: str, pseudonym: str) -> Any:
    if isinstance(held, dict):
        return {key: _in_json(item, value, pseudonym) for key, item in held.items()}
    if isinstance(held, list):
        return [_in_json(item, value, pseudonym) for item in held]
    if isinstance(held, str):
        return _in_text(held, value, pseudonym)
    return pseudonym if str(held) == value and not isinstance(held, bool) and held is not None else held


def _in_text(held: str | None, value: str, pseudonym: str) -> str | None:
    """Whole words only: erasing 12 leaves 1234 alone."""
    if held is None:
        return None
    escaped = json.dumps(value, ensure_ascii=False)[1:-1]
    for one in dict.fromkeys((value, escaped)):
        held = _words(held, one, pseudonym)
    return held


def _words(held: str, value: str, pseudonym: str) -> str:
    parts, at = [], 0
    while (found := held.find(value, at)) >= 0:
        end = found + len(value)
        alone = not _joins(held[found - 1 : found]) and not _joins(held[end : end + 1])
        parts += [held[at:found], pseudonym if alone else value]
        at = end
    return "".join([*parts, held[at:]])


def _joins(character: str) -> bool:
    return character.isalnum() or character == "_"
