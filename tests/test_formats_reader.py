import gzip
import hashlib
import io
from datetime import UTC, date, datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.ingest.formats import csv_reader, jsonl_reader, reader
from pipeline.ingest.formats.columns import texts
from pipeline.ingest.formats.row_batch import ExpectedColumns

WANTED = ExpectedColumns({"id": "schema.transaction_id", "note": "schema.categorical"})


def read(content: bytes, name="f.csv", tmp_path=None, wanted=WANTED):
    """Rows by number, as text, and the reasons of those that could not be split, by number."""
    path = tmp_path / name
    path.write_bytes(content)
    reading = reader.open_path(path, None, name)
    try:
        return gathered(reading.rows(wanted))
    finally:
        reading.close()


def gathered(chunks):
    rows, unreadable = {}, {}
    for chunk in chunks:
        columns = [texts(column).to_pylist() for column in chunk.columns.values()]
        rows |= dict(zip(chunk.row_number.tolist(), zip(*columns, strict=True), strict=True))
        unreadable |= {one.row_number: one.reason for one in chunk.unreadable}
    return rows, unreadable


CSV = [
    # what a file may look like, and the rows that are meant
    (b"id,note\na,x\nb,y\n", {1: ("a", "x"), 2: ("b", "y")}),
    (b"id,note\na,x\nb,y", {1: ("a", "x"), 2: ("b", "y")}),  # no line end at the end
    (b"\xef\xbb\xbfid,note\r\na,x\r\n", {1: ("a", "x")}),  # byte order mark, line ends of Windows
    (b'\xef\xbb\xbf"id","note"\r\n"a","x"\r\n', {1: ("a", "x")}),
    (b"other,note,id\n1,x,a\n", {1: ("a", "x")}),  # another order, a column nobody asked for
    (b" id , note \na,x\n", {1: ("a", "x")}),  # blanks around names
    (b"id,note,more,more\na,x,1,2\n", {1: ("a", "x")}),  # twice, but not one we want
    (b"id,note\n", {}),  # only a header
    (b"id,note", {}),
    (b"\n\nid,note\n\na,x\n\r\n\nb,y\n\n", {1: ("a", "x"), 2: ("b", "y")}),  # blank lines are no rows
    (b'id,note\na,"x, y"\nb,"say ""hi"""\n', {1: ("a", "x, y"), 2: ("b", 'say "hi"')}),
    (b'id,note\na,"two\nlines"\nb,y\n', {1: ("a", "two\nlines"), 2: ("b", "y")}),
    (b'id,note\r\na,"two\r\n\r\nlines"\r\nb,y\r\n', {1: ("a", "two\r\n\r\nlines"), 2: ("b", "y")}),
    (b'"i\nd",id,note\n1,a,x\n', {1: ("a", "x")}),  # a line break in the header
    (b'id,note\na,5" pipe\nb,6" pipe\n', {1: ("a", '5" pipe'), 2: ("b", '6" pipe')}),  # quotes inside a value
    ("id,note\nä,東京\n".encode(), {1: ("ä", "東京")}),
    (b"id,note\na,\nb,  \n,z\n", {1: ("a", None), 2: ("b", None), 3: (None, "z")}),  # empty is missing
    (b"id,note\n,\n", {1: (None, None)}),
    (b"id,note\na,NULL\nb,nan\n", {1: ("a", "NULL"), 2: ("b", "nan")}),  # words stay words
    (b"id,note\n007,1e5\n", {1: ("007", "1e5")}),
]


@pytest.mark.parametrize("block", [1 << 22, 3])  # a file may be cut into blocks anywhere
@pytest.mark.parametrize(("content", "rows"), CSV)
def test_csv_is_read_as_it_is_meant(tmp_path, monkeypatch, content, rows, block):
    monkeypatch.setattr(csv_reader, "BLOCK", block)
    assert read(content, tmp_path=tmp_path) == (rows, {})


BAD_CSV = [
    # a line that cannot be split, in the middle of a file, and what is said of it
    (b"b", "the row has fewer values than the header has columns"),
    (b"b,y,z", "the row has more values than the header has columns"),
    (b"b,\xff\xfe", "the row is not UTF-8"),
    (b'b,"open', "a quoted value is not closed"),
    (b'"b,y', "a quoted value is not closed"),
    (b"b,x\rc,y", "a line break inside a value without quotes"),
]


@pytest.mark.parametrize("block", [1 << 22, 5])
@pytest.mark.parametrize("quoted", [False, True])
@pytest.mark.parametrize(("line", "reason"), BAD_CSV)
def test_a_line_that_cannot_be_split_costs_no_other(tmp_path, monkeypatch, line, reason, quoted, block):
    monkeypatch.setattr(csv_reader, "BLOCK", block)
    before, after = (b'"a","x"', b'"c","z"') if quoted else (b"a,x", b"c,z")
    rows, unreadable = read(b"id,note\n" + before + b"\n" + line + b"\n" + after + b"\n", tmp_path=tmp_path)
    assert rows == {1: ("a", "x"), 3: ("c", "z")}
    assert list(unreadable) == [2]
    assert unreadable[2].startswith(reason)


def test_every_line_of_a_mixed_file_is_either_read_or_set_aside(tmp_path, monkeypatch):
    lines = [line for line, _ in BAD_CSV] + [b"a,x", b'"q","u"', b'm,"x\ny"']
    rng = np.random.default_rng(7)
    chosen = [lines[place] for place in rng.integers(0, len(lines), 3000)]
    monkeypatch.setattr(csv_reader, "BLOCK", 257)
    rows, unreadable = read(b"id,note\n" + b"\n".join(chosen) + b"\n", tmp_path=tmp_path)
    assert sorted([*rows, *unreadable]) == list(range(1, len(rows) + len(unreadable) + 1))
    assert sum(note == "x\ny" for _, note in rows.values()) == chosen.count(b'm,"x\ny"')
    assert sum(one == ("a", "x") for one in rows.values()) == chosen.count(b"a,x")


def test_a_quote_left_open_does_not_swallow_the_rest(tmp_path):
    many = b"".join(b'"k%d","v"\n' % n for n in range(500))
    rows, unreadable = read(b'id,note\n"a","open\n' + many, tmp_path=tmp_path)
    assert len(rows) == 500
    assert list(unreadable) == [1]


REFUSED = [
    # name, content, what the message has to say
    ("f.csv", b"", "is empty: a CSV file begins with a header of column names"),
    ("f.csv", b"\n\n", "is empty"),
    ("f.csv", b"id,other\n1,2\n", 'has no column "note"'),
    ("f.csv", b"id,other\n1,2\n", "it has id, other"),
    (
        "f.csv",
        b"id,other\n1,2\n",
        "set categorical in [schema] to the right column, or take it out of that list if there is none",
    ),
    ("f.csv", b"id,Note\n", "did you mean Note"),
    ("f.csv", b"id;other\n1;2\n", "it has id, other"),
    ("f.csv", b"id,note,note\n1,2,3\n", 'has the column "note" twice'),
    (
        "f.csv",
        b"id,n\xf6te\n1,2\n",
        "the header of f.csv is not UTF-8: set format.encoding (usual are cp1252, cp932, gb18030, euc-kr, cp1251), or",
    ),
    ("f.csv", b'id,"note\n1,2\n', "no header that can be read as CSV (a quoted value is not closed"),
    ("f.csv", b"id,note\n" + b"x" * (1 << 12), "more than 0 MiB, so it is not CSV"),
    ("f.csv.gz", gzip.compress(b"id,note\na,x\n" * 9, mtime=0)[:-12], "is damaged or truncated"),
    ("f.csv.gz", b"\x1f\x8b" + b"nonsense" * 9, "is damaged or truncated"),
    ("f.parquet", b"id,note\n1,2\n", "is not valid Parquet"),
    ("f.parquet", b"PAR1" + b"\0" * 100, "is not valid Parquet"),
    ("f.parquet", b"", "is not valid Parquet"),
    ("f.jsonl", b'{"id": 1}\n', 'has no column "note"'),
    ("f.jsonl", b'{"id": "' + b"x" * (1 << 12) + b'"}\n', "so it is not JSON Lines"),
    (
        "f.xls",
        b"PK",
        "must end in .csv, .tsv, .txt or .jsonl (also with .gz or .zip), in .parquet or .xlsx: otherwise name its format",
    ),
    ("f", b"id,note\n", "otherwise name its format"),
]


@pytest.mark.parametrize(("name", "content", "said"), REFUSED)
def test_what_is_no_table_is_refused_with_the_remedy(tmp_path, monkeypatch, name, content, said):
    monkeypatch.setattr(csv_reader, "BLOCK", 1 << 10)
    monkeypatch.setattr(csv_reader, "LINE_MAX", 1 << 11)
    monkeypatch.setattr(jsonl_reader, "LINE_MAX", 1 << 11)
    with pytest.raises(InputError) as refused:
        read(content, name, tmp_path)
    assert said in str(refused.value)
    assert name in str(refused.value)


def test_a_file_in_utf8_under_another_encoding_is_named_as_such():
    wanted = ExpectedColumns({"id": "schema.transaction_id", "Betrag (€)": "schema.amount"})
    with pytest.raises(InputError, match=r'"Betrag \(€\)" of a file in UTF-8 read as cp1252') as error:
        wanted.select(["id", "Betrag (€)".encode().decode("cp1252")], "t.csv")
    assert error.value.remedy == 'set encoding = "utf-8" in [format]'
    with pytest.raises(InputError, match="did you mean Betrag €"):
        wanted.select(["id", "Betrag €"], "t.csv")


def test_a_folder_and_a_missing_file_are_refused(tmp_path):
    with pytest.raises(InputError, match="is a folder"):
        reader.open_path(tmp_path, None, "here")
    with pytest.raises(InputError, match="does not exist"):
        reader.open_path(tmp_path / "none.csv", None, "none.csv")


@pytest.mark.parametrize("name", ["f.csv.gz", "f.csv"])  # what is in the file counts, not its name
def test_gzip_is_unpacked(tmp_path, name):
    assert read(gzip.compress(b"id,note\na,x\n"), name, tmp_path)[0] == {1: ("a", "x")}


JSONL = [
    (b'{"id": "a", "note": "x"}\n{"note": "y", "id": "b"}\n', {1: ("a", "x"), 2: ("b", "y")}, []),
    (b'\xef\xbb\xbf{"id": "a", "note": null}\r\n\r\n{"id": "b"}\r\n', {1: ("a", None), 2: ("b", None)}, []),
    (
        b'{"id": 12345678901234567890, "note": 1.10}\n',
        {1: ("12345678901234567890", "1.1")},
        [],
    ),  # as written
    (b'{"id": 1e400, "note": true}\n', {1: ("1E+400", "true")}, []),
    (b'{"id": "a", "note": {"deep": [1]}}\n', {1: ("a", '{"deep": ["1"]}')}, []),
    (b'{"id": "a", "note": "\\ud800"}\n', {1: ("a", "\\ud800")}, []),  # half a pair is no character
    (b'{"id": "a", "note": "x"}\nnot json\n{"id": "c"}\n', {1: ("a", "x"), 3: ("c", None)}, [2]),
    (b'{"id": "a", "note": "x"}\n[1, 2]\n"text"\n{"id": "d"}', {1: ("a", "x"), 4: ("d", None)}, [2, 3]),
    (b'{"id": "\xff", "note": "x"}\n{"id": "b", "note": "y"}\n', {2: ("b", "y")}, [1]),
    (b"[" * 100_000 + b'\n{"id": "b", "note": "y"}\n', {2: ("b", "y")}, [1]),
    (b'{"id": "a", "no', {}, [1]),
    (b"", {}, []),
]


@pytest.mark.parametrize(("content", "rows", "bad"), JSONL)
def test_json_lines_are_read_line_by_line(tmp_path, content, rows, bad):
    found, unreadable = read(content, "f.jsonl", tmp_path)
    assert found == rows
    assert list(unreadable) == bad
    assert all("JSON" in reason or "UTF-8" in reason for reason in unreadable.values())


def test_gzipped_json_lines_are_read(tmp_path):
    content = gzip.compress(b'{"id": "a", "note": "x"}\n')
    assert read(content, "f.jsonl.gz", tmp_path)[0] == {1: ("a", "x")}


MOMENT = datetime(2026, 3, 1, 6, tzinfo=UTC)
PARQUET = [
    # a column of some type, as text
    (pa.array([1, None], pa.int64()), ["1", None]),
    (pa.array([1, 2], pa.uint8()), ["1", "2"]),
    (pa.array([1.0, None]), ["1", None]),  # ids in pandas, where one is missing
    (pa.array([1.5, float("nan")]), ["1.5", None]),
    (pa.array([Decimal("1.1"), None]), ["1.1", None]),
    (pa.array(["a", None]), ["a", None]),
    (pa.array(["a", ""], pa.large_string()), ["a", None]),
    (pa.array([b"a", None], pa.binary()), ["a", None]),
    (pa.array(["a", None, "a"]).dictionary_encode(), ["a", None, "a"]),
    (pa.array([True, None]), ["true", None]),
    (pa.array([date(2026, 3, 1)]), ["2026-03-01"]),
    (pa.array([MOMENT], pa.timestamp("ns", "Europe/Paris")), ["2026-03-01T06:00:00+00:00"]),
    (pa.array([MOMENT.replace(tzinfo=None)], pa.timestamp("ms")), ["2026-03-01T06:00:00"]),
    (pa.nulls(2), [None, None]),
]


@pytest.mark.parametrize(("column", "expected"), PARQUET)
def test_parquet_of_any_sensible_type_is_read(tmp_path, column, expected):
    path = tmp_path / "f.parquet"
    pq.write_table(
        pa.table({"id": pa.array(range(len(column))), "note": column, "list": [[1]] * len(column)}), path
    )
    rows, _ = read(path.read_bytes(), "f.parquet", tmp_path)
    assert [note for _, note in rows.values()] == expected


def test_bytes_in_parquet_that_are_not_utf8_cost_their_row_only(tmp_path):
    path = tmp_path / "f.parquet"
    pq.write_table(pa.table({"id": [1, 2, 3], "note": [b"x", b"\xff", b"z"]}), path)
    rows, unreadable = read(path.read_bytes(), "f.parquet", tmp_path)
    assert rows == {1: ("1", "x"), 3: ("3", "z")}
    assert unreadable[2].startswith("the row is not UTF-8")


def test_parquet_without_rows_and_truncated_parquet(tmp_path):
    path = tmp_path / "f.parquet"
    pq.write_table(pa.table({"id": pa.array([], pa.int64()), "note": pa.array([], pa.string())}), path)
    assert read(path.read_bytes(), "f.parquet", tmp_path) == ({}, {})
    pq.write_table(pa.table({"id": range(10_000), "note": ["x"] * 10_000}), path)
    with pytest.raises(InputError, match="not valid Parquet"):
        read(path.read_bytes()[:-20], "f.parquet", tmp_path)


@pytest.mark.parametrize("form", [None, "given"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(
    ("content", "named"),
    [(b"id,note\na,x\n", "csv"), (b'\n {"id": "a", "note": "x"}\n', "jsonl")],
)
def test_a_stream_tells_its_format_and_hashes_what_it_was(content, named, pack, form):
    packed = pack(content)
    reading = reader.open_stream(io.BytesIO(packed), form and named, "standard input")
    assert reading.digest() is None  # not before it is read
    assert gathered(reading.rows(WANTED))[0] == {1: ("a", "x")}
    assert reading.digest() == hashlib.sha256(packed).hexdigest()
    reading.close()


def test_a_stream_of_parquet_is_read():
    buffer = io.BytesIO()
    pq.write_table(pa.table({"id": ["a"], "note": ["x"]}), buffer)
    reading = reader.open_stream(io.BytesIO(buffer.getvalue()), None, "standard input")
    assert gathered(reading.rows(WANTED))[0] == {1: ("a", "x")}
    assert reading.digest() == hashlib.sha256(buffer.getvalue()).hexdigest()
    reading.close()


def test_chunks_are_bounded_whatever_the_length_of_rows(tmp_path):
    path = tmp_path / "f.csv"
    path.write_bytes(b"id,note\n" + b"a,x\n" * 120_000)
    reading = reader.open_path(path, None, "f.csv")
    sizes = [len(rows) for rows in reading.rows(WANTED)]
    assert sum(sizes) == 120_000
    assert max(sizes) <= 50_000
    assert reading.position() == pytest.approx(reading.total)
    reading.close()
