"""
Reads CSV block by block into Arrow columns of text, without losing a row.

Arrow parses a block of valid rows in a few milliseconds. This module splits the file into rows first, so that a row
that is not text, has an unclosed quote or the wrong number of values is rejected alone. Where Arrow and the csv module
could differ, rows are split by the csv module. Blank lines are skipped. As in RFC 4180, a quoted value may hold
separators, doubled quotes and line breaks. A row that breaks these rules, but is whole if `\\"` stands for a quote, is
read like that. A file whose first line ends with a carriage return alone has such line ends throughout.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv

from pipeline.errors import InputError
from pipeline.ingest.decoding.encodings import UTF8, not_decodable, readable
from pipeline.ingest.formats.csv_dialect import QUOTES, SEPARATORS, Dialect, Record, line_end, recognise
from pipeline.ingest.formats.row_batch import BATCH_ROWS, ExpectedColumns, RowBatch, UnreadableRow
from storage.frames import Ints

BLOCK = 1 << 22  # bytes read at once, some 40,000 rows
START = 1 << 20  # bytes in which the header is looked for
LINE_MAX = 1 << 24  # bytes; a file with a longer line is not CSV

ENCODING_ONCE = "for one command put FRAUDWATCH_FORMAT__ENCODING=cp932 or another before it"
CUT_OFF = "the last row has fewer values than the header has columns, and no line end: the file may be truncated, fetch it again"
STRAY_BREAK = "a line break inside a value without quotes: put the value in quotes"

csv.field_size_limit(LINE_MAX)  # of this process; as Arrow, which has none


def read_csv(
    stream: BinaryIO, expected: ExpectedColumns, source_name: str, encoding: str = UTF8, quote: str = "double"
) -> Iterator[RowBatch]:
    """
    Read a CSV file in UTF-8 from its header on; lines before the header are left out.

    Parameters
    ----------
    encoding
        Of the file before it was converted, for messages.
    quote
        A key of `QUOTES`.

    Raises
    ------
    InputError
        If it has no header, lacks a required column, is no text as a whole, or is not lines of text.
    """
    start = stream.read(max(BLOCK, START))
    dialect, place = recognise(start[:START], expected, QUOTES[quote], final=len(start) < START)
    if not start.strip():
        raise _empty(source_name)
    blocks = _records(_blocks(start, stream), dialect, source_name)
    first: list[Record] = []
    while len(first) <= place:
        block = next(blocks, None)
        if block is None:
            raise _empty(source_name)
        first += block
    header = _header(dialect, first[place], source_name, encoding)
    parser = _CsvParser(header, expected.select(header, source_name), dialect, encoding)
    number = 1
    for block in _prepend(first[place + 1 :], blocks):
        for begin in range(0, len(block), BATCH_ROWS):
            rows = parser.parse(block[begin : begin + BATCH_ROWS], number)
            number += len(rows) + len(rows.unreadable)
            yield rows


def _empty(source_name: str) -> InputError:
    remedy = "a CSV file begins with a header of column names, even without rows"
    return InputError(f"{source_name} is empty", remedy=remedy, code="empty_file")


def _blocks(start: bytes, stream: BinaryIO) -> Iterator[bytes]:
    for begin in range(0, len(start), BLOCK):
        yield start[begin : begin + BLOCK]
    while block := stream.read(BLOCK):
        yield block


def _prepend(first: list[Record], others: Iterator[list[Record]]) -> Iterator[list[Record]]:
    yield first
    yield from others


def _header(dialect: Dialect, record: Record, source_name: str, encoding: str) -> list[str]:
    try:
        if isinstance(record, UnreadableRow):
            raise csv.Error(record.reason)  # noqa: TRY301
        values = dialect.split(record)
        if values is None:
            raise csv.Error(STRAY_BREAK)  # noqa: TRY301
    except UnicodeDecodeError as error:
        message, _, remedy = not_decodable(encoding, f"the header of {source_name}").rpartition(": ")
        raise InputError(message, remedy=f"{remedy}; {ENCODING_ONCE}", code="bad_file") from error
    except csv.Error as error:
        message = f"{source_name} has no header that can be read as CSV ({error})"
        raise InputError(message, remedy="save it as CSV UTF-8", code="bad_file") from error
    return [value.strip() for value in values]


def _records(blocks: Iterator[bytes], dialect: Dialect, source_name: str) -> Iterator[list[Record]]:
    """Yield rows as bytes; rows with an unclosed quote as unreadable rows."""
    data = rest = next(blocks, b"")
    end = line_end(data, dialect.quote)
    while data:
        data = next(blocks, b"")
        *lines, rest = rest.split(end) if data else (*rest.split(end), b"")
        records, pending = dialect.join_lines(lines, final=not data)
        rest = end.join([*pending, rest])
        if len(rest) > LINE_MAX:
            message = f"{source_name} holds a line of more than {LINE_MAX >> 20} MiB, so it is not CSV"
            raise InputError(message, remedy="check its format", code="bad_file")
        if not data and records and isinstance(records[-1], bytes) and lines[-1]:
            records[-1] = _Unended(records[-1])
        if records:
            yield records
        rest += data


class _Unended(bytes):
    """The last row of a file that does not end with a line end."""


class _CsvParser:
    """Splits the rows of one file into columns."""

    def __init__(
        self, header: list[str], names: Sequence[str], dialect: Dialect, encoding: str = UTF8
    ) -> None:
        self._width, self._dialect, self._encoding = len(header), dialect, encoding
        self._places = {name: header.index(name) for name in names}

    def parse(self, records: Sequence[Record], start: int) -> RowBatch:
        """Split rows into columns; the first row has the number `start`."""
        bad = {place: record for place, record in enumerate(records) if isinstance(record, UnreadableRow)}
        sound = [record for record in records if isinstance(record, bytes)] if bad else list(records)
        numbers = np.delete(np.arange(start, start + len(records)), list(bad))
        unreadable = [UnreadableRow(start + place, row.text, row.reason) for place, row in bad.items()]
        sound, numbers = self._without_undecodable(sound, numbers, unreadable)
        rows = self._parse_with_arrow(sound, numbers, unreadable)
        return self._parse_row_by_row(sound, numbers, unreadable) if rows is None else rows

    def _without_undecodable(
        self, records: list[Any], numbers: Ints, unreadable: list[UnreadableRow]
    ) -> tuple[list[bytes], Ints]:
        if _is_decodable(b"\n".join(records)):
            return records, numbers
        good = np.array([_is_decodable(record) for record in records], dtype=bool)
        unreadable += [
            UnreadableRow(int(numbers[place]), _text(records[place]), not_decodable(self._encoding))
            for place in np.flatnonzero(~good)
        ]
        return [record for record, sound in zip(records, good, strict=True) if sound], numbers[good]

    def _parse_with_arrow(
        self, records: list[bytes], numbers: Ints, unreadable: list[UnreadableRow]
    ) -> RowBatch | None:
        """Split rows with Arrow; None if a row is not one line, or a quote makes Arrow take two lines for one row."""
        widths: dict[int, int] = {}  # position → number of values

        def set_aside(row: Any) -> str:
            widths[row.number - 1] = row.actual_columns
            return "skip"

        data = b"\n".join(records).removesuffix(b"\r")
        if not data or not _are_lines(data, len(records)):
            return None
        table = _arrow(data, self._dialect, self._width, list(self._places.values()), set_aside)
        if table is None or table.num_rows + len(widths) != len(records):
            return None
        unreadable += [
            UnreadableRow(
                int(numbers[place]), _text(records[place]), self._wrong_width(width, records[place])
            )
            for place, width in widths.items()
        ]
        columns = {name: _single_chunk(table[str(place)]) for name, place in self._places.items()}
        return RowBatch(np.delete(numbers, list(widths)), columns, unreadable)

    def _parse_row_by_row(
        self, records: list[bytes], numbers: Ints, unreadable: list[UnreadableRow]
    ) -> RowBatch:
        """Split row by row."""
        values: list[list[str]] = []
        good_numbers: list[int] = []
        for number, record in zip(numbers.tolist(), records, strict=True):
            row = self._dialect.split(record)
            if row is None or len(row) != self._width:
                reason = STRAY_BREAK if row is None else self._wrong_width(len(row), record)
                unreadable.append(UnreadableRow(number, _text(record), reason))
            else:
                values.append(row)
                good_numbers.append(number)
        columns = {
            name: pa.array([row[place] for row in values], pa.string())
            for name, place in self._places.items()
        }
        return RowBatch(np.array(good_numbers, dtype=np.int64), columns, unreadable)

    def _wrong_width(self, width: int, record: bytes) -> str:
        if width < self._width and isinstance(record, _Unended):
            return CUT_OFF
        more = "more" if width > self._width else "fewer"
        separator = SEPARATORS[self._dialect.separator]
        return f"the row has {more} values than the header has columns: quote values that hold {separator}"


def _are_lines(data: bytes, rows: int) -> bool:
    """Whether each row is one line, so that Arrow either finds the same rows or fewer."""
    lone_return = b"\r" in data and data.count(b"\r") != data.count(b"\r\n")
    return not lone_return and data.count(b"\n") == rows - 1


def _arrow(data: bytes, dialect: Dialect, width: int, places: list[int], handler: Any) -> Any:
    names = [str(place) for place in range(width)]
    try:
        return pyarrow.csv.read_csv(
            io.BytesIO(data),
            pyarrow.csv.ReadOptions(column_names=names, use_threads=False, block_size=len(data) + 1),
            pyarrow.csv.ParseOptions(
                delimiter=dialect.separator,
                quote_char=dialect.quote,
                newlines_in_values=dialect.quote.encode() in data,
                invalid_row_handler=handler,
            ),
            pyarrow.csv.ConvertOptions(
                check_utf8=False,  # already checked
                column_types=dict.fromkeys(names, pa.string()),
                include_columns=[str(place) for place in places],
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid:
        return None


def _single_chunk(column: Any) -> Any:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _is_decodable(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _text(record: bytes) -> str:
    return readable(record.rstrip(b"\r"))
