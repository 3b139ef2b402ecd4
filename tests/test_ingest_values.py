"""A value that was read is the value that is stored, the same from every source; one that was damaged is set aside."""

import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.ingest.formats import reader
from pipeline.ingest.formats.query_reader import open_query
from pipeline.ingest.formats.reader import SourceReader
from pipeline.ingest.row_checks import TransactionCheck
from storage.ingest.external_query import read_query
from tests.support.ingest import NOW, configured

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
