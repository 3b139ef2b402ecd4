"""
Files → blocks of columns, a bounded number of rows at a time.

Every value leaves as text (or None), instants of Parquet as int64 µs. A row that cannot even be split into
columns leaves beside its block with the reason.
"""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError

ROWS = 50_000  # a block: large enough for bulk load, small enough for memory
FORMATS = {
    "csv": (".csv", ".tsv", ".txt"),
    "parquet": (".parquet", ".pq"),
    "jsonl": (".jsonl", ".ndjson", ".json"),
}
LIMIT = 10_000_000  # characters of one CSV field; longer is a quote that was never closed


@dataclass(frozen=True)
class Bad:
    """A row that could not be split into columns."""

    row_number: int
    text: str
    reason: str


@dataclass(frozen=True)
class Block:
    """Rows of a source; `row_number` counts from 1 at the first row of data."""

    row_number: NDArray[np.int64]
    columns: dict[str, NDArray[Any]]  # object (text or None) or int64 (instants)
    bad: list[Bad] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.row_number)


def format_of(path: Path) -> str:
    """
    The format that a file's name says.

    Raises
    ------
    InputError
        It says none.
    """
    name = path.name.lower().removesuffix(".gz")
    for form, endings in FORMATS.items():
        if name.endswith(endings):
            return form
    raise InputError(f"{path}: what format is it? Name it .csv, .parquet or .jsonl, or add --format")


def read_blocks(path: Path, form: str, needed: Sequence[str], shown: str) -> Iterator[Block]:
    """
    Read a file block by block.

    Parameters
    ----------
    needed
        Columns that have to be there.
    shown
        The source's name in messages.

    Raises
    ------
    InputError
        Missing, unreadable or truncated file, or a missing column; before the first block where possible.
    """
    reader = {"csv": _csv, "parquet": _parquet, "jsonl": _jsonl}[form]
    try:
        yield from reader(path, needed, shown)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{shown} cannot be read: {reason}") from error


def check_columns(found: Sequence[str], needed: Sequence[str], shown: str) -> None:
    """Refuse a source without a configured column, or with one twice."""
    missing = [name for name in needed if name not in found]
    if missing:
        listed = ", ".join(found) or "none"
        raise InputError(
            f"{shown} has no column {missing[0]!r}; it has {listed}: name yours in [schema] or [labels] of the config "
            "(fraudwatch init --from FILE proposes it)"
        )
    twice = [name for name in needed if list(found).count(name) > 1]
    if twice:
        raise InputError(f"{shown} has the column {twice[0]!r} twice: which one is meant? Rename one")


def _open(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if packed else path.open("rb")  # type: ignore[return-value]


def _text(path: Path) -> TextIO:
    # Bytes that are no UTF-8 come through as lone surrogates, which mark their row and nothing else.
    return io.TextIOWrapper(_open(path), encoding="utf-8-sig", errors="surrogateescape", newline="")


def _csv(path: Path, needed: Sequence[str], shown: str) -> Iterator[Block]:
    csv.field_size_limit(LIMIT)
    with _text(path) as file:
        rows = csv.reader(file)
        header = next(rows, None)
        if header is None:
            raise InputError(f"{shown} is empty: a CSV file begins with the names of its columns")
        header = [name.strip() for name in header]
        check_columns(header, needed, shown)
        yield from _gathered(_numbered_rows(rows, shown), header, needed)


def _numbered_rows(rows: Iterator[list[str]], shown: str) -> Iterator[list[str]]:
    try:
        yield from (row for row in rows if row)
    except csv.Error as error:
        raise InputError(f"{shown} is not CSV: {error}") from error


def _gathered(rows: Iterable[list[str]], header: list[str], needed: Sequence[str]) -> Iterator[Block]:
    places = {name: header.index(name) for name in needed}
    good: list[list[str]] = []
    numbers: list[int] = []
    bad: list[Bad] = []
    for number, row in enumerate(rows, 1):
        reason = _torn(row, len(header))
        if reason is None:
            good.append(row)
            numbers.append(number)
        else:
            bad.append(Bad(number, ",".join(row), reason))
        if len(good) + len(bad) >= ROWS:
            yield _block(good, numbers, places, bad)
            good, numbers, bad = [], [], []
    if good or bad:
        yield _block(good, numbers, places, bad)


def _torn(row: list[str], width: int) -> str | None:
    if len(row) != width:
        return f"has {len(row)} columns, the header has {width}: a separator is missing or not quoted"
    if not "".join(row).isascii() and any("\udc80" <= letter <= "\udcff" for letter in "".join(row)):
        return "is not UTF-8: save the file as UTF-8"
    return None


def _block(rows: list[list[str]], numbers: list[int], places: dict[str, int], bad: list[Bad]) -> Block:
    turned = list(zip(*rows, strict=True))
    columns = {name: as_objects(turned[place] if turned else ()) for name, place in places.items()}
    return Block(np.array(numbers, dtype=np.int64), columns, bad)


def as_objects(values: Sequence[Any]) -> NDArray[np.object_]:
    """A column of text; what is empty is missing."""
    column = np.empty(len(values), dtype=object)
    column[:] = [None if value is None or value == "" else value for value in values]
    return column


def _jsonl(path: Path, needed: Sequence[str], shown: str) -> Iterator[Block]:
    with _text(path) as file:
        rows: list[list[Any]] = []
        numbers: list[int] = []
        bad: list[Bad] = []
        places = {name: place for place, name in enumerate(needed)}
        lines = (line for line in file if line.strip())
        for number, line in enumerate(lines, 1):
            found = _object(line)
            if isinstance(found, str):
                bad.append(Bad(number, line.strip(), found))
            else:
                if number == 1:
                    check_columns(list(found), needed, shown)
                rows.append([_as_text(found.get(name)) for name in needed])
                numbers.append(number)
            if len(rows) + len(bad) >= ROWS:
                yield _block(rows, numbers, places, bad)
                rows, numbers, bad = [], [], []
        if rows or bad:
            yield _block(rows, numbers, places, bad)


def _object(line: str) -> dict[str, Any] | str:
    if any("\udc80" <= letter <= "\udcff" for letter in line):
        return "is not UTF-8: save the file as UTF-8"
    try:
        found = json.loads(line)
    except json.JSONDecodeError as error:
        return f"is not JSON: {error.msg} at character {error.pos}"
    return found if isinstance(found, dict) else "is not a JSON object with a column a key"


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "1" if value else "0"
    return json.dumps(value)


def _parquet(path: Path, needed: Sequence[str], shown: str) -> Iterator[Block]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            check_columns(file.schema_arrow.names, needed, shown)
            first = 1
            for batch in file.iter_batches(ROWS, columns=list(needed)):
                columns = {name: _arrow_column(batch.column(name)) for name in needed}
                yield Block(np.arange(first, first + batch.num_rows), columns)
                first += batch.num_rows
    except pa.ArrowException as error:
        raise InputError(f"{shown} is not a readable Parquet file: {str(error).splitlines()[0]}") from error


def _arrow_column(column: Any) -> NDArray[Any]:
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    if pa.types.is_timestamp(kind) and kind.tz is not None and not column.null_count:
        return np.asarray(column.cast(pa.timestamp("us", "UTC"), safe=False).cast(pa.int64()))
    if pa.types.is_boolean(kind):
        column = column.cast(pa.int8())
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        column = pc.strftime(
            column.cast(pa.timestamp("us", getattr(kind, "tz", None))), "%Y-%m-%dT%H:%M:%S%z"
        )
    return as_objects(column.cast(pa.string()).to_pylist())


def column_names(path: Path, form: str, shown: str) -> list[str]:
    """
    Names of a file's columns; of JSON Lines, the keys of its first row.

    Raises
    ------
    InputError
        The file cannot be read.
    """
    try:
        if form == "parquet":
            return _parquet_names(path, shown)
        with _text(path) as file:
            first = next((line for line in file if line.strip()), "")
            if form == "csv":
                return [name.strip() for name in next(csv.reader([first]), [])]
            found = _object(first) if first else {}
            return list(found) if isinstance(found, dict) else []
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{shown} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _parquet_names(path: Path, shown: str) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return list(pq.read_schema(path).names)
    except pa.ArrowException as error:
        raise InputError(f"{shown} is not a readable Parquet file: {str(error).splitlines()[0]}") from error
