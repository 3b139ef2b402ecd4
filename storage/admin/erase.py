"""Erasing a person: a pseudonym replaces the value of an entity in every table that may contain it."""

import json
import re
import secrets
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, Text, and_, cast, func, or_, select, text, update

from storage.database import tables
from storage.database.database import Store
from storage.errors import Unknown
from storage.review.audit_trail import write_audit

PREFIX = "erased-"
DIGITS_MIN = 6  # a number with fewer digits is too often something else to be replaced inside a sentence
ROWS = ((tables.rejected_rows, "row"), (tables.waiting_rows, "row"), (tables.withdrawn_rows, "row"))
TEXTS = (
    (tables.rejected_rows, "reason"), (tables.labels, "reason"), (tables.runs, "error"), (tables.ledger, "error"),
    (tables.withdrawals, "reason"), (tables.watched_files, "error"),
    (tables.audit, "before"), (tables.audit, "after"), (tables.mutes, "reason"), (tables.rules, "reason"),
    (tables.verdicts, "note"), (tables.outbox, "subject"), (tables.outbox, "body"), (tables.outbox, "error"),
)  # fmt: skip


@dataclass(frozen=True)
class Spelling:
    """How people write a value in sentences: an expression, and a part in lower case that every spelling has."""

    pattern: re.Pattern[str]
    part: str


@dataclass(frozen=True)
class Erasure:
    """
    The pseudonym of an erased value, and the number of changed rows by table.

    Attributes
    ----------
    overwritten
        False if another program kept the old bytes in an SQLite file from being overwritten.
    """

    column: str
    pseudonym: str
    counts: Mapping[str, int]
    overwritten: bool = True


def erase(
    store: Store, column: str, value: str, actor: str, now: int, spelling: Spelling | None = None
) -> Erasure:
    """
    Replace an entity's value by a random pseudonym, in one transaction.

    All rows get the same pseudonym, so counts and histories stay the same. No table stores the original value.
    In rejected and withdrawn rows the value is replaced in its own column; in sentences (errors, reasons, notes) it
    is replaced where it is a whole word, unless it is a number of fewer than `DIGITS_MIN` digits.
    On SQLite the file is written anew, since indexes may keep bytes of cells that they moved earlier.

    Parameters
    ----------
    value
        As it is stored.
    spelling
        How sentences may have it, besides as it is stored.

    Raises
    ------
    Unknown
        No stored row holds this value.
    """
    person = _Person(column, value, PREFIX + secrets.token_hex(8), spelling)
    with store.write_exclusive() as connection:
        if store.dialect == "sqlite":
            connection.execute(text("PRAGMA secure_delete = ON"))  # in case that `_overwrite` cannot
        counts = {}
        for table in (store.transactions, store.revisions):
            field = table.c[column]
            changed = connection.execute(
                update(table).where(field == value).values({column: person.pseudonym})
            )
            counts[table.name] = changed.rowcount
        counts |= _decisions(connection, person)
        for columns, parts, replace in (
            (ROWS, [_part(value)], person.in_row),
            (TEXTS, [_part(value), *([spelling.part] if spelling else [])], person.in_text),
        ):
            for table, name in columns:
                n = _rewrite(connection, table, name, parts, replace)
                counts[table.name] = counts.get(table.name, 0) + n
        if not any(counts.values()):
            raise Unknown(f"no stored row has that {column}, so nothing was erased", code="unknown_entity")
        write_audit(connection, actor, "erase", f"{column} {person.pseudonym}", None, counts, now)
    overwritten = store.dialect != "sqlite" or _overwrite(store)
    return Erasure(column, person.pseudonym, counts, overwritten)


def _overwrite(store: Store) -> bool:
    """Write an SQLite file anew and empty its log; returns False if another program uses it meanwhile."""
    try:
        with closing(store.engine.raw_connection()) as connection, closing(connection.cursor()) as cursor:
            cursor.execute("VACUUM")
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            outcome = cursor.fetchone()  # whether a reader or writer was in the way, and two counts
            return outcome is not None and not outcome[0]
    except sqlite3.OperationalError:
        return False


def _decisions(connection: Connection, person: "_Person") -> dict[str, int]:
    """Mutes and limits of the person, and rules that name them; rules quote values, so short ones are replaced, too."""
    m, r = tables.mutes.c, tables.rules.c
    mine = (m.kind == "entity") & (m.name == person.column) & (m.value == person.value)
    muted = connection.execute(update(tables.mutes).where(mine).values(value=person.pseudonym)).rowcount
    c = tables.limit_checks.c
    theirs = (c.field == person.column) & (c.value == person.value)
    checks = connection.execute(update(tables.limit_checks).where(theirs).values(value=person.pseudonym))
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
    return {"mutes": muted, "rules": named, "flags": flagged, "limit_checks": checks.rowcount}


def _part(value: str) -> str:
    """A value as it is inside JSON, in lower case."""
    return json.dumps(value, ensure_ascii=False)[1:-1].lower()


def _rewrite(
    connection: Connection, table: Table, name: str, parts: Sequence[str], replace: Callable[[Any], Any]
) -> int:
    """Apply `replace` to the column in all rows that contain one of the parts; returns the number of changed rows."""
    key = list(table.primary_key) or [table.c.withdrawal_id, table.c.table_name, table.c.transaction_id]
    raw = cast(table.c[name], Text)
    contains = or_(*(func.lower(raw).contains(part, autoescape=True) for part in parts))
    rows = select(*key, table.c[name].label("content"), raw.label("raw")).where(contains)
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
    """The value to erase, its column, the pseudonym that replaces it, and how sentences may have it."""

    column: str
    value: str
    pseudonym: str
    spelling: Spelling | None = None

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
        if not isinstance(content, str):
            return content
        if not (self.value.isdigit() and len(self.value) < DIGITS_MIN):
            content = self._replace_words(content)
        return content if self.spelling is None else self.spelling.pattern.sub(self.pseudonym, content)

    def _replace_words(self, text: str) -> str:
        """Replace whole words only: erasing 12 leaves 1234 alone."""
        return re.sub(rf"(?<!\w){re.escape(self.value)}(?!\w)", self.pseudonym, text)
