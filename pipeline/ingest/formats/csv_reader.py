"""
CSV → Arrow columns of text, block by block, without losing a row.

Arrow parses a block of sound rows in a few milliseconds. What it would stumble over is found before: rows are cut
here, so that one that is not UTF-8, opens a quote that nothing closes, or has the wrong number of values is set aside
alone. Blank lines are no rows. As RFC 4180 has it, a quoted value may hold commas, doubled quotes and line breaks.
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
from pipeline.ingest.formats.row_batch import NOT_UTF8, ROWS, Rows, Unreadable, Wanted
from storage.frames import Ints

BLOCK = 1 << 22  # bytes read at once, some 40,000 rows
LINE_MAX = 1 << 24  # bytes; a longer line is no CSV
VALUE_LINES_MAX = 100  # lines one quoted value may span; the quote of a longer one was never closed

NOT_CLOSED = (
    "a quote opens a value that nothing closes: close it, or write the quote twice inside a quoted value"
)
STRAY_BREAK = "a line break inside a value without quotes: put the value in quotes"

_QUOTED = rb'"[^"]*+(?:""[^"]*+)*+"'
# A line whose last value has opened a quote and not closed it; text after a closing quote is let pass, as by Arrow.
_OPEN = re.compile(rb'(?:(?:%b[^,]*+|[^",][^,]*+|),)*+"[^"]*+(?:""[^"]*+)*+' % _QUOTED)
_SOUND = re.compile(rb'(?:%b|[^",]*+)(?:,(?:%b|[^",]*+))*+\r?' % (_QUOTED, _QUOTED))
_BLANK = (b"", b"\r")

Record = bytes | Unreadable


def read_csv(stream: BinaryIO, wanted: Wanted, shown: str) -> Iterator[Rows]:
    """
    Read a CSV file from its header on.

    Raises
    ------
    InputError
        If it has no header, lacks a wanted column, is in another encoding as a whole, or is not lines of text.
    """
    blocks = _records(stream, shown)
    first = next(blocks, [])
    if not first:
        raise InputError(
            f"{shown} is empty: a CSV file begins with the names of its columns, even without rows"
        )
    header = _header(first.pop(0), shown)
    names = wanted.check(header, shown)
    parser = _Parser(header, names)
    start = 1
    for block in _again(first, blocks):
        for place in range(0, len(block), ROWS):
            rows = parser.parse(block[place : place + ROWS], start)
            start += len(rows) + len(rows.unreadable)
            yield rows


def _again(first: list[Record], others: Iterator[list[Record]]) -> Iterator[list[Record]]:
    yield first
    yield from others


def _header(record: Record, shown: str) -> list[str]:
    try:
        if isinstance(record, Unreadable):
            raise csv.Error(record.reason)  # noqa: TRY301
        text = record.decode()
        return [name.strip() for name in next(csv.reader(io.StringIO(text, newline="")))]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{shown} has no header that can be read as CSV in UTF-8: {error}") from error


def _records(stream: BinaryIO, shown: str) -> Iterator[list[Record]]:
    """Rows as bytes; those whose quote never closes are told apart."""
    data = stream.read(BLOCK)
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError(f"{shown} is UTF-16: save it as CSV UTF-8")
    rest = data.removeprefix(codecs.BOM_UTF8)
    while data:
        data = stream.read(BLOCK)
        *lines, rest = rest.split(b"\n") if data else (*rest.split(b"\n"), b"")
        records, rest = _cut(lines, rest, final=not data)
        if len(rest) > LINE_MAX:
            raise InputError(f"{shown} holds a line of more than {LINE_MAX >> 20} MiB: is it CSV?")
        if records:
            yield records
        rest += data


def _cut(lines: list[bytes], rest: bytes, final: bool) -> tuple[list[Record], bytes]:
    """Lines → rows; what may go on in the next block is handed back."""
    if not any(b'"' in line for line in lines):
        return [line for line in lines if line not in _BLANK], rest
    records: list[Record] = []
    place = 0
    while place < len(lines):
        line, end = lines[place], place
        if line.count(b'"') % 2 and _OPEN.fullmatch(line):
            end = _closing(lines, place)
        if end < 0 and not final and len(lines) - place < VALUE_LINES_MAX:
            return records, b"\n".join([*lines[place:], rest])
        if end < 0:
            records.append(Unreadable(0, _text(line), NOT_CLOSED))
        elif line not in _BLANK:
            records.append(b"\n".join(lines[place : end + 1]))
        place = max(place, end) + 1
    return records, rest


def _closing(lines: list[bytes], place: int) -> int:
    """The line that ends the row begun at `place`, −1 if none does."""
    for end in range(place + 1, min(place + VALUE_LINES_MAX, len(lines))):
        if b'"' in lines[end] and _SOUND.fullmatch(b"\n".join(lines[place : end + 1])):
            return end
    return -1


class _Parser:
    """Rows of one file → columns."""

    def __init__(self, header: list[str], names: Sequence[str]) -> None:
        self._width = len(header)
        self._places = {name: header.index(name) for name in names}

    def parse(self, records: Sequence[Record], start: int) -> Rows:
        """Split rows, the first of which has the number `start`."""
        bad = {place: record for place, record in enumerate(records) if isinstance(record, Unreadable)}
        sound = [record for record in records if isinstance(record, bytes)] if bad else list(records)
        numbers = np.delete(np.arange(start, start + len(records)), list(bad))
        unreadable = [Unreadable(start + place, one.text, one.reason) for place, one in bad.items()]
        sound, numbers = self._without_other_encodings(sound, numbers, unreadable)
        rows = self._quickly(sound, numbers, unreadable)
        return self._carefully(sound, numbers, unreadable) if rows is None else rows

    def _without_other_encodings(
        self, records: list[Any], numbers: Ints, unreadable: list[Unreadable]
    ) -> tuple[list[bytes], Ints]:
        if _is_utf8(b"\n".join(records)):
            return records, numbers
        good = np.array([_is_utf8(record) for record in records], dtype=bool)
        unreadable += [
            Unreadable(int(numbers[place]), _text(records[place]), NOT_UTF8)
            for place in np.flatnonzero(~good)
        ]
        return [record for record, sound in zip(records, good, strict=True) if sound], numbers[good]

    def _quickly(self, records: list[bytes], numbers: Ints, unreadable: list[Unreadable]) -> Rows | None:
        """Let Arrow split; None if it sees other rows than we do."""
        torn: dict[int, int] = {}  # place → number of values

        def set_aside(row: Any) -> str:
            torn[row.number - 1] = row.actual_columns
            return "skip"

        data = b"\n".join(records)
        if not data:
            return None
        table = _arrow(data, self._width, list(self._places.values()), set_aside)
        if table is None or table.num_rows + len(torn) != len(records):
            return None
        unreadable += [
            Unreadable(int(numbers[place]), _text(records[place]), self._wrong_width(width))
            for place, width in torn.items()
        ]
        columns = {name: _joined(table[str(place)]) for name, place in self._places.items()}
        return Rows(np.delete(numbers, list(torn)), columns, unreadable)

    def _carefully(self, records: list[bytes], numbers: Ints, unreadable: list[Unreadable]) -> Rows:
        """Split row by row."""
        kept: list[list[str]] = []
        kept_numbers: list[int] = []
        for number, record in zip(numbers.tolist(), records, strict=True):
            row = _split(record)
            if row is None or len(row) != self._width:
                reason = STRAY_BREAK if row is None else self._wrong_width(len(row))
                unreadable.append(Unreadable(number, _text(record), reason))
            else:
                kept.append(row)
                kept_numbers.append(number)
        columns = {
            name: pa.array([row[place] for row in kept], pa.string()) for name, place in self._places.items()
        }
        return Rows(np.array(kept_numbers, dtype=np.int64), columns, unreadable)

    def _wrong_width(self, width: int) -> str:
        more = "more" if width > self._width else "fewer"
        return f"the row has {more} values than the header has columns: quote values that hold a comma"


def _arrow(data: bytes, width: int, places: list[int], handler: Any) -> Any:
    names = [str(place) for place in range(width)]
    try:
        return pyarrow.csv.read_csv(
            io.BytesIO(data),
            pyarrow.csv.ReadOptions(column_names=names, use_threads=False, block_size=len(data) + 1),
            pyarrow.csv.ParseOptions(newlines_in_values=b'"' in data, invalid_row_handler=handler),
            pyarrow.csv.ConvertOptions(
                check_utf8=False,  # it was
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


def _joined(column: Any) -> Any:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _text(record: bytes) -> str:
    return record.rstrip(b"\r").decode("utf-8", "backslashreplace")
