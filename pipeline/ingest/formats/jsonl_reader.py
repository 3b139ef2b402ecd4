"""Reads JSON Lines into Arrow columns of text: each line is an object, its keys are the columns."""

import json
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow as pa

from pipeline.errors import InputError
from pipeline.ingest.decoding.encodings import UTF8, not_decodable, readable
from pipeline.ingest.formats.columns import json_number_text
from pipeline.ingest.formats.row_batch import (
    BATCH_BYTES,
    BATCH_ROWS,
    ExpectedColumns,
    RowBatch,
    UnreadableRow,
)

LINE_MAX = 1 << 24  # bytes; a file with a longer line is one JSON document
KEYS_MAX = 1_000  # different keys of a file; it may have values as keys
NOT_JSON = "the line is not JSON: each line must be one object"
REPEATED_KEY = "the line has a key twice: keep one"
NOT_AN_OBJECT = "the line is not a JSON object: each line must be one, with the columns as its keys"


def read_jsonl(
    stream: BinaryIO, expected: ExpectedColumns, source_name: str, encoding: str = UTF8
) -> Iterator[RowBatch]:
    """
    Read JSON Lines in UTF-8; an object may omit a key whose value is missing, so all expected columns are given.

    Parameters
    ----------
    encoding
        Of the file before it was converted, for messages.

    Raises
    ------
    InputError
        If no object of the whole file has a required column, or the file is one document instead of lines.
    """
    start, keys = 1, dict[str, None]()
    for lines in _line_chunks(stream, source_name):
        objects = [_object(line, encoding) for line in lines]
        sound = [place for place, parsed in enumerate(objects) if isinstance(parsed, dict)]
        for place in sound:
            if not keys.keys() >= cast(Any, objects[place]).keys():
                _collect(keys, cast(Any, objects[place]), expected)
        names = list(dict.fromkeys([*keys, *expected.names])) if expected.every else expected.names
        columns = {
            name: pa.array([_json_text(cast(Any, objects[place]).get(name)) for place in sound], pa.string())
            for name in names
        }
        unreadable = [
            UnreadableRow(start + place, readable(line), parsed)
            for place, (line, parsed) in enumerate(zip(lines, objects, strict=True))
            if isinstance(parsed, str)
        ]
        yield RowBatch(np.array(sound, dtype=np.int64) + start, columns, unreadable)
        start += len(lines)
    if keys:
        expected.select(list(keys), source_name)


def _collect(keys: dict[str, None], json_object: dict[str, Any], expected: ExpectedColumns) -> None:
    """Add the keys of an object; of those that nobody asked for only so many, for messages."""
    for key in json_object:
        if len(keys) < KEYS_MAX or key in expected.names:
            keys[key] = None


def _line_chunks(stream: BinaryIO, source_name: str) -> Iterator[list[bytes]]:
    chunk, size = list[bytes](), 0
    while line := stream.readline(LINE_MAX):
        if len(line) == LINE_MAX:
            message = f"{source_name} holds a line of more than {LINE_MAX >> 20} MiB, so it is not JSON Lines"
            raise InputError(message, remedy="check its format", code="bad_file")
        line = line.strip()
        if line:
            chunk.append(line)
            size += len(line)
        if len(chunk) == BATCH_ROWS or size >= BATCH_BYTES:
            yield chunk
            chunk, size = [], 0
    yield chunk


def _object(line: bytes, encoding: str) -> dict[str, Any] | str:
    """Return the object of a line with numbers as text, or the reason why there is none."""
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return not_decodable(encoding)
    try:
        value = json.loads(
            text, parse_float=json_number_text, parse_int=_whole_number_text, object_pairs_hook=_unique
        )
    except _RepeatedKeyError:
        return REPEATED_KEY
    except (ValueError, RecursionError):
        return NOT_JSON
    return value if isinstance(value, dict) else NOT_AN_OBJECT


class _RepeatedKeyError(Exception):
    """An object has a key twice, so nobody can say which value counts."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise _RepeatedKeyError
    return value


def _whole_number_text(digits: str) -> str:
    return "0" if digits == "-0" else digits


def _json_text(value: Any) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    # JSON may hold half of a surrogate pair, which is not a character; store it as an escape.
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
