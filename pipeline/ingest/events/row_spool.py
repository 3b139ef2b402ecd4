"""Rows of a source in temporary files, so that memory does not grow with it."""

import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any, Self, cast

import numpy as np
import pyarrow as pa

from pipeline.ingest.formats.columns import texts
from pipeline.ingest.formats.row_batch import BATCH_BYTES, BATCH_ROWS

LENGTH = 8  # bytes before each part that say how long it is
PARTS_MAX = 256  # files that are open at once


class RowSpool:
    """A temporary file of tables; use it as a context manager."""

    def __init__(self) -> None:
        self._file: Any = tempfile.TemporaryFile()  # noqa: SIM115 (closed in __exit__)
        self.total = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return cast(int, self._file.seek(0, 2))

    def add(self, rows: pa.Table) -> None:
        """Add some rows."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as writer:
            writer.write_table(rows)
        content = sink.getvalue()
        self._file.seek(0, 2)
        self._file.write(content.size.to_bytes(LENGTH))
        self._file.write(content)
        self.total += rows.num_rows

    def tables(self) -> Iterator[pa.Table]:
        """Yield what was added, in the same parts."""
        place = 0
        while True:
            self._file.seek(place)
            length = int.from_bytes(self._file.read(LENGTH))
            if not length:
                return
            yield pa.ipc.open_stream(self._file.read(length)).read_all()
            place += LENGTH + length

    def clear(self) -> None:
        """Remove all rows."""
        self._file.truncate(0)
        self.total = 0

    def by_id(self, column: str) -> Iterator[pa.Table]:
        """Yield all rows in tables of about a batch; those with the same text in a column are in the same one."""
        parts = 2 * max(self.total // BATCH_ROWS, self.size // BATCH_BYTES) + 1
        if parts == 1:
            yield joined(list(self.tables()))
            return
        parts = min(parts, PARTS_MAX)
        with ExitStack() as opened:
            spools = [opened.enter_context(RowSpool()) for _ in range(parts)]
            for table in self.tables():
                ids = texts(table.column(column).combine_chunks()).to_pylist()
                part = np.array([zlib.crc32((name or "").encode()) % parts for name in ids], dtype=np.int64)
                for number in np.unique(part).tolist():
                    spools[number].add(table.take(np.flatnonzero(part == number)))
            for spool in spools:
                yield joined(list(spool.tables()))


def joined(tables: Sequence[pa.Table]) -> pa.Table:
    """One table of some with the same columns; a column of several types becomes text."""
    if not tables:
        return pa.table({})
    mixed = [
        field.name
        for field in tables[0].schema
        if any(table.schema.field(field.name).type != field.type for table in tables)
    ]
    for name in mixed:
        tables = [
            table.set_column(
                table.schema.get_field_index(name), name, texts(table.column(name).combine_chunks())
            )
            for table in tables
        ]
    return pa.concat_tables(tables).combine_chunks()
