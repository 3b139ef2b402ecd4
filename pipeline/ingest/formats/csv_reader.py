"""
Reads CSV block by block into Arrow columns of text, without losing a row.

Arrow parses a block of valid rows in a few milliseconds. This module splits the file into rows first, so that a row
that is not UTF-8, has an unclosed quote or the wrong number of values is rejected alone. Where Arrow and the csv module
could differ, rows are split by the csv module. Blank lines are skipped. As in RFC 4180, a quoted value may hold commas,
doubled quotes and line breaks. A row that breaks these rules, but is whole if `\\"` stands for a quote, is read like that.
A file whose header ends with a carriage return alone has such line ends throughout.
"""

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv

from pipeline.errors import InputError
from pipeline.ingest.formats.row_batch import BATCH_ROWS, NOT_UTF8, ExpectedColumns, RowBatch, UnreadableRow
from storage.frames import Ints

BLOCK = 1 << 22  # bytes read at once, some 40,000 rows
LINE_MAX = 1 << 24  # bytes; a file with a longer line is not CSV
VALUE_LINES_MAX = 100  # lines that one quoted value may span; beyond that its quote counts as unclosed

NOT_CLOSED = "a quoted value is not closed: close it, or write a quote twice inside a quoted value"
STRAY_BREAK = "a line break inside a value without quotes: put the value in quotes"

_QUOTED = rb'"[^"]*+(?:""[^"]*+)*+"'
# A line whose last value has an open quote. Text after a closing quote is accepted, as by Arrow.
_OPEN = re.compile(rb'(?:(?:%b[^,]*+|[^",][^,]*+|),)*+"[^"]*+(?:""[^"]*+)*+' % _QUOTED)
_COMPLETE = re.compile(rb'(?:%b|[^",]*+)(?:,(?:%b|[^",]*+))*+\r?' % (_QUOTED, _QUOTED))
_BLANK = (b"", b"\r")
_INSIDE = rb'[^"]*+(?:""[^"]*+)*+'  # of a quoted value
# What follows a line with an open quote: a line that stays inside the value, or closes it and ends the row, or opens another.
_STAYS = re.compile(_INSIDE)
_CLOSES = re.compile(rb'%b"(?:,(?:%b|[^",]*+))*+\r?' % (_INSIDE, _QUOTED))
_REOPENS = re.compile(rb'%b",(?:(?:%b|[^",]*+),)*+"%b' % (_INSIDE, _QUOTED, _INSIDE))
_ESCAPED = re.compile(rb'\\(["\\])')

csv.field_size_limit(LINE_MAX)  # of this process; as Arrow, which has none

Record = bytes | UnreadableRow


def read_csv(stream: BinaryIO, expected: ExpectedColumns, source_name: str) -> Iterator[RowBatch]:
    """
    Read a CSV file from its header on.

    Raises
    ------
    InputError
        If it has no header, lacks a required column, is not UTF-8 as a whole, or is not lines of text.
    """
    blocks = _records(stream, source_name)
    first = next(blocks, [])
    if not first:
        remedy = "a CSV file begins with a header of column names, even without rows"
        raise InputError(f"{source_name} is empty", remedy=remedy, code="empty_file")
    header = _header(first.pop(0), source_name)
    names = expected.select(header, source_name)
    parser = _CsvParser(header, names)
    start = 1
    for block in _prepend(first, blocks):
        for place in range(0, len(block), BATCH_ROWS):
            rows = parser.parse(block[place : place + BATCH_ROWS], start)
            start += len(rows) + len(rows.unreadable)
            yield rows


def _prepend(first: list[Record], others: Iterator[list[Record]]) -> Iterator[list[Record]]:
    yield first
    yield from others


def _header(record: Record, source_name: str) -> list[str]:
    try:
        if isinstance(record, UnreadableRow):
            raise csv.Error(record.reason)  # noqa: TRY301
        text = record.decode()
        return [name.strip() for name in next(csv.reader(io.StringIO(text, newline="")))]
    except (UnicodeDecodeError, csv.Error) as error:
        message = f"{source_name} has no header that can be read as CSV in UTF-8 ({error})"
        raise InputError(message, remedy="save it as CSV UTF-8", code="bad_file") from error


def _records(stream: BinaryIO, source_name: str) -> Iterator[list[Record]]:
    """Yield rows as bytes; rows with an unclosed quote as unreadable rows."""
    data = stream.read(BLOCK)
    line_end = b"\r" if _ends_with_returns(data) else b"\n"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError(f"{source_name} is UTF-16", remedy="save it as CSV UTF-8", code="bad_file")
    rest = data.removeprefix(codecs.BOM_UTF8)
    while data:
        data = stream.read(BLOCK)
        *lines, rest = rest.split(line_end) if data else (*rest.split(line_end), b"")
        records, pending = _cut(lines, final=not data)
        rest = line_end.join([*pending, rest])
        if len(rest) > LINE_MAX:
            message = f"{source_name} holds a line of more than {LINE_MAX >> 20} MiB, so it is not CSV"
            raise InputError(message, remedy="check its format", code="bad_file")
        if records:
            yield records
        rest += data


def _ends_with_returns(start: bytes) -> bool:
    """Whether the first line ends with a carriage return and no line feed, as in files of old Macs."""
    header = start.lstrip(b"\r\n").split(b"\n", 1)[0].rstrip(b"\r")
    return b"\r" in header and b'"' not in header.split(b"\r", 1)[0]


def _cut(lines: list[bytes], final: bool) -> tuple[list[Record], list[bytes]]:
    """Join lines to rows; return the rows, and the lines that may continue in the next block."""
    if not any(b'"' in line for line in lines):
        return [line for line in lines if line not in _BLANK], []
    records: list[Record] = []
    place = 0
    while place < len(lines):
        line = lines[place]
        if line.count(b'"') % 2 == 0 and b'\\"' not in line:
            if line not in _BLANK:
                records.append(line)
            place += 1
            continue
        size, record = _row(lines, place)
        if not size and not final and len(lines) - place < VALUE_LINES_MAX:
            return records, lines[place:]
        records.append(UnreadableRow(0, _text(line), NOT_CLOSED) if record is None else record)
        place += max(size, 1)
    return records, []


def _row(lines: list[bytes], place: int) -> tuple[int, bytes | None]:
    """The number of lines of the row at `place` and the row: 0 and None if it is still open where the lines end."""
    line = lines[place]
    is_open = line.count(b'"') % 2 == 1 and _OPEN.fullmatch(line)
    size = _lines_until_closed(lines, place) if is_open else 1
    if size > 0 and (is_open or b'\\"' not in line or _COMPLETE.fullmatch(line)):
        return size, b"\n".join(lines[place : place + size])
    if size and b'\\"' in line:
        unescaped = _unescaped(line)
        escaped = 1 if _COMPLETE.fullmatch(unescaped) else 0
        if not escaped and _OPEN.fullmatch(unescaped):
            escaped = _lines_until_closed(lines, place, unescape=True)
        if escaped > 0:
            return escaped, b"\n".join(map(_unescaped, lines[place : place + escaped]))
    return (1, None if is_open else line) if size else (0, None)


def _lines_until_closed(lines: list[bytes], place: int, unescape: bool = False) -> int:
    """How many lines the row has whose first one leaves a quote open; 0 if they end before it, −1 if it never closes."""
    for end in range(place + 1, min(place + VALUE_LINES_MAX, len(lines))):
        line = _unescaped(lines[end]) if unescape else lines[end]
        if b'"' not in line or _STAYS.fullmatch(line):
            continue
        if _CLOSES.fullmatch(line):
            return end - place + 1
        if not _REOPENS.fullmatch(line):
            return -1
    return 0


def _unescaped(line: bytes) -> bytes:
    """Write `\\"` as a doubled quote, and two backslashes as one."""
    return _ESCAPED.sub(lambda match: b'""' if match[1] == b'"' else b"\\", line)


class _CsvParser:
    """Splits the rows of one file into columns."""

    def __init__(self, header: list[str], names: Sequence[str]) -> None:
        self._width = len(header)
        self._places = {name: header.index(name) for name in names}

    def parse(self, records: Sequence[Record], start: int) -> RowBatch:
        """Split rows into columns; the first row has the number `start`."""
        bad = {place: record for place, record in enumerate(records) if isinstance(record, UnreadableRow)}
        sound = [record for record in records if isinstance(record, bytes)] if bad else list(records)
        numbers = np.delete(np.arange(start, start + len(records)), list(bad))
        unreadable = [UnreadableRow(start + place, row.text, row.reason) for place, row in bad.items()]
        sound, numbers = self._without_other_encodings(sound, numbers, unreadable)
        rows = self._parse_with_arrow(sound, numbers, unreadable)
        return self._parse_row_by_row(sound, numbers, unreadable) if rows is None else rows

    def _without_other_encodings(
        self, records: list[Any], numbers: Ints, unreadable: list[UnreadableRow]
    ) -> tuple[list[bytes], Ints]:
        if _is_utf8(b"\n".join(records)):
            return records, numbers
        good = np.array([_is_utf8(record) for record in records], dtype=bool)
        unreadable += [
            UnreadableRow(int(numbers[place]), _text(records[place]), NOT_UTF8)
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
        table = _arrow(data, self._width, list(self._places.values()), set_aside)
        if table is None or table.num_rows + len(widths) != len(records):
            return None
        unreadable += [
            UnreadableRow(int(numbers[place]), _text(records[place]), self._wrong_width(width))
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
            row = _split(record)
            if row is None or len(row) != self._width:
                reason = STRAY_BREAK if row is None else self._wrong_width(len(row))
                unreadable.append(UnreadableRow(number, _text(record), reason))
            else:
                values.append(row)
                good_numbers.append(number)
        columns = {
            name: pa.array([row[place] for row in values], pa.string())
            for name, place in self._places.items()
        }
        return RowBatch(np.array(good_numbers, dtype=np.int64), columns, unreadable)

    def _wrong_width(self, width: int) -> str:
        more = "more" if width > self._width else "fewer"
        return f"the row has {more} values than the header has columns: quote values that hold a comma"


def _are_lines(data: bytes, rows: int) -> bool:
    """Whether each row is one line, so that Arrow either finds the same rows or fewer."""
    lone_return = b"\r" in data and data.count(b"\r") != data.count(b"\r\n")
    return not lone_return and data.count(b"\n") == rows - 1


def _arrow(data: bytes, width: int, places: list[int], handler: Any) -> Any:
    names = [str(place) for place in range(width)]
    try:
        return pyarrow.csv.read_csv(
            io.BytesIO(data),
            pyarrow.csv.ReadOptions(column_names=names, use_threads=False, block_size=len(data) + 1),
            pyarrow.csv.ParseOptions(newlines_in_values=b'"' in data, invalid_row_handler=handler),
            pyarrow.csv.ConvertOptions(
                check_utf8=False,  # already checked
                column_types=dict.fromkeys(names, pa.string()),
                include_columns=[str(place) for place in places],
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid:
        return None


def _split(record: bytes) -> list[str] | None:
    try:
        rows = list(csv.reader(io.StringIO(record.decode().rstrip("\r"), newline="")))
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 else None


def _single_chunk(column: Any) -> Any:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _text(record: bytes) -> str:
    return record.rstrip(b"\r").decode("utf-8", "backslashreplace")
