"""Which files are read: separators, quotes, lines before the header, encodings, packed files, sheets and patterns."""

import gzip
import hashlib
import io
import json
import sys
import tracemalloc
import zipfile
from contextlib import closing
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config.sections import FormatSection
from pipeline.errors import InputError
from pipeline.ingest.decoding import encodings
from pipeline.ingest.formats import csv_reader, excel_reader, jsonl_reader, reader
from pipeline.ingest.formats.columns import texts
from pipeline.ingest.formats.csv_dialect import QUOTES, SEPARATORS, Dialect
from pipeline.ingest.formats.row_batch import EVERY_COLUMN, ExpectedColumns
from pipeline.ingest.sources import matching_paths, open_source, sources
from tests.support.ingest import CONFIG
from tests.test_formats_neighbours import written_in
from tests.test_formats_reader import BAD_CSV, CSV

WANTED = ExpectedColumns({"id": "schema.transaction_id", "note": "schema.categorical"})

Rows = dict[int, tuple[str | None, ...]]


def read(path: Path, wanted: ExpectedColumns = WANTED, **written: Any) -> tuple[Rows, dict[int, str]]:
    """Rows by number, as text, and the reasons of those that could not be split, by number."""
    rows: Rows = {}
    reasons: dict[int, str] = {}
    with closing(reader.open_path(path, None, path.name, FormatSection(**written))) as source:
        for batch in source.rows(wanted):
            columns = [texts(column).to_pylist() for column in batch.columns.values()]
            rows |= dict(zip(batch.row_number.tolist(), zip(*columns, strict=True), strict=True))
            reasons |= {row.row_number: row.reason for row in batch.unreadable}
    return rows, reasons


def names(path: Path, **written: Any) -> list[str]:
    """The columns that `init --from` sees."""
    with closing(reader.open_path(path, None, path.name, FormatSection(**written))) as source:
        return list(next(source.rows(EVERY_COLUMN)).columns)


@pytest.fixture
def file(tmp_path: Path) -> Any:
    def write(content: bytes | str, name: str = "f.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.mark.parametrize("quote", QUOTES)
@pytest.mark.parametrize("separator", SEPARATORS)
def test_every_dialect_is_read_like_the_usual_one(file, monkeypatch, separator, quote):
    dialect = Dialect(separator, QUOTES[quote])
    monkeypatch.setattr(csv_reader, "BLOCK", 7)
    for content, rows in CSV:
        here = written_in(dialect, content.decode())
        expected = {
            number: tuple(value and written_in(dialect, value).decode() for value in row)
            for number, row in rows.items()
        }
        assert read(file(here), quote=quote) == (expected, {}), here


@pytest.mark.parametrize("quote", QUOTES)
@pytest.mark.parametrize("separator", SEPARATORS)
def test_a_bad_row_is_rejected_alone_in_every_dialect(file, separator, quote):
    dialect = Dialect(separator, QUOTES[quote])
    for line, reason in BAD_CSV:
        content = b'"id","note"\na,x\n' + line + b"\nc,z\n"
        here = written_in(dialect, content.decode("latin-1")).decode().encode("latin-1")
        rows, reasons = read(file(here), quote=quote)
        assert rows == {1: ("a", "x"), 3: ("c", "z")}
        assert list(reasons) == [2]
        assert reasons[2].startswith(reason)


@pytest.mark.parametrize(("separator", "name"), SEPARATORS.items())
def test_the_reason_for_a_wrong_number_of_values_names_the_separator(file, separator, name):
    content = f"id{separator}note\na{separator}x\nb\n"
    assert read(file(content))[1] == {
        2: f"the row has fewer values than the header has columns: quote values that hold {name}"
    }


SINGLE_QUOTES = [
    # a value in a file with single quotes, and what it means
    ("'C1093826151'", "C1093826151"),
    ("'a,b'", "a,b"),
    ("'O''Brien'", "O'Brien"),
    (r"'O\'Brien'", "O'Brien"),
    ("O'Brien", "O'Brien"),
    ("'two\nlines'", "two\nlines"),
    ("'say \"hi\"'", 'say "hi"'),
    ('"x"', '"x"'),
]


@pytest.mark.parametrize(("value", "meaning"), SINGLE_QUOTES)
def test_single_quotes(file, value, meaning):
    assert read(file(f"id,note\na,{value}\n'b',y\n"), quote="single") == (
        {1: ("a", meaning), 2: ("b", "y")},
        {},
    )


BANK = "Umsatzanzeige\n\nKontonummer:;DE12 3456\nZeitraum:;01.01.2026 - 31.01.2026\nSaldo;1.234,56;EUR\n\n"
HEADERS = [
    # content, the rows of id and note, every column
    (BANK + "id;note;Betrag\na;x;1,50\nb;y;2,50\n", {1: ("a", "x"), 2: ("b", "y")}, ["id", "note", "Betrag"]),
    (BANK.replace("\n", "\r\n") + "id;note;Betrag\r\na;x;1,5\r\n", {1: ("a", "x")}, ["id", "note", "Betrag"]),
    (BANK.replace("\n", "\r") + "id;note;Betrag\ra;x;1,5\r", {1: ("a", "x")}, ["id", "note", "Betrag"]),
    # decimal commas, and commas in text, are no separators
    ("id;note\na;1,50\nb;2,50\n", {1: ("a", "1,50"), 2: ("b", "2,50")}, ["id", "note"]),
    ("id;note\na;x, y, z\nb;x, y, z\n", {1: ("a", "x, y, z"), 2: ("b", "x, y, z")}, ["id", "note"]),
    ("id\tnote;x\tc\na\tx;y\t1,2\n", None, ["id", "note;x", "c"]),
    # the header is the one with all columns, not the first with some
    ("id,list\nid,note,amount\na,x,1\nb,y,2\n", {1: ("a", "x"), 2: ("b", "y")}, ["id", "note", "amount"]),
    ("sep=;\nid;note\na;x\n", {1: ("a", "x")}, ["id", "note"]),  # a line for Excel
    ("id;note\n2;Berlin, Mitte, DE\n3;Paris, 6e, FR\n", {1: ("2", "Berlin, Mitte, DE"), 2: ("3", "Paris, 6e, FR")}, ["id", "note"]),
    # lines filled up with separators, as Excel saves them
    ("Report;;;\nMarch;;;\n;;;\nid;note;c;d\na;x;1;2\n", {1: ("a", "x")}, ["id", "note", "c", "d"]),
    ('"Report ""March"""\n"id";"note"\n"a";"x"\n', {1: ("a", "x")}, ["id", "note"]),
    ("Konto;DE12;;;\nid;note;c;d;e\na;x;1;2;3\n", {1: ("a", "x")}, ["id", "note", "c", "d", "e"]),
    ("id;note;a,b,c,d,e\na;x;1\n", {1: ("a", "x")}, None),  # a comma would give more columns, but not these
    # an index without a name, columns without a name
    (",id,note,c,d,e\n0,a,x,1,2,3\n1,b,y,1,2,3\n", {1: ("a", "x"), 2: ("b", "y")}, ["id", "note", "c", "d", "e"]),
    ("id;note;c;d;e;f;g;h;;\na;x;1;2;3;4;5;6;;\n", {1: ("a", "x")}, ["id", "note", "c", "d", "e", "f", "g", "h"]),
    ("2026;Berlin, Mitte, DE\nid;note\n", {}, None),
    ("#,id,note\n1,a,x\n", {1: ("a", "x")}, ["#", "id", "note"]),
    # preamble longer than the table
    ("a;1\nb;2\nc;3\nd;4\nid;note;x;y\na;x;1;2\nb;y;2;3\n", {1: ("a", "x"), 2: ("b", "y")}, ["id", "note", "x", "y"]),
]  # fmt: skip


@pytest.mark.parametrize(("content", "rows", "columns"), HEADERS)
def test_the_header_and_the_separator_are_recognised(file, content, rows, columns):
    path = file(content)
    assert columns is None or names(path) == columns
    if rows is not None:
        assert read(path) == (rows, {})


def test_the_lines_of_a_bank_before_the_header_may_be_in_an_encoding_of_their_own(file):
    path = file(b"Auszug f\xfcr Konto\n\nid;note;c\na;x;1\n")
    assert read(path) == ({1: ("a", "x")}, {})
    assert names(path) == ["id", "note", "c"]


def test_lines_after_the_rows_are_rejected(file):
    rows, reasons = read(file("id;note;c\na;x;1\nb;y;2\nSumme;3\nEnde der Liste\n"))
    assert rows == {1: ("a", "x"), 2: ("b", "y")}
    assert list(reasons) == [3, 4]


@pytest.mark.parametrize(("lines", "accepted"), [(49, True), (50, False)])
def test_the_header_is_one_of_the_first_fifty_rows(file, lines, accepted):
    path = file("title\n" * lines + "id,note\na,x\n")
    if accepted:
        assert read(path) == ({1: ("a", "x")}, {})
    else:
        with pytest.raises(InputError, match='has no column "id"; it has title'):
            read(path)


def test_a_missing_column_is_told_with_the_columns_of_the_likely_header(file):
    with pytest.raises(InputError, match='has no column "note"; it has id, text, Betrag'):
        read(file(BANK + "id;text;Betrag\na;x;1,50\n"))


TEXT = "id,note\na,Grüße\nb,naïve\n"
ENCODED = [
    # encoding, whether it has a byte order mark, what format.encoding must say
    ("utf-8", b"", "utf-8"),
    ("utf-8", b"\xef\xbb\xbf", "utf-8"),
    ("utf-8", b"\xef\xbb\xbf", "cp1252"),  # the mark decides
    ("utf-16-le", b"\xff\xfe", "utf-8"),
    ("utf-16-be", b"\xfe\xff", "utf-8"),
    ("utf-16-le", b"\xff\xfe", "cp1252"),
    ("utf-32-le", b"\xff\xfe\0\0", "utf-8"),
    ("utf-16-le", b"", "utf-16-le"),
    ("utf-16-be", b"", "utf-16-be"),
    ("cp1252", b"", "cp1252"),
    ("latin-1", b"", "latin-1"),
    ("cp437", b"", "cp437"),
    ("mac-roman", b"", "mac-roman"),
]


@pytest.mark.parametrize("part", [1 << 18, 3])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("lines", ["csv", "jsonl"])
@pytest.mark.parametrize(("encoding", "mark", "configured"), ENCODED)
def test_encodings(file, monkeypatch, encoding, mark, configured, lines, pack, part):
    monkeypatch.setattr(encodings, "PART", part)
    text = TEXT if lines == "csv" else '{"id": "a", "note": "Grüße"}\n{"id": "b", "note": "naïve"}\n'
    path = file(pack(mark + text.encode(encoding)), f"f.{lines}")
    assert read(path, encoding=configured) == ({1: ("a", "Grüße"), 2: ("b", "naïve")}, {})
    with path.open("rb") as stream, closing(
        reader.open_stream(stream, None, "-", FormatSection(encoding=configured))
    ) as source:  # fmt: skip
        assert [column.to_pylist() for batch in source.rows(WANTED) for column in batch.columns.values()] == [
            ["a", "b"],
            ["Grüße", "naïve"],
        ]


def test_letters_of_several_bytes(file):
    assert read(file("id,note\na,東京\n".encode("shift_jis")), encoding="shift_jis") == (
        {1: ("a", "東京")},
        {},
    )


UNDECODABLE = [
    # encoding, bytes that are none of its letters, as they are shown
    ("utf-8", b"\xe9", "b,\\xe9"),
    ("cp1252", b"\x81", "b,\\x81"),
    ("cp1252", b"\xe4\x81\x8d", "b,ä\\x81\\x8d"),
    ("shift_jis", b"\xff", "b,\\xff"),
    ("ascii", b"\xc3\xa4", "b,\\xc3\\xa4"),  # would be UTF-8
    ("utf-16-le", b"\x00\xd8", "b,\\x00\\xd8"),  # half a pair
]


@pytest.mark.parametrize("lines", ["csv", "jsonl"])
@pytest.mark.parametrize(("encoding", "bad", "text"), UNDECODABLE)
def test_a_row_that_is_no_text_in_its_encoding_is_rejected_alone(file, encoding, bad, text, lines):
    def row(name: str, value: bytes = b"") -> bytes:
        before, after = (f"{name},", "\n") if lines == "csv" else (f'{{"id": "{name}", "note": "', '"}\n')
        return before.encode(encoding) + value + after.encode(encoding)

    header = "id,note\n".encode(encoding) if lines == "csv" else b""
    path = file(header + row("a") + row("b", bad) + row("c"), f"f.{lines}")
    rows, reasons = read(path, encoding=encoding)
    assert rows == {1: ("a", None), 3: ("c", None)}
    assert list(reasons) == [2]
    assert "format.encoding" in reasons[2]
    assert encoding.upper() in reasons[2].upper()
    with closing(reader.open_path(path, None, "f", FormatSection(encoding=encoding))) as source:
        (batch,) = source.rows(WANTED)
        assert batch.unreadable[0].text == (
            text if lines == "csv" else f'{{"id": "b", "note": "{text[2:]}"}}'
        )


DETECTED = [
    (b"id,note\na,x\n", "utf-8"),
    (TEXT.encode(), "utf-8"),
    (TEXT.encode("utf-8-sig"), "utf-8"),
    (TEXT.encode("utf-16"), "utf-16"),
    (b"\xfe\xff" + TEXT.encode("utf-16-be"), "utf-16"),
    (TEXT.encode("utf-16-le"), "utf-16-le"),
    (TEXT.encode("utf-16-be"), "utf-16-be"),
    (TEXT.encode("cp1252"), "cp1252"),
    (b"id,note\na,10 \x80\n", "cp1252"),
    (TEXT.encode() * 9 + b"c,\xe9\n", "utf-8"),  # one bad row
    (b"id,note\na,\x81\x84\n", "utf-8"),  # cp437: cp1252 has no such letter, so nobody can tell
    (b"", "utf-8"),
]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(("content", "encoding"), DETECTED)
def test_the_encoding_is_detected(file, content, encoding, pack):
    assert reader.detect_encoding(file(pack(content))) == encoding


def test_the_encoding_is_detected_where_the_first_part_ends_within_a_letter(file, monkeypatch):
    monkeypatch.setattr(reader, "DETECTED", 12)
    assert reader.detect_encoding(file("id,note\na,xü\n")) == "utf-8"


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def parquet(rows: dict[str, list[str]]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(rows), buffer)
    return buffer.getvalue()


def workbook(*sheets: list[list[Any]]) -> bytes:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for number, rows in enumerate(sheets):
        sheet = book.create_sheet(f"sheet {number}")
        for row in rows:
            sheet.append(row)
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


PLAIN = b"id,note\na,x\n"
LINES = b'{"id": "a", "note": "x"}\n'
TABLE = parquet({"id": ["a"], "note": ["x"]})
SHEET = workbook([["id", "note"], ["a", "x"]])
PACKED = [
    # name, content; each holds one row
    ("f.csv.zip", zipped({"f.csv": PLAIN})),
    ("f.zip", zipped({"f.csv": PLAIN})),
    ("F.ZIP", zipped({"F.CSV": PLAIN})),
    ("f.zip", zipped({"export/f.tsv": b"id\tnote\na\tx\n"})),
    ("f.zip", zipped({"f.csv": PLAIN}, zipfile.ZIP_STORED)),
    ("f.zip", zipped({"f.csv": PLAIN}, zipfile.ZIP_BZIP2)),
    ("f.zip", zipped({"f.csv": PLAIN}, zipfile.ZIP_LZMA)),
    ("f.zip", zipped({"d/": b"", "d/f.csv": PLAIN, "__MACOSX/d/._f.csv": b"?", ".DS_Store": b"?"})),
    ("f.zip", zipped({"f.csv": PLAIN, "readme.txt": b"hello", "licence.pdf": b"?"})),
    ("f.zip", zipped({"f.txt": PLAIN})),
    ("f.zip", zipped({"f.csv.gz": gzip.compress(PLAIN)})),
    ("f.zip", zipped({"f.csv": PLAIN.decode().encode("utf-16")})),
    ("f.zip", zipped({"f.jsonl": LINES})),
    ("f.zip", zipped({"f.parquet": TABLE})),
    ("f.zip", zipped({"f.xlsx": SHEET})),
    ("f.csv", zipped({"f.csv": PLAIN})),  # what is in a file counts, not its name
    ("f.parquet.gz", gzip.compress(TABLE)),
    ("f.xlsx", SHEET),
    ("f.txt", PLAIN),
    ("f.tsv.gz", gzip.compress(PLAIN)),
    ("f.csv.gz", gzip.compress(PLAIN) + gzip.compress(b"")),
]


@pytest.mark.parametrize(("name", "content"), PACKED, ids=range(len(PACKED)))
def test_packed_files_are_read(file, name, content):
    path = file(content, name)
    assert read(path) == ({1: ("a", "x")}, {})
    assert reader.detect_encoding(path) in {"utf-8", "utf-16"}
    with closing(reader.open_path(path, None, name)) as source:
        assert source.digest() == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(("name", "content"), PACKED, ids=range(len(PACKED)))
def test_packed_streams_are_read(name, content):
    with closing(reader.open_stream(io.BytesIO(content), None, "standard input")) as source:
        rows = [column.to_pylist() for batch in source.rows(WANTED) for column in batch.columns.values()]
        assert rows == [["a"], ["x"]]
        assert source.digest() == hashlib.sha256(content).hexdigest()


def with_password(archive: bytes) -> bytes:
    """The archive with the bit of its file set that says that it is encrypted."""
    for mark, place in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        at = archive.index(mark) + place
        archive = archive[:at] + bytes([archive[at] | 1]) + archive[at + 1 :]
    return archive


def with_method(archive: bytes, method: int) -> bytes:
    for mark, place in ((b"PK\x01\x02", 10), (b"PK\x03\x04", 8)):
        at = archive.index(mark) + place
        archive = archive[:at] + bytes([method]) + archive[at + 1 :]
    return archive


STORED = zipped({"f.csv": PLAIN}, zipfile.ZIP_STORED)
REFUSED_ARCHIVES = [
    (zipped({"b.csv": PLAIN, "a.csv": PLAIN}), "holds 2 files (a.csv, b.csv): unpack it and name the files"),
    (zipped({f"{n:02}.csv": PLAIN for n in range(99)}), "holds 99 files (00.csv, 01.csv"),
    (zipped({}), "holds no file"),
    (zipped({".hidden.csv": PLAIN, "__MACOSX/f.csv": PLAIN}), "holds no file"),
    (zipped({"a.pdf": b"?"}), "a.pdf in "),
    (with_password(STORED), "has a password: unpack it first"),
    (with_method(STORED, 9), "is packed in a way that cannot be read"),
    (STORED.replace(PLAIN, PLAIN.upper()), "is damaged or truncated (Bad CRC-32"),
    (STORED[:40], "is damaged or truncated"),
    (b"PK", "is damaged or truncated"),
    (b"", "is damaged or truncated"),
]


@pytest.mark.parametrize(("content", "sentence"), REFUSED_ARCHIVES, ids=range(len(REFUSED_ARCHIVES)))
def test_an_archive_that_cannot_be_read_is_refused(file, content, sentence):
    with pytest.raises(InputError) as refused:
        read(file(content, "f.zip"))
    assert sentence in str(refused.value)
    assert "f.zip" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_archive_of_itself_ends(file):
    """The content is no table, but an archive in an archive is not opened again and again."""
    inner = zipped({"f.csv": PLAIN})
    with pytest.raises(InputError):
        read(file(zipped({"inner.zip": inner}), "f.csv"))


@pytest.mark.parametrize("pack", [gzip.compress, lambda content: zipped({"f.csv": content})])
@pytest.mark.parametrize(
    ("row", "sentence"),
    [(b"a," + b"0" * 98 + b"\n", ""), (b"0" * 101, "holds a line of more than 16 MiB")],
)
def test_what_grows_when_it_is_unpacked_needs_no_more_memory(file, pack, row, sentence):
    path = file(pack(PLAIN + row * 500_000))  # 50 MB of a few kB
    assert path.stat().st_size < 200_000
    tracemalloc.start()
    try:
        rows = 0
        with closing(reader.open_path(path, None, "f.csv")) as source:
            for batch in source.rows(WANTED):
                rows += len(batch)
        assert rows == 500_001
        assert not sentence
    except InputError as error:
        assert sentence
        assert sentence in str(error)  # noqa: PT017
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 80 << 20


SHEETS = [
    # a cell, its text
    ("x", "x"),
    (" x ", "x"),
    (None, None),
    ("", None),
    (1001, "1001"),
    (1001.0, "1001"),
    (12.5, "12.5"),
    (0.3, "0.3"),
    (-3, "-3"),
    (2**53 - 1, "9007199254740991"),
    (4111111111111111000, "4.111111111111111e+18"),  # digits may be lost
    (1e-7, "0.0000001"),
    (True, "true"),
    (False, "false"),
    ("007", "007"),
    (datetime(2026, 3, 1, 6, 30), "2026-03-01T06:30:00"),  # noqa: DTZ001
    (date(2026, 3, 1), "2026-03-01T00:00:00"),
    (time(6, 30), "06:30:00"),
    (timedelta(hours=30), "1 day, 6:00:00"),
    ("#N/A", None),
    ("#DIV/0!", None),
    ("=1+1", None),  # a formula that nobody has computed
    ("Grüße, 東京", "Grüße, 東京"),
    ("two\nlines", "two\nlines"),
]


def test_cells_are_written_as_text(file):
    path = file(workbook([["id", "note"], *([n, value] for n, (value, _) in enumerate(SHEETS))]), "f.xlsx")
    rows, reasons = read(path)
    assert reasons == {}
    assert [row[1] for row in rows.values()] == [text for _, text in SHEETS]


WORKBOOKS = [
    # sheets, their rows of id and note
    ([[["id", "note"]]], {}),
    ([[], [["id", "note"], ["a", "x"]]], {1: ("a", "x")}),  # the first sheet is empty
    ([[["id", "note"], ["a", "x"]], [["id", "note"], ["b", "y"]]], {1: ("a", "x")}),
    (
        [[["Report"], [], ["Period:", "2026"], [None, "id", "note", "c"], [None, "a", "x", 1]]],
        {1: ("a", "x")},
    ),
    ([[["id", "note"], [None, None], ["a", "x"], [], ["b", "y"]]], {1: ("a", "x"), 2: ("b", "y")}),
    ([[["id", "note"], ["a"], ["b", "y", None, "remark"]]], {1: ("a", None), 2: ("b", "y")}),
    ([[["id", 2026, "note"], ["a", 1, "x"]]], {1: ("a", "x")}),
]


@pytest.mark.parametrize("rows_of_a_batch", [1, 50_000])
@pytest.mark.parametrize(("sheets", "rows"), WORKBOOKS)
def test_workbooks_are_read(file, monkeypatch, sheets, rows, rows_of_a_batch):
    monkeypatch.setattr(excel_reader, "BATCH_ROWS", rows_of_a_batch)
    assert read(file(workbook(*sheets), "f.xlsx")) == (rows, {})


def test_every_column_of_a_sheet(file):
    sheet = [["Report"], [], [None, "id", "note", "a", "b", "c"], [1, "a", "x", None, None, None]]
    assert names(file(workbook(sheet), "f.xlsx")) == ["id", "note", "a", "b", "c"]


def test_a_hidden_sheet_comes_last(file):
    book = openpyxl.load_workbook(
        io.BytesIO(workbook([["id", "note"], ["no", "no"]], [["id", "note"], ["a", "x"]]))
    )
    book.worksheets[0].sheet_state = "hidden"
    buffer = io.BytesIO()
    book.save(buffer)
    assert read(file(buffer.getvalue(), "f.xlsx")) == ({1: ("a", "x")}, {})


REFUSED_WORKBOOKS = [
    (workbook([["id", "other"]]), 'sheet "sheet 0", has no column "note", did you mean other?; it has id, other'),
    (workbook([["id", "note", "note"]]), 'has the column "note" twice'),
    (workbook([], []), "is empty: a sheet begins with a header"),
    (b"\xd0\xcf\x11\xe0" + b"\0" * 600, "of the old format (.xls), or one with a password: save it as .xlsx without"),
    (b"nonsense", "is not a valid Excel file"),
    (b"", "is not a valid Excel file"),
    (SHEET[:-30], "is damaged or truncated"),
    (zipped({"xl/workbook.xml": b"<nonsense"}), "is not a valid Excel file"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "sentence"), REFUSED_WORKBOOKS, ids=range(len(REFUSED_WORKBOOKS)))
def test_a_workbook_that_cannot_be_used_is_refused(file, content, sentence):
    with pytest.raises(InputError) as refused:
        read(file(content, "f.xlsx"))
    assert sentence in str(refused.value)
    assert str(refused.value).startswith("f.xlsx")


def test_what_a_sheet_says_of_its_size_does_not_count(file):
    with zipfile.ZipFile(io.BytesIO(SHEET)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    sheet = members["xl/worksheets/sheet1.xml"]
    members["xl/worksheets/sheet1.xml"] = sheet.replace(b'<dimension ref="A1:B2"', b'<dimension ref="A1:A1"')
    assert members["xl/worksheets/sheet1.xml"] != sheet
    assert read(file(zipped(members), "f.xlsx")) == ({1: ("a", "x")}, {})


def test_a_damaged_sheet_is_refused(file):
    with zipfile.ZipFile(io.BytesIO(SHEET)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["xl/worksheets/sheet1.xml"] = members["xl/worksheets/sheet1.xml"][:-40]
    with pytest.raises(InputError, match="is not a valid Excel file"):
        read(file(zipped(members), "f.xlsx"))


def test_a_workbook_with_too_many_texts_is_refused(file, monkeypatch):
    monkeypatch.setattr(excel_reader, "TEXTS_MAX", 10)
    with pytest.raises(InputError, match="different texts: save it as CSV"):
        read(file(SHEET, "f.xlsx"))


def test_without_the_library_the_extra_is_named(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(InputError) as refused:
        read(file(SHEET, "f.xlsx"))
    assert "pip install 'fraudwatch[excel]'" in str(refused.value)


NESTED = [
    # the object of a line, the wanted names, their values
    ({"id": 1, "card": {"last4": "4242"}}, ["id", "card.last4"], ("1", "4242")),
    ({"id": 1, "a": {"b": {"c": 2.50}}}, ["id", "a.b.c"], ("1", "2.5")),
    ({"id": 1, "a": {"b": [1, {"c": 2}]}}, ["id", "a.b"], ("1", '["1", {"c": "2"}]')),
    ({"id": 1, "card": {"last4": "4242"}}, ["id", "card"], ("1", '{"last4": "4242"}')),
    ({"id": 1, "card": {"a": {"b": 1}}}, ["card.a", "card.a.b"], ('{"b": "1"}', "1")),
    ({"id": 1, "card.last4": "4242"}, ["id", "card.last4"], ("1", "4242")),
    ({"id": 1, "card": {}, "x": {"y": None}}, ["id", "x.y"], ("1", None)),
    ({"id": 1, "": {"": 2}}, ["id", "."], ("1", "2")),
]


@pytest.mark.parametrize("form", ["{}\n", "[{}]"])
@pytest.mark.parametrize(("value", "wanted", "values"), NESTED)
def test_objects_in_objects_are_columns(file, value, wanted, values, form):
    expected = ExpectedColumns(dict.fromkeys(wanted, "schema.categorical"))
    assert read(file(form.format(json.dumps(value)), "f.jsonl"), expected) == ({1: values}, {})


def test_every_column_of_nested_objects(file):
    path = file('{"id": 1, "card": {"last4": "4242", "x": {"y": [1]}}}\n{"id": 2, "card": null}\n', "f.jsonl")
    assert names(path) == ["id", "card.last4", "card.x.y", "card"]


def test_a_column_in_two_places_is_refused(file):
    lines = '{"id": "a", "note": "x"}\n{"id": "b", "a": {"b": 1}, "a.b": 2}\n'
    assert read(file(lines, "f.jsonl"))[1] == {2: jsonl_reader.REPEATED_KEY}


def test_a_column_that_no_object_has_is_named_by_its_nested_name(file):
    with pytest.raises(InputError, match=r'has no column "note"; it has id, card\.last4'):
        read(file('{"id": 1, "card": {"last4": "4242"}}\n', "f.jsonl"))


def test_an_optional_key_may_be_missing_everywhere(file):
    expected = ExpectedColumns({"id": "labels.transaction_id"}, {"known_at": "labels.known_at"})
    assert read(file('{"id": 1}\n{"id": 2}\n', "f.jsonl"), expected) == ({1: ("1", None), 2: ("2", None)}, {})


A, B = {"id": "a", "note": "x"}, {"id": "b", "note": 'say "]}," \\'}
ARRAYS = [
    # content, rows, numbers of bad rows
    (json.dumps([A, B]), {1: ("a", "x"), 2: ("b", 'say "]}," \\')}, []),
    (json.dumps([A, B], indent=4), {1: ("a", "x"), 2: ("b", 'say "]}," \\')}, []),
    ("\ufeff\r\n [ " + json.dumps(A) + " ] \n", {1: ("a", "x")}, []),
    ("[]", {}, []),
    (" [ ]\n", {}, []),
    ("[" + json.dumps(A) + ', 5, "x", [1], {"id": }, ' + json.dumps(A) + "]", {1: ("a", "x"), 6: ("a", "x")}, [2, 3, 4, 5]),
    ('[{"id": "a", "note": {"x": [{"y": "]"}]}}]', {1: ("a", '{"x": [{"y": "]"}]}')}, []),
    ('[{"id": "a", "id": "b"}, {"id": "c", "note": null}]', {2: ("c", None)}, [1]),
    ('[{"note": "東京", "id": "a"},]', {1: ("a", "東京")}, []),
]  # fmt: skip


@pytest.mark.parametrize("part", [1 << 20, 1])
@pytest.mark.parametrize(("content", "rows", "bad"), ARRAYS)
def test_one_json_array_is_read_object_by_object(file, monkeypatch, content, rows, bad, part):
    monkeypatch.setattr(jsonl_reader, "PART", part)
    monkeypatch.setattr(jsonl_reader, "START", 20)
    found, reasons = read(file(content, "f.json"))
    assert found == rows
    assert list(reasons) == bad


def test_bytes_of_an_array_that_are_no_text_cost_their_object_only(file):
    rows, reasons = read(file(b'[{"id": "a", "note": "x"}, {"id": "\xff"}, {"id": "c"}]', "f.json"))
    assert rows == {1: ("a", "x"), 3: ("c", None)}
    assert reasons[2].startswith("the row is not UTF-8")


REFUSED_JSON = [
    ('[{"id": 1}', "is a JSON array that does not end"),
    ('[{"id": "1}]', "is a JSON array that does not end"),
    ('[{"id": "' + "x" * 4000 + '"}]', "holds an object of more than"),
    ('[{"id": 1}]\n[{"id": 2}]', "holds more than one JSON array"),
    ('[{"id": 1}]' + " " * 999 + "x", "holds more than one JSON array"),
    ('{\n  "data": [\n {"id": 1}]}', "is one JSON object over several lines: write one per line"),
]


@pytest.mark.parametrize(("content", "sentence"), REFUSED_JSON)
def test_json_that_is_no_list_of_objects_is_refused(file, monkeypatch, content, sentence):
    monkeypatch.setattr(jsonl_reader, "LINE_MAX", 1 << 11)
    monkeypatch.setattr(jsonl_reader, "PART", 1 << 8)
    monkeypatch.setattr(jsonl_reader, "START", 1 << 8)
    with pytest.raises(InputError) as refused:
        read(file(content, "f.json"))
    assert sentence in str(refused.value)


def test_a_long_array_needs_no_more_memory_than_a_part_of_it(file, monkeypatch):
    monkeypatch.setattr(jsonl_reader, "BATCH_BYTES", 1 << 20)
    row = b'{"id": "a", "note": "' + b"x" * 1000 + b'"}'
    path = file(b"[" + b",\n".join([row] * 20_000) + b"]", "f.json")
    tracemalloc.start()
    with closing(reader.open_path(path, None, "f.json")) as source:
        rows = sum(map(len, source.rows(WANTED)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows == 20_000
    assert peak < 10 << 20  # of 20 MiB


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b.csv", "a.csv", "c.jsonl", "2026/d.csv", "2026/03/e.csv", "[odd].csv", "star*.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(PLAIN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


PATTERNS = [
    ("a.csv", ["a.csv"]),
    ("none.csv", ["none.csv"]),  # said by whoever opens it
    ("[ab].csv", ["a.csv", "b.csv"]),
    ("?.csv", ["a.csv", "b.csv"]),
    ("*.csv", ["[odd].csv", "a.csv", "b.csv", "star*.csv"]),
    ("**/*.csv", ["2026/03/e.csv", "2026/d.csv", "[odd].csv", "a.csv", "b.csv", "star*.csv"]),
    ("2026/*", ["2026/d.csv"]),  # files, not folders
    ("[odd].csv", ["[odd].csv"]),  # a file's very name
    ("star*.csv", ["star*.csv"]),
]


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize(("pattern", "paths"), PATTERNS)
def test_patterns_name_files_in_the_order_of_their_names(folder, pattern, paths, absolute):
    argument = f"{folder}/{pattern}" if absolute else pattern
    expected = [folder / path if absolute else Path(path) for path in paths]
    assert matching_paths(argument) == expected


def test_a_pattern_that_matches_nothing_is_refused(folder):
    for pattern in ("*.xml", "2025/*.csv", "[xy].csv"):
        with pytest.raises(InputError, match="no file matches"):
            matching_paths(pattern)


def test_sources_may_be_patterns_and_files(folder):
    given = sources(CONFIG, "transactions", ["2026/*", "[ab].csv", "c.jsonl"], None, None)
    assert [(source.name, source.file_format) for source in given] == [
        ("2026/d.csv", "csv"), ("a.csv", "csv"), ("b.csv", "csv"), ("c.jsonl", "jsonl")
    ]  # fmt: skip


def test_sources_are_read_as_the_configuration_says(folder):
    (folder / "a.csv").write_bytes(TEXT.replace(",", ",'").replace("\n", "'\n").encode("cp1252"))
    config = CONFIG.model_copy(update={"format": FormatSection(encoding="cp1252", quote="single")})
    (given,) = sources(config, "transactions", ["a.csv"], None, None)
    with open_source(config, given) as source:
        (batch,) = source.rows(WANTED)
    assert batch.columns["note"].to_pylist() == ["Grüße", "naïve"]
