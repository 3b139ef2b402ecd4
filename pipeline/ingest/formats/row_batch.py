"""Batches of source rows: columns of the file's own types, and rows that cannot be split into columns."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa

from pipeline.config.key_names import did_you_mean
from pipeline.errors import InputError
from pipeline.ingest.decoding.encodings import USUAL
from storage.frames import Ints

BATCH_ROWS = 50_000  # per batch: large enough for a bulk load, small enough for memory
BATCH_BYTES = 1 << 24  # of the text in a batch: a few long values are as much as many short ones
UUID_BYTES = 16
NOT_UTF8 = "the row is not UTF-8: save the file in this encoding"
HEADER_ROWS = 50  # the header is one of these
SAMPLE_ROWS = 200  # that say how wide the rows of a file are
HEADER_FILLED = 0.8  # of the values of a full row; a column may lack a name, a title fills a cell or two
_NO_NAME = re.compile(r"[\W_]*+\d[\W\d_]*+")  # a value with digits but no letter: a number, a date


@dataclass(frozen=True)
class UnreadableRow:
    """A row that cannot be split into columns."""

    row_number: int
    text: str
    reason: str


@dataclass(frozen=True)
class RowBatch:
    """Some rows of a source; row numbers count its data rows from 1."""

    row_number: Ints  # (n,)
    columns: Mapping[str, Any]  # Arrow arrays of length n
    unreadable: Sequence[UnreadableRow] = ()

    def __len__(self) -> int:
        return len(self.row_number)


def decoded(numbers: Ints, columns: dict[str, Any]) -> RowBatch:
    """
    Decode columns of bytes, and lists of text and bytes; rows with bytes that are no text become unreadable.

    Bytes are UTF-8 or a UUID: sixteen bytes that are not printable text, or any of a column of UUIDs.
    """
    bad: dict[int, str] = {}
    for name, column in columns.items():
        if isinstance(column, list) or _is_binary(column.type):
            values = column if isinstance(column, list) else _storage(column).to_pylist()
            decode = _uuid_text if getattr(column, "type", None) == pa.uuid() else _decoded_value
            texts = [decode(value, place, bad) for place, value in enumerate(values)]
            columns[name] = pa.array(texts, pa.string())
    if not bad:
        return RowBatch(numbers, columns)
    good = np.setdiff1d(np.arange(len(numbers)), list(bad))
    unreadable = [UnreadableRow(int(numbers[place]), text, NOT_UTF8) for place, text in bad.items()]
    return RowBatch(numbers[good], {name: column.take(good) for name, column in columns.items()}, unreadable)


def _is_binary(kind: Any) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    tests = (
        pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view
    )  # fmt: skip
    return any(test(kind) for test in tests)


def _storage(column: Any) -> Any:
    return column.storage if isinstance(column.type, pa.BaseExtensionType) else column


def _uuid_text(value: bytes | None, _place: int, _bad: dict[int, str]) -> str | None:
    return None if value is None else str(UUID(bytes=value))


def _decoded_value(value: str | bytes | None, place: int, bad: dict[int, str]) -> str | None:
    if not isinstance(value, bytes):
        return value
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = None
    if len(value) == UUID_BYTES and (text is None or not text.isprintable()):
        return str(UUID(bytes=value))
    if text is None:
        bad[place] = value.decode("utf-8", "backslashreplace")
    return text


@dataclass(frozen=True)
class ExpectedColumns:
    """
    The columns that a source must or may have, each with the configuration key that names it.

    Attributes
    ----------
    alternatives
        Columns of which a source must have at least one.
    every
        Whether all other columns are wanted, too.
    flat
        Whether a value that is a list or an object is refused; otherwise it is its JSON text.
    """

    required: Mapping[str, str] = field(default_factory=dict)
    optional: Mapping[str, str] = field(default_factory=dict)
    alternatives: Mapping[str, str] = field(default_factory=dict)
    every: bool = False
    flat: bool = False

    @property
    def names(self) -> list[str]:
        """All of them, each once."""
        return list(dict.fromkeys([*self.required, *self.alternatives, *self.optional]))

    def header_place(self, rows: Sequence[Sequence[str]]) -> tuple[int, bool]:
        """
        Return which of the first rows is the header, and whether it is one.

        It is the first that holds all required columns. If none does, or every column is wanted, it is the first row that
        is as wide as most rows are, has as many values, and none that is a number; else it is no header, but the first row.
        """
        for place, row in enumerate([] if self.every else rows[:HEADER_ROWS]):
            if self.required.keys() <= set(row) and self._has_alternative(row):
                return place, True
        likely = _likely_header(rows[:SAMPLE_ROWS])
        return likely or 0, self.every and likely is not None

    def select(self, available: Sequence[str], source_name: str) -> list[str]:
        """
        Return the expected columns that are available.

        Raises
        ------
        InputError
            If a required column is missing, or any column occurs twice.
        """
        for name, key in self.required.items():
            if name not in available:
                raise _missing_column(name, key, available, source_name)
        if not self._has_alternative(available):
            raise _missing_alternatives(self.alternatives, available, source_name)
        every = [name for name in available if name]  # one without a name cannot be configured
        present = every if self.every else [name for name in self.names if name in available]
        for name in present:
            if list(available).count(name) > 1:
                message = f'{source_name} has the column "{name}" twice'
                raise InputError(message, remedy="rename one of them", code="repeated_column")
        return present

    def _has_alternative(self, available: Sequence[str]) -> bool:
        return not self.alternatives or not self.alternatives.keys().isdisjoint(available)


EVERY_COLUMN = ExpectedColumns(every=True)
COLUMN_LISTS = ("entities", "numeric", "categorical")  # keys of [schema] that name several columns
OPTIONAL_COLUMNS = ("kind", "original_id", "currency", "is_fraud")  # keys that may be empty


def _likely_header(rows: Sequence[Sequence[str]]) -> int | None:
    counts = Counter(len(row) for row in rows if len(row) > 1)
    width = max(counts, key=lambda width: (min(counts[width], 2), counts[width] * width), default=0)
    filled = [sum(map(bool, row)) if len(row) == width else 0 for row in rows]
    least = max(2, HEADER_FILLED * max(filled, default=0))
    for place, row in enumerate(rows[:HEADER_ROWS]):
        if filled[place] >= least and not any(map(_NO_NAME.fullmatch, row)):
            return place
    return None


def _missing_column(name: str, key: str, available: Sequence[str], source_name: str) -> InputError:
    return _misread([name], available, source_name) or InputError(
        f'{source_name} has no column "{name}"{did_you_mean(name, list(available))}; it has {_listed(available)}',
        remedy=_correct_name(name, key),
        code="missing_column",
    )


def _missing_alternatives(
    alternatives: Mapping[str, str], available: Sequence[str], source_name: str
) -> InputError:
    named = " or ".join(f'"{name}" ({key})' for name, key in alternatives.items())
    return _misread(alternatives, available, source_name) or InputError(
        f"{source_name} has no column {named}; it has {_listed(available)}",
        remedy="set one of these keys to the right column",
        code="missing_column",
    )


def _misread(names: Iterable[str], available: Sequence[str], source_name: str) -> InputError | None:
    """The error of a file in UTF-8 that was read in another encoding, if that is why it has none of these names."""
    for name, encoding in product(names, USUAL):
        looks = name.encode().decode(encoding, "replace")
        if looks != name and looks in available:
            return InputError(
                f'{source_name} has no column "{name}", but "{looks}": that is "{name}" of a file in UTF-8 read as {encoding}',
                remedy='set encoding = "utf-8" in [format]',
                code="missing_column",
            )
    return None


def _listed(available: Sequence[str]) -> str:
    return ", ".join(available[:50]) or "none"


def _correct_name(name: str, key: str) -> str:
    if key == "schema.columns":
        return f'correct the name "{name}" in [schema.columns], or take its line out'
    section, _, item = key.partition(".")
    without = _without(item) if section == "schema" else ""  # a label without its word says nothing
    return f"set {item} in [{section}] to the right column{without}"


def _without(item: str) -> str:
    """How the configuration says that there is no such column: nothing if there must be one."""
    if item in COLUMN_LISTS:
        return ", or take it out of that list if there is none"
    return f', or write {item} = "" if there is none' if item in OPTIONAL_COLUMNS else ""
