"""
How many rows of a Parquet file fit into memory, told before any of them is unpacked.

A few kB of a file may unpack to many GB: a page of zeros, a long value that every row points to in a dictionary, or that
DELTA_BYTE_ARRAY repeats as the prefix of the next one. Arrow allocates what the header of a page says, so these headers are
read first; they are not packed. The sizes in the footer are not asked, because a crafted file may have others there.

References
----------
https://github.com/apache/parquet-format: parquet.thrift (PageHeader), in the compact protocol of Thrift.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import InputError

PAGE_BYTES_MAX = 1 << 28  # unpacked; writers make pages of 1 MiB
ROWS_BYTES = 1 << 26  # of text that is unpacked at once, beside the pages that are open
DICTIONARY_PAGE = 2
DICTIONARY_ENCODINGS = (2, 8)  # PLAIN_DICTIONARY, RLE_DICTIONARY
DELTA_BYTE_ARRAY = 7
PAGE_KINDS = (5, 7, 8)  # fields of a header: data page, dictionary page, data page of version 2
ENCODING_FIELD = {5: 2, 7: 2, 8: 4}
READ_AT_ONCE = 1 << 12
TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, STRUCT = 1, 2, 3, 4, 5, 6, 7, 8, 12
DEPTH_MAX = 4


@dataclass(frozen=True)
class _PageHeader:
    is_dictionary: bool
    size: int  # unpacked
    values: int
    encoding: int


def rows_at_once(
    file: BinaryIO, names: Collection[str], dictionaries: Collection[str], source_name: str
) -> int:
    """
    Return how many rows of these columns may be unpacked at once, at least 1.

    Parameters
    ----------
    dictionaries
        Columns that Arrow reads as dictionaries, whose values are not repeated in memory.

    Raises
    ------
    InputError
        If a page is too large, or its header cannot be read.
    """
    parquet = pq.ParquetFile(file, read_dictionary=list(names), buffer_size=READ_AT_ONCE, pre_buffer=False)
    widest = 0.0
    for number in range(parquet.metadata.num_row_groups):
        group = parquet.metadata.row_group(number)
        widths = [
            _bytes_a_value(file, parquet, number, place, dictionaries, source_name)
            for place in range(group.num_columns)
            if group.column(place).path_in_schema in names
        ]
        widest = max(widest, sum(widths))
    return max(1, int(ROWS_BYTES / max(widest, 1.0)))


def _bytes_a_value(
    file: BinaryIO, parquet: Any, group: int, place: int, dictionaries: Collection[str], source_name: str
) -> float:
    """The most bytes that a value of a column takes on average over any page of a row group."""
    chunk = parquet.metadata.row_group(group).column(place)
    widest, repeats = 0.0, False
    for page in _checked_pages(file, chunk, source_name):
        if page.is_dictionary:
            continue
        if page.encoding == DELTA_BYTE_ARRAY:
            widest = max(widest, page.size)
        elif page.encoding in DICTIONARY_ENCODINGS:
            repeats = chunk.path_in_schema not in dictionaries
        else:
            widest = max(widest, page.size / max(page.values, 1))
    if chunk.physical_type == "FIXED_LEN_BYTE_ARRAY":
        return float(parquet.metadata.schema.column(place).length)
    if chunk.physical_type != "BYTE_ARRAY":
        return 0.0
    return max(widest, _longest_of_dictionary(parquet, group, chunk.path_in_schema) if repeats else 0)


def _longest_of_dictionary(parquet: Any, group: int, name: str) -> int:
    """The bytes of the longest value of a dictionary, which is unpacked as a whole with the first row."""
    for batch in parquet.iter_batches(1, row_groups=[group], columns=[name]):
        longest: int | None = pc.max(pc.binary_length(batch.column(0).dictionary)).as_py()
        return longest or 0
    return 0


def _checked_pages(file: BinaryIO, chunk: Any, source_name: str) -> Iterator["_PageHeader"]:
    """
    The pages of a column of a row group.

    Raises
    ------
    InputError
        If a page is too large, or its header cannot be read.
    """
    try:
        pages = list(_pages(file, chunk))
    except (IndexError, KeyError, TypeError, ValueError) as error:
        message = f"{source_name} is not valid Parquet: a page has no header"
        raise InputError(message, code="bad_file") from error
    for page in pages:
        if page.size > PAGE_BYTES_MAX:
            raise InputError(
                f"{source_name} has {page.size >> 20:,} MiB in one page of the column {chunk.path_in_schema}",
                remedy=f"write it with pages of {PAGE_BYTES_MAX >> 20} MiB at most; 1 MiB is usual",
                code="too_large",
            )
        yield page


def _pages(file: BinaryIO, chunk: Any) -> Iterator[_PageHeader]:
    """The pages of a column of a row group, by their headers."""
    at = chunk.data_page_offset
    if chunk.has_dictionary_page and chunk.dictionary_page_offset is not None:
        at = min(at, chunk.dictionary_page_offset)
    end, read = at + chunk.total_compressed_size, 0
    while at < end and read < chunk.num_values:
        header = _Header(file, at)
        fields = header.struct()
        kind = next((kind for kind in PAGE_KINDS if kind in fields), 0)
        page = fields[kind]
        values, encoding = page[1], page[ENCODING_FIELD[kind]]
        if min(fields[2], fields[3], values) < 0:
            raise ValueError
        yield _PageHeader(fields[1] == DICTIONARY_PAGE, fields[2], values, encoding)
        read += 0 if fields[1] == DICTIONARY_PAGE else values
        at = header.at + fields[3]


class _Header:
    """Reads a struct in the compact protocol: its numbers and structs by the numbers of their fields; texts are skipped."""

    def __init__(self, file: BinaryIO, at: int) -> None:
        self._file, self.at = file, at
        self._start, self._bytes = at, b""

    def struct(self, depth: int = 0) -> dict[int, Any]:
        fields, number = dict[int, Any](), 0
        if depth > DEPTH_MAX:
            raise ValueError
        while (head := self._byte()) != 0:
            number = number + (head >> 4) if head >> 4 else self._number()
            kind = head & 15
            if kind == STRUCT:
                fields[number] = self.struct(depth + 1)
            elif kind in (I16, I32, I64):
                fields[number] = self._number()
            elif kind == BINARY:
                length = self._varint()
                self.at += length
            elif kind in (BYTE, DOUBLE):
                self.at += 1 if kind == BYTE else 8
            elif kind not in (TRUE, FALSE):
                raise ValueError
        return fields

    def _byte(self) -> int:
        place = self.at - self._start
        if not 0 <= place < len(self._bytes):
            self._file.seek(self.at)
            self._start, self._bytes, place = self.at, self._file.read(READ_AT_ONCE), 0
        self.at += 1
        return self._bytes[place]

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError

    def _number(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
