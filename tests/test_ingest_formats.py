"""[format] and the words of [labels]: what each way of writing times, numbers and labels means, and what it does not."""

import json
import sqlite3
from contextlib import closing
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.cli.data import ingest_lines
from pipeline.config.config import Config
from pipeline.config.error_text import InvalidSetting
from pipeline.config.sections import FormatSection
from pipeline.errors import InputError
from pipeline.ingest.checks.transaction_check import TransactionCheck
from pipeline.ingest.formats import columns, validators
from pipeline.ingest.formats.query_reader import open_query
from pipeline.ingest.formats.validators import LabelWords, Reasons
from pipeline.ingest.ingest import ingest_labels
from pipeline.ingest.sources import Source
from storage.frames import DAY, HOUR, MINUTE, SECOND
from storage.ingest.external_query import read_query
from tests.support.ingest import NOW, configured, file, micros, rejected, run
from tests.support.sql import query
from tests.support.worlds import SMALL

SIX = micros("2026-03-01T06:00:00Z")
MIDNIGHT = SIX - 6 * HOUR
NBSP, THIN = "\u00a0", "\u202f"


def instants(values: Any, form: FormatSection, clock: Any = None) -> list[int | None]:
    """µs of each value in UTC, None where it cannot be read or is missing."""
    read = columns.instants(pa.array(values), "UTC", form, None if clock is None else pa.array(clock))
    assert not (read.unreadable & read.missing).any()
    return [
        None if bad or missing else value
        for value, bad, missing in zip(read.micros.tolist(), read.unreadable, read.missing, strict=True)
    ]


# ── times

TIMES = {
    "year_first": {
        "2026/03/01": MIDNIGHT, "2026.03.01": MIDNIGHT, "2026/3/1": MIDNIGHT, "20260301": MIDNIGHT,
        "20260301060000": SIX, "20260301T060000": SIX, "20260301 0600": SIX, "20260301 06:00:00": SIX,
        "2026/03/01 06:00": SIX, "2026/03/01T06:00:00.5": SIX + SECOND // 2, "2026-Mar-01 6:00": SIX,
        "2026-03-01 06:00:00 UTC": SIX, "20260301T060000Z": SIX, "2026/03/01 07:00 +0100": SIX,
        "2026/03-01": None, "2026/13/01": None, "2026/02/30": None, "26/03/01": None, "202603": None,
        "1772344800": None, "20260301 25:00": None, "01.03.2026": None, "2026/03/01 6": None,
    },
    "day_first": {
        "01.03.2026": MIDNIGHT, "1.3.2026": MIDNIGHT, "1/3/2026": MIDNIGHT, "01-03-2026": MIDNIGHT, "01.03.26": MIDNIGHT,
        "01-Mar-2026": MIDNIGHT, "1 March 2026": MIDNIGHT, "1. march 2026": MIDNIGHT, "1st MAR 2026": MIDNIGHT,
        "01/Mar/26": MIDNIGHT, "1 Sept 2025": micros("2025-09-01T00:00:00Z"), "31.12.69": micros("2069-12-31T00:00:00Z"),
        "1.1.70": 0, "01.03.2026 06:00": SIX, "01.03.2026  6:00:00": SIX, "01.03.2026, 06:00": SIX, "01.03.2026T06:00": SIX,
        "01.03.2026,06:00:00,5": SIX + SECOND // 2, "1/3/2026 6:00 AM": SIX, "1/3/2026 6am": SIX, "1/3/2026 6:00 a.m.": SIX,
        "1/3/2026 12:00 AM": MIDNIGHT, "1/3/2026 12:00 PM": SIX + 6 * HOUR, f"1/3/2026 6:00{THIN}PM": SIX + 12 * HOUR,
        "01.03.2026 06:00 GMT": SIX, "01.03.2026 06:00+01:00": SIX - HOUR, "01.03.2026 06:00:00.123456789": SIX + 123_456,
        "1.3/2026": None, "32.03.2026": None, "29.02.2026": None, "01.13.2026": None, "03/13/2026": None, "1 Marz 2026": None,
        "01.03.2026 24:00": None, "1/3/2026 13:00 PM": None, "1/3/2026 0:30 AM": None, "01.03.2026 6": None, "01.03.026": None,
        "01.03.2026 06:00 CET": None, "March 1, 2026": None, "01032026": None, "yesterday": None, "12.30.45": None,
    },
    "month_first": {
        "03/01/2026": MIDNIGHT, "3/1/2026": MIDNIGHT, "3-1-26": MIDNIGHT, "03.01.2026": MIDNIGHT, "Mar 1, 2026": MIDNIGHT,
        "March 1 2026": MIDNIGHT, "mar-01-2026": MIDNIGHT, "March 1st, 2026": MIDNIGHT, "Mar 1, 2026, 6:00 AM": SIX,
        "3/1/2026 6:00 AM": SIX, "03/01/2026 06:00:00": SIX, "3/1/2026 06:00 PM": SIX + 12 * HOUR,
        "13/01/2026": None, "3/32/2026": None, "1 March 2026": None, "3/1/2026 6:60": None,
    },
    "iso": {"01.03.2026": None, "2026/03/01": None, "20260301": None, "1772344800": None},
    "epoch_seconds": {
        "1772344800": SIX, "1772344800.123456": SIX + 123_456, "1.7723448e9": SIX, " 1772344800 ": SIX, "0": 0,
        "-1": -SECOND, "nan": None, "inf": None, "six": None, "01.03.2026": None, "€ 1772344800": None,
    },
    "epoch_milliseconds": {"1772344800000": SIX, "1772344800000.5": SIX + 500, "1772344800123": SIX + 123_000},
}  # fmt: skip


@pytest.mark.parametrize("name", TIMES)
def test_what_a_time_means(name: str) -> None:
    form = FormatSection(time=name)  # type: ignore[arg-type]
    assert dict(zip(TIMES[name], instants(list(TIMES[name]), form), strict=True)) == TIMES[name]
    for text, expected in TIMES[name].items():  # and by itself
        assert instants([text], form) == [expected]
    iso = ["2026-03-01T06:00:00Z", "2026-03-01 06:00", "2026-03-01T06"]
    assert instants(iso, form) == [SIX] * 3  # always understood


ELAPSED = [
    ("elapsed_seconds", "1.5", SIX + 3 * SECOND // 2), ("elapsed_minutes", "-1", SIX - MINUTE), ("elapsed_hours", "0", SIX),
    ("elapsed_days", "0.5", SIX + DAY // 2), ("elapsed_seconds", "86400", SIX + DAY), ("elapsed_hours", "1,5", None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "expected"), ELAPSED)
def test_elapsed_time_counts_from_the_start(name, text, expected) -> None:
    for start in ("2026-03-01T06:00:00+00:00", "2026-03-01T07:00+01:00", "2026-03-01 06:00"):
        assert instants([text], FormatSection(time=name, time_start=start)) == [expected]
    if expected is not None:
        assert instants([float(text)], FormatSection(time=name, time_start=start)) == [expected]


def test_elapsed_time_without_a_zone_or_a_start_is_a_violation() -> None:
    with pytest.raises(InvalidSetting, match=r"format\.time_start must have an offset"):
        configured(form={"time": "elapsed_hours", "time_start": "2026-01-01"})
    configured(form={"time": "elapsed_hours", "time_start": "2026-01-01"}, timezone="Europe/Paris")


TYPED = [
    # a column of Parquet, format.time, and what its first value is
    (pa.array([1_772_344_800]), "epoch_seconds", SIX),
    (pa.array([1_772_344_800.25]), "epoch_seconds", SIX + SECOND // 4),
    (pa.array([1_772_344_800_000]), "epoch_milliseconds", SIX),
    (pa.array([Decimal("1772344800.5")]), "epoch_seconds", SIX + SECOND // 2),
    (pa.array([20_260_301]), "year_first", MIDNIGHT),
    (pa.array([datetime(2026, 3, 1, 6, tzinfo=UTC)]), "day_first", SIX),
    (pa.array([date(2026, 3, 1)]), "epoch_seconds", MIDNIGHT),
]


@pytest.mark.parametrize(("column", "name", "expected"), TYPED)
def test_a_typed_column_of_times(column, name, expected) -> None:
    found, _ = validators.instants(column, "at", "UTC", NOW, Reasons(1), FormatSection(time=name))
    assert found.tolist() == [expected]


CLOCKS = {
    "14:30": 14.5, "2:30 PM": 14.5, "2:30pm": 14.5, "14:30:00.0": 14.5, "143000": 14.5, "93000": 9.5, "00:00": 0.0, "6 am": 6.0,
    "": None, "25:00": None, "1430": None, "14": None, "146000": None, "noon": None, "0.604": None,
}  # fmt: skip


def test_a_date_and_a_time_of_day_are_one_time() -> None:
    expected = [None if hours is None else MIDNIGHT + int(hours * HOUR) for hours in CLOCKS.values()]
    form = FormatSection(time="day_first")
    dates: list[list[Any]] = [["01.03.2026"], ["2026-03-01"], [date(2026, 3, 1)], [datetime(2026, 3, 1)]]  # noqa: DTZ001
    for column in dates:
        assert instants(column * len(CLOCKS), form, list(CLOCKS)) == expected
    typed = [
        pa.array([time(14, 30)]),
        pa.array([time(14, 30)]).cast(pa.time32("s")),
        pa.array([timedelta(hours=14.5)]),
    ]
    for clock in typed:
        assert instants(["01.03.2026"], form, clock) == [MIDNIGHT + 14 * HOUR + HOUR // 2]
    assert instants(["01.03.2026"], form, [timedelta(hours=24)]) == [None]
    assert instants(["01.03.2026 06:00"], form, ["14:30"]) == [None]


def reasons_of(column: Any, form: FormatSection, clock: Any = None) -> list[str]:
    reasons = Reasons(len(column))
    validators.instants(pa.array(column), "at", "", NOW, reasons, form, clock)
    return [reasons.of(place) for place in range(len(column))]


NO_ISO = "at is not an ISO 8601 time"
REFUSED_TIMES = [
    ("iso", "31.01.2026", f"{NO_ISO}, but reads as day_first: set format.time"),
    ("iso", "01/02/2026", f"{NO_ISO}, but reads as day_first or month_first: set format.time"),
    ("iso", "01/31/2026", f"{NO_ISO}, but reads as month_first: set format.time"),
    ("iso", "20260131", f"{NO_ISO}, but reads as year_first: set format.time"),
    ("iso", "1772344800", f"{NO_ISO}, but reads as epoch_seconds: set format.time"),
    ("iso", "1772344800123", f"{NO_ISO}, but reads as epoch_milliseconds: set format.time"),
    ("iso", "17", f"{NO_ISO}, but a number: set format.time to what it counts"),
    *(("iso", text, "at is 24:00, has a second 60, or is a week or ordinal date, which is not accepted")
      for text in ["2026-03-01T24:00", "2026-03-01T23:59:60Z", "2026-W10", "2026-060"]),
    ("iso", "1 March", f"{NO_ISO}: write 2026-03-01T06:00:00+00:00"),
    ("iso", "1772344800Z", f"{NO_ISO}: write 2026-03-01T06:00:00+00:00"),
    ("iso", "soon", f"{NO_ISO}: write 2026-03-01T06:00:00+00:00"),
    ("day_first", "01/31/2026", 'at is not a time by format.time = "day_first", but reads as month_first: set format.time'),
    ("day_first", "32.01.2026", 'at is not a time by format.time = "day_first": write 01.03.2026 06:00'),
    ("epoch_milliseconds", "1772344800", "at is before 1980 when read as epoch_milliseconds: check format.time"),
    ("epoch_seconds", "1772344800000", "at is out of range: check format.time"),
    ("epoch_seconds", "soon", 'at is not a time by format.time = "epoch_seconds": write a number'),
    ("day_first", "01.01.1969", "at has no offset from UTC: add it, or set schema.timezone to its zone"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "reason"), REFUSED_TIMES)
def test_a_refused_time_names_the_key_to_change(name, text, reason) -> None:
    form = FormatSection(time=name)
    assert reasons_of([text], form) == [reason]
    assert reasons_of(["2026-03-01T06:00Z", None, text, "x"], form)[:3] == [
        "",
        "",
        reason,
    ]  # whatever is beside it


def test_a_column_of_numbers_is_refused_whole_and_names_what_it_looks_like() -> None:
    with pytest.raises(
        InputError,
        match=r'holds numbers, which format.time = "iso" does not read; the first reads as epoch_seconds',
    ):
        reasons_of([1_772_344_800], FormatSection())


# ── numbers

POINT, COMMA = FormatSection(), FormatSection(decimal=",", thousands=".")
NUMBERS = [
    (POINT, {
        "12.50": 12.5, "€ 12.50": 12.5, "€12.50": 12.5, "USD 12.50": 12.5, "12.50 EUR": 12.5, "12.50EUR": 12.5, "R$ 10": 10.0,
        "kr 10": 10.0, "10 kr.": 10.0, "US$10": 10.0, "(12.50)": -12.5, "( 12.50 )": -12.5, "(€ 12.50)": -12.5, "12.50-": -12.5,
        "12.50 -": -12.5, "−12.50": -12.5, "-€12.50": -12.5, "€-12.50": -12.5, "- 12.50": -12.5, "+12.50": 12.5,
        f"12.50{NBSP}€": 12.5, f"€{THIN}12.50": 12.5, "$12.50 USD": 12.5, "1e3": 1000.0, ".5": 0.5, "5.": 5.0,
        "1,234.50": None, "12,50": None, "1 234": None, "12 %": None, "12.5%": None, "--5": None, "-(5)": None, "(5": None, "5)": None,
        "1.2.3": None, "12.50.00": None, "12.-": None, "EUR": None, "$": None, "0x10": None, "1_000": None, "٣": None,
    }),
    (COMMA, {
        "12,50": 12.5, "1.234.567,89": 1234567.89, "1.234": 1234.0, "1234,5": 1234.5, "12,34.567": None, "-1.000": -1000.0,
        "12,50 €": 12.5, "1.234,-": None, "12.50": None, "1.23": None, "1234.567,8": None, "1,234.5": None, ",5": 0.5, "1,5e3": 1500.0,
    }),
    (FormatSection(decimal=","), {"12,50": 12.5, "12.50": None, "1.234": None, "1.234,50": None}),
    (FormatSection(thousands=","), {
        "1,234.5": 1234.5, "12,34,567.89": 1234567.89, "1,23,456": 123456.0, "1,234,567": 1234567.0, "12,34": None, "1,2345": None,
        "1234,567": None, ",123": None, "1,,234": None,
    }),
    (FormatSection(decimal=",", thousands=" "), {
        "1 234,50": 1234.5, f"1{NBSP}234{THIN}567,50": 1234567.5, "1\u2009234": 1234.0, "1  234": None, "12 34": None,
    }),
    (FormatSection(thousands="'"), {"1'234.50": 1234.5, "1’234’567": 1234567.0, "12'34": None}),
]  # fmt: skip


@pytest.mark.parametrize(("form", "expected"), NUMBERS, ids=range(len(NUMBERS)))
def test_what_a_number_means(form, expected) -> None:
    def values(texts: list[str]) -> list[float | None]:
        found = columns.numbers(pa.array(texts), form.decimal, form.thousands)
        return [
            None if wrong else value for value, wrong in zip(found.values.tolist(), found.wrong, strict=True)
        ]

    assert dict(zip(expected, values(list(expected)), strict=True)) == expected
    for text, value in expected.items():
        assert values([text]) == [value]


def amounts(texts: list[Any], form: FormatSection, currency: list[str]) -> list[Any]:
    """Of each text the amount, or the reason for which it is refused."""
    reasons = Reasons(len(texts))
    found = validators.amounts(pa.array(texts), "amount", reasons, form, np.array(currency, dtype=object))
    return [reasons.of(place) or value for place, value in enumerate(found.tolist())]


NO_NUMBER = "amount is not a number: "
REFUSED_NUMBERS = [
    (POINT, "1.234,56", NO_NUMBER + "it has a decimal comma, set format.decimal and format.thousands"),
    (POINT, "12,50", NO_NUMBER + "it has a decimal comma, set format.decimal and format.thousands"),
    (POINT, "1,234.56", NO_NUMBER + "it has separators of thousands, set format.thousands"),
    (POINT, "1,234", NO_NUMBER + "set format.decimal and format.thousands to what its separator means"),
    (POINT, "1.234.567", NO_NUMBER + "it has separators of thousands, set format.decimal and format.thousands"),
    (FormatSection(decimal=","), "1,234,567",
     NO_NUMBER + "it has separators of thousands, set format.decimal and format.thousands"),
    (COMMA, "12.50", NO_NUMBER + "it has a decimal point, set format.decimal and format.thousands"),
    (COMMA, "1 234,50", NO_NUMBER + "it has separators of thousands, set format.thousands"),
    *((POINT, text, "amount is not a number, its sign is not clear: write 1234.56 or -1234.56")
      for text in ["(-5)", "--5", "5.-", "(5"]),
    (POINT, "12 %", NO_NUMBER + "write 1234.56"),
    (COMMA, "zwölf", NO_NUMBER + "write 1234,56"),
    (POINT, "12 kg", "amount has a unit that is no currency: write 1234.56"),
    (POINT, "50¢", "amount has a unit that is no currency: write 1234.56"),
    (POINT, "USD 12.50", "amount names another currency than that of the row: check schema.currency and base_currency"),
    (POINT, "12.50 kr", "amount names another currency than that of the row: check schema.currency and base_currency"),
    (POINT, "$12.50 EUR", "amount names another currency than that of the row: check schema.currency and base_currency"),
]  # fmt: skip


@pytest.mark.parametrize(("form", "text", "reason"), REFUSED_NUMBERS)
def test_a_refused_number_names_the_key_to_change(form, text, reason) -> None:
    assert amounts([text], form, ["EUR"]) == [reason]
    assert amounts(["1", text, "x"], form, ["EUR"] * 3)[1] == reason


def test_a_currency_beside_an_amount_must_be_that_of_its_row() -> None:
    texts = ["$1", "$2", "US$ 3", "4 kr", "5 SEK", "¥6", "usd 7"]
    rows = ["CAD", "USD", "USD", "DKK", "SEK", "JPY", "USD"]
    assert amounts(texts, POINT, rows) == [1, 2, 3, 4, 5, 6, 7]
    assert all(isinstance(value, str) for value in amounts(texts, POINT, ["CHF"] * 7))


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("GBp", None),
        ("ZAc", None),
        ("gBP", None),
        ("Eur", None),
        ("GBP", "GBP"),
        ("gbp", "GBP"),
        ("Euro", "EURO"),
    ],
)
def test_a_code_in_mixed_case_is_the_minor_unit_of_an_exchange(written, code) -> None:
    reasons = Reasons(1)
    codes = validators.currencies(pa.array([written]), "cur", reasons)
    assert (codes[0] if reasons.good[0] else None) == code
    assert code or reasons.of(0).startswith("cur is in small and capital letters")
    beside = amounts([f"5 {written}"], POINT, [written.upper()])
    assert (beside == [5]) == (code is not None and len(written) == 3)


def test_a_sign_in_mixed_case_is_a_sign() -> None:
    assert amounts(["5 SFr.", "5 Kč", "5 Fr."], POINT, ["CHF", "CZK", "CHF"]) == [5, 5, 5]


MINOR = [
    # the amount as it is written, its currency, and the amount
    (2899, "EUR", 28.99), ("2899", "USD", 28.99), (12.5, "EUR", 0.125), (12.3, "EUR", 0.123), (500, "JPY", 500.0),
    (1234, "KWD", 1.234), (12345, "CLF", 1.2345), (-1, "GBP", -0.01), ("2.899,00", "EUR", 28.99), (70, "XXX", 0.7),
    (500, "ISK", 500.0), (500, "UGX", 500.0), (9_007_199_254_740_991, "BHD", 9_007_199_254_740.991), (1005, "EUR", 10.05),
]  # fmt: skip


@pytest.mark.parametrize(("written", "currency", "expected"), MINOR)
def test_minor_units_are_divided_exactly(written, currency, expected) -> None:
    assert amounts([written], COMMA.model_copy(update={"amount_unit": "minor"}), [currency]) == [expected]


def test_only_currencies_of_iso_4217_have_a_known_smallest_unit(opener, tmp_path) -> None:
    (tmp_path / "rates.csv").write_text("date,currency,rate\n2026-03-01,BTC,50000\n2026-03-01,USD,0.5\n")
    more = {"currency": "cur", "rates": str(tmp_path / "rates.csv"), "entities": ("card",)}
    config = configured(form={"amount_unit": "minor"}, **more)
    store = opener(config)
    rows = [
        "a,2026-03-01T06:00Z,100000,k,BTC",
        "b,2026-03-01T06:00Z,200,k,USD",
        "c,2026-03-01T06:00Z,5,k,EURO",
    ]
    (report,) = run(store, config, file(tmp_path, rows, "transaction_id,event_time,amount,card,cur"))
    assert query(store, "SELECT transaction_id, amount FROM transactions") == [("b", 2.0)]
    btc, euro = report.reasons
    assert btc == (
        "amount is in BTC, whose smallest unit ISO 4217 does not know: write whole BTC with format.amount_unit = "
        '"major"'
    )
    assert euro.startswith("cur EURO is no code of ISO 4217")


def test_a_number_that_is_no_text_has_a_point_whatever_texts_have(tmp_path) -> None:
    """1.234 of JSON or of a query is no 1234, though 1.234 of a text is."""
    config = configured(form={"decimal": ",", "thousands": "."}, numeric=("score",), categorical=("note",))
    check = TransactionCheck(config)

    def found(source: Any) -> list[tuple[Any, ...]]:
        (rows,) = [rows for rows in source.rows(check.expected_columns()) if len(rows)]
        chunk, _, reasons = check.check(rows, NOW)
        assert reasons.good.all()
        return list(
            zip(
                chunk.amount.tolist(),
                chunk.numeric["score"].tolist(),
                chunk.text["note"].tolist(),
                strict=True,
            )
        )

    at = "2026-03-01T06:00Z"
    names = ["transaction_id", "event_time", "amount", "score", "note"]
    values = [["a", at, 1.234, "1.234", 1.234], ["b", at, "1.234", Decimal("12.5"), Decimal("0.50")]]
    expected = [(1.234, 1234.0, "1.234"), (1234.0, 12.5, "0.5")]
    assert found(open_query(iter([(names, values)]), "q")) == expected
    lines = [json.dumps(dict(zip(names, row, strict=True)), default=float) for row in values]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    from pipeline.ingest.formats.reader import open_path

    with closing(open_path(tmp_path / "t.jsonl", None, "t.jsonl")) as reader:
        assert found(reader) == expected


# ── words of labels


WORDS = LabelWords(("Betrug", "won", " lost "), ("ok",), ("pending",))


def test_words_of_labels_in_any_case_and_language() -> None:
    texts = ["BETRUG", "lost", "OK", "Pending", None, "1"]
    reasons = Reasons(6)
    fraud, missing = validators.fraud_labels(pa.array(texts), "dispute", reasons, WORDS)
    assert fraud.tolist() == [True, True, False, False, False, False]
    assert missing.tolist() == [False, False, False, True, True, False]
    assert [reasons.of(place) for place in range(6)] == [""] * 5 + [
        "dispute is neither fraud nor genuine: write 1 or 0, or add the word to labels.fraud_words, genuine_words or "
        "unlabelled_words"
    ]
    others = LabelWords(WORDS.fraud, (), ("*",))
    _, missing = validators.fraud_labels(pa.array(texts), "dispute", Reasons(6), others)
    assert missing.tolist() == [False, False, True, True, True, True]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            {"genuine_words": ["OK", "Fraud"]},
            "labels.genuine_words must not hold a word of labels.fraud_words",
        ),
        ({"unlabelled_words": ["N"]}, "labels.unlabelled_words must not hold a word of labels.genuine_words"),
        ({"fraud_words": ["*"]}, "labels.fraud_words must hold words"),
    ],
)
def test_a_word_means_one_thing(words, message) -> None:
    with pytest.raises(InvalidSetting, match=message):
        configured(labels=words)


# ── whole files, on each engine

BANK = {
    "columns": {"Referenz-Nr.": "reference", "Buchungstag": "booked", "Uhrzeit": "clock", "Betrag (€)": "amount_eur",
                "Auftraggeber / IBAN": "account", "Betrug?": "fraud", "Gemeldet am": "reported"},
    "transaction_id": "reference", "event_time": "booked", "time_of_day": "clock", "amount": "amount_eur",
    "entities": ("account",), "is_fraud": "fraud", "known_at": "reported", "timezone": "Europe/Berlin", "hash": ("account",),
    "genuine_means": "genuine",
}  # fmt: skip
BANK_FORM = {"decimal": ",", "thousands": ".", "time": "day_first"}
BANK_WORDS = {"fraud_words": ["ja"], "genuine_words": ["nein"], "unlabelled_words": ["?"]}
BANK_HEADER = "Referenz-Nr.,Buchungstag,Uhrzeit,Betrag (€),Auftraggeber / IBAN,Betrug?,Gemeldet am"
BANK_ROWS = [
    'a,01.03.2026,07:00,"1.234,56 €",DE1,ja,05.03.2026', 'b,2.3.2026,14:30:00,"-5,00",DE1,NEIN,', 'c,3.3.2026,09:00,"(7,5)",DE2,?,soon',
    "d,4.3.2026,09:00,12.50,DE3,,", 'e,5.3.2026,9,"1,0",DE4,,', 'f,6.3.2026,09:00,"1,0",DE5,ja,01.03.2026',
    'g,7.3.2026,,"1,0",DE6,,', 'h,8.3.2026,09:00,"1,0",DE7,vielleicht,', 'i,9/13/2026,09:00,"1,0",DE8,,',
]  # fmt: skip


def bank(**more: Any) -> Config:
    return configured("sixteen characters", BANK_WORDS, BANK_FORM, **(BANK | more))


def test_a_file_of_a_bank_goes_in_as_it_is(opener, tmp_path) -> None:
    config = bank()
    store = opener(config)
    loaded, labelled = run(store, config, file(tmp_path, BANK_ROWS, BANK_HEADER), known_after=DAY)
    rows = query(store, "SELECT transaction_id, amount FROM transactions ORDER BY transaction_id")
    assert [(name, float(amount)) for name, amount in rows] == [
        ("a", 1234.56), ("b", -5.0), ("c", -7.5), ("f", 1.0), ("h", 1.0)
    ]  # fmt: skip
    found = rejected(store, loaded.batch_id)
    assert {number: reason for number, (_, reason) in found.items()} == {
        4: "Betrag (€) is not a number: it has a decimal point, set format.decimal and format.thousands",
        5: "Uhrzeit is not a time of day: write 14:30, 2:30 PM or 143000 (schema.time_of_day)",
        7: "Uhrzeit is missing: every transaction needs its time of day (schema.time_of_day)",
        9: 'Buchungstag is not a time by format.time = "day_first", but reads as month_first: set format.time',
    }  # fmt: skip
    row = json.loads(found[4][0])
    assert (row["Betrag (€)"], len(row["Auftraggeber / IBAN"])) == ("12.50", 64)  # hashed
    assert loaded.examples[found[9][1]].value == "9/13/2026"
    lines = ingest_lines(loaded)
    assert (
        '  1 × Betrag (€) is not a number: it has a decimal point, set format.decimal and format.thousands (row 4: "12.50")'
        in lines
    )
    labels = query(store, "SELECT transaction_id, is_fraud FROM labels ORDER BY transaction_id")
    assert [(name, bool(fraud)) for name, fraud in labels] == [("a", True), ("b", False)]
    early, unknown = rejected(store, labelled.batch_id).values()
    assert (
        unknown[1]
        == "Betrug? is neither fraud nor genuine: write 1 or 0, or add the word to labels.fraud_words, genuine_words or unlabelled_words"
    )
    assert '(row 8: "vielleicht")' in ingest_lines(labelled)[-2]
    assert early[1] == "Gemeldet am is more than an hour before its payment: check both times and their zones"
    assert "2026-02-28T23:00:00" in early[0]


def test_the_time_of_an_inline_label_is_its_own_where_it_has_one(opener, tmp_path) -> None:
    config = bank()
    store = opener(config)
    _, labelled = run(store, config, file(tmp_path, BANK_ROWS[:2], BANK_HEADER))
    assert labelled.reasons == {"Gemeldet am is missing: add it, or pass known-after, such as 7d": 1}
    (known,) = query(store, "SELECT known_at FROM labels")
    assert "2026-03-04" in str(known[0])  # midnight of the fifth in Berlin
    with pytest.raises(InputError, match=r"\(schema.is_fraud\) says what is fraud, but not when"):
        run(store, bank(known_at="", columns={k: v for k, v in BANK["columns"].items() if v != "reported"}),  # type: ignore[attr-defined]
            file(tmp_path, BANK_ROWS, BANK_HEADER))  # fmt: skip


KNOWN_ON = [
    # when the payment was, when its label became known, and when it counts as known; None: before its payment
    ("2026-03-05T10:00", "2026-03-05", "2026-03-05T09:00:00"),
    ("2026-03-05T00:30", "2026-03-05", "2026-03-04T23:30:00"),
    ("2026-03-29T23:30", "2026-03-29", "2026-03-29T21:30:00"),  # the clocks were changed on that day
    ("2026-03-05T10:00", "2026-03-06", "2026-03-05T23:00:00"),
    ("2026-03-05T10:00", "2026-03-04", None),
    ("2026-03-05T10:00", "2026-03-05T08:00", None),
    ("2026-03-05T10:00", "2026-03-05T09:30", "2026-03-05T08:30:00"),
]


@pytest.mark.parametrize(("paid", "known", "expected"), KNOWN_ON)
def test_a_label_that_is_known_on_a_day_is_not_before_a_payment_of_that_day(
    opener, tmp_path, paid, known, expected
) -> None:
    schema = {"entities": ("card",), "timezone": "Europe/Berlin"}
    beside = configured(is_fraud="fraud", known_at="reported", **schema)
    store = opener(beside)
    both = file(tmp_path, [f"a,{paid},1,k,1,{known}"], "transaction_id,event_time,amount,card,fraud,reported")
    loaded, labels = run(store, beside, both)
    assert loaded.counts.accepted == 1
    assert not labels.fails  # the payment went in
    labels_file = file(tmp_path, [f"a,1,{known}"], "transaction_id,is_fraud,known_at", "labels.csv")
    (report,) = run(store, configured(**schema), labels_file, ingest_labels)
    times = [str(known_at) for (known_at,) in query(store, "SELECT known_at FROM labels")]
    assert [time.replace(" ", "T")[:19] for time in times] == ([] if expected is None else [expected])
    assert (report.counts.duplicate, report.counts.rejected) == (
        labels.counts.accepted,
        labels.counts.rejected,
    )


def test_a_label_with_a_wrong_time_is_set_aside_and_its_payment_goes_in(opener, tmp_path) -> None:
    config = configured(is_fraud="fraud", known_at="reported", timezone="UTC", entities=("card",))
    store = opener(config)
    rows = [
        "a,2026-03-05T10:00,1,k,1,soon",
        "b,2026-03-05T10:00,1,k,1,2027-03-05",
        "c,2026-03-05T10:00,1,k,1,2026-03-06",
    ]
    header = "transaction_id,event_time,amount,card,fraud,reported"
    loaded, labels = run(store, config, file(tmp_path, rows, header), known_after=1)
    assert (loaded.counts.accepted, labels.counts.accepted) == (3, 1)
    assert [reason for _, reason in rejected(store, labels.batch_id).values()] == [
        "reported is not an ISO 8601 time: write 2026-03-01T06:00:00+00:00",
        "reported is more than an hour ahead of now",
    ]


def test_a_label_file_with_words_and_other_times(opener, tmp_path) -> None:
    config = configured(labels=BANK_WORDS, form=BANK_FORM, timezone="UTC")
    store = opener(config)
    run(
        store,
        config,
        file(
            tmp_path, [f"{name},01.03.2026 06:00,1" for name in "abcdef"], "transaction_id,event_time,amount"
        ),
    )
    rows = [
        "a,Ja,05.03.2026", "b,nein,2026-03-05", "c,?,05.03.2026", "d,ja,28.02.2026", "e,ja,01.03.2026 05:30", "f,maybe,05.03.2026",
        "z,ja,01.01.2026",
    ]  # fmt: skip
    (report,) = run(
        store, config, file(tmp_path, rows, "transaction_id,is_fraud,known_at", "l.csv"), ingest_labels
    )
    assert (report.counts.accepted, report.counts.rejected, report.unlabelled) == (4, 2, 1)
    assert "  1 row says neither fraud nor genuine, and was left out" in ingest_lines(report)
    reasons = {number: reason for number, (_, reason) in rejected(store, report.batch_id).items()}
    assert reasons[4] == "known_at is more than an hour before its payment: check both times and their zones"
    assert set(reasons) == {
        4,
        6,
    }  # within an hour clocks differ; of a payment that is not loaded nothing is known


def test_cents_of_several_currencies(opener, tmp_path) -> None:
    (tmp_path / "rates.csv").write_text("date,currency,rate\n2026-01-01,JPY,0.006\n2026-01-01,KWD,3\n")
    config = configured(
        form={"amount_unit": "minor", "time": "epoch_seconds"},
        currency="currency",
        rates=str(tmp_path / "rates.csv"),
    )
    store = opener(config)
    table = pa.table({
        "transaction_id": ["a", "b", "c", "d"], "event_time": [1_772_344_800] * 4, "amount": [2899, 500, 1500, 5],
        "currency": ["eur", "jpy", "kwd", None],
    })  # fmt: skip
    pq.write_table(table, tmp_path / "t.parquet")
    (report,) = run(store, config, Source("t.parquet", tmp_path / "t.parquet"))
    stored = query(store, "SELECT amount, amount_base FROM transactions ORDER BY transaction_id")
    assert [(float(amount), float(base)) for amount, base in stored] == [
        (28.99, 28.99),
        (500.0, 3.0),
        (1.5, 4.5),
    ]
    assert list(report.reasons) == ["currency is missing: write its code, such as EUR"]


def test_another_format_is_other_content_and_the_default_one_is_not(opener, tmp_path) -> None:
    store, given = (
        opener(configured()),
        file(tmp_path, ["a,2026-03-01T06:00Z,5"], "transaction_id,event_time,amount"),
    )
    (first,) = run(store, configured(), given)
    (again,) = run(store, configured(form={"time": "iso"}, plain_card_numbers=("transaction_id",)), given)
    assert again.same_as == first.batch_id
    (cents,) = run(store, configured(form={"amount_unit": "minor"}), given)
    assert cents.counts.revised == 1


def test_a_query_with_columns_under_other_names(opener, tmp_path) -> None:
    with closing(sqlite3.connect(tmp_path / "theirs.db")) as theirs, theirs:
        theirs.execute('CREATE TABLE t ("order" TEXT, "Datum/Zeit" TEXT, "Summe" REAL)')
        theirs.execute("INSERT INTO t VALUES ('a', '01.03.2026 06:00', 1.25)")
    names = {"order": "order_id", "Datum/Zeit": "at", "Summe": "total"}
    config = configured(
        form=BANK_FORM,
        columns=names,
        transaction_id="order_id",
        event_time="at",
        amount="total",
        timezone="UTC",
    )
    check = TransactionCheck(config)
    parts = read_query(f"sqlite:///{tmp_path}/theirs.db", "SELECT * FROM t", 10**7, 100, "q")
    rows = next(iter(open_query(parts, "q").rows(check.expected_columns())))
    chunk, _, _ = check.check(rows, NOW)
    assert (chunk.transaction_id[0], chunk.event_time[0], chunk.amount[0]) == ("a", SIX, 1.25)


def test_labels_that_are_dated_back_after_scoring_are_told(first_week, tmp_path) -> None:
    """The week was scored; labels that come now with --history change what its dates knew."""
    found = {}
    for history in (False, True):
        labels = file(
            tmp_path, [f"{history},1,2025-01-05T00:00Z"], "transaction_id,is_fraud,known_at", f"{history}.csv"
        )
        (report,) = run(first_week, SMALL, labels, ingest_labels, history=history)
        found[history] = (report.history, report.dated_back)
    assert found == {False: (False, False), True: (True, True)}
