"""Tells what a file is that should be text and is not: a picture, a workbook, a web page."""

import codecs
from typing import Any, BinaryIO, cast

from pipeline.errors import InputError

SNIFFED = 1 << 12  # bytes that are looked at
HTML = (b"<!doctype html", b"<html", b"<head", b"<body", b"<script")
KINDS = {  # how a file begins → what it is, and the remedy
    b"\x89PNG": ("a PNG picture", ""),
    b"\xff\xd8\xff": ("a JPEG picture", ""),
    b"GIF8": ("a GIF picture", ""),
    b"%PDF-": ("a PDF document", ""),
    b"\xd0\xcf\x11\xe0": (
        "an Excel file of the old format (.xls), or one with a password",
        "save it as .xlsx without a password",
    ),
    b"PK\x03\x04": (
        "an Excel workbook or another packed file",
        "give its name the ending .xlsx, or unpack it",
    ),
    b"PAR1": ("a Parquet file", "give its name the ending .parquet"),
    b"SQLite format 3\0": ("an SQLite database", "read it with a query, see [source]"),
    b"BZh": ("packed with bzip2", "unpack it, or pack it with gzip"),
    b"\xfd7zXZ\0": ("packed with xz", "unpack it, or pack it with gzip"),
    b"\x28\xb5\x2f\xfd": ("packed with zstd", "unpack it, or pack it with gzip"),
    b"7z\xbc\xaf": ("a 7z archive", "unpack it, or pack it with zip"),
    b"Rar!\x1a\x07": ("a RAR archive", "unpack it, or pack it with zip"),
}
EXPORT = "export the payments as CSV, JSON Lines, Parquet or .xlsx"
CONTROLS = bytes(
    {*range(32), 127} - {*b"\t\n\v\f\r\x1a\x1b"}
)  # which text hardly ever has; UTF-8 may have all but NUL
CONTROLS_MAX = 0.02  # share of them in text
NULS_MAX = 0.6  # of UTF-8; UTF-16 without a mark has half of them
CONTROLS_MIN = 8  # so many may be damage


def check_known(stream: BinaryIO, source_name: str) -> None:
    """Raise InputError if a stream, which must have `peek`, begins like a file that is no text."""
    start = _start(stream)
    kind = next((kind for first, kind in KINDS.items() if start.startswith(first)), None)
    if kind is not None:
        raise _not_text(f"{source_name} is not a text file, but {kind[0]}", kind[1])


def check_text(stream: BinaryIO, source_name: str) -> None:
    """Raise InputError if a stream in UTF-8, which must have `peek`, is a page of the web or no text at all."""
    start = _start(stream)
    page = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if page.startswith(HTML) or (page.startswith((b"<!--", b"<?xml")) and any(tag in page for tag in HTML)):
        message = f"{source_name} is an HTML page, not data: perhaps the login page of the export"
        raise _not_text(message, "open it in a browser, and export the file again")
    if page.startswith(b"<?xml"):
        raise _not_text(f"{source_name} is an XML file", "")
    signs, most = (b"\0", NULS_MAX) if _is_utf8(start) else (CONTROLS, CONTROLS_MAX)
    if len(start) - len(start.translate(None, signs)) > max(CONTROLS_MIN, most * len(start)):
        raise _not_text(f"{source_name} is not a text file", "")


def _is_utf8(start: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)  # the last character may be cut off
    except UnicodeDecodeError:
        return False
    return True


def _start(stream: BinaryIO) -> bytes:
    return cast(bytes, cast(Any, stream).peek(SNIFFED)[:SNIFFED])


def _not_text(message: str, remedy: str) -> InputError:
    return InputError(message, remedy=remedy or EXPORT, code="not_text")
