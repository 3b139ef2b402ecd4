"""Erasing a person: a pseudonym replaces the value of an entity in every table that may contain it."""

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, Text, and_, cast, select, text, update

from storage.database import tables
from storage.database.database import Store
from storage.errors import Unknown
from storage.review.verdicts import write_audit

PREFIX = "erased-"
DIGITS_MIN = 6  # a number with fewer digits is too often something else to be replaced inside a sentence
ROWS = ((tables.rejected_rows, "row"), (tables.waiting_rows, "row"), (tables.withdrawn_rows, "row"))
TEXTS = (
    (tables.rejected_rows, "reason"), (tables.runs, "error"), (tables.ledger, "error"),
    (tables.withdrawals, "reason"), (tables.watched_files, "error"),
    (tables.audit, "before"), (tables.audit, "after"), (tables.mutes, "reason"), (tables.rules, "reason"),
    (tables.outbox, "subject"), (tables.outbox, "body"), (tables.outbox, "error"),
)  # fmt: skip


@dataclass(frozen=True)
class Erasure:
    """The pseudonym of an erased value, and the number of changed rows by table."""

    column: str
    pseudonym: str
    counts: Mapping[str, int]


def erase(store: Store, column: str, value: str, actor: str, now: int) -> Erasure:
    """
    Replace an entity's value by a random pseudonym, in one transaction.

    All rows get the same pseudonym, so counts and histories stay the same. No table stores the original value.
    In rejected and withdrawn rows the value is replaced in its own column; in sentences (errors, reasons, notes) it
    is replaced where it is a whole word, unless it is a number of fewer than `DIGITS_MIN` digits.
    On SQLite the old bytes are overwritten, in the file and in its log.

    Raises
    ------
    Unknown
        No stored row holds this value.
    """
    person = _Person(column, value, PREFIX + secrets.token_hex(8))
    with store.write_exclusive() as connection:
        if store.dialect == "sqlite":
            connection.execute(text("PRAGMA secure_delete = ON"))
        counts = {}
        for table in (store.transactions, store.revisions):
            field = table.c[column]
            changed = connection.execute(
                update(table).where(field == value).values({column: person.pseudonym})
            )
            counts[table.name] = changed.rowcount
        counts |= _decisions(connection, person)
        for columns, replace in ((ROWS, person.in_row), (TEXTS, person.in_text)):
            for table, name in columns:
                n = _rewrite(connection, table, name, value, replace)
                counts[table.name] = counts.get(table.name, 0) + n
        if not any(counts.values()):
            raise Unknown(f"no stored row has that {column}, so nothing was erased", code="unknown_entity")
        write_audit(connection, actor, "erase", f"{column} {person.pseudonym}", None, counts, now)
    if store.dialect == "sqlite":
        with store.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    return Erasure(column, person.pseudonym, counts)


def _decisions(connection: Connection, person: "_Person") -> dict[str, int]:
    """Mutes of the person, and rules that name them; values in rules are quoted, so short ones are replaced, too."""
    m, r = tables.mutes.c, tables.rules.c
    mine = (m.kind == "entity") & (m.name == person.column) & (m.value == person.value)
    muted = connection.execute(update(tables.mutes).where(mine).values(value=person.pseudonym)).rowcount
    old, new = (json.dumps(value, ensure_ascii=False) for value in (person.value, person.pseudonym))
    named = 0
    for row in connection.execute(select(r.rule_id, r.text)).all():
        if old in row.text:
            rule = update(tables.rules).where(r.rule_id == row.rule_id)
            connection.execute(rule.values(text=row.text.replace(old, new)))
            named += 1
    flagged = 0
    f = tables.flags.c
    for flag in connection.execute(
        select(f.policy, f.transaction_id, f.reasons).where(f.channel == "rule")
    ).all():
        if old in flag.reasons[0]["text"]:
            first = flag.reasons[0] | {"text": flag.reasons[0]["text"].replace(old, new)}
            matching = (f.policy == flag.policy) & (f.transaction_id == flag.transaction_id)
            connection.execute(
                update(tables.flags).where(matching).values(reasons=[first, *flag.reasons[1:]])
            )
            flagged += 1
    return {"mutes": muted, "rules": named, "flags": flagged}


def _rewrite(
    connection: Connection, table: Table, name: str, value: str, replace: Callable[[Any], Any]
) -> int:
    """Apply `replace` to the column in all rows that contain the value; returns the number of changed rows."""
    needle = json.dumps(value, ensure_ascii=False)[1:-1]
    like = f"%{needle.replace('!', '!!').replace('%', '!%').replace('_', '!_')}%"
    key = list(table.primary_key) or [table.c.withdrawal_id, table.c.table_name, table.c.transaction_id]
    raw = cast(table.c[name], Text)
    rows = select(*key, table.c[name].label("content"), raw.label("raw")).where(raw.like(like, escape="!"))
    changed = 0
    for row in connection.execute(rows.distinct() if not table.primary_key else rows).all():
        new = replace(row.content)
        if new != row.content:
            matching = and_(*(column.is_not_distinct_from(row[index]) for index, column in enumerate(key)))
            write = update(table).where(matching, raw == row.raw).values({name: new})
            changed += connection.execute(write).rowcount
    return changed


@dataclass(frozen=True)
class _Person:
    """The value to erase, its column, and the pseudonym that replaces it."""

    column: str
    value: str
    pseudonym: str

    def in_row(self, content: Any) -> Any:
        """Replace the value in its column of a row (an object, or one as JSON text), or in a raw line of a file."""
        if isinstance(content, str):
            row = json.loads(content)
            replaced = self.in_row(row)
            return content if replaced == row else json.dumps(replaced, ensure_ascii=False)
        mine = content.get(self.column)
        if mine is not None and not isinstance(mine, bool) and str(mine).strip() == self.value:
            return content | {self.column: self.pseudonym}
        if content.keys() == {"line"}:  # could not be split into columns
            return {"line": self._replace_words(content["line"])}
        return content

    def in_text(self, content: Any) -> Any:
        """Replace the value in a sentence, or in all sentences inside an object; numbers stay."""
        if isinstance(content, dict):
            return {key: self.in_text(item) for key, item in content.items()}
        if isinstance(content, list):
            return [self.in_text(item) for item in content]
        if not isinstance(content, str) or (self.value.isdigit() and len(self.value) < DIGITS_MIN):
            return content
        return self._replace_words(content)

    def _replace_words(self, text: str) -> str:
        """Replace whole words only: erasing 12 leaves 1234 alone."""
        parts, at = [], 0
        while (start := text.find(self.value, at)) >= 0:
            end = start + len(self.value)
            whole = not _is_word(text[start - 1 : start]) and not _is_word(text[end : end + 1])
            parts += [text[at:start], self.pseudonym if whole else self.value]
            at = end
        return "".join([*parts, text[at:]])


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"
