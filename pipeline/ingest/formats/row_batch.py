"""Batches of source rows: columns of the file's own types, and rows that cannot be split into columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.config.key_names import did_you_mean
from pipeline.errors import InputError
from storage.frames import Ints

BATCH_ROWS = 50_000  # per batch: large enough for a bulk load, small enough for memory
NOT_UTF8 = "the row is not UTF-8: save the file in this encoding"


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


@dataclass(frozen=True)
class ExpectedColumns:
    """The columns that a source must or may have, each with the configuration key that names it."""

    required: Mapping[str, str] = field(default_factory=dict)
    optional: Mapping[str, str] = field(default_factory=dict)
    every: bool = False  # whether all other columns are wanted, too

    @property
    def names(self) -> list[str]:
        """All of them, each once."""
        return list(dict.fromkeys([*self.required, *self.optional]))

    def select(self, available: Sequence[str], source_name: str) -> list[str]:
        """
        Return the expected columns that are available.

        Raises
        ------
        InputError
            If a required column is missing, or any column occurs twice.
        """
        if self.every:
            _check_separator(available, source_name)
        for name, key in self.required.items():
            if name not in available:
                _check_separator(available, source_name)
                raise _missing_column(name, key, available, source_name)
        present = list(available) if self.every else [name for name in self.names if name in available]
        for name in present:
            if list(available).count(name) > 1:
                message = f'{source_name} has the column "{name}" twice'
                raise InputError(message, remedy="rename one of them", code="repeated_column")
        return present


EVERY_COLUMN = ExpectedColumns(every=True)


def _check_separator(available: Sequence[str], source_name: str) -> None:
    if len(available) == 1 and set(available[0]) & set(";\t|"):
        message = f"{source_name} must be separated by commas, its header is {available[0]!r}"
        raise InputError(message, remedy="save it with commas", code="bad_file")


def _missing_column(name: str, key: str, available: Sequence[str], source_name: str) -> InputError:
    section, _, item = key.partition(".")
    listed = ", ".join(available[:50]) or "none"
    return InputError(
        f'{source_name} has no column "{name}"{did_you_mean(name, list(available))}; it has {listed}',
        remedy=f"set {item} in [{section}] to the right column, or remove it there if there is none",
        code="missing_column",
    )
