"""
Reads files and streams in batches of rows.

A source is read once, from its first to its last row, and has the SHA-256 of its content as digest: a file before it is
read, a stream or query only after the last row. Memory does not grow with the source.
"""

import gzip
import hashlib
import io
import lzma
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.config.sections import FormatSection
from pipeline.errors import InputError
from pipeline.files import display_name
from pipeline.ingest.decoding.compression import first_bytes, is_zip, named_format, unpacked, zipped_format
from pipeline.ingest.decoding.encodings import UTF8, as_utf8, detected
from pipeline.ingest.decoding.not_text import check_known, check_text
from pipeline.ingest.formats.arrow_arrays import as_ints
from pipeline.ingest.formats.csv_reader import read_csv
from pipeline.ingest.formats.excel_reader import ExcelReader
from pipeline.ingest.formats.jsonl_reader import read_jsonl
from pipeline.ingest.formats.parquet_pages import rows_at_once
from pipeline.ingest.formats.row_batch import BATCH_BYTES, BATCH_ROWS, ExpectedColumns, RowBatch, decoded

MIB = 1 << 20
SNIFFED = 1 << 12  # bytes from which the format of a stream is detected
DETECTED = 1 << 22  # bytes from which the encoding of a file is detected
TEXT_FORMATS = ("csv", "jsonl")
PARQUET = b"PAR1"
PLAIN = FormatSection()  # how values are written if nobody says so
INDEX_BYTES = 2.5  # of a value: a dictionary of 1 MiB, where writers stop, has indices of at most 20 bits
PAGE_HEADERS = 1 << 14  # bytes; they hold the smallest and the largest value
DICTIONARY_ENCODINGS = {"RLE_DICTIONARY", "PLAIN_DICTIONARY"}


class SourceReader(Protocol):
    """An open source."""

    @property
    def total(self) -> float | None:
        """The size of the source in `unit`, None if unknown."""

    @property
    def unit(self) -> str:
        """The unit of progress: rows or MiB."""

    def rows(self, expected: ExpectedColumns) -> Iterator[RowBatch]:
        """Yield all rows, once."""

    def digest(self) -> str | None:
        """SHA-256 of the content, None while it is not known yet."""

    def position(self) -> float | None:
        """How much of `total` is read; None if progress counts rows."""

    def close(self) -> None:
        """Close the source."""


def format_of(path: Path) -> str:
    """
    Return a file's format by the ending of its name, or of the name of the file in it if it is a zip file.

    Raises
    ------
    InputError
        If the ending is unknown, or it is no zip file that can be read.
    """
    if path.suffix.lower() != ".zip":
        return named_format(path.name, display_name(path))
    check_path(path, display_name(path))
    with _input_errors(display_name(path)), path.open("rb") as file:
        return zipped_format(file, display_name(path))


def check_path(path: Path, source_name: str) -> None:
    """Raise InputError if a path is a folder or does not exist."""
    if path.is_dir():
        files = f"{source_name.rstrip('/')}/*.csv"
        raise InputError(
            f"{source_name} is a folder", remedy=f"name its files, such as {files}", code="no_file"
        )
    if not path.exists():
        raise InputError(f"{source_name} does not exist", remedy="check the path", code="no_file")


def detect_encoding(path: Path) -> str:
    """
    Return the encoding of a file by its first megabytes, for `format.encoding`: "utf-8", "utf-16", "cp1252" …

    Raises
    ------
    InputError
        If it cannot be read, or its name has no known ending.
    """
    if format_of(path) not in TEXT_FORMATS:
        return UTF8
    with _input_errors(display_name(path)), path.open("rb") as file:
        start = unpacked(file, display_name(path)).read(DETECTED)
        return detected(start if len(start) < DETECTED else start[: start.rfind(b"\n") + 1])


def open_path(
    path: Path, file_format: str | None, source_name: str, written: FormatSection = PLAIN
) -> SourceReader:
    """
    Open a file; `written` says how text files are written.

    Raises
    ------
    InputError
        If it cannot be read, its name has no known ending, or it is not valid Parquet.
    """
    check_path(path, source_name)
    file_format = file_format or format_of(path)
    with _input_errors(source_name), ExitStack() as opened:
        file = opened.enter_context(path.open("rb"))
        size = file.seek(0, io.SEEK_END)
        file.seek(0)

        @lru_cache(1)
        def digest() -> str:
            with _input_errors(source_name), path.open("rb") as again:
                return hashlib.file_digest(again, "sha256").hexdigest()

        reader = _reader(file, file_format, source_name, written, digest, size / MIB)
        opened.pop_all()  # the reader closes the file from here on
        return reader


def open_stream(
    stream: BinaryIO, file_format: str | None, source_name: str, written: FormatSection = PLAIN
) -> SourceReader:
    """
    Open a stream such as standard input; without `file_format` its first bytes decide.

    Parquet, Excel and zip are read from their end, so such a stream is copied to a temporary file first.
    """
    hashed = _HashingStream(stream)
    buffered = cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, hashed), MIB))
    with _input_errors(source_name), ExitStack() as opened:
        start = cast(Any, buffered).peek(SNIFFED)
        if is_zip(start):
            buffered = opened.enter_context(_copied(buffered))
            file_format = file_format or zipped_format(buffered, source_name)
            buffered.seek(0)
        reader = _reader(
            buffered,
            file_format or _sniff(start, written.encoding),
            source_name,
            written,
            hashed.digest,
            None,
        )
        opened.pop_all()
        return reader


def _reader(
    file: BinaryIO,
    file_format: str,
    source_name: str,
    written: FormatSection,
    digest: Callable[[], str | None],
    total: float | None,
) -> SourceReader:
    """Return the reader of a format; all but text must be seekable, so they are unpacked to a temporary file."""
    if file_format in TEXT_FORMATS:
        return _TextReader(file, file_format, source_name, written, digest, total)
    content = unpacked(file, source_name)
    with ExitStack() as opened:
        if content is not file or not file.seekable():
            content = opened.enter_context(_copied(content))
            file.close()
        reader = (ExcelReader if file_format == "excel" else _ParquetReader)(content, digest, source_name)
        opened.pop_all()
        return reader


def _copied(stream: BinaryIO) -> BinaryIO:
    """Copy a stream to a temporary file."""
    with ExitStack() as opened:
        file = cast(BinaryIO, opened.enter_context(tempfile.TemporaryFile()))
        shutil.copyfileobj(stream, file, MIB)
        file.seek(0)
        opened.pop_all()
        return file


class _TextReader:
    """CSV or JSON Lines, packed or not."""

    def __init__(
        self,
        file: BinaryIO,
        file_format: str,
        source_name: str,
        written: FormatSection,
        digest: Callable[[], str | None],
        total: float | None,
    ) -> None:
        self._file, self._source_name, self._digest = file, source_name, digest
        self._written = written
        self._read = partial(read_csv, quote=written.quote) if file_format == "csv" else read_jsonl
        self.total, self.unit = total, "rows" if total is None else "MiB"

    def rows(self, expected: ExpectedColumns) -> Iterator[RowBatch]:
        with _input_errors(self._source_name):
            content = unpacked(self._file, self._source_name)
            check_known(content, self._source_name)
            stream, encoding = as_utf8(content, self._written.encoding)
            check_text(stream, self._source_name)
            yield from self._read(stream, expected, self._source_name, encoding)
            while self._file.read(MIB):  # bytes after packed ones belong to the digest, too
                pass

    def digest(self) -> str | None:
        return self._digest()

    def position(self) -> float | None:
        return None if self.total is None else self._file.tell() / MIB

    def close(self) -> None:
        self._file.close()


class _ParquetReader:
    """A Parquet file; only the expected columns are read."""

    def __init__(self, file: BinaryIO, digest: Callable[[], str | None], source_name: str) -> None:
        self._source_name, self._digest, self._file = source_name, digest, file
        self._dictionaries = _dictionary_columns(pq.read_metadata(file))
        self._parquet = pq.ParquetFile(
            file,
            read_dictionary=self._dictionaries,
            buffer_size=MIB,
            pre_buffer=False,
        )
        self.total, self.unit = self._parquet.metadata.num_rows, "rows"

    def rows(self, expected: ExpectedColumns) -> Iterator[RowBatch]:
        with _input_errors(self._source_name):
            names = expected.select(self._parquet.schema_arrow.names, self._source_name)
            if expected.every:
                names = [name for name in names if not self._is_nested(name)]
            self._check_flat(names)
            first = 1
            at_once = rows_at_once(self._file, names, self._dictionaries, self._source_name)
            batches = self._parquet.iter_batches(min(at_once, BATCH_ROWS), columns=names)
            for batch in batches if at_once >= BATCH_ROWS else _joined(batches):
                batch.validate(full=True)  # text that is not UTF-8
                for part in _bounded(batch):
                    columns = {name: _plain_text(part.column(name)) for name in names}
                    yield decoded(np.arange(first, first + part.num_rows), columns)
                    first += part.num_rows
            if first == 1:
                yield RowBatch(np.empty(0, np.int64), {name: pa.nulls(0, pa.string()) for name in names})

    def _is_nested(self, name: str) -> bool:
        return bool(pa.types.is_nested(self._parquet.schema_arrow.field(name).type))

    def _check_flat(self, names: list[str]) -> None:
        """Raise InputError for lists and the like, of which one row may be as long as a file."""
        for name in names:
            if self._is_nested(name):
                kind = self._parquet.schema_arrow.field(name).type
                raise InputError(
                    f"{self._source_name}: column {name} holds {kind}; it must hold one value a row",
                    remedy="convert it first",
                    code="bad_file",
                )

    def digest(self) -> str | None:
        return self._digest()

    def position(self) -> float | None:
        return None

    def close(self) -> None:
        self._parquet.close()
        self._file.close()


def _joined(batches: Iterator[Any]) -> Iterator[Any]:
    """Join small batches to some of usual size."""
    waiting, rows, size = list[Any](), 0, 0
    for batch in batches:
        waiting.append(batch)
        rows, size = rows + batch.num_rows, size + batch.nbytes
        if rows >= BATCH_ROWS or size >= BATCH_BYTES:
            yield from _as_one(waiting)
            waiting, rows, size = [], 0, 0
    yield from _as_one(waiting)


def _as_one(batches: list[Any]) -> Iterator[Any]:
    if batches:
        yield from pa.Table.from_batches(batches).unify_dictionaries().combine_chunks().to_batches()


def _dictionary_columns(metadata: Any) -> list[str]:
    """
    The columns of text that are stored as dictionaries.

    They are read as such, because a few kB of a file may repeat one long value thousands of times. Columns of many
    different values, whose dictionary grew too large and which are therefore stored value by value, are not: Arrow would
    keep every value of a row group.
    """
    groups = [metadata.row_group(place) for place in range(metadata.num_row_groups)]
    chunks = [[group.column(place) for group in groups] for place in range(metadata.num_columns)]
    return [
        column[0].path_in_schema
        for column in chunks
        if column
        and column[0].physical_type == "BYTE_ARRAY"
        and all(DICTIONARY_ENCODINGS & set(chunk.encodings) for chunk in column)
        and any(_has_indices(chunk) for chunk in column)
    ]


def _has_indices(chunk: Any) -> bool:
    """Whether the pages behind the dictionary are as small as indices of it; values themselves take more bytes."""
    if chunk.dictionary_page_offset is None:
        return True
    pages = chunk.total_compressed_size - (chunk.data_page_offset - chunk.dictionary_page_offset)
    return bool(pages <= INDEX_BYTES * chunk.num_values + PAGE_HEADERS)


def _bounded(batch: Any) -> Iterator[Any]:
    """Cut a batch so that the text of each part is at most `BATCH_BYTES`, or one row."""
    sizes = np.zeros(batch.num_rows, dtype=np.int64)
    for column in batch.columns:
        if pa.types.is_dictionary(column.type):
            lengths = pc.binary_length(column.dictionary)
            sizes += as_ints(lengths.take(column.indices))
    ends = np.cumsum(sizes)
    start = 0
    while start < batch.num_rows or not start:
        before = int(ends[start - 1]) if start else 0
        end = max(int(np.searchsorted(ends, before + BATCH_BYTES, side="right")), start + 1)
        yield batch.slice(start, end - start)
        start = end


def _plain_text(column: Any) -> Any:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


class _HashingStream(io.RawIOBase):
    """A stream that hashes the bytes it reads."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._sha256, self._done = stream, hashlib.sha256(), False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        self._sha256.update(data)
        self._done = not data
        return len(data)

    def digest(self) -> str | None:
        return self._sha256.hexdigest() if self._done else None


def _sniff(start: bytes, encoding: str) -> str:
    """Detect Parquet, JSON Lines or CSV by the first bytes."""
    start = first_bytes(start)
    if start.startswith(PARQUET):
        return "parquet"
    text, _ = as_utf8(cast(BinaryIO, io.BufferedReader(cast(Any, io.BytesIO(start)))), encoding)
    return "jsonl" if text.read().lstrip().startswith(b"{") else "csv"


@contextmanager
def _input_errors(source_name: str) -> Iterator[None]:
    """Turn errors of reading a source into InputError with one sentence."""
    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, zipfile.BadZipFile) as error:
        message = f"{source_name} is damaged or truncated ({error})"
        raise InputError(message, remedy="fetch it again", code="bad_file") from error
    except pa.ArrowException as error:
        message = f"{source_name} is not valid Parquet: {_first_line(error)}"
        raise InputError(message, code="bad_file") from error
    except OSError as error:
        message = f"{source_name} cannot be read: {error.strerror or _first_line(error)}"
        of_the_disk = error.errno is not None  # Arrow raises OSError for damaged files, too
        raise InputError(message, code="unreadable" if of_the_disk else "bad_file") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
