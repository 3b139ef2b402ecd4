"""Reads the rows of a query; each value is written as text by itself, because a driver may mix types in one column."""

import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

import numpy as np

from pipeline.ingest.formats.columns import decimal_text, float_text, moment_text, native
from pipeline.ingest.formats.reader import SourceReader
from pipeline.ingest.formats.row_batch import ExpectedColumns, RowBatch, decoded
from storage.ingest.external_query import Part


def open_query(parts: Iterator[Part], source_name: str) -> SourceReader:
    """Open the rows of a query, as `storage.ingest.external_query` reads them."""
    return _QueryReader(parts, source_name)


class _QueryReader:
    """Rows of another database."""

    def __init__(self, parts: Iterator[Part], source_name: str) -> None:
        self._parts, self._source_name = parts, source_name
        self._sha256, self._done = hashlib.sha256(), False
        self.total, self.unit = None, "rows"

    def rows(self, expected: ExpectedColumns) -> Iterator[RowBatch]:
        first = 1
        for available, values in self._parts:
            names = expected.select(available, self._source_name)
            for row in values:
                self._sha256.update(repr(tuple(row)).encode())
            places = {name: available.index(name) for name in names}
            columns = {name: [_driver_text(row[place]) for row in values] for name, place in places.items()}
            yield decoded(np.arange(first, first + len(values)), columns)
            first += len(values)
        self._done = True

    def digest(self) -> str | None:
        return self._sha256.hexdigest() if self._done else None

    def position(self) -> float | None:
        return None

    def close(self) -> None:
        close = getattr(self._parts, "close", None)
        if close is not None:
            close()


def _driver_text(value: Any) -> str | bytes | None:
    """Write a value of a database driver as text; bytes are decoded later."""
    return _WRITERS.get(type(value), str)(value)


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _as_it_is(value: Any) -> Any:
    return value


_WRITERS: dict[type, Callable[[Any], str | bytes | None]] = {
    type(None): _as_it_is,
    bytes: _as_it_is,
    memoryview: bytes,
    bool: _as_json,
    dict: _as_json,
    list: _as_json,
    float: lambda value: native(float_text(value)),
    Decimal: lambda value: native(decimal_text(value)),
    datetime: moment_text,
}
