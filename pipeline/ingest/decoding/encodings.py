"""
Converts text files to UTF-8 while they are read.

A byte order mark decides; without one, the encoding that the configuration names. Bytes that are no text in that
encoding become bytes that are no UTF-8, so that a reader of lines rejects their row alone.
"""

import codecs
import io
import re
from typing import Any, BinaryIO, cast

MIB = 1 << 20
PART = 1 << 18  # bytes decoded at once
MARKS = {  # byte order mark → encoding that reads on behind it; UTF-32 first, its mark begins like that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
UTF8 = "utf-8"
USUAL = ("cp1252", "cp932", "gb18030", "euc-kr", "cp1251")  # encodings of files without UTF-8
_USUAL = bytes(range(0xA0, 0x100)) + "€…‘’“”–—™ŠšŒœŽžŸ".encode("cp1252")  # of the bytes above ASCII in cp1252
ESCAPE = (
    "pipeline.escape"  # of codecs: an undecodable byte is the code point U+DC00 + byte, which is no character
)
_ESCAPED = re.compile(
    rb"\xed([\xb0-\xb3])([\x80-\xbf])"
)  # such a code point, written as if it were a character


def _escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(0xDC00 + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error(ESCAPE, _escape)


def as_utf8(stream: BinaryIO, encoding: str = UTF8) -> tuple[BinaryIO, str]:
    """
    Return the text of a stream in UTF-8, without a byte order mark, and its encoding.

    Parameters
    ----------
    stream
        Must have `peek`.
    encoding
        Of a stream without a byte order mark.
    """
    start = cast(Any, stream).peek(4)
    mark = next((mark for mark in MARKS if start.startswith(mark)), b"")
    stream.read(len(mark))
    encoding = MARKS.get(mark, encoding)
    if _is_utf8(encoding):
        return stream, encoding
    return cast(BinaryIO, io.BufferedReader(_Transcoder(stream, encoding), MIB)), encoding


def detected(start: bytes) -> str:
    """
    Return the encoding of a text by its first bytes: one of those that have a byte order mark, "utf-16-le", "utf-16-be",
    "cp1252" or "utf-8", which also stands for an encoding that cannot be told.
    """
    marked = next((name for mark, name in MARKS.items() if start.startswith(mark)), None)
    if marked is not None:
        return marked.removesuffix("-le").removesuffix("-be")
    if start.count(0) * 8 > len(start):  # text of other encodings has hardly any
        return "utf-16-le" if start[1::2].count(0) > start[::2].count(0) else "utf-16-be"
    lines = [line for line in start.split(b"\n") if not line.isascii()]
    others = [line for line in lines if not _decodes(line, UTF8)]
    return "cp1252" if len(others) * 2 > len(lines) and _is_western(others) else UTF8


def _is_western(lines: list[bytes]) -> bool:
    """Whether lines that are no UTF-8 may be cp1252: its letters stand between those of ASCII, and rare signs are rare."""
    high = b"".join(re.findall(rb"[\x80-\xff]", b"\n".join(lines)))
    together = sum(map(len, re.findall(rb"[\x80-\xff]{3,}", b"\n".join(lines))))
    rare = len(high.translate(None, _USUAL))
    return (
        all(_decodes(line, "cp1252") for line in lines) and together * 3 < len(high) and rare * 10 < len(high)
    )


def _decodes(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def not_decodable(encoding: str, subject: str = "the row") -> str:
    """Return the reason for which a row is rejected that is no text in this encoding."""
    if _is_utf8(encoding):
        return f"{subject} is not UTF-8: set format.encoding (usual are {', '.join(USUAL)}), or save the file in UTF-8"
    return f"{subject} is not {encoding}: set format.encoding to the encoding of the file"


def readable(data: bytes) -> str:
    """Return the text of bytes in UTF-8, with those that are no text as they were in the file: `\\x81`."""

    def original(match: re.Match[bytes]) -> bytes:
        return b"\\x%02x" % ((match[1][0] - 0xB0) * 64 + match[2][0] - 0x80)

    return _ESCAPED.sub(original, data).decode("utf-8", "backslashreplace")


def _is_utf8(encoding: str) -> bool:
    """Whether it is a name of UTF-8."""
    return codecs.lookup(encoding).name in {"utf-8", "utf-8-sig"}


class _Transcoder(io.RawIOBase):
    """Reads a stream of another encoding as UTF-8."""

    def __init__(self, stream: BinaryIO, encoding: str) -> None:
        self._decoder = codecs.getincrementaldecoder(encoding)(ESCAPE)
        self._stream, self._pending, self._done = stream, b"", False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._pending and not self._done:
            data = self._stream.read(PART)
            self._done = not data
            self._pending = self._decoder.decode(data, self._done).encode("utf-8", "surrogatepass")
        part, self._pending = self._pending[: len(buffer)], self._pending[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)
