"""
Rows set aside as the database keeps them: as received, as far as the configuration names their columns.

What the configuration does not name is written nowhere, and fields to be hashed are hashed here, too. Of a row that
cannot be split into columns nothing says where such a field is: where any is configured only a keyed hash of the line
and its length are kept.
"""

import json
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from pipeline.hashing import Hasher
from pipeline.ingest.formats.columns import texts
from pipeline.ingest.formats.row_batch import Rows, Unreadable
from pipeline.ingest.formats.validators import Reasons
from storage.ingest.batches import Rejected

SHOWN_MAX = 5_000  # characters of a value or line; the rest tells nobody more


def set_aside(
    rows: Rows, reasons: Reasons, hashed: Collection[str], hasher: Hasher | None
) -> Iterator[Rejected]:
    """Yield the rows that have a reason, and those that could not be read."""
    bad = np.flatnonzero(~reasons.good)
    hidden = hashed if hasher is not None else ()
    columns = {
        name: _as_kept(column.take(bad), hasher if name in hidden else None)
        for name, column in rows.columns.items()
    }
    for number, place in enumerate(bad.tolist()):
        row = {name: _plain(column[number]) for name, column in columns.items()}
        yield Rejected(int(rows.row_number[place]), _json(row), reasons.of(place))
    for one in rows.unreadable:
        yield Rejected(one.row_number, _json(_line(one, hasher)), one.reason)


def _as_kept(column: Any, hasher: Hasher | None) -> list[Any]:
    kept: list[Any] = (column if hasher is None else hasher.column(texts(column))).to_pylist()
    return kept


def _line(one: Unreadable, hasher: Hasher | None) -> dict[str, Any]:
    if hasher is None:
        return {"line": _shortened(one.text)}
    return {"line_hash": hasher.hash(one.text), "length": len(one.text)}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else str(value)
    return _shortened(value.isoformat() if hasattr(value, "isoformat") else str(value))


def _shortened(text: str) -> str:
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}… ({len(text):,} characters)"


def _json(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False)  # escapes NUL, which Postgres refuses in text
