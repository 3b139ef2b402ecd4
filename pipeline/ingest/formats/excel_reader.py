"""Reads Excel workbooks (.xlsx) row by row; each cell is written as text by itself, because a column may mix types."""

import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from itertools import chain, islice
from typing import Any, BinaryIO
from xml.etree.ElementTree import ParseError

import numpy as np
import pyarrow as pa

from pipeline.errors import InputError
from pipeline.ingest.formats.columns import json_number_text, moment_text
from pipeline.ingest.formats.row_batch import BATCH_BYTES, BATCH_ROWS, SAMPLE_ROWS, ExpectedColumns, RowBatch

OLD = b"\xd0\xcf\x11\xe0"  # of .xls, and of a workbook with a password
SHEETS = "xl/worksheets/"  # are read row by row; all else, above all the different texts of cells, is kept in memory
TEXTS_MAX = 1 << 28  # bytes
ERRORS = {
    "#NULL!", "#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#N/A", "#GETTING_DATA", "#SPILL!", "#CALC!"
}  # fmt: skip

Cells = list[str | None]


class ExcelReader:
    """The first visible sheet that has rows."""

    def __init__(self, file: BinaryIO, digest: Callable[[], str | None], source_name: str) -> None:
        self._file, self._digest, self._source_name = file, digest, source_name
        self.total, self.unit = None, "rows"
        _check(file, source_name)

    def rows(self, expected: ExpectedColumns) -> Iterator[RowBatch]:
        """Yield all rows below the header, once; rows without values are left out."""
        with _workbook(self._file, self._source_name) as book:
            title, rows = _first_sheet(book, self._source_name)
            first = list(islice(rows, SAMPLE_ROWS))
            if not first:
                remedy = "a sheet begins with a header of column names, even without rows"
                raise InputError(f"{self._source_name} is empty", remedy=remedy, code="empty_file")
            width = max(map(len, first))
            texts = [[(cell or "").strip() for cell in row] + [""] * (width - len(row)) for row in first]
            place, _ = expected.header_place(texts)
            header = texts[place]
            names = expected.select(header, f'{self._source_name}, sheet "{title}",')
            places = {name: header.index(name) for name in names}
            yield from _batches(chain(first[place + 1 :], rows), places)

    def digest(self) -> str | None:
        """SHA-256 of the file."""
        return self._digest()

    def position(self) -> float | None:
        """None: progress counts rows."""
        return None

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _check(file: BinaryIO, source_name: str) -> None:
    """Raise InputError if a file is of the old format, has a password, or needs too much memory."""
    file.seek(0)
    if file.read(len(OLD)) == OLD:
        message = f"{source_name} is an Excel file of the old format (.xls), or one with a password"
        raise InputError(message, remedy="save it as .xlsx without a password", code="bad_file")
    with _excel_errors(source_name), zipfile.ZipFile(file) as archive:
        parts = [part for part in archive.infolist() if not part.filename.startswith(SHEETS)]
        size = sum(part.file_size for part in parts if part.filename.endswith((".xml", ".rels")))
    if size > TEXTS_MAX:
        message = f"{source_name} holds more than {TEXTS_MAX >> 20} MiB of different texts"
        raise InputError(message, remedy="save it as CSV", code="bad_file")


@contextmanager
def _workbook(file: BinaryIO, source_name: str) -> Iterator[Any]:
    try:
        import openpyxl
    except ImportError as error:
        message = f"{source_name} is an Excel file, and the library that reads it is not installed"
        raise InputError(message, remedy="pip install 'fraudwatch[excel]'", code="no_excel") from error
    warnings.filterwarnings("ignore", module="openpyxl")  # of styles and the like, which are not read
    file.seek(0)
    with _excel_errors(source_name):
        book = openpyxl.load_workbook(file, read_only=True, data_only=True, keep_links=False)
    with closing(book):
        yield book


@contextmanager
def _excel_errors(source_name: str) -> Iterator[None]:
    """Turn what openpyxl raises for a damaged file into an InputError with one sentence."""
    try:
        yield
    except (
        zipfile.BadZipFile, zlib.error, ParseError, EOFError, LookupError, ValueError, TypeError, AttributeError
    ) as error:  # fmt: skip
        message = f"{source_name} is not a valid Excel file ({error})"
        raise InputError(message, remedy="open it in Excel and save it again", code="bad_file") from error


def _first_sheet(book: Any, source_name: str) -> tuple[str, Iterator[Cells]]:
    """Return the name and the rows of the first sheet that has any; visible sheets come first."""
    for sheet in sorted(book.worksheets, key=lambda sheet: sheet.sheet_state != "visible"):
        rows = _rows(sheet, source_name)
        first = next(rows, None)
        if first is not None:
            return sheet.title, chain([first], rows)
    return "", iter(())


def _rows(sheet: Any, source_name: str) -> Iterator[Cells]:
    sheet.reset_dimensions()  # what a file says of its size may be wrong
    with _excel_errors(source_name):
        for values in sheet.iter_rows(values_only=True):
            cells = [_text(value) for value in values]
            if any(cells):
                yield cells


def _batches(rows: Iterator[Cells], places: dict[str, int]) -> Iterator[RowBatch]:
    start, batch, size = 1, list[Cells](), 0
    for row in rows:
        values = [row[place] if place < len(row) else None for place in places.values()]
        batch.append(values)
        size += sum(len(value) for value in values if value)
        if len(batch) == BATCH_ROWS or size >= BATCH_BYTES:
            yield _batch(batch, list(places), start)
            start, batch, size = start + len(batch), [], 0
    yield _batch(batch, list(places), start)


def _batch(rows: Sequence[Cells], names: Sequence[str], start: int) -> RowBatch:
    columns = {name: pa.array([row[place] for row in rows], pa.string()) for place, name in enumerate(names)}
    return RowBatch(np.arange(start, start + len(rows)), columns)


def _text(value: Any) -> str | None:
    """Write a cell as text; an error such as #N/A is missing."""
    if value is None or isinstance(value, str):
        return None if value in ERRORS else value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return json_number_text(str(value))
    return moment_text(value) if isinstance(value, datetime) else str(value)
