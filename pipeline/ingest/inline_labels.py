"""What a column among the transactions says about fraud, put by on disk until its transactions are loaded."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa

from pipeline.ingest.formats.columns import Bools
from pipeline.ingest.formats.reader import Reading
from pipeline.ingest.formats.row_batch import Rows, Wanted
from storage.frames import Ints, Strings

SCHEMA = pa.schema(
    [
        ("row_number", pa.int64()),
        ("transaction_id", pa.string()),
        ("event_time", pa.int64()),
        ("is_fraud", pa.bool_()),
    ]
)


@dataclass(frozen=True)
class Answers:
    """Accepted transactions of which something is said."""

    row_number: Ints
    transaction_id: Strings
    event_time: Ints  # µs
    is_fraud: Bools


class Shelf:
    """A temporary file of answers: memory does not grow with the source."""

    def __init__(self) -> None:
        self._file: Any = tempfile.TemporaryFile()  # noqa: SIM115 (closed in __exit__)
        self._writer = pa.ipc.new_stream(self._file, SCHEMA)
        self.total = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        self._file.close()

    def put(self, answers: Answers) -> None:
        """Add some rows."""
        columns = [getattr(answers, name) for name in SCHEMA.names]
        self._writer.write(pa.record_batch([pa.array(column) for column in columns], schema=SCHEMA))
        self.total += len(answers.row_number)

    def clear(self) -> None:
        """Forget what was put by."""
        self._writer.close()
        self._file.truncate(0)
        self._file.seek(0)
        self._writer = pa.ipc.new_stream(self._file, SCHEMA)
        self.total = 0

    def rows(self) -> Iterator[Rows]:
        """Everything that was put by, in order; nothing can be added afterwards."""
        self._writer.close()
        self._file.seek(0)
        for batch in pa.ipc.open_stream(self._file):
            columns = {name: batch.column(name) for name in SCHEMA.names}
            yield Rows(np.asarray(columns["row_number"]), columns)


@dataclass(frozen=True)
class ShelfReading:
    """The answers of a source as a source of their own, with the same content hash."""

    shelf: Shelf
    source: Reading
    unit: str = "rows"

    @property
    def total(self) -> float | None:
        """How many answers there are."""
        return self.shelf.total

    def rows(self, wanted: Wanted) -> Iterator[Rows]:  # noqa: ARG002 (the columns are fixed)
        """Read them."""
        return self.shelf.rows()

    def digest(self) -> str | None:
        """Return that of the transactions."""
        return self.source.digest()

    def position(self) -> float | None:
        """Rows are counted."""
        return None

    def close(self) -> None:
        """Leave both to whoever opened them."""
