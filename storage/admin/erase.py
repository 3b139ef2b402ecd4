"""Making a person who asks unrecognisable, in every table that may hold their value."""

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
TELLING_LENGTH = 6  # digits; a shorter number is too often something else to be replaced inside a sentence
ROWS = ((tables.rejected_rows, "row"), (tables.withdrawn_rows, "row"))
TEXTS = (
    (tables.rejected_rows, "reason"), (tables.runs, "error"), (tables.ledger, "error"),
    (tables.withdrawals, "reason"), (tables.watched_files, "error"),
    (tables.audit, "before"), (tables.audit, "after"), (tables.mutes, "reason"), (tables.rules, "reason"),
    (tables.outbox, "subject"), (tables.outbox, "body"), (tables.outbox, "error"),
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
    In rows that were set aside or withdrawn the value goes from its own column; in sentences (errors, reasons,
    notes) it goes where it stands as a word, unless it is a number of fewer than `TELLING_LENGTH` digits.
    On SQLite the old bytes are overwritten, in the file and in its log.

    Raises
    ------
    Unknown
        No stored row holds this value.
    """
    person = _Person(column, value, PREFIX + secrets.token_hex(8))
    with store.exclusive() as connection:
        if store.dialect == "sqlite":
            connection.execute(text("PRAGMA secure_delete = ON"))
        counts = {}
        for table in (store.transactions, store.revisions):
            place = table.c[column]
            changed = connection.execute(
                update(table).where(place == value).values({column: person.pseudonym})
            )
            counts[table.name] = changed.rowcount
        counts |= _decisions(connection, person)
        for places, fresh in ((ROWS, person.in_row), (TEXTS, person.in_text)):
            for table, name in places:
                found = _rewrite(connection, table, name, value, fresh)
                counts[table.name] = counts.get(table.name, 0) + found
        if not any(counts.values()):
            raise Unknown(f"no stored row has that {column}: nothing was erased")
        write_audit(connection, actor, "erase", f"{column} {person.pseudonym}", None, counts, now)
    if store.dialect == "sqlite":
        with store.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    return Erasure(column, person.pseudonym, counts)


def _decisions(connection: Connection, person: "_Person") -> dict[str, int]:
    """Mutes of the person, and rules that name them: their values are told apart by quotes, however short."""
    m, r = tables.mutes.c, tables.rules.c
    mine = (m.kind == "entity") & (m.name == person.column) & (m.value == person.value)
    muted = connection.execute(update(tables.mutes).where(mine).values(value=person.pseudonym)).rowcount
    old, new = (json.dumps(value, ensure_ascii=False) for value in (person.value, person.pseudonym))
    named = 0
    for row in connection.execute(select(r.rule_id, r.text)).all():
        if old in row.text:
            fresh = update(tables.rules).where(r.rule_id == row.rule_id)
            connection.execute(fresh.values(text=row.text.replace(old, new)))
            named += 1
    told = 0
    f = tables.flags.c
    for flag in connection.execute(
        select(f.policy, f.transaction_id, f.reasons).where(f.channel == "rule")
    ).all():
        if old in flag.reasons[0]["text"]:
            first = flag.reasons[0] | {"text": flag.reasons[0]["text"].replace(old, new)}
            this = (f.policy == flag.policy) & (f.transaction_id == flag.transaction_id)
            connection.execute(update(tables.flags).where(this).values(reasons=[first, *flag.reasons[1:]]))
            told += 1
    return {"mutes": muted, "rules": named, "flags": told}


def _rewrite(connection: Connection, table: Table, name: str, value: str, fresh: Callable[[Any], Any]) -> int:
    """Look at the rows whose text holds the value, and write what `fresh` makes of them where it differs."""
    needle = json.dumps(value, ensure_ascii=False)[1:-1]
    like = f"%{needle.replace('!', '!!').replace('%', '!%').replace('_', '!_')}%"
    key = list(table.primary_key) or [table.c.withdrawal_id, table.c.table_name, table.c.transaction_id]
    raw = cast(table.c[name], Text)
    holding = select(*key, table.c[name].label("held"), raw.label("raw")).where(raw.like(like, escape="!"))
    changed = 0
    for row in connection.execute(holding.distinct() if not table.primary_key else holding).all():
        new = fresh(row.held)
        if new != row.held:
            this = and_(*(column.is_not_distinct_from(row[place]) for place, column in enumerate(key)))
            write = update(table).where(this, raw == row.raw).values({name: new})
            changed += connection.execute(write).rowcount
    return changed


@dataclass(frozen=True)
class _Person:
    """Whose value goes, and what takes its place."""

    column: str
    value: str
    pseudonym: str

    def in_row(self, held: Any) -> Any:
        """A row, as an object or as the text of one, in which the column has the value; or a line of a file."""
        if isinstance(held, str):
            row = json.loads(held)
            fresh = self.in_row(row)
            return held if fresh == row else json.dumps(fresh, ensure_ascii=False)
        mine = held.get(self.column)
        if mine is not None and not isinstance(mine, bool) and str(mine).strip() == self.value:
            return held | {self.column: self.pseudonym}
        if held.keys() == {"line"}:  # could not be split into columns
            return {"line": self._words(held["line"])}
        return held

    def in_text(self, held: Any) -> Any:
        """A sentence, or the sentences inside an object; numbers are no sentences."""
        if isinstance(held, dict):
            return {key: self.in_text(item) for key, item in held.items()}
        if isinstance(held, list):
            return [self.in_text(item) for item in held]
        if not isinstance(held, str) or (self.value.isdigit() and len(self.value) < TELLING_LENGTH):
            return held
        return self._words(held)

    def _words(self, held: str) -> str:
        """Whole words only: erasing 12 leaves 1234 alone."""
        parts, at = [], 0
        while (found := held.find(self.value, at)) >= 0:
            end = found + len(self.value)
            alone = not _joins(held[found - 1 : found]) and not _joins(held[end : end + 1])
            parts += [held[at:found], self.pseudonym if alone else self.value]
            at = end
        return "".join([*parts, held[at:]])


def _joins(character: str) -> bool:
    return character.isalnum() or character == "_"
