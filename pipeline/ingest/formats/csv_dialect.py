"""
How a CSV file separates and quotes its values: the separator by its header, and lines joined to rows.

A row is one line, or several if a quoted value holds line breaks.
"""

import csv
import io
import re
from dataclasses import dataclass
from functools import lru_cache

from pipeline.ingest.decoding.encodings import readable
from pipeline.ingest.formats.row_batch import SAMPLE_ROWS, ExpectedColumns, UnreadableRow

SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a vertical bar"}
QUOTES = {"double": '"', "single": "'"}
VALUE_LINES_MAX = 100  # lines that one quoted value may span; beyond that its quote counts as unclosed
FIRST_LINES = 500  # in which the header is looked for

NOT_CLOSED = "a quoted value is not closed: close it, or write a quote twice inside a quoted value"

_BLANK = (b"", b"\r")

Record = bytes | UnreadableRow


@dataclass(frozen=True)
class Dialect:
    """Two characters of ASCII."""

    separator: str = ","
    quote: str = '"'

    def split(self, record: bytes) -> list[str] | None:
        """Return the values of a row in UTF-8; None if it has a line break outside of quotes."""
        text = io.StringIO(record.decode().rstrip("\r"), newline="")
        try:
            rows = list(csv.reader(text, delimiter=self.separator, quotechar=self.quote))
        except csv.Error:
            return None
        return rows[0] if len(rows) == 1 else None

    def join_lines(self, lines: list[bytes], final: bool) -> tuple[list[Record], list[bytes]]:
        """
        Join lines to rows; return the rows, and the lines that may continue in the next block.

        A row with an unclosed quote is unreadable. Blank lines are left out.
        """
        grammar = _grammar(self)
        quote, escaped = grammar.quote, grammar.escaped
        if not any(quote in line for line in lines):
            return [line for line in lines if line not in _BLANK], []
        records: list[Record] = []
        place = 0
        while place < len(lines):
            line = lines[place]
            if line.count(quote) % 2 == 0 and escaped not in line:
                if line not in _BLANK:
                    records.append(line)
                place += 1
                continue
            size, record = grammar.row(lines, place)
            if not size and not final and len(lines) - place < VALUE_LINES_MAX:
                return records, lines[place:]
            records.append(
                UnreadableRow(0, readable(line.rstrip(b"\r")), NOT_CLOSED) if record is None else record
            )
            place += max(size, 1)
        return records, []


class _Grammar:
    """The expressions for lines of a dialect."""

    def __init__(self, dialect: Dialect) -> None:
        self.quote = dialect.quote.encode()
        self.escaped = b"\\" + self.quote
        parts = {b"Q": self.quote, b"S": re.escape(dialect.separator.encode())}

        def compiled(pattern: bytes) -> re.Pattern[bytes]:
            return re.compile(re.sub(rb"[QS]", lambda match: parts[match[0]], pattern))

        inside = rb"[^Q]*+(?:QQ[^Q]*+)*+"  # of a quoted value
        quoted = rb"Q%bQ" % inside
        value = rb"(?:%b|[^SQ]*+)" % quoted
        # A line whose last value has an open quote. Text after a closing quote is accepted, as by Arrow.
        self._open = compiled(rb"(?:(?:%b[^S]*+|[^QS][^S]*+|)S)*+Q%b" % (quoted, inside))
        self._complete = compiled(rb"%b(?:S%b)*+\r?" % (value, value))
        # What follows it: a line that stays inside the value, or closes it and ends the row, or opens another.
        self._stays = compiled(inside)
        self._closes = compiled(rb"%bQ(?:S%b)*+\r?" % (inside, value))
        self._reopens = compiled(rb"%bQS(?:%bS)*+Q%b" % (inside, value, inside))
        self._escape = compiled(rb"\\([Q\\])")

    def row(self, lines: list[bytes], place: int) -> tuple[int, bytes | None]:
        """The number of lines of the row at `place` and the row: 0 and None if it is still open where the lines end."""
        line = lines[place]
        is_open = line.count(self.quote) % 2 == 1 and self._open.fullmatch(line)
        size = self._lines_until_closed(lines, place) if is_open else 1
        if size > 0 and (is_open or self.escaped not in line or self._complete.fullmatch(line)):
            return size, b"\n".join(lines[place : place + size])
        if size and self.escaped in line:
            unescaped = self._unescaped(line)
            escaped = 1 if self._complete.fullmatch(unescaped) else 0
            if not escaped and self._open.fullmatch(unescaped):
                escaped = self._lines_until_closed(lines, place, unescape=True)
            if escaped > 0:
                return escaped, b"\n".join(map(self._unescaped, lines[place : place + escaped]))
        return (1, None if is_open else line) if size else (0, None)

    def _lines_until_closed(self, lines: list[bytes], place: int, unescape: bool = False) -> int:
        """How many lines the row has whose first one leaves a quote open; 0 if they end before it, −1 if it never closes."""
        for end in range(place + 1, min(place + VALUE_LINES_MAX, len(lines))):
            line = self._unescaped(lines[end]) if unescape else lines[end]
            if self.quote not in line or self._stays.fullmatch(line):
                continue
            if self._closes.fullmatch(line):
                return end - place + 1
            if not self._reopens.fullmatch(line):
                return -1
        return 0

    def _unescaped(self, line: bytes) -> bytes:
        """Write an escaped quote as a doubled one, and two backslashes as one."""
        return self._escape.sub(lambda match: self.quote * 2 if match[1] == self.quote else b"\\", line)


@lru_cache
def _grammar(dialect: Dialect) -> _Grammar:
    return _Grammar(dialect)


def line_end(start: bytes, quote: str) -> bytes:
    """Return how lines end: with a carriage return if the first one does and has no line feed, as in files of old Macs."""
    line = start.lstrip(b"\r\n").split(b"\n", 1)[0].rstrip(b"\r")
    return b"\r" if b"\r" in line and line.split(b"\r", 1)[0].count(quote.encode()) % 2 == 0 else b"\n"


def recognise(start: bytes, expected: ExpectedColumns, quote: str, final: bool) -> tuple[Dialect, int]:
    """
    Return the dialect of a file by its first bytes, and how many rows come before its header.

    The separator is the one with which the header holds the expected columns; if none or several do, one that leaves no
    other separator in the header; then the one that gives the most columns; a comma on a tie. `final` says whether these
    bytes are the whole file.
    """
    *lines, rest = start.split(line_end(start, quote), FIRST_LINES)
    if final and len(lines) < FIRST_LINES:
        lines, rest = [*lines, rest], b""

    def fit(dialect: Dialect) -> tuple[bool, bool, int, int]:
        records, _ = dialect.join_lines(lines, final and not rest)
        rows = [_cells(dialect, record) for record in records[:SAMPLE_ROWS]]
        place, is_header = expected.header_place(rows)
        header = rows[place] if rows else []
        return is_header, set(SEPARATORS).isdisjoint("".join(header)), len(header), -place

    fits = {dialect: fit(dialect) for dialect in (Dialect(separator, quote) for separator in SEPARATORS)}
    best = max(fits, key=lambda dialect: fits[dialect])
    return best, -fits[best][-1]


def _cells(dialect: Dialect, record: Record) -> list[str]:
    """Return the values of a row without the blanks around them; as many empty ones if it cannot be read."""
    try:
        values = None if isinstance(record, UnreadableRow) else dialect.split(record)
    except UnicodeDecodeError:
        values = None
    if values is None:
        text = record.text if isinstance(record, UnreadableRow) else readable(record)
        return [""] * (text.count(dialect.separator) + 1)
    return [value.strip() for value in values]
