"""
Unpacks files while they are read: gzip, and zip with one data file in it.

What is in a file counts, not its name. An Excel workbook is a zip file, too, and stays as it is.
"""

import gzip
import io
import zipfile
import zlib
from typing import Any, BinaryIO, cast

from pipeline.errors import InputError

GZIP = b"\x1f\x8b"
ZIP = (b"PK\x03\x04", b"PK\x05\x06")  # the second one of an archive without files
WORKBOOK = "xl/workbook."
ENDINGS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".xlsx": "excel",
    ".xlsm": "excel",
    ".txt": "csv",
}
LISTED = 10  # files of an archive that a message names
ENCRYPTED = 1  # bit of a file's flags


def unpacked(file: BinaryIO, source_name: str) -> BinaryIO:
    """
    Return a stream of the unpacked content that has `peek`; the file itself if it is not packed.

    Parameters
    ----------
    file
        Must have `peek`, or be raw; seekable if it is a zip file.

    Raises
    ------
    InputError
        If a zip file holds no data file or several, or a file with a password.
    """
    stream = _peekable(file)
    if _start(stream).startswith(ZIP):
        archive = zipfile.ZipFile(stream)
        if _is_workbook(archive):
            stream.seek(0)
            return stream
        stream = _opened(archive, source_name)
    return cast(BinaryIO, gzip.GzipFile(fileobj=stream)) if _start(stream).startswith(GZIP) else stream


def named_format(name: str, source_name: str) -> str:
    """
    Return the format of a file by the ending of its name.

    Raises
    ------
    InputError
        If the ending is unknown.
    """
    name = name.lower().removesuffix(".gz")
    for ending, file_format in ENDINGS.items():
        if name.endswith(ending):
            return file_format
    message = (
        f"{source_name} must end in .csv, .tsv, .txt or .jsonl (also with .gz or .zip), in .parquet or .xlsx"
    )
    raise InputError(message, remedy="otherwise name its format", code="unknown_format")


def zipped_format(file: BinaryIO, source_name: str) -> str:
    """Return the format of the data file in a zip file; raise InputError as `unpacked`, or if it is unknown."""
    archive = zipfile.ZipFile(file)
    if _is_workbook(archive):
        return "excel"
    name = _data_file(archive, source_name).filename
    return named_format(name, f"{name} in {source_name}")


def first_bytes(start: bytes) -> bytes:
    """Return the first bytes of the content of a gzip file by its own; those of another file as they are."""
    return (
        zlib.decompressobj(wbits=zlib.MAX_WBITS | 16).decompress(start) if start.startswith(GZIP) else start
    )


def is_zip(start: bytes) -> bool:
    """Whether a file that begins with these bytes is a zip file."""
    return start.startswith(ZIP)


def _peekable(file: BinaryIO) -> BinaryIO:
    return file if hasattr(file, "peek") else cast(BinaryIO, io.BufferedReader(cast(Any, file)))


def _start(stream: BinaryIO) -> bytes:
    return cast(Any, stream).peek(4)[:4]  # type: ignore[no-any-return]


def _is_workbook(archive: zipfile.ZipFile) -> bool:
    return any(name.startswith(WORKBOOK) for name in archive.namelist())


def _opened(archive: zipfile.ZipFile, source_name: str) -> BinaryIO:
    member = _data_file(archive, source_name)
    if member.flag_bits & ENCRYPTED:
        message = f"{source_name} has a password"
        raise InputError(message, remedy="unpack it first", code="bad_file")
    try:
        return cast(BinaryIO, archive.open(member))
    except NotImplementedError as error:
        message = f"{source_name} is packed in a way that cannot be read ({error})"
        raise InputError(message, remedy="unpack it first", code="bad_file") from error


def _data_file(archive: zipfile.ZipFile, source_name: str) -> zipfile.ZipInfo:
    """Return the only file, but for hidden ones and those that accompany it, such as a text beside a CSV file."""
    members = [member for member in archive.infolist() if not member.is_dir() and _is_visible(member)]
    for endings in (tuple(ending for ending in ENDINGS if ending != ".txt"), (".txt",), ("",)):
        data = [member for member in members if _plain_name(member).endswith(endings)]
        if len(data) == 1:
            return data[0]
        if data:
            names = sorted(member.filename for member in data)
            listed = ", ".join(names[:LISTED]) + (", …" if len(names) > LISTED else "")
            message = f"{source_name} holds {len(names)} files ({listed})"
            remedy = "unpack it and name the files, or pack one file into each archive"
            raise InputError(message, remedy=remedy, code="bad_file")
    raise InputError(f"{source_name} holds no file", remedy="pack one data file", code="bad_file")


def _plain_name(member: zipfile.ZipInfo) -> str:
    return member.filename.lower().removesuffix(".gz")


def _is_visible(member: zipfile.ZipInfo) -> bool:
    return not any(part.startswith(".") or part == "__MACOSX" for part in member.filename.split("/"))
