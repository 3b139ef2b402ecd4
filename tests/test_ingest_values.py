"""A value that was read is the value that is stored, the same from every source; one that was damaged is set aside."""

import json
import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config.error_text import InvalidSetting
from pipeline.errors import InputError
from pipeline.ingest.checks.transaction_check import TransactionCheck
from pipeline.ingest.formats import columns, jsonl_reader, reader
from pipeline.ingest.formats.query_reader import open_query
from pipeline.ingest.formats.reader import SourceReader
from pipeline.ingest.ingest import ingest_labels
from storage.ingest import external_query
from storage.ingest.external_query import read_query
from storage.ingest.history import load_transactions
from tests.support.commands import fraudwatch
from tests.support.ingest import NOW, configured, file, micros, run
from tests.support.sql import query

CONFIG = configured(entities=("card",))
HEADER = "transaction_id,event_time,amount,card"
AT = "2026-03-01T06:00:00Z"
LOST = "card has lost digits, like 4.11E+15: export it as text"
ID = UUID("a1b2c3d4-0000-4000-8000-00000000ff00")


def fates(source: SourceReader, config: Any = CONFIG) -> list[Any]:
    """Of each row in order: its card, or the reason for which it is set aside."""
    check, found = TransactionCheck(config), dict[int, Any]()
    with closing(source):
        for rows in source.rows(check.expected_columns()):
            found |= {one.row_number: one.reason for one in rows.unreadable}
            chunk, _, reasons = check.check(rows, NOW)
            found |= {int(number): reasons.of(place) for place, number in enumerate(rows.row_number)}
            found |= dict(zip(chunk.row_number.tolist(), chunk.text["card"].tolist(), strict=True))
    return [found[number] for number in sorted(found)]


def from_file(path: Path, content: bytes | str) -> list[Any]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return fates(reader.open_path(path, None, path.name))


def from_csv(folder: Path, cards: Iterable[str]) -> list[Any]:
    rows = [f"t{number},{AT},1,{card}" for number, card in enumerate(cards)]
    return from_file(folder / "t.csv", "\n".join([HEADER, *rows]))


def from_jsonl(folder: Path, cards: Iterable[str]) -> list[Any]:
    """The cards are JSON."""
    rows = [
        f'{{"transaction_id": "t{n}", "event_time": "{AT}", "amount": 1, "card": {card}}}'
        for n, card in enumerate(cards)
    ]
    return from_file(folder / "t.jsonl", "\n".join(rows))


def from_parquet(folder: Path, cards: Any) -> list[Any]:
    size = len(cards)
    ids = [f"t{number}" for number in range(size)]
    table = pa.table(
        {"transaction_id": ids, "event_time": [AT] * size, "amount": [1.0] * size, "card": cards}
    )
    pq.write_table(table, folder / "t.parquet")
    return fates(reader.open_path(folder / "t.parquet", None, "t.parquet"))


def from_driver(cards: Iterable[Any]) -> list[Any]:
    rows = [(f"t{number}", AT, 1, card) for number, card in enumerate(cards)]
    return fates(open_query(iter([(HEADER.split(","), rows)]), "query"))


def from_sqlite(folder: Path, cards: Iterable[Any]) -> list[Any]:
    with closing(sqlite3.connect(folder / "theirs.db")) as connection, connection:
        connection.execute(f"CREATE TABLE t ({HEADER})")
        connection.executemany("INSERT INTO t VALUES (hex(randomblob(8)), ?, 1, ?)", [(AT, c) for c in cards])
    parts = read_query(f"sqlite:///{folder}/theirs.db", "SELECT * FROM t ORDER BY rowid", 10**7, 100, "q")
    return fates(open_query(parts, "q"))


@pytest.mark.parametrize(
    "kind", [pa.binary(16), pa.uuid(), pa.binary(), pa.large_binary(), pa.dictionary(pa.int32(), pa.binary())]
)
def test_a_uuid_of_parquet_has_36_characters(tmp_path, kind) -> None:
    plain = pa.array([ID.bytes, None], pa.binary(16))
    if kind == pa.uuid():
        cards = pa.ExtensionArray.from_storage(kind, plain)
    else:
        cards = plain if kind == pa.binary(16) else pa.array([ID.bytes, None], pa.binary()).cast(kind)
    assert from_parquet(tmp_path, cards) == [str(ID), None]


def test_bytes_of_a_database_are_a_uuid_or_text(tmp_path) -> None:
    cards = [ID.bytes, b"4111111111111111", b"abc", b"\xff\xfe"]
    not_text = "the row is not UTF-8: save the file in this encoding"
    assert from_sqlite(tmp_path, cards) == [str(ID), "4111111111111111", "abc", not_text]
    assert from_driver([ID, memoryview(ID.bytes)]) == [str(ID)] * 2


NUMBERS = [
    # JSON, the same number of Parquet and of a driver, and the one text of them
    ("7", pa.array([7]), 7, "7"),
    ("7.0", pa.array([7.0]), 7.0, "7"),
    ("1.001e3", pa.array([Decimal("1001.0000000000")]), Decimal("1001.0000000000"), "1001"),
    ("1E+3", pa.array([1000.0], pa.float32()), Decimal("1E+3"), "1000"),
    ("-0", pa.array([-0.0]), -0.0, "0"),
    ("0.000", pa.array([Decimal("0.000")]), Decimal("0E-10"), "0"),
    ("100", pa.array([100], pa.uint8()), Decimal(100), "100"),
    ("1.50", pa.array([1.5]), Decimal("1.50"), "1.5"),
    ("0.1", pa.array([0.1], pa.float32()), 0.1, "0.1"),
    ("1e-7", pa.array([1e-7]), 1e-7, "0.0000001"),
    ("12345678901234567", pa.array([12345678901234567]), 12345678901234567, "12345678901234567"),
    ("9007199254740991.0", pa.array([2.0**53 - 1]), 2.0**53 - 1, "9007199254740991"),
    ("9007199254740992.0", pa.array([2.0**53]), 2.0**53, LOST),
    ("1e20", pa.array([1e20]), 1e20, LOST),
    ("-1e300", pa.array([-(2.0**24)], pa.float32()), -1e300, LOST),
]


@pytest.mark.parametrize(("text", "column", "value", "stored"), NUMBERS, ids=[case[0] for case in NUMBERS])
def test_a_number_is_one_text_from_every_source(tmp_path, text, column, value, stored) -> None:
    found = from_jsonl(tmp_path, [text]), from_parquet(tmp_path, column), from_driver([value])
    assert found == ([stored],) * 3


TEXTS = {
    # of every source: CSV keeps its text, and a word for nothing is no customer
    "007": "007", "7.0": "7.0", "1001.0000000000": "1001.0000000000", "1e5": "1e5", "12E5": "12E5", "5e10": "5e10",
    "4111111111111111": "4111111111111111", "1.2e3": "1.2e3",
    "4.11E+15": LOST, "4.11e+15": LOST, "1E+15": LOST, "-4.11E+15": LOST, "4.11E15": LOST, "4.1E7": LOST,
    r"\N": None, "NULL": None, "null": None, "nan": None, "NaN": None, "None": None, "<NA>": None, "#N/A": None, "": None,
    "NA": "NA", "na": "na", "nancy": "nancy", "Nullmann": "Nullmann", "N": "N", "-": "-",
}  # fmt: skip


def test_text_that_is_an_id_is_kept_missing_or_set_aside(tmp_path) -> None:
    expected = list(TEXTS.values())
    assert from_csv(tmp_path, TEXTS) == expected
    assert from_jsonl(tmp_path, map(json.dumps, TEXTS)) == expected
    assert from_parquet(tmp_path, list(TEXTS)) == expected
    assert from_driver(TEXTS) == expected


@pytest.mark.parametrize("word", [r"\N", "NULL", "nan", "None", "4.11E+15"])
def test_no_two_rows_are_one_because_their_id_is_a_word_for_nothing(tmp_path, word) -> None:
    reason = "transaction_id " + ("has lost digits, like 4.11E+15: export it as text" if "E" in word
              and "+" in word else "is missing: every row needs an id")  # fmt: skip
    assert from_file(tmp_path / "t.csv", f"{HEADER}\n{word},{AT},1,a\n{word},{AT},2,b\n") == [reason] * 2


# ── files


UNCLOSED = "a quoted value is not closed: close it, or write a quote twice inside a quoted value"
CSV = [
    # the rows of a CSV file after its header, and the cards that are meant
    (rf't,{AT},1,"say \"hi\""', ['say "hi"']),
    (rf't,{AT},1,"say \"hi, you\" now"', ['say "hi, you" now']),
    (rf't,{AT},1,"a \\ b \"c\""', [r'a \ b "c"']),
    (f't,{AT},1,"say \\"hi\nyou\\" now"\nu,{AT},1,k', ['say "hi\nyou" now', "k"]),
    (rf't,{AT},1,"C:\"', ["C:\\"]),  # whole by RFC 4180, so a backslash is a backslash
    (rf't,{AT},1,"C:\new\\x"', [r"C:\new\\x"]),
    (f't,{AT},1,"x\nu,{AT},1,k', [UNCLOSED, "k"]),
    (f't,{AT},1,"x\nu,{AT},1,"y\nv,{AT},1,k', [UNCLOSED, UNCLOSED, "k"]),
    (f't,{AT},1,"x\ny ""z""\n"\nv,{AT},1,k', ['x\ny "z"', "k"]),
]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(("rows", "cards"), CSV, ids=range(len(CSV)))
def test_csv_is_read_whatever_its_line_ends_and_escapes(tmp_path, rows, cards, line_end) -> None:
    found = from_file(tmp_path / "t.csv", f"{HEADER}\n{rows}\n".replace("\n", line_end).encode())
    assert [card.replace("\r\n", "\n") for card in found] == cards


def test_a_file_of_unclosed_quotes_is_read_line_by_line_in_little_time(tmp_path) -> None:
    """Each line was compared with each of the next hundred: 33 s for 100,000 of them."""
    rows = "".join(f't{number},{AT},1,"x\n' for number in range(20_000))
    before = time.process_time()
    assert set(from_file(tmp_path / "t.csv", f"{HEADER}\n{rows}")) == {UNCLOSED}
    assert time.process_time() - before < 3


def test_a_key_may_come_late_but_not_twice_and_not_never(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(jsonl_reader, "BATCH_ROWS", 2)
    row = f'{{"transaction_id": "t", "event_time": "{AT}", "amount": 1}}'
    late, twice = row.replace("}", ', "card": "k"}'), row.replace("}", ', "card": "k", "card": "l"}')
    lines = [row] * 5 + [late, twice]
    assert from_file(tmp_path / "t.jsonl", "\n".join(lines)) == [
        *[None] * 5, "k", "the line has a key twice: keep one",
    ]  # fmt: skip
    with pytest.raises(InputError, match='has no column "card"'):
        from_file(tmp_path / "t.jsonl", "\n".join([row] * 5))


# ── memory


def test_a_batch_of_long_values_is_cut_by_bytes(tmp_path, monkeypatch) -> None:
    """A Parquet file of 13 kB that repeats one long value asked for 10 GB, 6 MB of gzipped JSON Lines for 6 GB."""
    for module in (reader, jsonl_reader):
        monkeypatch.setattr(module, "BATCH_BYTES", 10_000)
    monkeypatch.setattr(external_query, "PART_BYTES", 10_000)
    monkeypatch.setattr(external_query, "ROWS_AT_ONCE", 2)
    cards = ["x" * 2_000] * 100
    ids = list(map(str, range(100)))
    pq.write_table(
        pa.table({"transaction_id": ids, "event_time": [AT] * 100, "amount": [1.0] * 100, "card": cards}),
        tmp_path / "t.parquet",
    )
    assert (tmp_path / "t.parquet").stat().st_size < 10_000
    rows = [
        json.dumps({"transaction_id": i, "event_time": AT, "amount": 1, "card": c})
        for i, c in zip(ids, cards, strict=True)
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(rows))
    expected = TransactionCheck(CONFIG).expected_columns()
    for name in ("t.parquet", "t.jsonl"):
        with closing(reader.open_path(tmp_path / name, None, name)) as source:
            numbers = [batch.row_number.tolist() for batch in source.rows(expected)]
        assert max(map(len, numbers)) <= 5
        assert [number for part in numbers for number in part] == list(range(1, 101))
    assert from_sqlite(tmp_path, cards) == ["card is longer than 500 characters: shorten it"] * 100


# ── storage


def test_money_is_rounded_after_conversion(opener, tmp_path) -> None:
    (tmp_path / "rates.csv").write_text("date,currency,rate\n2026-01-01,BTC,90000\n2026-01-01,VND,0.00004\n")
    config = configured(currency="currency", rates=str(tmp_path / "rates.csv"))
    rows = [
        f"a,{AT},0.00003,BTC", f"b,{AT},150000000000,VND", f"c,{AT},103.59,EUR", f"d,{AT},150000000000,EUR",
        f"e,{AT},123456789.12346,EUR",
    ]  # fmt: skip
    store = opener(config)
    given = file(tmp_path, rows, "transaction_id,event_time,amount,currency")
    run(store, config, given)
    stored = "SELECT transaction_id, amount, amount_base FROM transactions ORDER BY transaction_id"
    assert [(name, float(amount), float(base)) for name, amount, base in query(store, stored)] == [
        ("a", 0.00003, 2.7), ("b", 1.5e11, 6e6), ("c", 103.59, 103.59), ("d", 1.5e11, 1.5e11),
        ("e", 123456789.12346, 123456789.1235),
    ]  # fmt: skip
    again = file(tmp_path, [*rows, f"f,{AT},1,EUR"], "transaction_id,event_time,amount,currency", "u.csv")
    (report,) = run(store, config, again)
    assert (report.counts.duplicate, report.counts.revised, report.counts.accepted) == (5, 0, 1)


@pytest.mark.parametrize("name", ["xmin", "xmax", "cmin", "cmax", "ctid", "tableoid", "CTID", "rowid"])
def test_a_field_cannot_have_the_name_of_a_column_of_the_database(name) -> None:
    with pytest.raises(
        InvalidSetting, match="must not have the name of a column of fraudwatch or of the database"
    ):
        configured(entities=(name,))


def test_key_words_of_sql_are_names_like_others(opener, tmp_path) -> None:
    config = configured(entities=("user", "order"), categorical=("oid", "select"), numeric=("group",))
    store = opener(config)
    given = file(tmp_path, [f"a,{AT},1,u,o,i,s,2"], "transaction_id,event_time,amount,user,order,oid,select,group")  # fmt: skip
    run(store, config, given)
    columns = '"user", "order", "oid", "select", "group"'
    assert query(store, f"SELECT {columns} FROM transactions") == [("u", "o", "i", "s", 2.0)]


def test_a_source_of_which_nothing_is_accepted_is_told_and_read_again(opener, tmp_path) -> None:
    store, given = opener(CONFIG), file(tmp_path, [f",{AT},1,k", f"NULL,{AT},1,k"])
    for moment in (NOW, NOW + 1):
        (report,) = run(store, CONFIG, given, now=moment)
        assert report.nothing_usable
        assert report.batch_id is not None
    labels = file(tmp_path, [f"a,maybe,{AT}"], "transaction_id,is_fraud,known_at", "labels.csv")
    (report,) = run(store, CONFIG, labels, ingest_labels)
    assert report.nothing_usable
    assert query(store, "SELECT complete_through FROM batches WHERE kind = 'labels'") == [(None,)]


def test_a_server_may_write_dates_as_it_likes(opener, tmp_path) -> None:
    store = opener(CONFIG)
    if store.dialect == "sqlite":
        pytest.skip("SQLite has no DateStyle")
    with store.write() as connection:
        name = connection.exec_driver_sql("SELECT current_database()").scalar_one()
        connection.exec_driver_sql(f"ALTER DATABASE {name} SET datestyle TO 'German, DMY'")
    store.engine.dispose()
    run(store, CONFIG, file(tmp_path, ["a,2026-03-02T06:00:00Z,1,k"]))
    assert load_transactions(store, 0, NOW).event_time.tolist() == [micros("2026-03-02T06:00:00Z")]
    url = store.engine.url.render_as_string(hide_password=False)
    sql = f"SELECT transaction_id, event_time, amount, card FROM {store.schema}.transactions"
    chunks = open_query(read_query(url, sql, 10**7, 10, "q"), "q").rows(
        TransactionCheck(CONFIG).expected_columns()
    )
    assert [as_text for rows in chunks for as_text in rows.columns["event_time"].to_pylist()] == [
        "2026-03-02T06:00:00+00:00"
    ]


def test_a_command_that_accepts_nothing_fails(tmp_path) -> None:
    schema = 'entities = ["card"]\ncategorical = []\nkind = ""\noriginal_id = ""\n'
    (tmp_path / "config.toml").write_text(f"[schema]\n{schema}[labels]\nnever_by_silence = {{}}\n")
    (tmp_path / "t.csv").write_text(f"{HEADER}\n,{AT},1,k\n")
    fraudwatch(tmp_path, "init")
    for _ in range(2):
        error = fraudwatch(tmp_path, "ingest", "transactions", "t.csv", code=2)
        assert "nothing was accepted of t.csv: every row was rejected" in error


@pytest.mark.parametrize("text", ["4.1E7", "1E+15", "-4.11E15", "4,11E+15", "4,1e7", "-4,11E15"])
def test_an_id_that_lost_digits_is_seen_alone(tmp_path, text) -> None:
    assert from_csv(tmp_path, [f'"{text}"']) == [LOST]


def test_a_part_of_a_query_is_cut_by_bytes(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(external_query, "PART_BYTES", 10_000)
    monkeypatch.setattr(external_query, "ROWS_AT_ONCE", 2)
    with closing(sqlite3.connect(tmp_path / "theirs.db")) as theirs, theirs:
        theirs.execute("CREATE TABLE t (value)")
        theirs.executemany("INSERT INTO t VALUES (?)", [("x" * 2_000,)] * 100)
    parts = read_query(f"sqlite:///{tmp_path}/theirs.db", "SELECT value FROM t", 10**7, 100, "q")
    sizes = [len(rows) for _, rows in parts]
    assert sum(sizes) == 100
    assert max(sizes) <= 6


@pytest.mark.parametrize("written", ["15.880000", "0.100000", "12345678.910000", "-3.300000"])
def test_a_decimal_is_the_number_that_it_says(written: str) -> None:
    column = pa.array([Decimal(written)], pa.decimal128(18, 6))
    assert columns.numbers(column).values.tolist() == [float(written)]
