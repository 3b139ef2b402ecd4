"""Which files are read: separators, quotes, lines before the header, encodings, packed files, sheets and patterns."""

import gzip
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.sections import FormatSection
from pipeline.errors import InputError
from pipeline.ingest.decoding import encodings
from pipeline.ingest.formats import csv_reader, reader
from pipeline.ingest.formats.columns import texts
from pipeline.ingest.formats.csv_dialect import QUOTES, SEPARATORS, Dialect
from pipeline.ingest.formats.row_batch import EVERY_COLUMN, ExpectedColumns
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


def test_an_encoding_that_is_none_of_text_is_refused(file):
    with pytest.raises(InputError, match=r'format.encoding is "rot13", which does not write text as bytes'):
        read(file("id,note\n"), encoding="rot13")


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
