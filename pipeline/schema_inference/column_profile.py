"""Reads the first rows of a CSV, Parquet or JSON Lines file as text columns, and profiles each column."""

import csv
import gzip
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import IO, Any

from pipeline.errors import InputError

ROWS_MAX = 50_000  # enough for customers to recur; read in a second or two
_INTEGER = re.compile(r"-?(0|[1-9]\d*)")  # 007 is a name, not a number
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[A-Za-z]{2,}")
_IBAN = re.compile(r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}")
_BINARY = (("0", "1"), ("false", "true"), ("no", "yes"), ("n", "y"), ("f", "t"))


@dataclass(frozen=True)
class ColumnProfile:
    """A column of a sample and its properties; "" means missing."""

    name: str
    values: tuple[str, ...]

    @cached_property
    def present(self) -> int:
        """How many values are not missing."""
        return sum(1 for value in self.values if value)

    @cached_property
    def distinct(self) -> frozenset[str]:
        """The different values, without the missing one."""
        return frozenset(self.values) - {""}

    @cached_property
    def repeats(self) -> float:
        """How often a value occurs on average."""
        return self.present / len(self.distinct) if self.distinct else 0.0

    @cached_property
    def unique(self) -> bool:
        """Whether no value is missing or occurs twice."""
        return len(self.distinct) == len(self.values)

    @cached_property
    def whole(self) -> bool:
        """Whether all values are whole numbers."""
        return self._all(_INTEGER)

    @cached_property
    def number(self) -> bool:
        """Whether all values are numbers written with a point and no leading zeros."""
        return self._all(_NUMBER) and not any(re.match(r"-?0\d", value) for value in self.distinct)

    @cached_property
    def binary(self) -> bool:
        """Whether the values are yes and no, or only one of them."""
        lower = {value.lower() for value in self.distinct}
        return bool(lower) and any(lower <= set(pair) for pair in _BINARY)

    @cached_property
    def instants(self) -> list[datetime]:
        """The values as instants if 99 in 100 are ISO 8601, else empty."""
        if self.number or not self.distinct:
            return []
        read = [instant for instant in map(_instant, self.distinct) if instant]
        return read if len(read) >= 0.99 * len(self.distinct) else []

    @cached_property
    def naive(self) -> bool:
        """Whether any of the instants lacks its offset from UTC."""
        return any(instant.tzinfo is None for instant in self.instants)

    def looks_like(self, test: "PersonalDataTest") -> bool:
        """Whether 95 % of the values, and at least five, pass a test."""
        passed = sum(1 for value in self.distinct if test(value))
        return passed >= 5 and passed >= 0.95 * len(self.distinct)

    def _all(self, pattern: re.Pattern[str]) -> bool:
        return bool(self.distinct) and all(pattern.fullmatch(value) for value in self.distinct)


class PersonalDataTest:
    """Tests whether a value is personal data of one kind."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __call__(self, value: str) -> bool:
        """Whether the value is personal data of this kind."""
        compact = value.replace(" ", "").replace("-", "")
        if self.kind == "e-mail addresses":
            return _EMAIL.fullmatch(value) is not None
        if self.kind == "card numbers":
            return (
                compact.isascii() and compact.isdigit() and 13 <= len(compact) <= 19 and valid_luhn(compact)
            )
        return _IBAN.fullmatch(compact) is not None and valid_iban(compact)


PERSONAL_DATA_TESTS = tuple(
    PersonalDataTest(finds) for finds in ("card numbers", "e-mail addresses", "account numbers (IBAN)")
)


def valid_luhn(digits: str) -> bool:
    """Whether the check digit fits (ISO/IEC 7812-1): every second digit doubled, from the right."""
    odd = sum(int(digit) for digit in digits[-1::-2])
    even = sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (odd + even) % 10 == 0


def valid_iban(text: str) -> bool:
    """Whether the check digits fit (ISO 13616): letters as numbers from 10, remainder 1 by 97."""
    return int("".join(str(int(letter, 36)) for letter in text[4:] + text[:4])) % 97 == 1


def read_sample(path: Path, rows: int = ROWS_MAX) -> list[ColumnProfile]:
    """
    Read the first rows of a file; the ending of its name gives the format.

    Raises
    ------
    InputError
        If the file is missing, of another format, damaged or empty, or two columns share a name.
    """
    names = path.name.lower().removesuffix(".gz")
    kind = names.rpartition(".")[2]
    readers = {
        "csv": _csv,
        "parquet": _parquet,
        "pq": _parquet,
        "jsonl": _jsonl,
        "ndjson": _jsonl,
        "json": _jsonl,
    }
    if kind not in readers:
        raise InputError(f'"{path}" must be a .csv, .parquet or .jsonl file (.gz allowed for text)')
    try:
        columns = readers[kind](path, rows)
    except FileNotFoundError:
        raise InputError(f'"{path}" does not exist; check the path') from None
    except (OSError, EOFError, ValueError, csv.Error) as error:
        raise InputError(f'"{path}" cannot be read as {kind}: {str(error).splitlines()[0]}') from error
    if not columns or not columns[0].values:
        raise InputError(f'"{path}" holds no rows; give a sample with a header and some rows')
    return columns


def _instant(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _open(path: Path) -> IO[str]:
    how: dict[str, str] = {"encoding": "utf-8-sig", "errors": "replace", "newline": ""}
    text: Any = gzip.open if path.name.lower().endswith(".gz") else Path.open
    opened: IO[str] = text(path, "rt", **how)
    return opened


def _csv(path: Path, rows: int) -> list[ColumnProfile]:
    with _open(path) as file:
        reader = csv.reader(file)
        header = next(reader, [])
        if len(header) == 1 and re.search("[;\t|]", header[0]):
            raise InputError(f'"{path}" must be separated by commas, its header is "{header[0][:60]}"')
        twice = {name for name in header if header.count(name) > 1}
        if twice:
            raise InputError(f'"{path}" has the column "{min(twice)}" twice; rename one of them')
        body = [row for row in islice(reader, rows) if len(row) == len(header)]
    return [
        ColumnProfile(name, values) for name, values in zip(header, zip(*body, strict=True), strict=False)
    ]


def _jsonl(path: Path, rows: int) -> list[ColumnProfile]:
    with _open(path) as file:
        body = list(islice(_objects(file), rows))
    names = list(dict.fromkeys(name for row in body for name in row))
    return [ColumnProfile(name, tuple(_text(row.get(name)) for row in body)) for name in names]


def _objects(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, 1):
        row = json.loads(line) if line.strip() else {}
        if not isinstance(row, dict):
            raise ValueError(f"line {number} is not an object")  # noqa: TRY004 (of the file, not of the code)
        if row:
            yield row


def _text(value: object) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value)


def _parquet(path: Path, rows: int) -> list[ColumnProfile]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with path.open("rb") as file:
        batches = pq.ParquetFile(file).iter_batches(batch_size=rows)
        first = next(batches, None)
    if first is None:
        return []
    table = pa.Table.from_batches([first])
    return [ColumnProfile(name, _texts(table[name])) for name in table.column_names]


def _texts(column: Any) -> tuple[str, ...]:
    import pyarrow as pa

    if pa.types.is_timestamp(column.type):
        zone = column.type.tz
        column = column.cast(pa.timestamp("us", tz=zone), safe=False)
    if pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
        return tuple("" if value is None else repr(value) for value in column.to_pylist())
    return tuple(value or "" for value in column.cast(pa.string()).to_pylist())
