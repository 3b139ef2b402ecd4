"""Reads JSON Lines into Arrow columns of text: each line is an object, its keys are the columns."""

import json
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow as pa

from pipeline.errors import InputError
from pipeline.ingest.formats.columns import json_number_text
from pipeline.ingest.formats.row_batch import BATCH_ROWS, NOT_UTF8, ExpectedColumns, RowBatch, UnreadableRow

LINE_MAX = 1 << 24  # bytes; a file with a longer line is one JSON document
NOT_JSON = "the line is not JSON: each line must be one object"
NOT_AN_OBJECT = "the line is not a JSON object: each line must be one, with the columns as its keys"


def read_jsonl(stream: BinaryIO, expected: ExpectedColumns, source_name: str) -> Iterator[RowBatch]:
    """
    Read JSON Lines; an object may omit a key whose value is missing, so all expected columns are given.

    Raises
    ------
    InputError
        If a required column is in none of the first rows, or the file is one document instead of lines.
    """
    start, names = 1, list[str]()
    for lines in _line_chunks(stream, source_name):
        objects = [_object(line) for line in lines]
        sound = [place for place, parsed in enumerate(objects) if isinstance(parsed, dict)]
        if not names and sound:
            keys = dict.fromkeys(key for place in sound for key in cast(Any, objects[place]))
            names = list(dict.fromkeys([*expected.select(list(keys), source_name), *expected.names]))
        columns = {
            name: pa.array([_json_text(cast(Any, objects[place]).get(name)) for place in sound], pa.string())
            for name in names or expected.names
        }
        unreadable = [
            UnreadableRow(start + place, line.decode("utf-8", "backslashreplace"), parsed)
            for place, (line, parsed) in enumerate(zip(lines, objects, strict=True))
            if isinstance(parsed, str)
        ]
        yield RowBatch(np.array(sound, dtype=np.int64) + start, columns, unreadable)
        start += len(lines)


def _line_chunks(stream: BinaryIO, source_name: str) -> Iterator[list[bytes]]:
    chunk: list[bytes] = []
    mark = b"\xef\xbb\xbf"
    while line := stream.readline(LINE_MAX):
        if len(line) == LINE_MAX:
            message = f"{source_name} holds a line of more than {LINE_MAX >> 20} MiB, so it is not JSON Lines"
            raise InputError(message, remedy="check its format", code="bad_file")
        line, mark = line.removeprefix(mark).strip(), b""
        if line:
            chunk.append(line)
        if len(chunk) == BATCH_ROWS:
            yield chunk
            chunk = []
    yield chunk


def _object(line: bytes) -> dict[str, Any] | str:
    """Return the object of a line with numbers as text, or the reason why there is none."""
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return NOT_UTF8
    try:
        value = json.loads(text, parse_float=json_number_text, parse_int=_whole_number_text)
    except (ValueError, RecursionError):
        return NOT_JSON
    return value if isinstance(value, dict) else NOT_AN_OBJECT


def _whole_number_text(digits: str) -> str:
    return "0" if digits == "-0" else digits


def _json_text(value: Any) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    # JSON may hold half of a surrogate pair, which is not a character; store it as an escape.
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
