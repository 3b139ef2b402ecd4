"""Finds the rows that hold a value of a person, in every form that `storage.database.personal_columns` declares."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, Text, and_, cast, func, or_, select

from storage.database.database import Store
from storage.database.personal_columns import CANNOT, NAMED_BY, ROWS_OF, Form, all_tables, personal_columns
from storage.database.tables import Fields

DIGITS_MIN = 6  # a number with fewer digits is too often something else to be replaced inside a sentence
FIELD_MIN = 6  # a shorter value is too often a category to be replaced in another field


@dataclass(frozen=True)
class Spelling:
    """How text may have a value: an expression, and parts in lower case, one of which each form has; no parts for any text."""

    pattern: re.Pattern[str]
    parts: tuple[str, ...]


@dataclass(frozen=True)
class PersonValue:
    """
    A value of a person.

    Attributes
    ----------
    column, stored
        An entity column, and the value as that column has it.
    spellings
        How text may have it; none of a number that is too short.
    display
        How a hashed value is shown without its hash, which stands for many values; None without one.
    """

    column: str
    stored: str
    spellings: tuple[Spelling, ...] = ()
    display: re.Pattern[str] | None = None


@dataclass(frozen=True)
class PersonalRow:
    """A row with a value of the person: its key, its personal columns as they are, and those that change with their new content."""

    table: Table
    key: tuple[Any, ...]
    before: Mapping[str, Any]
    changes: Mapping[str, Any]

    @property
    def matching(self) -> ColumnElement[bool]:
        """The condition of the row."""
        columns = key_columns(self.table)
        same = [column.is_not_distinct_from(value) for column, value in zip(columns, self.key, strict=True)]
        if not self.table.primary_key:
            same += [_raw(self.table, name) == self.before[f"raw {name}"] for name in self.changes]
        return and_(*same)


def personal_rows(
    connection: Connection, store: Store, values: Sequence[tuple[PersonValue, str]]
) -> Iterator[PersonalRow]:
    """
    Rows of all tables but `transactions` and `revisions` with a value of the person in some form, and fields of those two that name it.

    Parameters
    ----------
    values
        Each value of the person with what is to stand in its place.
    """
    person = _Person(store.fields, values, _ids(connection, store, values))
    for table in all_tables(store.fields):
        forms: Mapping[str, Form] = personal_columns(store.fields, table.name)
        if table.name in ("transactions", "revisions"):  # an entity's own column has an index
            forms = {name: form for name, form in forms.items() if form != "own"}
        if not any(value.spellings for value, _ in values):  # short numbers: sentences stay
            forms = {name: form for name, form in forms.items() if form != "text"}
        if forms:
            yield from _of_table(connection, table, forms, person)


def key_columns(table: Table) -> list[Any]:
    """The primary key, or the columns by which rows without one are found."""
    return list(table.primary_key) or [table.c.withdrawal_id, table.c.table_name, table.c.transaction_id]


def mine(table: Table, value: PersonValue) -> ColumnElement[bool]:
    """The condition of transactions or revisions of the value."""
    return table.c[value.column] == value.stored


def _raw(table: Table, name: str) -> ColumnElement[str]:
    return cast(table.c[name], Text)


def _ids(connection: Connection, store: Store, values: Sequence[tuple[PersonValue, str]]) -> frozenset[str]:
    """The ids of payments of values that messages show by their display form; only for those they are looked up."""
    shown = [mine(store.transactions, value) for value, _ in values if value.display is not None]
    ids = select(store.transactions.c.transaction_id).where(or_(*shown)) if shown else None
    return frozenset() if ids is None else frozenset(connection.scalars(ids))


def _of_table(
    connection: Connection, table: Table, forms: Mapping[str, Form], person: "_Person"
) -> Iterator[PersonalRow]:
    key, naming = key_columns(table), NAMED_BY.get(table.name)
    columns = [table.c[name] for name in forms]
    raws = [_raw(table, name).label(f"raw {name}") for name in forms] if not table.primary_key else []
    others = [table.c[naming].label("naming")] if naming else []
    query = select(*[c.label(f"key {n}") for n, c in enumerate(key)], *columns, *raws, *others)
    if (parts := person.parts()) is not None:
        query = query.where(
            or_(
                *(
                    func.lower(_raw(table, name)).contains(part, autoescape=True)
                    for name in forms
                    for part in parts
                )
            )
        )
    for row in connection.execute(query.distinct() if raws else query).mappings().all():
        new = {
            name: person.without(row[name], form, table.name, row.get("naming"))
            for name, form in forms.items()
        }
        changes = {name: content for name, content in new.items() if content != row[name]}
        if changes:
            yield PersonalRow(table, tuple(row[f"key {n}"] for n in range(len(key))), dict(row), changes)


class _Person:
    """The values of a person, and what is to stand in their place."""

    def __init__(
        self, fields: Fields, values: Sequence[tuple[PersonValue, str]], ids: frozenset[str]
    ) -> None:
        self._fields, self._values, self._ids = fields, values, ids

    def parts(self) -> list[str] | None:
        """Parts in lower case, one of which each form of a value has; None if any text may have one."""
        parts = set[str]()
        for value, _ in self._values:
            if any(not spelling.parts for spelling in value.spellings):
                return None
            parts |= {part for spelling in value.spellings for part in spelling.parts}
            runs = re.findall(r"[A-Za-z0-9]+", value.stored)
            if not runs:
                return None
            parts.add(max(runs, key=len).lower())
            if value.display is not None:  # what a display form has of the value, is in what is stored
                parts |= {
                    run.lower() for run in re.findall(r"[A-Za-z0-9]+", value.stored.partition(" · ")[0])
                }
        return sorted(parts)

    def without(self, content: Any, form: Form, table: str, naming: Any) -> Any:
        """The content of a column without the values."""
        if content is None:
            return None
        if form == "own":
            return self._own(naming, content)
        if form == "value":
            own = self._own(naming, content)
            return own if own != content else self._in_text(content, FIELD_MIN)
        if form == "row":
            return self._in_row(content, ROWS_OF[table] or str(naming))
        least = FIELD_MIN if table in ("transactions", "revisions") else 0
        return self._in_text(content, least, rule=form == "rule")

    def _own(self, column: Any, content: Any) -> Any:
        for value, pseudonym in self._values:
            same = not isinstance(content, bool) and str(content).strip() == value.stored
            if column == value.column and same:
                return pseudonym
        return content

    def _in_row(self, content: Any, table: str) -> Any:
        """A row as an object, or as JSON text; a raw line of a file has the key "line"."""
        if isinstance(content, str):
            row = json.loads(content)
            replaced = self._in_row(row, table)
            return content if replaced == row else json.dumps(replaced, ensure_ascii=False)
        forms = personal_columns(self._fields, table)
        kept = CANNOT.get(table, ())
        return {
            name: item
            if item is None or name in kept
            else self._own(name, item)
            if (form := forms.get(name, "text")) == "own"
            else self.without(item, form, table, content.get(NAMED_BY.get(table, "")))
            for name, item in content.items()
        }

    def _in_text(self, content: Any, least: int, *, rule: bool = False) -> Any:
        """Replace the values in a sentence, or in all sentences inside an object; numbers stay."""
        if isinstance(content, Mapping):
            return {key: self._in_text(item, least, rule=rule) for key, item in content.items()}
        if isinstance(content, list):
            return [self._in_text(item, least, rule=rule) for item in content]
        if not isinstance(content, str):
            return content
        for value, pseudonym in self._values:
            if rule:
                old, new = (json.dumps(text, ensure_ascii=False) for text in (value.stored, pseudonym))
                content = content.replace(old, new)
            if len(value.stored) < least:
                continue
            for spelling in value.spellings:
                content = spelling.pattern.sub(pseudonym, content)
            if value.display is not None and not self._ids.isdisjoint(content.split()):
                content = value.display.sub(pseudonym, content)
        return content
