"""What a generated file is, and the truth about every row of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal


@dataclass(frozen=True)
class Payment:
    """
    What the database must say of one payment of a file.

    Attributes
    ----------
    transaction_id
        As text; None if the file has no id.
    event_time
        With its offset from UTC.
    amount
        In units of its currency.
    entities
        Column of the file → value; columns that are empty in this row are left out.
    is_fraud
        None if nothing says so.
    known_at
        When that became known; None if the file does not say.
    """

    transaction_id: str | None
    event_time: datetime
    amount: Decimal
    entities: Mapping[str, str]
    currency: str = "EUR"
    is_fraud: bool | None = None
    known_at: datetime | None = None


@dataclass(frozen=True)
class Refund:
    """What the database must say of one refund of a file of events."""

    transaction_id: str
    original_id: str
    event_time: datetime
    amount: Decimal


@dataclass(frozen=True)
class Dispute:
    """What `labels` must say of one event of a dispute; `is_fraud` and type are None where it changes no label."""

    transaction_id: str
    known_at: datetime
    stage: str
    amount: Decimal
    is_fraud: bool | None
    type: str | None


@dataclass(frozen=True)
class Layout:
    """
    A file as people have it, and what must come of it.

    Attributes
    ----------
    columns
        All columns of the file, by their names in it.
    roles
        Key of [schema] → column of the file. A role that is not named here must stay empty.
    entities
        Columns that must be entities.
    hashed
        Columns that must be stored as hashes only, if at all.
    payers
        Names of the same people: exactly one of them must be an entity.
    not_entities
        Further names of somebody who is an entity already.
    never_fields
        Columns that no feature may come from: known only afterwards, clocks, secrets.
    unsettled
        Column → words for payments that did not happen (labels.never_by_silence).
    settings
        Key of [schema] or [format] that is no column → its value, after the answers.
    answers
        What a person who knows the file answers to a key marked "CHECK", by section and key.
    files
        Further files that the answers name, by name.
    refunds, disputes
        Of a file of events.
    final
        Id of a payment → its amount and word in its newest version, if that is not the first.
    revised
        How many rows are later versions.
    made
        Columns that are made from the events.
    events
        Key of [events] → its value.
    line_items, rejected
        How many rows are no payments of their own, and how many are set aside.
    """

    file_name: str
    content: bytes
    columns: tuple[str, ...]
    payments: tuple[Payment, ...]
    roles: Mapping[str, str]
    entities: frozenset[str]
    hashed: frozenset[str] = frozenset()
    payers: frozenset[str] = frozenset()
    not_entities: frozenset[str] = frozenset()
    never_fields: frozenset[str] = frozenset()
    unsettled: Mapping[str, frozenset[str]] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)
    answers: Mapping[str, object] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    refunds: tuple[Refund, ...] = ()
    disputes: tuple[Dispute, ...] = ()
    final: Mapping[str, tuple[Decimal, str]] = field(default_factory=dict)
    revised: int = 0
    made: frozenset[str] = frozenset()
    events: Mapping[str, object] = field(default_factory=dict)
    line_items: int = 0
    rejected: int = 0

    @property
    def read(self) -> int:
        """How many rows ingest counts."""
        return len(self.payments) + self.line_items + self.rejected
