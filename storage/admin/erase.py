"""Erasing a person: pseudonyms replace the values of entities in every column that may hold them."""

import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, or_, select, update

from storage.admin import holds
from storage.admin.overwrite import mark, overwrite
from storage.admin.personal_rows import PersonalRow, PersonValue, mine, personal_rows
from storage.database.database import Store
from storage.errors import Unknown
from storage.review.audit_trail import redact, write_audit

PREFIX = "erased-"


@dataclass(frozen=True)
class ErasedValue:
    """The column of a value, and what stands in its place now."""

    column: str
    pseudonym: str


@dataclass(frozen=True)
class Erasure:
    """
    The values that were erased, and the number of changed rows by table.

    Attributes
    ----------
    overwritten
        False if another program kept the old bytes in an SQLite file from being overwritten.
    ids
        Number of payments whose id has one of the values in it: ids stay.
    """

    values: tuple[ErasedValue, ...]
    counts: Mapping[str, int]
    overwritten: bool = True
    ids: int = 0


def erase(store: Store, values: Sequence[PersonValue], actor: str, now: int) -> Erasure:
    """
    Replace the values of a person by random pseudonyms, in one transaction.

    All rows get the same pseudonym, so counts and histories stay the same. No column stores the original value in any
    form: in fields of its own it is replaced whole, in sentences (errors, reasons, notes, messages) where it is a whole word,
    unless it is a number of fewer than `DIGITS_MIN` digits. Redacted rows of the audit trail say by which row.
    On SQLite the file is written anew, since indexes may keep bytes of cells that they moved earlier.

    Raises
    ------
    Unknown
        No stored row holds the first value; nothing was erased.
    Refused
        A hold keeps one of the values.
    """
    named = [(value, PREFIX + secrets.token_hex(8)) for value in values]
    with store.write_exclusive() as connection:
        holds.refuse_on_hold(connection, values, now)
        ids = sum(_ids(connection, store, value) for value in values)
        found = list(personal_rows(connection, store, named))
        counts = Counter(row.table.name for row in found)
        for table in (store.transactions, store.revisions):
            for value, pseudonym in named:
                changed = connection.execute(
                    update(table).where(mine(table, value)).values({value.column: pseudonym})
                )
                counts[table.name] += changed.rowcount
        if not counts.total():
            raise Unknown(
                f"no stored row has that {values[0].column}, so nothing was erased", code="unknown_entity"
            )
        subject = ", ".join(f"{value.column} {pseudonym}" for value, pseudonym in named)
        entry = write_audit(connection, actor, "erase", subject, None, dict(counts), now)
        for row in found:
            _replace(connection, row, entry)
        mark(connection, now)
    erased = tuple(ErasedValue(value.column, pseudonym) for value, pseudonym in named)
    return Erasure(erased, dict(counts), overwrite(store), ids)


def _replace(connection: Connection, row: PersonalRow, entry: int) -> None:
    if row.table.name == "audit":
        content = {name: row.changes.get(name, row.before[name]) for name in ("before", "after")}
        redact(connection, row.key[0], content["before"], content["after"], entry)
        return
    connection.execute(update(row.table).where(row.matching).values(dict(row.changes)))


def _ids(connection: Connection, store: Store, value: PersonValue) -> int:
    """Number of transactions whose id has the value in it."""
    t = store.transactions.c
    parts = [part for spelling in value.spellings for part in spelling.parts if not part.startswith("\\")]
    if not parts:
        return 0
    candidates = connection.scalars(
        select(t.transaction_id).where(
            or_(*(func.lower(t.transaction_id).contains(p, autoescape=True) for p in parts))
        )
    )
    return sum(any(spelling.pattern.search(name) for spelling in value.spellings) for name in candidates)
