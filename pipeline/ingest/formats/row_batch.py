"""Rows as a reader hands them on: columns of the file's own types, and the rows that could not be split into columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.config.keys import closest
from pipeline.errors import InputError
from storage.frames import Ints

ROWS = 50_000  # a chunk: large enough for a bulk load, small enough for memory
NOT_UTF8 = "the row is not UTF-8: save the file in this encoding"


@dataclass(frozen=True)
class Unreadable:
    """A row that could not be split into columns."""

    row_number: int
    text: str
    reason: str


@dataclass(frozen=True)
class Rows:
    """Some rows of a source; numbers count its rows of data from 1."""

    row_number: Ints  # (n,)
    columns: Mapping[str, Any]  # Arrow arrays of length n
    unreadable: Sequence[Unreadable] = ()

    def __len__(self) -> int:
        return len(self.row_number)


@dataclass(frozen=True)
class Wanted:
    """The columns a source must or may have, each with the key of the configuration that names it."""

    needed: Mapping[str, str] = field(default_factory=dict)
    optional: Mapping[str, str] = field(default_factory=dict)
    remedy: str = ""

    @property
    def names(self) -> list[str]:
        """All of them, each once."""
        return list(dict.fromkeys([*self.needed, *self.optional]))

    def check(self, found: Sequence[str], shown: str) -> list[str]:
        """
        Return the wanted columns that are there.

        Raises
        ------
        InputError
            If a needed column is missing, or any is there twice.
        """
        for name, key in self.needed.items():
            if name not in found:
                raise InputError(_missing(name, key, found, shown))
        present = [name for name in self.names if name in found]
        for name in present:
            if list(found).count(name) > 1:
                raise InputError(
                    f'{shown} has the column "{name}" twice, so it is unclear which is meant; rename one'
                )
        return present


def _missing(name: str, key: str, found: Sequence[str], shown: str) -> str:
    section, _, item = key.partition(".")
    listed = ", ".join(found[:50]) or "none"
    separator = next((mark for mark in ";\t|" if len(found) == 1 and mark in found[0]), None)
    if separator:
        return f"{shown} must be separated by commas, its header is {listed!r}; save it with commas"
    return (
        f'{shown} has no column "{name}"{closest(name, list(found))}; it has {listed}: '
        f"name the right one as {item} in [{section}], or leave it out there if there is none"
    )
