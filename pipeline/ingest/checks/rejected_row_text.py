"""
Rejected rows as the database stores them: as received, but only the columns that the configuration names.

Fields of schema.hash are stored as keyed hashes here, too. A row that cannot be split into columns may hold such a
field anywhere: if schema.hash is set, only a keyed hash of the line and its length are stored. Card data are left out
(see `pipeline.ingest.checks.card_data`), since what a bad row holds in a column need not belong there.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.hashing import Hasher
from pipeline.ingest.checks.card_data import mask_line, mask_value, without_track_data
from pipeline.ingest.formats.columns import NATIVE, texts
from pipeline.ingest.formats.row_batch import RowBatch, UnreadableRow
from pipeline.ingest.formats.validators import Reasons
from storage.ingest.batches import RejectedRow

EXAMPLE_MAX = 40  # characters of a value in a report
TEXT_MAX = 5_000  # characters of a value or line


@dataclass(frozen=True)
class RejectionExample:
    """A rejected row and its value in the column that the reason names; None if that is hashed or cannot be told."""

    row_number: int
    value: str | None


class Rejections:
    """
    Counts the reasons of rejected rows.

    Attributes
    ----------
    counts
        How many rows each reason has.
    examples
        The first row of each reason.
    """

    def __init__(self, hashed: Collection[str]) -> None:
        self.counts, self.examples = Counter[str](), dict[str, RejectionExample]()
        self._hashed = hashed

    def add(self, rows: Sequence[RejectedRow]) -> None:
        """Count some rows."""
        self.counts.update(row.reason for row in rows)
        for row in rows if len(self.counts) > len(self.examples) else ():
            if row.reason not in self.examples:
                self.examples[row.reason] = RejectionExample(row.row_number, self._value(row))

    def _value(self, row: RejectedRow) -> str | None:
        """The value as the row is stored; a reason begins with the name of its column."""
        values = json.loads(row.row)
        named = [name for name in values if row.reason.startswith(f"{name} ")]
        if not named or (name := max(named, key=len)) in self._hashed:
            return None
        value = "" if values[name] is None else str(values[name])
        return value if len(value) <= EXAMPLE_MAX else f"{value[:EXAMPLE_MAX]}…"


def collect_rejected(
    rows: RowBatch, reasons: Reasons, hashed: Collection[str], hasher: Hasher | None, plain: Collection[str]
) -> Iterator[RejectedRow]:
    """
    Yield the rows with a reason, and those that could not be split into columns.

    Parameters
    ----------
    plain
        Columns whose numbers are not masked, since they may be card numbers or only look like them.
    """
    bad = np.flatnonzero(~reasons.good)
    hidden = hashed if hasher is not None else ()
    columns = {
        name: _as_stored(column.take(bad), hasher if name in hidden else None)
        for name, column in rows.columns.items()
    }
    for number, place in enumerate(bad.tolist()):
        row = {
            name: _plain(column[number] if name in hidden or name in plain else mask_value(column[number]))
            for name, column in columns.items()
        }
        yield RejectedRow(int(rows.row_number[place]), _json(row), reasons.of(place))
    for unreadable in rows.unreadable:
        yield RejectedRow(unreadable.row_number, _json(_line(unreadable, hasher)), unreadable.reason)


def _as_stored(column: Any, hasher: Hasher | None) -> list[Any]:
    """The values of a column as they are stored, without track data: hashed if there is a hasher."""
    stored = without_track_data(column if hasher is None else hasher.column(texts(column)), of=column)
    values: list[Any] = stored.to_pylist()
    return values


def _line(row: UnreadableRow, hasher: Hasher | None) -> dict[str, Any]:
    if hasher is None:
        return {"line": _shortened(mask_line(row.text))}
    return {"line_hash": hasher.hash(row.text), "length": len(row.text)}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else str(value)
    return _shortened(value.isoformat() if hasattr(value, "isoformat") else str(value).removeprefix(NATIVE))


def _shortened(text: str) -> str:
    return text if len(text) <= TEXT_MAX else f"{text[:TEXT_MAX]}… ({len(text):,} characters)"


def _json(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False)  # escapes NUL, which Postgres refuses in text
