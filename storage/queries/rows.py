"""
How the read side returns rows: instants as aware datetimes, money as decimals, and long lists in keyset pages.

A keyset page continues after a row, not after a number of rows: it costs the same however far down the list it is, and
rows that arrive in the meantime neither repeat nor hide others.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from math import isfinite
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, Integer, RowMapping, Select, and_, literal, or_
from sqlalchemy.types import TypeEngine

from storage.database.column_types import MONEY_STEP, CurrencyAmount, Instant, Money, as_datetime, as_micros
from storage.database.database import Store
from storage.errors import BadPosition

Row = dict[str, Any]
Position = tuple[Any, ...]  # the values of a row's sort keys, which JSON can hold
ROWS_AT_ONCE = 5_000
MONEY_MAX = 10**15  # well within NUMERIC(20, 4)
EARLIEST, LATEST = as_micros(datetime.min.replace(tzinfo=UTC)), as_micros(datetime.max.replace(tzinfo=UTC))


@dataclass(frozen=True)
class SortKey:
    """A column to sort by, never NULL; the keys of a list together are unique."""

    column: ColumnElement[Any]
    descending: bool = False


@dataclass(frozen=True)
class RowPage:
    """Rows of a list, and the position after which the next page begins; None if this is the last page."""

    rows: list[Row]
    next_position: Position | None


def stream(store: Store, query: "Select[Any]") -> Iterator[Row]:
    """All rows of a query, read in parts; the caller may stop before the last one."""
    convert = row_converter(query)
    with store.read() as connection:
        result = connection.execution_options(yield_per=ROWS_AT_ONCE).execute(query)
        try:
            for part in result.mappings().partitions():
                yield from (convert(row) for row in part)
        finally:
            result.close()


def fetch_page(
    store: Store,
    query: "Select[Any]",
    keys: Sequence[SortKey],
    limit: int | None = None,
    after: Position | None = None,
) -> RowPage:
    """
    One page of a query without an order of its own.

    Parameters
    ----------
    keys
        The order of the list.
    limit
        Rows of the page, at least 1; None for all that are left.
    after
        The `next_position` of the page before; None for the first page.

    Raises
    ------
    BadPosition
        `after` cannot be a position of this list.
    """
    with store.read() as connection:
        return read_page(connection, query, keys, limit, after)


def read_page(
    connection: Connection,
    query: "Select[Any]",
    keys: Sequence[SortKey],
    limit: int | None = None,
    after: Position | None = None,
) -> RowPage:
    """The same inside a transaction."""
    ordered = query.add_columns(*(key.column.label(_key_name(place)) for place, key in enumerate(keys)))
    ordered = ordered.order_by(*(key.column.desc() if key.descending else key.column for key in keys))
    if after is not None:
        _check_position(keys, after)
        ordered = ordered.where(_is_after(keys, after))
    convert = row_converter(query)
    rows = connection.execute(ordered.limit(None if limit is None else limit + 1)).mappings().all()
    if limit is None or len(rows) <= limit:
        return RowPage([convert(row) for row in rows], None)
    position = tuple(rows[limit - 1][_key_name(place)] for place in range(len(keys)))
    return RowPage([convert(row) for row in rows[:limit]], position)


def read_rows(store: Store, query: "Select[Any]") -> list[Row]:
    """All rows of a query that has few of them."""
    return list(stream(store, query))


def rows_of(
    connection: Connection, query: "Select[Any]", parameters: Mapping[str, Any] | None = None
) -> list[Row]:
    """All rows of a query, read by a connection that reads more than this."""
    convert = row_converter(query)
    return [convert(row) for row in connection.execute(query, parameters).mappings()]


def _check_position(keys: Sequence[SortKey], after: Position) -> None:
    """A position comes back from outside, so it may be anything that JSON can hold."""
    if len(after) != len(keys) or not all(map(_can_be, (key.column.type for key in keys), after)):
        raise BadPosition(f"the list has no position {after}", remedy="begin again without one")


def _can_be(kind: TypeEngine[Any], value: Any) -> bool:
    """Whether a value can stand in a column of this type, on both engines."""
    if isinstance(value, str):
        storable = "\0" not in value and value.encode(errors="replace").decode() == value
        return storable and kind.python_type is str and not isinstance(kind, Instant)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return isinstance(value, bool) and kind.python_type is bool
    if isinstance(kind, Instant):
        return isinstance(value, int) and EARLIEST <= value <= LATEST
    if isinstance(kind, Integer):
        return isinstance(value, int) and abs(value) < (2**63 if isinstance(kind, BigInteger) else 2**31)
    if isinstance(kind, Money):
        return isinstance(value, float) and abs(value) <= MONEY_MAX
    return kind.python_type is float and isinstance(value, float) and isfinite(value)


def _key_name(place: int) -> str:
    return f"sort_key_{place}"


def _is_after(keys: Sequence[SortKey], after: Position) -> ColumnElement[bool]:
    """
    The rows after a position: those beyond it by the first key in which they differ.

    No database finds the begin of that in an index, but of its consequence, that the first key is not before its value.
    """
    values = [literal(value, key.column.type) for key, value in zip(keys, after, strict=True)]
    cases = []
    for place, (key, value) in enumerate(zip(keys, values, strict=True)):
        equal = [keys[before].column == values[before] for before in range(place)]
        cases.append(and_(*equal, key.column < value if key.descending else key.column > value))
    first, value = keys[0], values[0]
    return and_(first.column <= value if first.descending else first.column >= value, or_(*cases))


def exact_amount(value: float) -> Decimal:
    """Return an amount with four decimals, or with all of them if it has more, as 0.00003 BTC."""
    exact = Decimal(repr(value))
    rounded = exact.quantize(MONEY_STEP)
    return rounded if rounded == exact else exact


def row_converter(query: "Select[Any]") -> Callable[[RowMapping], Row]:
    """A function from a database row to a `Row`, by the types of the query's columns."""
    kinds = {str(column.key): column.type for column in query.selected_columns}
    instants = {name for name, kind in kinds.items() if isinstance(kind, Instant)}
    amounts = {name for name, kind in kinds.items() if isinstance(kind, Money | CurrencyAmount)}

    def convert(row: RowMapping) -> Row:
        values = {name: row[name] for name in kinds}
        for name in instants:
            values[name] = None if values[name] is None else as_datetime(values[name])
        for name in amounts:
            values[name] = None if values[name] is None else exact_amount(values[name])
        return values

    return convert
