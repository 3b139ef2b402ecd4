"""The fate of a value is its own: alone, first, last, beside good and bad rows, in chunks of any size, in any format."""

import json
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipeline.config.config import Config
from pipeline.config.sections import FormatSection
from pipeline.ingest.checks.label_check import LabelCheck
from pipeline.ingest.checks.transaction_check import TransactionCheck
from pipeline.ingest.formats import csv_reader, jsonl_reader, reader, validators
from pipeline.ingest.formats.columns import texts
from pipeline.ingest.formats.csv_dialect import QUOTES, SEPARATORS, Dialect
from pipeline.ingest.formats.query_reader import open_query
from pipeline.ingest.formats.validators import Reasons
from tests.support.ingest import NOW, configured

COLUMNS = ("id", "at", "amount", "currency", "channel", "score", "fraud")
GOOD = dict(zip(COLUMNS, ("t1", "2026-03-01T06:00:00Z", "12.5", "EUR", "web", "0.5", "1"), strict=True))
BAD = dict(zip(COLUMNS, ("", "never", "twelve", "", "a\0", "high", "maybe"), strict=True))
# values that two parsers, or two types of one column, could take differently
ODD = {
    "id": ["007", "1.0", "1e3", " a ", "x" * 201, "é", ""],
    "at": ["2026-03-01T06", "2026-03-01T06Z", "2026-03-01", "2026-W09-7", "20260301", "2026-03-01 06:00 +01:00", ""],
    "amount": ["1e1000", "1e0003", "+1.", ".5", "nan", "nan(1)", "--nan", "+-inf", "-inf", "0x10", "1_000", "١", ""],
    "currency": ["eur", "Usd", "XXX", " EUR ", "1", ""],
    "channel": ['say "hi"', "two\nlines", "a,b", "1.0", "true", '"', "\\", ""],
    "score": ["nan", "NAN(x)", "-Infinity", "infinit", "1e-400", "1e999999", "+", "1.5e", ""],
    "fraud": ["1", "0", "1.0", "TRUE", "Fraud", "f", "2", "0.5", ""],
}  # fmt: skip
CASES = [(column, value) for column, values in ODD.items() for value in values]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    rates = tmp_path_factory.mktemp("rates") / "rates.csv"
    rates.write_text("date,currency,rate\n2026-01-01,USD,0.9\n")
    return configured(
        transaction_id="id", event_time="at", amount="amount", currency="currency", rates=str(rates), kind="",
        original_id="", is_fraud="fraud", entities=(), categorical=("channel",), numeric=("score",), timezone="UTC",
    )  # fmt: skip


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    def quoted(value: str) -> str:
        return '"' + value.replace('"', '""') + '"' if set(value) & set('",\n') else value

    lines = [",".join(COLUMNS), *(",".join(quoted(row[name]) for name in COLUMNS) for row in rows)]
    path.write_bytes("\n".join(lines).encode())


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("\n".join(json.dumps(row) for row in rows))


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    pq.write_table(pa.table({name: [row[name] for row in rows] for name in COLUMNS}), path)


WRITERS = {"csv": write_csv, "jsonl": write_jsonl, "parquet": write_parquet}


def fates(check: TransactionCheck, chunks: Iterator[Any]) -> list[object]:
    """Of each row in order: the stored values and label, or the reason for which it is rejected."""
    found: dict[int, object] = {}
    for rows in chunks:
        found |= {one.row_number: one.reason for one in rows.unreadable}
        chunk, labels, reasons = check.check(rows, NOW)
        found |= {int(number): reasons.of(place) for place, number in enumerate(rows.row_number)}
        frauds = (
            dict(zip(labels.row_number.tolist(), labels.is_fraud.tolist(), strict=True)) if labels else {}
        )
        for place, number in enumerate(chunk.row_number.tolist()):
            stored = (chunk.transaction_id, chunk.event_time, chunk.amount, chunk.currency)
            values = [column[place] for column in (*stored, *chunk.text.values(), *chunk.numeric.values())]
            found[number] = [repr(value) for value in values] + [frauds.get(number)]
    return [found[number] for number in sorted(found)]


def fates_in_file(check: TransactionCheck, path: Path) -> list[object]:
    with closing(reader.open_path(path, None, path.name)) as source:
        return fates(check, source.rows(check.expected_columns()))


def set_chunk_size(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    for module in (csv_reader, jsonl_reader, reader):
        monkeypatch.setattr(module, "BATCH_ROWS", rows)


@pytest.mark.parametrize("file_format", list(WRITERS))
@pytest.mark.parametrize("chunk", [1, 2, 3, 50_000])
def test_the_fate_of_a_row_is_its_own(config, tmp_path, monkeypatch, file_format, chunk) -> None:
    check, path = TransactionCheck(config), tmp_path / f"rows.{file_format}"
    odd = [{**GOOD, column: value} for column, value in CASES]

    def alone(row: dict[str, Any]) -> object:
        WRITERS[file_format](path, [row])
        (fate,) = fates_in_file(check, path)
        return fate

    expected = [alone(row) for row in odd]
    good, bad = alone(GOOD), alone(BAD)
    set_chunk_size(monkeypatch, chunk)
    WRITERS[file_format](path, odd)
    assert fates_in_file(check, path) == expected
    for before, after in (
        ([GOOD], [GOOD]),
        ([BAD], [GOOD]),
        ([GOOD, BAD], [BAD, BAD]),
        ([], [BAD]),
        ([BAD], []),
    ):
        woven = [row for one in odd for row in (*before, one, *after)]
        WRITERS[file_format](path, woven)
        beside = (
            [good if row is GOOD else bad for row in before],
            [good if row is GOOD else bad for row in after],
        )
        assert fates_in_file(check, path) == [
            fate for one in expected for fate in (*beside[0], one, *beside[1])
        ]


def test_text_means_the_same_in_every_format(config, tmp_path) -> None:
    check = TransactionCheck(config)
    rows = [{**GOOD, column: value} for column, value in CASES]
    found = []
    for file_format, write in WRITERS.items():
        write(tmp_path / f"rows.{file_format}", rows)
        found.append(fates_in_file(check, tmp_path / f"rows.{file_format}"))
    assert found[0] == found[1] == found[2]


MOMENT = datetime(2026, 3, 1, 6)  # noqa: DTZ001 (naive on purpose)
DRIVER_VALUES = [
    # a value of a database driver, and the text that it is read as, whatever its column holds
    (None, None), ("a", "a"), (" a ", "a"), ("", None), (b"a", "a"), (memoryview(b"a"), "a"),
    (1, "1"), (2**70, str(2**70)), (1.0, "1"), (1.5, "1.5"), (float("nan"), None), (1e20, "1e+20"),
    (Decimal("1.50"), "1.5"), (Decimal("1E+3"), "1000"), (Decimal("NaN"), None), (True, "true"), (False, "false"),
    (MOMENT, "2026-03-01T06:00:00"), (MOMENT.replace(tzinfo=UTC), "2026-03-01T06:00:00+00:00"),
    (MOMENT.replace(tzinfo=timezone(timedelta(hours=1))), "2026-03-01T05:00:00+00:00"), (date(2026, 3, 1), "2026-03-01"),
    (uuid.UUID(int=7), str(uuid.UUID(int=7))), ({"a": [1]}, '{"a": [1]}'), ([1, None], "[1, null]"),
]  # fmt: skip
WANTED = reader.ExpectedColumns({"value": "schema.categorical"})


@given(st.lists(st.sampled_from(DRIVER_VALUES), min_size=1, max_size=6))
def test_a_value_of_a_driver_is_read_by_itself(pairs: list[tuple[Any, str | None]]) -> None:
    source = open_query(iter([(["value"], [(value,) for value, _ in pairs])]), "source.theirs")
    (rows,) = source.rows(WANTED)
    assert texts(rows.columns["value"]).to_pylist() == [text for _, text in pairs]


def test_bytes_of_a_query_that_are_not_utf8_cost_their_row_only() -> None:
    source = open_query(iter([(["value"], [("x",), (b"\xff",), (b"z",)])]), "source.theirs")
    (rows,) = source.rows(WANTED)
    assert rows.columns["value"].to_pylist() == ["x", "z"]
    assert [(row.row_number, row.text) for row in rows.unreadable] == [(2, "\\xff")]


@given(st.lists(st.floats(allow_nan=True) | st.integers(-(2**53), 2**53).map(float), min_size=1, max_size=5))
def test_a_float_of_parquet_has_one_text(values: list[float]) -> None:
    together = texts(pa.array(values)).to_pylist()
    assert together == [texts(pa.array([value])).to_pylist()[0] for value in values]


pieces = st.lists(
    st.sampled_from(['"', '""', ",", "a", " ", "\r", "\t", "\\", "é", "\0", "\x0b", "\x85", "\u2028", '"q"', '"q,\nr"']),
    max_size=8,
).map("".join)  # fmt: skip


DIALECTS = [Dialect(separator, quote) for separator in SEPARATORS for quote in QUOTES.values()]


def written_in(dialect: Dialect, text: str) -> bytes:
    """Text of the usual dialect with the separator and quote of this one, and theirs instead."""
    there = {",": dialect.separator, dialect.separator: ",", '"': dialect.quote, dialect.quote: '"'}
    return text.translate(str.maketrans(there)).encode()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(pieces, min_size=1, max_size=4), st.sampled_from(DIALECTS))
@example(["", 'a\r"'], DIALECTS[0])
@example(["", ',\r"'], DIALECTS[0])
@example(["a,b\r", "c,d\re,f\r"], DIALECTS[0])
@example(["a\tb", "c,d", '"e,\t"'], DIALECTS[5])
def test_arrow_and_the_csv_module_split_records_alike(lines: list[str], dialect: Dialect) -> None:
    header = ["a", "b"]
    parser = csv_reader._CsvParser(header, header, dialect)
    content = iter([written_in(dialect, "\n".join(lines))])
    records = [row for part in csv_reader._records(content, dialect, "f") for row in part]
    sound = [record for record in records if isinstance(record, bytes)]
    numbers = np.arange(len(sound))
    found, slow = [], []
    fast = parser._parse_with_arrow(sound, numbers, found)
    if fast is not None:
        careful = parser._parse_row_by_row(sound, numbers, slow)
        assert {name: column.to_pylist() for name, column in fast.columns.items()} == {
            name: column.to_pylist() for name, column in careful.columns.items()
        }
        assert fast.row_number.tolist() == careful.row_number.tolist()
        assert sorted(found, key=lambda row: row.row_number) == slow


def test_a_value_longer_than_the_csv_module_takes_by_itself_is_read_beside_any_neighbour(tmp_path) -> None:
    path, long = tmp_path / "f.csv", "x" * 200_000
    for neighbour in ("b", '"two\nlines"'):
        path.write_text(f"value,other\na,{long}\n{neighbour},c\n")
        with closing(reader.open_path(path, None, "f.csv")) as source:
            (rows,) = source.rows(WANTED)
        assert rows.columns["value"].to_pylist() == ["a", neighbour.strip('"')]


@pytest.mark.parametrize("chunk", [1, 2, 50_000])
def test_the_time_of_a_label_counts_though_earlier_objects_omit_it(tmp_path, monkeypatch, chunk) -> None:
    set_chunk_size(monkeypatch, chunk)
    path = tmp_path / "labels.jsonl"
    lines = [{"transaction_id": f"t{n}", "is_fraud": 1} for n in range(3)]
    lines[2] |= {"known_at": "2026-03-02T00:00Z"}
    path.write_text("\n".join(map(json.dumps, lines)))
    check = LabelCheck(Config(), False, None, lambda ids: np.zeros(len(ids), dtype=np.int64))
    with closing(reader.open_path(path, None, "labels.jsonl")) as source:
        chunks = [check.check(rows, NOW, "f")[0] for rows in source.rows(check.expected_columns())]
    known = [int(value) for one in chunks for value in one.known_at]
    assert known == [NOW, NOW, int(datetime(2026, 3, 2, tzinfo=UTC).timestamp()) * 1_000_000]


def test_a_column_of_mixed_types_in_sqlite_is_read_value_by_value(tmp_path) -> None:
    from storage.ingest.external_query import read_query

    with closing(sqlite3.connect(tmp_path / "theirs.db")) as theirs, theirs:
        theirs.execute("CREATE TABLE t (value)")
        theirs.executemany("INSERT INTO t VALUES (?)", [(1,), ("a",), (1.5,), (None,), (2.0,), (b"x",)])
    for size in (1, 2, 10):
        parts = read_query(f"sqlite:///{tmp_path}/theirs.db", "SELECT value FROM t", 10**7, size, "theirs")
        with closing(open_query(parts, "theirs")) as source:
            found = [
                text for rows in source.rows(WANTED) for text in texts(rows.columns["value"]).to_pylist()
            ]
        assert found == ["1", "a", "1.5", None, "2", "x"]


FORMS = [
    FormatSection(),
    FormatSection(time="day_first", decimal=",", thousands="."),
    FormatSection(time="month_first", thousands=","),
    FormatSection(time="year_first", decimal=",", thousands=" "),
    FormatSection(time="epoch_seconds", thousands="'", amount_unit="minor"),
    FormatSection(time="elapsed_hours", time_start="2026-01-01T00:00:00+00:00"),
]
written_times = st.one_of(
    st.from_regex(
        r"[0-3]?[0-9][./ -]([0-1]?[0-9]|Mar|June)[./ -](20)?26( 1?[0-9]:[0-5][0-9]( ?[AP]M)?)?",
        fullmatch=True,
    ),
    st.from_regex(r"2026[./-]?0?[1-9][./-]?[0-3][0-9][T ]?(06(:?30)?)?", fullmatch=True),
    st.from_regex(r"Mar(ch)? [0-9]{1,2},? 2026", fullmatch=True),
    st.from_regex(r"-?1?[0-9]{1,10}([.,][0-9]{1,6})?", fullmatch=True),
)
written_numbers = st.one_of(
    st.from_regex(
        r"[(−+-]?([€$]|EUR )?[0-9]{1,4}([., '’][0-9]{2,3}){0,3}( ?(€|USD|kg|%))?[)-]?", fullmatch=True
    ),
    st.sampled_from(["", "nan", "-inf", "1e5", "1,5e3", ".5", ",5"]),
)


@settings(max_examples=40)
@given(st.sampled_from(FORMS), st.lists(st.tuples(written_times, written_numbers), min_size=2, max_size=4))
def test_what_a_value_means_and_why_it_is_refused_does_not_depend_on_its_neighbours(form, pairs) -> None:
    def meanings(some: list[tuple[str, str]]) -> list[tuple[Any, ...]]:
        reasons = [Reasons(len(some)) for _ in range(3)]
        times, numbers = (pa.array(column) for column in zip(*some, strict=True))
        instants, _ = validators.instants(times, "at", "UTC", NOW, reasons[0], form)
        amounts = validators.amounts(
            numbers, "amount", reasons[1], form, np.full(len(some), "EUR", dtype=object)
        )
        scores = validators.numbers(numbers, "score", reasons[2], form)
        values = zip(instants.tolist(), amounts.tolist(), map(repr, scores.tolist()), strict=True)
        return [
            tuple(each.of(place) or value for each, value in zip(reasons, row, strict=True))
            for place, row in enumerate(values)
        ]

    assert meanings(pairs) == [meanings([pair])[0] for pair in pairs]
