"""Rates of currencies: files and queries of them, which one counts, and how old it is."""

import sqlite3
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.cli.data import ingest_lines
from pipeline.cli.monitoring.doctor import result_line
from pipeline.config.config import Config
from pipeline.errors import InputError
from pipeline.ingest.currencies.currency_rates import StaleRate
from pipeline.ingest.currencies.rate_sources import RatesReader, current_rates, ingest_rates, load_rates
from pipeline.ingest.sources import sources
from pipeline.services.data.export import ExportRequest, export_table
from pipeline.services.monitoring.doctor import check
from pipeline.services.session import Session
from storage.database.database import Store
from storage.ingest.currency_rates import RateCounts, save_rates
from tests.support.commands import fraudwatch, invoke
from tests.support.databases import Opener
from tests.support.ingest import NOW, configured, file, run
from tests.support.sql import query

RATES = "date,currency,rate\n2026-01-10,USD,0.92\n2026-01-01,USD,0.90\n2026-01-01,GBP,1.15\n"


def micros(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000_000)


def rates(tmp_path, text=RATES):
    path = tmp_path / "rates.csv"
    path.write_text(text, encoding="utf-8")
    return load_rates(str(path), "EUR")


@pytest.mark.parametrize(
    ("currency", "moment", "rate", "known"),
    [
        ("EUR", "1999-01-01T00:00", 1.0, True),  # the base needs no line
        ("USD", "2026-01-01T00:00", 0.90, True),  # the first day counts from midnight
        ("USD", "2026-01-09T23:59:59", 0.90, True),  # the newest at or before
        ("USD", "2026-01-10T00:00", 0.92, True),
        ("USD", "2030-01-01T00:00", 0.92, True),
        ("USD", "2025-12-31T23:59:59", np.nan, True),  # known, but not yet
        ("GBP", "2026-02-01T00:00", 1.15, True),
        ("CHF", "2026-02-01T00:00", np.nan, True),  # of ISO 4217, so a rate may come
        ("HRK", "2022-02-01T00:00", np.nan, True),  # until 2022
        ("EURO", "2026-02-01T00:00", np.nan, False),
        ("XXX", "2026-02-01T00:00", np.nan, False),
        (None, "2026-02-01T00:00", np.nan, False),
    ],
)
def test_the_newest_rate_at_or_before_the_day_counts(tmp_path, currency, moment, rate, known):
    lookup = rates(tmp_path).look_up(np.array([currency], dtype=object), np.array([micros(moment)]))
    np.testing.assert_equal(lookup.rate[0], rate)
    assert lookup.is_known[0] == known


def test_many_rows_are_looked_up_at_once(tmp_path):
    currency = np.array(["USD", "EUR", "GBP", "USD"], dtype=object)
    lookup = rates(tmp_path).look_up(currency, np.full(4, micros("2026-01-05T12:00")))
    assert lookup.rate.tolist() == [0.90, 1.0, 1.15, 0.90]
    first, own = (micros(day) // 86_400_000_000 for day in ("2026-01-01", "2026-01-05"))
    assert lookup.rate_day.tolist() == [first, own, first, first]


def test_no_path_means_only_the_base_currency():
    assert load_rates("", "EUR").series == {}


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffdate,currency,rate\r\n2026-01-01,USD,0.9\r\n",  # from a spreadsheet
        "rate,date,currency\n0.9,2026-01-01,usd\n\n",  # another order, small letters, a blank line
        "date,currency,rate\n2026-01-01,USD,0.9\n2026-01-01,USD,0.90\n2026-01-01,EUR,1\n",  # said twice alike
    ],
)
def test_files_as_people_make_them_are_read(tmp_path, text):
    assert rates(tmp_path, text).series["USD"].rates.tolist() == [0.9]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it has nothing"),
        ("day,currency,rate\n", "must have the columns date, currency, rate; it has day"),
        ("date,currency,rate\n2026-13-01,USD,1\n", "line 2 must be like 2026-03-01,USD,0.92"),
        ("date,currency,rate\n2026-01-01,USD,much\n", "line 2 must be like"),
        ("date,currency,rate\n2026-W01-4,USD,1\n", "line 2 must be like"),  # no date of a transaction either
        ("date,currency,rate\n20260101,USD,1\n", "line 2 must be like"),
        ("date,currency,rate\n2026-01-01,USD,1_0\n", "line 2 must be like"),
        ("date,currency,rate\n2026-01-01,USD\n", "line 2 must hold date, currency and rate, it has 2"),
        ("date,currency,rate\n2026-01-01,USD,0\n", "rate above 0"),
        ("date,currency,rate\n2026-01-01,USD,nan\n", "rate above 0"),
        ("date,currency,rate\n2026-01-01,,1\n", "must name a currency"),
        ("date,currency,rate\n2026-01-01,EUR,2\n", "it is 1 by definition"),
        (
            RATES + "2026-01-01,GBP,1.2\n",
            "line 5 gives GBP on 2026-01-01 the rate 1.2, an earlier one is 1.15",
        ),
        ('date,currency,rate\n2026-01-01,"USD,1\n', "cannot be read as CSV"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(tmp_path, text, said):
    with pytest.raises(InputError, match=r"rates\.csv") as refused:
        rates(tmp_path, text)
    assert said in str(refused.value)


def test_a_missing_file_and_a_wrong_encoding_are_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        load_rates(str(tmp_path / "none.csv"), "EUR")
    (tmp_path / "latin.csv").write_bytes(b"date,currency,rate\n2026-01-01,\xe9,1\n")
    with pytest.raises(InputError, match="UTF-8"):
        load_rates(str(tmp_path / "latin.csv"), "EUR")


# ── old rates

HEADER = "transaction_id,event_time,amount,currency"
USD = "date,currency,rate\n2026-01-01,USD,0.5\n"


def with_rates(folder: Path, text: str = USD, **schema: object) -> Config:
    (folder / "rates.csv").write_text(text)
    return configured(currency="currency", rates=str(folder / "rates.csv"), **schema)


@pytest.mark.parametrize(("day", "age"), [("2026-01-08", None), ("2026-01-09", 8), ("2026-03-31", 89)])
def test_a_rate_is_old_after_a_week(opener: Opener, tmp_path: Path, day: str, age: int | None) -> None:
    config = with_rates(tmp_path)
    store = opener(config)
    rows = [f"a,{day}T23:59:59Z,10,usd", f"b,{day}T00:00:00Z,10,EUR", "c,2026-01-02T00:00:00Z,10,USD"]
    (report,) = run(store, config, file(tmp_path, rows, HEADER))
    places = (f"{config.schema_.rates} (schema.rates)",)
    stale = StaleRate("USD", 1, date(2026, 1, 1), age or 0, places)
    assert report.stale_rates == (() if age is None else (stale,))
    results = [
        result
        for result in check(Session(store, config, "ann", lambda: NOW), "live")
        if result.subject == "currency_rates"
    ]
    assert [(result.facts, result.failed) for result in results] == ([] if age is None else [(stale, False)])
    if age is not None:
        sentence = (
            f"1 payment in USD uses a rate of 2026-01-01, {age} days old: add newer rates to {places[0]}"
        )
        assert f"  {sentence}" in ingest_lines(report)
        assert result_line(results[0]) == f"✓ currency rates: {sentence}"


def test_the_oldest_rate_of_all_rows_is_named(
    opener: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.ingest.formats.csv_reader.BATCH_ROWS", 1, raising=False)
    config = with_rates(tmp_path, USD + "2026-02-01,USD,0.6\n2025-01-01,GBP,1.1\n")
    rows = ["a,2026-03-01T00:00:00Z,1,USD", "b,2026-01-31T00:00:00Z,1,USD", "c,2026-03-01T00:00:00Z,1,GBP",
            "d,2026-02-02T00:00:00Z,1,USD", "e,2026-03-02T00:00:00Z,x,USD"]  # fmt: skip
    (report,) = run(opener(config), config, file(tmp_path, rows, HEADER))
    assert [(rate.currency, rate.payments, rate.day, rate.age_days) for rate in report.stale_rates] == [
        ("USD", 2, date(2026, 1, 1), 30), ("GBP", 1, date(2025, 1, 1), 424)
    ]  # fmt: skip


def test_doctor_counts_payments_since_the_rate_became_too_old_and_forgets_it_with_newer_rates(
    opener: Opener, tmp_path: Path
) -> None:
    config = with_rates(tmp_path)
    store = opener(config)
    days = ("2026-01-03", "2026-01-08", "2026-01-09", "2026-01-20")
    run(store, config, file(tmp_path, [f"{day},{day}T05:00:00Z,1,USD" for day in days], HEADER))

    def stale() -> list[StaleRate]:
        results = check(Session(store, config, "ann", lambda: NOW), "live")
        return [result.facts for result in results if isinstance(result.facts, StaleRate)]

    assert [(rate.payments, rate.day, rate.age_days) for rate in stale()] == [(2, date(2026, 1, 1), 19)]
    with_rates(tmp_path, USD + "2026-01-19,USD,0.6\n")
    assert stale() == []


def test_doctor_tells_that_the_file_of_rates_is_gone_and_goes_on(opener: Opener, tmp_path: Path) -> None:
    config = with_rates(tmp_path)
    store = opener(config)
    run(store, config, file(tmp_path, ["a,2026-01-02T00:00:00Z,1,USD"], HEADER))
    (tmp_path / "rates.csv").unlink()
    lines = [result_line(result) for result in check(Session(store, config, "ann", lambda: NOW), "live")]
    told = (
        f"✗ currency rates: {config.schema_.rates} (schema.rates) does not exist: check the path in [schema]"
    )
    assert told in lines
    assert lines[-1].startswith("✓ messages")


# ── rates of sources

ROWS = [("2026-01-10", "USD", 0.92), ("2026-01-01", "USD", 0.9), ("2026-01-01", "GBP", 1.15)]
STORED = "SELECT currency, CAST(day AS TEXT), rate, source FROM currency_rates ORDER BY 1, 2"


def stored_by(source: str) -> list[tuple[object, ...]]:
    return [
        (currency, day, rate, source)
        for day, currency, rate in sorted(ROWS, key=lambda row: (row[1], row[0]))
    ]


def sources_config(**more: object) -> Config:
    given = {
        "schema": {"currency": "currency", "entities": [], "categorical": [], "kind": "", "original_id": ""}
    }
    watch = {"watch": {"fx": {"folder": ".", "kind": "rates"}}}
    return Config.model_validate(given | watch | more)


def ingest(
    store: Store, config: Config, *paths: Path, sql: str | None = None, now: int = NOW
) -> list[RateCounts]:
    inputs = sources(config, "rates", [str(path) for path in paths], sql, None)
    return [
        RateCounts(report.added, report.corrected, report.unchanged)
        for report in ingest_rates(store, config, inputs, clock=lambda: now)
    ]


def write_rates(path: Path) -> None:
    days = [date.fromisoformat(day) for day, _, _ in ROWS]
    table = pa.table({"date": days, "currency": [row[1] for row in ROWS], "rate": [row[2] for row in ROWS]})
    if path.name == "time.parquet":
        table = table.set_column(0, "date", table["date"].cast(pa.timestamp("us", "UTC")))
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    elif path.suffix == ".jsonl":
        path.write_text(
            "".join(f'{{"date":"{d}","rate":{r},"currency":"{c}","note":1}}\n' for d, c, r in ROWS)
        )
    else:
        path.write_text("rate,date,currency\n" + "".join(f"{r},{d},{c.lower()}\n" for d, c, r in ROWS))


@pytest.mark.parametrize("name", ["day.parquet", "time.parquet", "r.jsonl", "r.csv"])
def test_rates_come_from_every_kind_of_file(opener: Opener, tmp_path: Path, name: str) -> None:
    config, path = sources_config(), tmp_path / name
    store = opener(config)
    write_rates(path)
    assert ingest(store, config, path) == [RateCounts(added=3)]
    assert query(store, STORED) == stored_by(str(path))
    assert ingest(store, config, path) == [RateCounts(unchanged=3)]


def test_rates_come_from_a_query(opener: Opener, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "fx.db")) as bank:
        bank.execute("CREATE TABLE fx (day TEXT, code TEXT, value REAL)")
        bank.executemany("INSERT INTO fx VALUES (?, ?, ?)", [(f"{day} 00:00:00", *row) for day, *row in ROWS])
        bank.commit()
    select = "SELECT day AS date, code AS currency, value AS rate FROM fx"
    bank_url = f"sqlite:///{tmp_path / 'fx.db'}"
    config = sources_config(source={"fx": {"url": bank_url, "query": select, "kind": "rates"}}, watch={})
    store = opener(config)
    assert ingest(store, config, sql="fx") == [RateCounts(added=3)]
    assert query(store, STORED) == stored_by("source.fx")
    with pytest.raises(InputError, match=r"source\.fx holds rates, not labels"):
        sources(config, "labels", [], "fx", None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("day,currency,rate\n2026-01-01,USD,1\n", "must have the columns date, currency, rate; it has day, currency, rate"),
        ("date,currency,rate\n2026-01-01,USD,1\n2026-01-02,USD,\n", 'row 2 must be like 2026-03-01,USD,0.92, got "2026-01-02,USD,"'),
        ("date,currency,rate\n2026-01-01,USD,1\n2026-01-02T05:00,USD,1\n", "row 2 must be like"),
        ("date,currency,rate\n2026-01-01,USD,-1\n", "rate above 0"),
        ("date,currency,rate\n2026-01-01,EUR,2\n", "it is 1 by definition"),
        ("date,currency,rate\n2026-01-01,USD,2\n2026-01-01,USD,3\n", "row 2 gives USD on 2026-01-01 the rate 3"),
        ("date,currency,rate\n2026-01-01,USD,1\n2026-01-01,GBP,1,5\n", "row 2 cannot be read"),
    ],
)  # fmt: skip
def test_a_source_with_a_wrong_rate_is_refused_whole(
    opener: Opener, tmp_path: Path, text: str, said: str
) -> None:
    config, path = sources_config(), tmp_path / "r.csv"
    store = opener(config)
    path.write_text(text)
    with pytest.raises(InputError, match=r"r\.csv") as refused:
        ingest(store, config, path)
    assert said in str(refused.value)
    assert query(store, STORED) == []


@pytest.mark.parametrize("name", ["rates.csv", "rates.parquet"])
def test_rates_can_be_exported(opener: Opener, tmp_path: Path, name: str) -> None:
    config = sources_config()
    store = opener(config)
    save_rates(store, {"USD": {date(2026, 1, 1): 0.5}}, "source.fx", NOW)
    export_table(Session(store, config, "ann", lambda: NOW), ExportRequest("currency_rates", tmp_path / name))
    if name == "rates.csv":
        assert (tmp_path / name).read_text().splitlines()[1].startswith("USD,2026-01-01,0.5,")
    else:
        assert str(pq.read_table(tmp_path / name)["day"][0]) == "2026-01-01"


def test_a_later_rate_of_the_same_day_replaces_the_earlier_one_and_keeps_amounts(
    opener: Opener, tmp_path: Path
) -> None:
    config, path = sources_config(), tmp_path / "r.csv"
    store = opener(config)
    path.write_text(USD)
    ingest(store, config, path)
    row = "2026-01-02T00:00:00Z,10,USD"
    given = file(tmp_path, [f"a,{row}"], HEADER)
    (first,) = run(store, config, given)
    path.write_text(USD.replace("0.5", "0.25") + "2026-01-03,USD,0.75\n")
    assert ingest(store, config, path, now=NOW + 1) == [RateCounts(added=1, corrected=1)]
    (again,) = run(store, config, given)
    assert again.same_as == first.batch_id
    (more,) = run(store, config, file(tmp_path, [f"a,{row}", f"b,{row}"], HEADER, "more.csv"))
    assert (more.counts.duplicate, more.counts.accepted) == (1, 1)
    amounts = query(store, "SELECT transaction_id, amount_base FROM transactions ORDER BY 1")
    assert [(name, float(amount)) for name, amount in amounts] == [("a", 5.0), ("b", 2.5)]


def test_the_newest_day_of_file_and_database_counts_and_of_the_same_day_the_file(
    opener: Opener, tmp_path: Path
) -> None:
    config = with_rates(tmp_path, USD + "2026-01-10,USD,0.7\n")
    store = opener(config)
    days = {date(2026, 1, 10): 0.1, date(2026, 1, 20): 0.9, date(2025, 12, 1): 0.3}
    save_rates(store, {"USD": days, "CHF": {date(2026, 1, 1): 1.1}}, "source.fx", NOW)
    rates = current_rates(store, config)
    moments = ["2025-12-02", "2026-01-02", "2026-01-12", "2026-01-22"]
    looked_up = rates.look_up(np.full(4, "USD", dtype=object), np.array([micros(day) for day in moments]))
    assert looked_up.rate.tolist() == [0.3, 0.5, 0.7, 0.9]
    assert rates.series["CHF"].rates.tolist() == [1.1]


def test_a_reader_has_the_rates_of_now_and_reads_them_only_after_a_change(
    opener: Opener, tmp_path: Path
) -> None:
    config = with_rates(tmp_path, USD)
    store, day = opener(config), date(2026, 1, 1)
    reader, seen = RatesReader(store, config), []
    for change in (
        lambda: None,
        lambda: save_rates(store, {"CHF": {day: 1.1}}, "source.fx", NOW),
        lambda: save_rates(store, {"CHF": {day: 1.2}}, "source.fx", NOW),  # at the same instant
        lambda: with_rates(tmp_path, USD + "2026-01-10,USD,0.7\n"),
    ):
        change()
        seen.append(reader.current())
        assert reader.current() is seen[-1]
        expected = current_rates(store, config).series
        assert {name: each.rates.tolist() for name, each in seen[-1].series.items()} == {
            name: each.rates.tolist() for name, each in expected.items()
        }
    assert len(set(map(id, seen))) == len(seen)


def test_a_currency_without_iso_code_is_rejected_until_it_has_rates_and_then_read_again(
    opener: Opener, tmp_path: Path
) -> None:
    config = with_rates(tmp_path)
    store = opener(config)
    rows = [
        "a,2026-03-01T00:00:00Z,1,DOGE",
        "b,2026-03-01T00:00:00Z,1,EUR",
        "c,2026-03-01T00:00:00Z,1,\x1b[31m",
    ]
    given = file(tmp_path, rows, HEADER)
    (first,) = run(store, config, given)
    remedy = f"correct it, or add its rates to {config.schema_.rates} (schema.rates)"
    assert dict(first.reasons) == {
        f"currency DOGE is no code of ISO 4217 and has no rate: {remedy}": 1,
        f"currency is no code of ISO 4217 and has no rate: {remedy}": 1,  # a text is not repeated
    }
    assert first.waiting == {}
    with_rates(tmp_path, USD + "2026-01-01,DOGE,0.1\n")
    (second,) = run(store, config, given)
    assert (second.counts.accepted, second.counts.duplicate, second.counts.rejected) == (1, 1, 1)


def test_without_any_rates_a_payment_in_another_currency_waits_instead_of_counting_as_the_base(
    opener: Opener, tmp_path: Path
) -> None:
    config = with_rates(tmp_path)
    config = config.model_copy(update={"schema_": config.schema_.model_copy(update={"rates": ""})})
    rows = ["a,2026-03-01T00:00:00Z,1,EUR", "b,2026-03-01T00:00:00Z,1000,USD"]
    (report,) = run(opener(config), config, file(tmp_path, rows, HEADER))
    assert (report.counts.accepted, report.counts.rejected) == (1, 1)
    assert report.waiting == {"USD": 1}


def test_many_unknown_currencies_share_a_reason(opener: Opener, tmp_path: Path) -> None:
    config = with_rates(tmp_path)
    rows = [f"t{n},2026-03-01T00:00:00Z,1,C{n}" for n in range(40_000)]
    (report,) = run(opener(config), config, file(tmp_path, rows, HEADER))
    assert report.counts.rejected == 40_000
    assert len(report.reasons) == 6


# ── commands


def test_the_command_tells_what_it_stored(tmp_path: Path) -> None:
    schema = '[schema]\ncurrency = "currency"\nentities = []\ncategorical = []\nkind = ""\noriginal_id = ""\n'
    (tmp_path / "config.toml").write_text(f'{schema}[watch.fx]\nfolder = "."\nkind = "rates"\n')
    (tmp_path / "rates.csv").write_text(USD)
    file(tmp_path, ["a,2026-01-02T00:00:00Z,10,CHF"], HEADER, "payments.csv")
    fraudwatch(tmp_path, "init")
    assert fraudwatch(tmp_path, "ingest", "rates", "rates.csv") == (
        "rates.csv: 1 rates added, 0 corrected, 0 unchanged, newest 2026-01-01\n"
    )
    lines = fraudwatch(tmp_path, "ingest", "transactions", "payments.csv").splitlines()
    assert "  1 of the rejected only wait for a rate of CHF" in lines
    assert lines[-1].startswith("waiting: 1 payment in CHF waits for a rate since ")
    assert lines[-1].endswith(
        "add one of 2026-01-02 or earlier to watch.fx, and the next ingest takes them up"
    )
    assert lines[-1].replace("waiting: ", "✗ waiting rows: ") in doctor_lines(tmp_path)
    (tmp_path / "rates.csv").write_text(USD + "2026-01-01,CHF,1.1\n")
    lines = fraudwatch(tmp_path, "ingest", "rates", "rates.csv").splitlines()
    assert lines[0] == "rates.csv: 1 rates added, 0 corrected, 1 unchanged, newest 2026-01-01"
    assert lines[1].startswith("waiting rows: 1 transactions read = 1 accepted ")
    assert not any("wait for a rate" in line for line in lines)
    assert "waiting rows" not in doctor_lines(tmp_path)


def doctor_lines(home: Path) -> list[str]:
    return invoke(home, "doctor").out.splitlines()
