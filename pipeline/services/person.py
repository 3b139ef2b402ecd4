"""A person: the values that stand for them, what is stored of them, and erasing it."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from pipeline.hashing import STORED
from pipeline.services.entities import entity_filter
from pipeline.services.session import Session
from pipeline.written_forms import display_pattern, hash_forms, written_forms
from storage.admin import erase as erasing
from storage.admin import person
from storage.admin.erase import Erasure
from storage.admin.personal_rows import DIGITS_MIN, PersonValue, Spelling
from storage.database.column_types import as_datetime

__all__ = [
    "HASH",
    "OTHERS_MAX",
    "EntityValue",
    "Erasure",
    "LinkedValue",
    "PersonExport",
    "PersonSummary",
    "erase",
    "export",
    "linked_values",
    "summarise",
]

HASH = re.compile(r"[0-9a-f]{64}")
OTHERS_MAX = 2  # others that may share a value which is proposed: a family's card, not a merchant


@dataclass(frozen=True)
class EntityValue:
    """A value of an entity column, as people know it."""

    column: str
    value: str


@dataclass(frozen=True)
class LinkedValue:
    """
    A value of another entity on payments of a person.

    Attributes
    ----------
    value
        As it is stored.
    payments
        Number of payments of both.
    others
        Number of others that share it, at most 1,000.
    proposed
        Whether it is likely to be the person's own.
    """

    column: str
    value: str
    payments: int
    others: int
    proposed: bool


@dataclass(frozen=True)
class PersonSummary:
    """Number of rows that hold something of a person, by table, and values that may be theirs, too."""

    counts: Mapping[str, int]
    links: tuple[LinkedValue, ...]


@dataclass(frozen=True)
class PersonExport:
    """Number of rows that hold something of a person, by table, and all of them as JSON in UTF-8."""

    counts: Mapping[str, int]
    document: bytes


def summarise(session: Session, values: Sequence[EntityValue]) -> PersonSummary:
    """
    Count what is stored of a person, and propose values of other entities that share their payments.

    Raises
    ------
    InputError
        A column is none of `schema.entities`.
    """
    stored = _stored(session, values)
    rows = person.person_rows(session.store, stored)
    return PersonSummary({table: len(found) for table, found in rows.items()}, _links(session, stored))


def linked_values(session: Session, values: Sequence[EntityValue]) -> tuple[LinkedValue, ...]:
    """
    Values of other entities on payments of the first value, without those that are given, the most payments first.

    Raises
    ------
    InputError
        A column is none of `schema.entities`.
    """
    return _links(session, _stored(session, values))


def export(session: Session, values: Sequence[EntityValue]) -> PersonExport:
    """
    Everything that is stored of a person, with payments' scores, flags, labels and verdicts.

    Raises
    ------
    InputError
        A column is none of `schema.entities`.
    """
    stored = _stored(session, values)
    rows = person.person_rows(session.store, stored)
    document = {
        "monitor": session.config.monitor.name,
        "exported_at": as_datetime(session.now),
        "values": [{"column": value.column, "value": value.stored} for value in stored],
        "tables": rows,
    }
    text = json.dumps(document, ensure_ascii=False, indent=2, default=_as_json)
    return PersonExport({table: len(found) for table, found in rows.items()}, text.encode())


def _as_json(value: object) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)


def erase(session: Session, values: Sequence[EntityValue]) -> Erasure:
    """
    Replace the values of a person by random pseudonyms in every table, in sentences however they are written.

    Raises
    ------
    InputError
        A column is none of `schema.entities`.
    Unknown
        No stored row holds any of the values.
    Refused
        A hold keeps one of them.
    """
    return erasing.erase(session.store, _stored(session, values), session.actor, session.now)


def _links(session: Session, stored: Sequence[PersonValue]) -> tuple[LinkedValue, ...]:
    found = person.links(session.store, stored)
    return tuple(
        LinkedValue(link.column, link.value, link.payments, link.others, link.others <= OTHERS_MAX)
        for link in found
    )


def _stored(session: Session, values: Sequence[EntityValue]) -> list[PersonValue]:
    return [_person_value(session, value.column, value.value.strip()) for value in dict.fromkeys(values)]


def _person_value(session: Session, column: str, typed: str) -> PersonValue:
    hashed = column in session.config.schema_.hash
    is_hash = hashed and _is_hash(session, column, typed)
    stored = typed if is_hash else entity_filter(session, column, typed)
    spellings = [hash_forms(stored)] if hashed else []
    in_words = not typed.isdigit() or len(typed) >= DIGITS_MIN
    if in_words and not is_hash:
        spellings.append(written_forms(typed))
    display = display_pattern(stored) if hashed else None
    return PersonValue(column, stored, tuple(Spelling(*forms) for forms in spellings), display)


def _is_hash(session: Session, column: str, typed: str) -> bool:
    """Whether a value is typed as it is stored, as proposals show it: with its display form, or as a hash alone."""
    if STORED.fullmatch(typed):
        return True
    return bool(HASH.fullmatch(typed)) and person.is_stored(session.store, column, typed)
