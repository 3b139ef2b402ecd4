"""Files that should be text and are none: what they are is said, when they are read and by `init --from`."""

import gzip
import io
import random
import zipfile
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.config.sections import FormatSection
from pipeline.errors import InputError
from pipeline.ingest.formats.reader import open_path
from pipeline.ingest.formats.row_batch import EVERY_COLUMN
from pipeline.schema_inference.propose import propose
from tests.support.ingest import NOW

NOISE = random.Random(1).randbytes(3000)
PAGE = b"<!DOCTYPE html>\n<html>\n<head><title>Login, please</title></head>\n<body>\nx, y\n</body></html>\n"


def zipped(data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("xl/workbook.xml", data)
    return file.getvalue()


CASES = [
    ("picture", b"\x89PNG\r\n\x1a\n" + NOISE, "is not a text file, but a PNG picture"),
    ("photo", b"\xff\xd8\xff\xe0" + NOISE, "a JPEG picture"),
    ("document", b"%PDF-1.7\n1 0 obj\n" + NOISE, "a PDF document: export the payments as CSV"),
    ("old workbook", b"\xd0\xcf\x11\xe0\xa1\xb1" + NOISE, "save it as .xlsx"),
    ("workbook", zipped(b"<workbook/>"), "give its name the ending .xlsx"),
    ("parquet", b"PAR1" + NOISE, "a Parquet file"),
    ("noise", b"a" + NOISE, "is not a text file: export"),
    ("zeros", b"id,amount\n" + bytes(300), "is not a text file: export"),
    ("page", PAGE, "is an HTML page, not data: perhaps the login page of the export"),
    ("page behind blanks", b"\r\n\n  " + PAGE.lower(), "is an HTML page"),
    ("page of XHTML", b'<?xml version="1.0"?>\n' + PAGE, "is an HTML page"),
    ("page in UTF-16", PAGE.decode().encode("utf-16"), "is an HTML page"),
    ("XML", b'<?xml version="1.0"?><rows/>', "is an XML file"),
    ("packed page", gzip.compress(PAGE), "is an HTML page"),
    ("blank lines", b"\n\n  \n\t\r\n", "is empty"),
]


@pytest.mark.parametrize(("data", "message"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_it_is_said_what_a_file_is_that_is_no_text(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(data)
    with closing(open_path(path, "csv", "a.csv")) as reader, pytest.raises(InputError) as error:
        list(reader.rows(EVERY_COLUMN))
    assert message in str(error.value)
    with pytest.raises(InputError) as error:
        propose(path, NOW)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (b"id,note\n1,<html>\n2,x\x00y\n3,\x1b[1m\n", "utf-8"),
        ("id,note\n1,取引\n2,不正\n".encode("cp932"), "cp932"),
        ("id,note\n1,交易\n2,欺诈\n".encode("gb18030"), "gb18030"),
        ("id,note\n1,a\n2,b\n".encode("utf-16-le"), "utf-16-le"),
        ("id,note\n1,a\n2,b\n".encode("cp500"), "cp500"),
    ],
)
def test_odd_text_is_still_text(tmp_path: Path, data: bytes, encoding: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(data)
    with closing(open_path(path, "csv", "a.csv", FormatSection(encoding=encoding))) as reader:
        assert sum(map(len, reader.rows(EVERY_COLUMN))) >= 2


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (b"3,4", "no line end: the file may be truncated"),
        (b'3,"4"', "no line end: the file may be truncated"),
        (b"3,4\n", "quote values that hold a comma"),
        (b"3,4,5,6", "has more values"),
        (b"3,4,5", ""),
    ],
)
def test_a_last_row_without_its_end_may_be_truncated(tmp_path: Path, end: bytes, reason: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"id,at,amount\n1,2,3\n" + end)
    with closing(open_path(path, "csv", "a.csv")) as reader:
        reasons = [row.reason for batch in reader.rows(EVERY_COLUMN) for row in batch.unreadable]
    assert len(reasons) == bool(reason)
    assert reason in "".join(reasons)
