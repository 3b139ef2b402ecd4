"""Typed results made of database rows, and amounts of money."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from functools import cache
from typing import Any, TypeVar

from storage.database.column_types import exact_money

Record = TypeVar("Record")


@dataclass(frozen=True)
class Amount:
    """An exact amount of money in a currency (ISO 4217)."""

    value: Decimal
    currency: str


def as_amount(value: float | Decimal, currency: str) -> Amount:
    """An exact amount with two decimals, or with as many as it needs."""
    return Amount(exact_money(value), currency)


def as_record(kind: type[Record], row: Mapping[str, Any], **others: Any) -> Record:
    """
    A frozen dataclass from the values of a row with the same names; lists become tuples.

    Parameters
    ----------
    others
        Values of fields that the row does not hold as they are.
    """
    values = {name: row[name] for name in _names(kind) if name not in others}  # type: ignore[arg-type]
    tuples = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return kind(**tuples, **others)


@cache
def _names(kind: type[Any]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))
