"""
Files, streams and queries → chunks of rows, a bounded number at a time.

A source is opened, read once from first to last row, and knows the SHA-256 of its content: a file's before it is
read, a stream's or query's once it is read through. Memory does not grow with the source.
"""

import gzip
import hashlib
import io
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.ingest.formats.csv_reader import read_csv
from pipeline.ingest.formats.jsonl_reader import read_jsonl
from pipeline.ingest.formats.row_batch import NOT_UTF8, ROWS, Rows, Unreadable, Wanted
from storage.ingest.external_query import Part

MIB = 1 << 20
ENDINGS = {
    ".csv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
}
SNIFFED = 1 << 12  # bytes looked at to tell a stream's format
GZIP = b"\x1f\x8b"
PARQUET = b"PAR1"


class Reading(Protocol):
    """An open source; a context manager."""

    @property
    def total(self) -> float | None:
        """How much there is of `unit`, as far as it is known."""

    @property
    def unit(self) -> str:
        """What progress counts."""

    def rows(self, wanted: Wanted) -> Iterator[Rows]:
        """Read it, once."""

    def digest(self) -> str | None:
        """SHA-256 of the content, None as long as it is not known."""

    def position(self) -> float | None:
        """How much of `total` is read; None where rows are counted."""

    def close(self) -> None:
        """Let go of it."""


def format_of(path: Path) -> str:
    """
    Tell a file's format by its name.

    Raises
    ------
    InputError
        If the name does not say it.
    """
    name = path.name.lower().removesuffix(".gz")
    form = next((form for ending, form in ENDINGS.items() if name.endswith(ending)), None)
    if form is None:
        raise InputError(
            f"{path} must end in .csv or .jsonl (also .gz) or in .parquet; say what it is with --format"
        )
    return form


def open_path(path: Path, form: str | None, shown: str) -> Reading:
    """
    Open a file.

    Raises
    ------
    InputError
        If it cannot be read, its name tells no format, or it is not the Parquet it says it is.
    """
    if path.is_dir():
        raise InputError(f"{shown} is a folder; name its files, such as {shown.rstrip('/')}/*.csv")
    form = form or format_of(path)
    with _refusing(shown), ExitStack() as opened:
        file = opened.enter_context(path.open("rb"))
        size = file.seek(0, io.SEEK_END)
        file.seek(0)

        @lru_cache(1)
        def digest() -> str:
            with _refusing(shown), path.open("rb") as again:
                return hashlib.file_digest(again, "sha256").hexdigest()

        reading = (
            _Parquet(file, digest, shown)
            if form == "parquet"
            else _Lines(file, form, shown, digest, size / MIB)
        )
        opened.pop_all()  # it closes the file from here on
        return reading


def open_stream(stream: BinaryIO, form: str | None, shown: str) -> Reading:
    """
    Open standard input or the like; its first bytes tell the format where it is not given.

    Parquet is read from its end, so that a stream of it goes to a temporary file first.
    """
    hashed = _Hashed(stream)
    buffered = io.BufferedReader(cast(io.RawIOBase, hashed), MIB)
    form = form or _sniff(buffered.peek(SNIFFED))
    if form != "parquet":
        return _Lines(cast(BinaryIO, buffered), form, shown, hashed.digest, None)
    with _refusing(shown), ExitStack() as opened:
        file = cast(BinaryIO, opened.enter_context(tempfile.TemporaryFile()))
        shutil.copyfileobj(buffered, file, MIB)
        reading = _Parquet(file, hashed.digest, shown)
        opened.pop_all()
        return reading


def open_query(parts: Iterator[Part], shown: str) -> Reading:
    """Open the rows of a query, as storage.external reads them."""
    return _Query(parts, shown)


class _Lines:
    """CSV or JSON Lines, gzipped or not."""

    def __init__(
        self,
        file: BinaryIO,
        form: str,
        shown: str,
        digest: Callable[[], str | None],
        total: float | None,
    ) -> None:
        self._file, self._shown, self._digest = file, shown, digest
        self._read = read_csv if form == "csv" else read_jsonl
        self.total, self.unit = total, "rows" if total is None else "MiB"

    def rows(self, wanted: Wanted) -> Iterator[Rows]:
        with _refusing(self._shown):
            yield from self._read(_unpacked(self._file), wanted, self._shown)
            while self._file.read(MIB):  # what is left behind a gzip stream belongs to the content, too
                pass

    def digest(self) -> str | None:
        return self._digest()

    def position(self) -> float | None:
        return None if self.total is None else self._file.tell() / MIB

    def close(self) -> None:
        self._file.close()


class _Parquet:
    """A Parquet file; only the wanted columns are read."""

    def __init__(self, file: BinaryIO, digest: Callable[[], str | None], shown: str) -> None:
        self._shown, self._digest, self._file = shown, digest, file
        self._parquet = pq.ParquetFile(file)
        self.total, self.unit = self._parquet.metadata.num_rows, "rows"

    def rows(self, wanted: Wanted) -> Iterator[Rows]:
        with _refusing(self._shown):
            names = wanted.check(self._parquet.schema_arrow.names, self._shown)
            first = 1
            for batch in self._parquet.iter_batches(ROWS, columns=names):
                columns = {name: batch.column(name) for name in names}
                yield _without_bad_bytes(np.arange(first, first + batch.num_rows), columns)
                first += batch.num_rows
            if first == 1:
                yield Rows(np.empty(0, np.int64), {name: pa.nulls(0, pa.string()) for name in names})

    def digest(self) -> str | None:
        return self._digest()

    def position(self) -> float | None:
        return None

    def close(self) -> None:
        self._parquet.close()
        self._file.close()


class _Query:
    """Rows of another database."""

    def __init__(self, parts: Iterator[Part], shown: str) -> None:
        self._parts, self._shown = parts, shown
        self._seen, self._done = hashlib.sha256(), False
        self.total, self.unit = None, "rows"

    def rows(self, wanted: Wanted) -> Iterator[Rows]:
        first = 1
        for found, values in self._parts:
            names = wanted.check(found, self._shown)
            for row in values:
                self._seen.update(repr(tuple(row)).encode())
            columns = {name: from_python([row[found.index(name)] for row in values]) for name in names}
            yield Rows(np.arange(first, first + len(values)), columns)
            first += len(values)
        self._done = True

    def digest(self) -> str | None:
        return self._seen.hexdigest() if self._done else None

    def position(self) -> float | None:
        return None

    def close(self) -> None:
        close = getattr(self._parts, "close", None)
        if close is not None:
            close()


class _Hashed(io.RawIOBase):
    """A stream that hashes what passes."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._seen, self._done = stream, hashlib.sha256(), False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        self._seen.update(data)
        self._done = not data
        return len(data)

    def digest(self) -> str | None:
        return self._seen.hexdigest() if self._done else None


def from_python(values: Sequence[Any]) -> Any:
    """Values of a driver as an Arrow column; where their types do not go together, as text."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        return pa.array([_driver_text(value) for value in values], pa.string())


def _driver_text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _without_bad_bytes(numbers: Any, columns: dict[str, Any]) -> Rows:
    """Read columns of bytes as UTF-8; rows in which they are not go aside."""
    bad: dict[int, str] = {}
    for name, column in columns.items():
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            texts = [_decoded(value, place, bad) for place, value in enumerate(column.to_pylist())]
            columns[name] = pa.array(texts, pa.string())
    if not bad:
        return Rows(numbers, columns)
    kept = np.setdiff1d(np.arange(len(numbers)), list(bad))
    unreadable = [Unreadable(int(numbers[place]), text, NOT_UTF8) for place, text in bad.items()]
    return Rows(numbers[kept], {name: column.take(kept) for name, column in columns.items()}, unreadable)


def _decoded(value: bytes | None, place: int, bad: dict[int, str]) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        bad[place] = cast(bytes, value).decode("utf-8", "backslashreplace")
        return None


def _unpacked(file: BinaryIO) -> BinaryIO:
    """The file's text, whatever its name says about gzip."""
    peeked = file if isinstance(file, io.BufferedReader) else io.BufferedReader(cast(Any, file))
    return (
        cast(BinaryIO, gzip.GzipFile(fileobj=peeked))
        if peeked.peek(2)[:2] == GZIP
        else cast(BinaryIO, peeked)
    )


def _sniff(start: bytes) -> str:
    """Tell Parquet, JSON Lines and CSV apart by their first bytes."""
    if start.startswith(PARQUET):
        return "parquet"
    if start.startswith(GZIP):
        start = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16).decompress(start)
    return "jsonl" if start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{") else "csv"


@contextmanager
def _refusing(shown: str) -> Iterator[None]:
    """Say in one sentence that a source cannot be read."""
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{shown} does not exist; check the path") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{shown} is damaged or cut short: {error}; fetch it again") from error
    except pa.ArrowException as error:
        raise InputError(f"{shown} is not Parquet that can be read: {_first_line(error)}") from error
    except OSError as error:
        raise InputError(f"{shown} cannot be read: {error.strerror or _first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
