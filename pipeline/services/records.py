"""Typed results made of database rows, and amounts of money."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any, TypeVar

from storage.queries.rows import MONEY_STEP

Record = TypeVar("Record")
CENT = Decimal("0.01")


@dataclass(frozen=True)
class Amount:
    """An exact amount of money in a currency (ISO 4217)."""

    value: Decimal
    currency: str


def as_amount(value: float | Decimal, currency: str) -> Amount:
    """An exact amount with two decimals, or with as many as it needs; of a float at most four."""
    exact = value if isinstance(value, Decimal) else Decimal(repr(value)).quantize(MONEY_STEP)
    cents = exact.quantize(CENT)
    return Amount(cents if cents == exact else exact.normalize(), currency)


def as_record(kind: type[Record], row: Mapping[str, Any], **others: Any) -> Record:
    """
    A frozen dataclass from the values of a row with the same names; lists become tuples.

    Parameters
    ----------
    others
        Values of fields that the row does not hold as they are.
    """
    values = {field.name: row[field.name] for field in fields(kind) if field.name not in others}  # type: ignore[arg-type]
    tuples = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return kind(**tuples, **others)
