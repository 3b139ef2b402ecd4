"""Spools the labels of a transactions file (`schema.is_fraud`) to disk until its transactions are loaded."""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa

from pipeline.ingest.formats.arrow_arrays import Bools
from pipeline.ingest.formats.reader import SourceReader
from pipeline.ingest.formats.row_batch import ExpectedColumns, RowBatch
from storage.frames import Ints, Strings

SCHEMA = pa.schema(
    [
        ("row_number", pa.int64()),
        ("transaction_id", pa.string()),
        ("event_time", pa.int64()),
        ("word", pa.string()),
        ("is_fraud", pa.bool_()),
        ("type", pa.string()),
        ("reason", pa.string()),
        ("known_at", pa.int64()),
        ("rejection", pa.string()),
    ]
)


@dataclass(frozen=True)
class InlineLabels:
    """Labels of accepted transactions; arrays (n,)."""

    row_number: Ints
    transaction_id: Strings
    event_time: Ints  # µs
    word: Strings  # what the row says
    is_fraud: Strings  # True, False, None for a dispute about something else
    type: Strings  # of such a dispute
    reason: Strings  # the word, if it is the reason of a dispute
    known_at: Ints  # µs; NEVER if the row does not say
    rejection: Strings  # why a label is set aside, "" for none

    def __len__(self) -> int:
        return len(self.row_number)

    def take(self, rows: Bools) -> "InlineLabels":
        """These rows only."""
        return InlineLabels(**{name: column[rows] for name, column in vars(self).items()})

    @classmethod
    def of_arrow(cls, columns: Mapping[str, Any]) -> Self:
        """The labels as they were spooled."""
        return cls(
            **{
                field.name: (
                    np.asarray(columns[field.name])
                    if field.type == pa.int64()
                    else np.array(columns[field.name].to_pylist(), dtype=object)
                )
                for field in SCHEMA
            }
        )


class InlineLabelSpool:
    """A temporary file of labels, so that memory does not grow with the source."""

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

    def add(self, labels: InlineLabels) -> None:
        """Add some rows."""
        columns = [pa.array(getattr(labels, field.name), field.type) for field in SCHEMA]
        self._writer.write(pa.record_batch(columns, schema=SCHEMA))
        self.total += len(labels.row_number)

    def clear(self) -> None:
        """Remove all labels."""
        self._writer.close()
        self._file.truncate(0)
        self._file.seek(0)
        self._writer = pa.ipc.new_stream(self._file, SCHEMA)
        self.total = 0

    def rows(self) -> Iterator[RowBatch]:
        """Yield all labels in the order they were added; nothing can be added afterwards."""
        self._writer.close()
        self._file.seek(0)
        for batch in pa.ipc.open_stream(self._file):
            columns = {name: batch.column(name) for name in SCHEMA.names}
            yield RowBatch(np.asarray(columns["row_number"]), columns)


@dataclass(frozen=True)
class InlineLabelReader:
    """Reads the spooled labels of a source; its digest is that of the source."""

    spool: InlineLabelSpool
    source: SourceReader
    unit: str = "rows"

    @property
    def total(self) -> float | None:
        """How many labels there are."""
        return self.spool.total

    def rows(self, expected: ExpectedColumns) -> Iterator[RowBatch]:  # noqa: ARG002 (the columns are fixed)
        """Yield the labels."""
        return self.spool.rows()

    def digest(self) -> str | None:
        """Return the digest of the transactions."""
        return self.source.digest()

    def position(self) -> float | None:
        """None: progress counts rows."""
        return None

    def close(self) -> None:
        """Do nothing: spool and source are closed by the caller."""
