from datetime import UTC, datetime

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.ingest.currency_rates import load_rates

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
        ("XXX", "2026-02-01T00:00", np.nan, False),
        (None, "2026-02-01T00:00", np.nan, False),
    ],
)
def test_the_newest_rate_at_or_before_the_day_counts(tmp_path, currency, moment, rate, known):
    found, is_known = rates(tmp_path).look_up(np.array([currency], dtype=object), np.array([micros(moment)]))
    np.testing.assert_equal(found[0], rate)
    assert is_known[0] == known


def test_many_rows_are_looked_up_at_once(tmp_path):
    currency = np.array(["USD", "EUR", "GBP", "USD"], dtype=object)
    found, _ = rates(tmp_path).look_up(currency, np.full(4, micros("2026-01-05T12:00")))
    assert found.tolist() == [0.90, 1.0, 1.15, 0.90]


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
        (RATES + "2026-01-01,GBP,1.2\n", "line 5 gives GBP on 2026-01-01 the rate 1.2, an earlier line 1.15"),
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
