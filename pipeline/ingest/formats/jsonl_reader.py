"""
Reads JSON Lines into Arrow columns of text: each line is an object, its keys are the columns.

An object in an object gives columns such as `card.last4`. One array of objects is read like lines, each object by itself.
"""

import io
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow as pa

from pipeline.errors import InputError
from pipeline.ingest.decoding.encodings import UTF8, not_decodable, readable
from pipeline.ingest.formats.columns import NATIVE, json_number_text
from pipeline.ingest.formats.row_batch import (
    BATCH_BYTES,
    BATCH_ROWS,
    ExpectedColumns,
    RowBatch,
    UnreadableRow,
)

LINE_MAX = 1 << 24  # bytes; a file with a longer line or object is not what is read here
START = 1 << 16  # bytes that say whether a file is an array
PART = 1 << 20  # bytes of an array read at once
KEYS_MAX = 1_000  # different keys of a file; it may have values as keys
NOT_JSON = "the line is not JSON: each line must be one object"
REPEATED_KEY = "the line has a key twice: keep one"
_ARRAY = re.compile(rb"\s*+\[\s*+(?:\{|\]\s*+$)")  # the start of an array of objects
_DOCUMENT = re.compile(rb'\s*+\{[ \t]*+\r?\n\s*+"')  # the start of an object over several lines
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_BRACKET = re.compile(rb'[^"\[\]{}]*+(?:%b[^"\[\]{}]*+)*+([\[\]{}])' % _STRING, re.DOTALL)  # the next one
_END = re.compile(rb'[^",\[\]{}]*+(?:%b[^",\[\]{}]*+)*+([,\[\]{}])' % _STRING, re.DOTALL)  # or comma
NOT_AN_OBJECT = "the line is not a JSON object: each line must be one, with the columns as its keys"


def read_jsonl(
    stream: BinaryIO, expected: ExpectedColumns, source_name: str, encoding: str = UTF8
) -> Iterator[RowBatch]:
    """
    Read JSON Lines or one JSON array in UTF-8.

    An object may omit a key whose value is missing, so all expected columns are given.

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
    for lines in _chunks(_texts(stream, source_name)):
        objects = [_object(line, encoding, expected) for line in lines]
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


def _chunks(texts: Iterator[bytes]) -> Iterator[list[bytes]]:
    chunk, size = list[bytes](), 0
    for text in texts:
        chunk.append(text)
        size += len(text)
        if len(chunk) == BATCH_ROWS or size >= BATCH_BYTES:
            yield chunk
            chunk, size = [], 0
    yield chunk


def _texts(stream: BinaryIO, source_name: str) -> Iterator[bytes]:
    """Yield the text of each object."""
    start = stream.read(START)
    if _DOCUMENT.match(start):
        message = f"{source_name} is one JSON object over several lines"
        raise InputError(message, remedy="write one per line, for example with jq -c .", code="bad_file")
    if _ARRAY.match(start):
        yield from _elements(start, stream, source_name)
        return
    for lines in (io.BytesIO(start + stream.readline(LINE_MAX)), stream):
        while line := lines.readline(LINE_MAX):
            if len(line) == LINE_MAX:
                raise _too_long(source_name, "a line")
            if line := line.strip():
                yield line


def _elements(rest: bytes, stream: BinaryIO, source_name: str) -> Iterator[bytes]:
    """Yield the text of each element of an array; `rest` is its start."""
    place = rest.index(b"[") + 1
    while True:
        end = _element_end(rest, place)
        if (len(rest) if end is None else end) - place > LINE_MAX:
            raise _too_long(source_name, "an object")
        if end is None:
            data = stream.read(max(PART, len(rest) - place))
            if not data:
                message = f"{source_name} is a JSON array that does not end"
                raise InputError(message, remedy="fetch it again", code="bad_file")
            rest, place = rest[place:] + data, 0
            continue
        if text := rest[place:end].strip():
            yield text
        place = end + 1
        if rest[end:place] == b"]":
            break
    after = rest[place:].strip()
    while not after and (data := stream.read(PART)):
        after = data.strip()
    if after:
        message = f"{source_name} holds more than one JSON array"
        raise InputError(
            message, remedy="write one object per line, for example with jq -c '.[]'", code="bad_file"
        )


def _element_end(data: bytes, place: int) -> int | None:
    """Return where the element of an array at `place` ends, at a comma or bracket; None if that is not in the data."""
    depth = 0
    while match := (_BRACKET if depth else _END).match(data, place):
        place = match.end()
        if match[1] in b"[{":
            depth += 1
        elif depth:
            depth -= 1
        else:
            return place - 1
    return None


def _too_long(source_name: str, item: str) -> InputError:
    message = f"{source_name} holds {item} of more than {LINE_MAX >> 20} MiB, so it is not JSON Lines"
    return InputError(message, remedy="check its format", code="bad_file")


def _object(line: bytes, encoding: str, expected: ExpectedColumns) -> dict[str, Any] | str:
    """Return the flat object of a line with numbers as text, or the reason why there is none."""
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return not_decodable(encoding)
    try:
        value = json.loads(
            text, parse_float=json_number_text, parse_int=_whole_number_text, object_pairs_hook=_unique
        )
        if not isinstance(value, dict):
            return NOT_AN_OBJECT
        if line.count(b"{") > 1:
            value = _unique(list(_flat(value, "", expected)))
        return (_unfit(value, expected) if expected.flat else None) or value
    except _RepeatedKeyError:
        return REPEATED_KEY
    except (ValueError, RecursionError):
        return NOT_JSON


def _unfit(value: dict[str, Any], expected: ExpectedColumns) -> str | None:
    """Why an object whose values are lists or objects is no row; None if they are of no expected column."""
    nested = [name for name in expected.names if isinstance(value.get(name), list | dict)]
    return f"{nested[0]} holds a list or an object: write text or a number" if nested else None


def _flat(value: dict[str, Any], prefix: str, expected: ExpectedColumns) -> Iterator[tuple[str, Any]]:
    """Put the keys of an object in the object in its place, with its key and a dot in front; it stays if it is expected."""
    for key, inner in value.items():
        name = prefix + key
        if not isinstance(inner, dict) or name in expected.names:
            yield name, inner
        if isinstance(inner, dict):
            yield from _flat(inner, f"{name}.", expected)


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
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False).replace(NATIVE, "")
    # JSON may hold half of a surrogate pair, which is not a character; store it as an escape.
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
