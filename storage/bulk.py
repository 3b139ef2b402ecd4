"""
Many rows at once: COPY on Postgres, executemany on SQLite. The one module that knows the difference.

A block is {column: values}: an array, or one value for all rows. Instants come as int µs and money as int of
1/10,000, so that arrays are converted whole, and never value by value.
"""

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    Connection,
    Integer,
    MetaData,
    Table,
    Text,
    any_,
    bindparam,
    func,
    select,
)
from sqlalchemy.types import TypeEngine

from storage.columns import POSTGRES, Instant, Money, as_texts
from storage.frames import MONEY, Ints

if TYPE_CHECKING:
    import pyarrow as pa

Block = Mapping[str, Any]
ORDER = "row_number"  # of the staging table: the order in which rows came


@dataclass(frozen=True)
class Rows:
    """Rows as an engine takes them, made before a transaction begins: a write holds up others."""

    table: Table
    names: tuple[str, ...]
    size: int
    lists: tuple[Iterable[Any], ...] = ()  # SQLite: a list a column, or one value without end
    csv: bytes = b""  # Postgres


def rows_of(dialect: str, table: Table, block: Block) -> Rows:
    """Make rows of a block, all of whose arrays have one length."""
    size = next(len(values) for values in block.values() if _is_array(values))
    columns = {name: (table.c[name].type, values) for name, values in block.items()}
    if dialect == POSTGRES:
        return Rows(table, tuple(block), size, csv=_as_csv(columns, size))
    lists = tuple(_as_list(type_, values) for type_, values in columns.values())
    return Rows(table, tuple(block), size, lists)


def insert_new(connection: Connection, rows: Rows) -> int:
    """
    Insert the rows whose key is not there yet, in their order; returns how many that were.

    On Postgres they stay in the staging table `stage_of(rows)` to the end of the transaction, since COPY knows no
    conflicts and has to fill that first.
    """
    quoted = _quoted(connection, rows.names)
    if connection.dialect.name != POSTGRES:
        marks = ", ".join("?" * len(rows.names))
        sql = f"INSERT INTO {rows.table.name} ({quoted}) VALUES ({marks}) ON CONFLICT DO NOTHING"
        return _many(connection, sql, zip(*rows.lists, strict=False))
    stage = fill_stage(connection, rows)
    return connection.exec_driver_sql(
        f"INSERT INTO {rows.table.name} ({quoted}) SELECT {quoted} FROM {stage.name} ORDER BY {ORDER} "
        "ON CONFLICT DO NOTHING"
    ).rowcount


def stage_of(rows: Rows) -> Table:
    """The temporary table that rows are staged in: their columns, and the order they came in."""
    columns = [Column(name, rows.table.c[name].type) for name in rows.names]
    return Table(
        f"incoming_{rows.table.name}",
        MetaData(),
        *columns,
        Column(ORDER, Integer),
        prefixes=["TEMPORARY"],
        postgresql_on_commit="DROP",
    )


def fill_stage(connection: Connection, rows: Rows) -> Table:
    """Put rows into their staging table; on SQLite somebody has to drop it."""
    stage = stage_of(rows)
    stage.create(connection, checkfirst=False)
    quoted = _quoted(connection, rows.names)
    if connection.dialect.name == POSTGRES:
        driver: Any = connection.connection.driver_connection
        with (
            driver.cursor() as cursor,
            cursor.copy(f"COPY {stage.name} ({quoted}, {ORDER}) FROM STDIN WITH (FORMAT csv)") as copy,
        ):
            copy.write(rows.csv)
        return stage
    marks = ", ".join("?" * (len(rows.names) + 1))
    numbered = zip(*rows.lists, range(rows.size), strict=False)
    _many(connection, f"INSERT INTO {stage.name} ({quoted}, {ORDER}) VALUES ({marks})", numbered)
    return stage


def drop_stage(connection: Connection, stage: Table) -> None:
    """Drop a staging table before the transaction ends; Postgres would do it then."""
    connection.exec_driver_sql(f"DROP TABLE {stage.name}")


def among(connection: Connection, column: ColumnElement[Any], values: Iterable[str]) -> ColumnElement[bool]:
    """`column` is one of any number of texts: one parameter, however many there are."""
    listed = [str(value) for value in values]
    if connection.dialect.name == POSTGRES:
        return column == any_(bindparam(None, listed, type_=ARRAY(Text)))
    each = func.json_each(json.dumps(listed, ensure_ascii=False)).table_valued("value")
    return column.in_(select(each.c.value))


def numbers(values: NDArray[np.float64]) -> list[float | None]:
    """Floats with None for NaN."""
    listed = values.astype(object)
    listed[np.isnan(values)] = None
    return listed.tolist()  # type: ignore[no-any-return]


def _many(connection: Connection, sql: str, rows: Iterable[Sequence[Any]]) -> int:
    cursor = connection.connection.cursor()
    try:
        cursor.executemany(sql, rows)  # type: ignore[arg-type]  # an iterator: never all rows at once
        return max(int(cursor.rowcount), 0)
    finally:
        cursor.close()


def _quoted(connection: Connection, names: Sequence[str]) -> str:
    quote = connection.dialect.identifier_preparer.quote
    return ", ".join(quote(name) for name in names)


def _is_array(values: Any) -> bool:
    return isinstance(values, np.ndarray)


def _as_list(type_: TypeEngine[Any], values: Any) -> Iterable[Any]:
    if not _is_array(values):
        return repeat(as_texts(np.array([values]))[0] if isinstance(type_, Instant) else values)
    if isinstance(type_, Instant):
        return as_texts(values)
    if isinstance(type_, Money) and values.dtype == np.int64:
        return (values / MONEY).tolist()  # type: ignore[no-any-return]
    if values.dtype == np.float64 and np.isnan(values).any():
        return numbers(values)
    return values.tolist()  # type: ignore[no-any-return]


def _as_csv(columns: Mapping[str, tuple[TypeEngine[Any], Any]], size: int) -> bytes:
    """
    CSV with the order as its last column: text in quotes, missing empty without quotes, as COPY reads it.
    """
    import pyarrow as pa
    import pyarrow.csv

    arrays = {name: _as_arrow(type_, values, size) for name, (type_, values) in columns.items()}
    arrays[ORDER] = pa.array(np.arange(size))
    out = io.BytesIO()
    pyarrow.csv.write_csv(pa.table(arrays), out, pyarrow.csv.WriteOptions(include_header=False))
    return out.getvalue()


def _as_arrow(type_: TypeEngine[Any], values: Any, size: int) -> "pa.Array":
    import pyarrow as pa

    if not _is_array(values):
        values = np.full(size, values, dtype=object if isinstance(values, str | None) else None)
    if isinstance(type_, Instant):
        return pa.array(values, pa.timestamp("us"))
    if isinstance(type_, Money) and values.dtype == np.int64:
        return _decimals(values)
    if values.dtype == object:
        return pa.array(values, pa.string())
    return pa.array(values, mask=np.isnan(values) if values.dtype == np.float64 else None)


def _decimals(values: Ints) -> "pa.Array":
    """1/10,000 as decimals with four places: 128-bit integers, the upper half of which is all sign."""
    import pyarrow as pa

    halves = np.stack([values, values >> 63], axis=1).astype("<i8")
    return pa.Array.from_buffers(pa.decimal128(20, 4), len(values), [None, pa.py_buffer(halves)])
