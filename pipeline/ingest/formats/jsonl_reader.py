"""JSON Lines → Arrow columns of text: one object a line, its keys the columns."""

import json
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow as pa

from pipeline.errors import InputError
from pipeline.ingest.formats.row_batch import NOT_UTF8, ROWS, Rows, Unreadable, Wanted

LINE_MAX = 1 << 24  # bytes; a longer line is one big document
NOT_JSON = "the line is not JSON: each line must be one object"
NOT_AN_OBJECT = "the line is not a JSON object: each line must be one, with the columns as its keys"


def read_jsonl(stream: BinaryIO, wanted: Wanted, shown: str) -> Iterator[Rows]:
    """
    Read JSON Lines: one object a line, its keys the columns; a key may be left out where a value is missing.

    Raises
    ------
    InputError
        If a needed column is in none of the first rows, or the file is one document instead of lines.
    """
    start, names = 1, list[str]()
    for lines in _line_chunks(stream, shown):
        objects = [_object(line) for line in lines]
        sound = [place for place, one in enumerate(objects) if isinstance(one, dict)]
        if not names and sound:
            found = list(dict.fromkeys(key for place in sound for key in cast(Any, objects[place])))
            names = wanted.check(found, shown)
        columns = {
            name: pa.array([_json_text(cast(Any, objects[place]).get(name)) for place in sound], pa.string())
            for name in names or wanted.names
        }
        unreadable = [
            Unreadable(start + place, line.decode("utf-8", "backslashreplace"), one)
            for place, (line, one) in enumerate(zip(lines, objects, strict=True))
            if isinstance(one, str)
        ]
        yield Rows(np.array(sound, dtype=np.int64) + start, columns, unreadable)
        start += len(lines)


def _line_chunks(stream: BinaryIO, shown: str) -> Iterator[list[bytes]]:
    chunk: list[bytes] = []
    mark = b"\xef\xbb\xbf"
    while line := stream.readline(LINE_MAX):
        if len(line) == LINE_MAX:
            raise InputError(f"{shown} holds a line of more than {LINE_MAX >> 20} MiB: is it JSON Lines?")
        line, mark = line.removeprefix(mark).strip(), b""
        if line:
            chunk.append(line)
        if len(chunk) == ROWS:
            yield chunk
            chunk = []
    yield chunk


def _object(line: bytes) -> dict[str, Any] | str:
    """The object of a line, numbers as they are written, or why there is none."""
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return NOT_UTF8
    try:
        found = json.loads(text, parse_float=str, parse_int=str)
    except (ValueError, RecursionError):
        return NOT_JSON
    return found if isinstance(found, dict) else NOT_AN_OBJECT


def _json_text(value: Any) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    # Half of a surrogate pair is legal in JSON, but no character; its escape can be stored.
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
