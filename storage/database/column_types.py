"""
Column types for instants, money and JSON on both engines.

An instant is an int of µs since 1970-01-01 UTC in Python and `timestamptz` on Postgres. On SQLite, which has no such
type, it is the text `2026-03-01 06:00:00.000000`: readable, and of fixed width, so that text order is time order.
Money is an int of 1/10,000 in arrays; a single value is read as a float.
"""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
from sqlalchemy import Float, Numeric, Text
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

from storage.frames import Ints

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EPOCH_OF_TEXT = EPOCH.replace(tzinfo=None)
MICROSECOND = timedelta(microseconds=1)
INSTANT_WIDTH = 26  # characters of 2026-03-01 06:00:00.000000
POSTGRES = "postgresql"
MONEY_STEP = Decimal("0.0001")  # the database keeps four decimals in the base currency
CENT = Decimal("0.01")

# Ids are compared by code point on both engines, so that ORDER BY gives the same order everywhere.
IdText = Text().with_variant(postgresql.TEXT(collation="C"), POSTGRES)


class Instant(TypeDecorator[int]):
    """An instant, int µs in Python."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """`timestamptz` on Postgres, text on SQLite."""
        if dialect.name == POSTGRES:
            return dialect.type_descriptor(postgresql.TIMESTAMP(timezone=True))
        return dialect.type_descriptor(Text())

    def process_bind_param(self, value: int | None, dialect: Dialect) -> Any:
        """Int µs → the engine's value."""
        if value is None:
            return None
        moment = as_datetime(int(value))
        return moment if dialect.name == POSTGRES else moment.isoformat(" ", "microseconds")[:INSTANT_WIDTH]

    def process_result_value(self, value: Any, dialect: Dialect) -> int | None:  # noqa: ARG002
        """The engine's value → int µs."""
        if value is None:
            return None
        if isinstance(value, str):
            return (datetime.fromisoformat(value) - EPOCH_OF_TEXT) // MICROSECOND
        return as_micros(value)


class Money(TypeDecorator[float]):
    """An amount with four decimals: NUMERIC(20, 4), or REAL on SQLite, which has no decimals."""

    impl = Float
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """NUMERIC on Postgres, which is exact; REAL on SQLite."""
        if dialect.name == POSTGRES:
            return dialect.type_descriptor(Numeric(20, 4, asdecimal=False))
        return dialect.type_descriptor(Float())


class CurrencyAmount(TypeDecorator[float]):
    """An amount in a currency of its own, unrounded: 0.00003 BTC is money, too. NUMERIC, or REAL on SQLite."""

    impl = Float
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """NUMERIC of any scale on Postgres; REAL on SQLite."""
        if dialect.name == POSTGRES:
            return dialect.type_descriptor(Numeric(asdecimal=False))
        return dialect.type_descriptor(Float())


class Json(TypeDecorator[Any]):
    """Objects and lists: JSONB on Postgres, text on SQLite. NaN, which JSON does not have, becomes null."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """JSONB on Postgres, so that analysts can query its fields."""
        if dialect.name == POSTGRES:
            return dialect.type_descriptor(postgresql.JSONB(none_as_null=True))
        return dialect.type_descriptor(Text())

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """Text must be JSON already; anything else is converted with `plain` first."""
        if value is None:
            return None
        plain_value = json.loads(value) if isinstance(value, str) else plain(value)
        return plain_value if dialect.name == POSTGRES else json.dumps(plain_value, ensure_ascii=False)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002
        """JSON text → objects."""
        return json.loads(value) if isinstance(value, str) else value


def plain(value: Any) -> Any:
    """Convert a value to types that JSON has: numpy numbers to Python's, mappings to dicts, NaN and ±∞ to None."""
    kind = type(value)  # of most values; the checks below take long
    if value is None or kind in (str, int, bool):
        return value
    if kind is dict:
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, str):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def exact_money(value: float | Decimal) -> Decimal:
    """An amount with two decimals, or with as many as it needs; of a float at most the four that the database keeps."""
    exact = value if isinstance(value, Decimal) else Decimal(repr(float(value))).quantize(MONEY_STEP)
    cents = exact.quantize(CENT)
    return cents if cents == exact else exact.normalize()


def as_datetime(instant: int) -> datetime:
    """Int µs → aware datetime; Python knows the years 1 to 9999."""
    return EPOCH + instant * MICROSECOND


def as_micros(moment: datetime) -> int:
    """Aware datetime → int µs, exactly."""
    return (moment - EPOCH) // MICROSECOND


def as_texts(instants: Ints) -> list[str]:
    """Instants → the text that SQLite stores."""
    texts = np.datetime_as_string(instants.astype("datetime64[us]"), unit="us").astype(f"U{INSTANT_WIDTH}")
    texts.view("U1").reshape(-1, INSTANT_WIDTH)[:, 10] = " "  # numpy writes a T there
    return texts.tolist()  # type: ignore[no-any-return]


def from_texts(texts: Sequence[str]) -> Ints:
    """The text that SQLite stores → int64 µs."""
    return np.array(texts, dtype="datetime64[us]").astype(np.int64)
