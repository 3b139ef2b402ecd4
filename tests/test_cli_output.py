"""Rows as tables, CSV, JSON and Parquet: exact, whole, and in the zone they are in."""

import io
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.cli.output import ProgressBar, write_rows
from pipeline.errors import InputError
from pipeline.services.records import Amount


@dataclass(frozen=True)
class Row:
    """One of each kind of value."""

    name: str
    n: int
    share: float
    amount: Amount
    at: datetime
    muted: bool
    tags: tuple[str, ...]
    nothing: None = None


COLUMNS = ["name", "n", "share", "amount", "at", "muted", "tags", "nothing"]
PARIS = timezone(timedelta(hours=1))
ROWS = [
    Row(
        "a",
        7,
        0.00001234,
        Amount(Decimal("103.59"), "EUR"),
        datetime(2026, 3, 1, 7, tzinfo=PARIS),
        True,
        ("x",),
    ),
    Row(
        "b" * 90,
        1234567,
        103.59,
        Amount(Decimal("4294.30"), "EUR"),
        datetime(2026, 3, 2, tzinfo=UTC),
        False,
        (),
    ),
]


def written(output_format: str, capsys: pytest.CaptureFixture[str], rows: Any = ROWS) -> str:
    write_rows(rows, COLUMNS, output_format, None, "nothing")
    return capsys.readouterr().out


def test_a_table_is_whole_exact_and_right_aligned_where_it_is_numbers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")  # of the terminal; a pipe has none
    lines = written("table", capsys).splitlines()
    assert len(lines) == 4
    header, _, first, second = lines
    assert "b" * 90 in second
    for text in ("7", "0.00001234", "103.59 EUR", "2026-03-01 06:00:00Z", "yes", '["x"]', "–"):
        assert f" {text}" in first
    for text in ("1234567", "103.59", "4,294.30 EUR", "2026-03-02 00:00:00Z", "no"):
        assert f" {text} " in second
    assert first.index("103.59 EUR") + len("103.59 EUR") == second.index("4,294.30 EUR") + len("4,294.30 EUR")
    assert header.index("amount") + len("amount") == second.index("EUR") + 3
    assert not re.search(r"\de[-+]\d", "".join(lines))


MONEY = [
    ("1424.165", "1,424.16"),
    ("2281.7119", "2,281.71"),
    ("5000.00", "5,000.00"),
    ("-2565.3250", "-2,565.32"),
    ("0.50", "0.50"),
    ("0.0012", "0.0012"),
]


@pytest.mark.parametrize(("stored", "shown"), MONEY)
def test_money_in_a_table_has_cents_and_elsewhere_all_of_its_digits(stored, shown, capsys):
    row = {"loss": Decimal(stored), "sum": Amount(Decimal(stored), "EUR")}
    found = {}
    for kind in ("table", "csv", "json"):
        write_rows([row], ["loss", "sum"], kind, None, "nothing")
        found[kind] = capsys.readouterr().out
    assert found["table"].splitlines()[-1].split() == [shown, shown, "EUR"]
    assert found["csv"].splitlines()[-1] == f"{stored},{stored}"
    assert json.loads(found["json"])[0]["loss"] == float(stored)


class Terminal(io.StringIO):
    """A terminal to write on."""

    def isatty(self) -> bool:
        return True


def test_a_table_wraps_on_a_terminal_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setenv("COLUMNS", "60")
    write_rows([{"name": "b" * 90, "n": 1}], ["name", "n"], "table", None, "nothing")
    text = re.sub(r"\x1b\[[0-9;]*m", "", screen.getvalue())
    assert max(map(len, text.splitlines())) <= 60
    assert text.count("b") == 90


def test_on_a_narrow_terminal_what_has_no_place_goes_beneath_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setenv("COLUMNS", "40")
    reasons = "first payment with this merchant; amount is 4,294.30"
    rows = [{"id": f"T{n}", "amount": n, "why": reasons, "status": "open", "by": None} for n in (7, 12345)]
    write_rows(rows, ["id", "amount", "why", "status", "by"], "table", None, "nothing")
    assert [line.rstrip() for line in screen.getvalue().splitlines()] == [
        "id      amount  status  by",
        "──────────────────────────",
        "T7           7  open     –",
        "    why: first payment with this",
        "    merchant; amount is 4,294.30",
        "T12345   12345  open     –",
        "    why: first payment with this",
        "    merchant; amount is 4,294.30",
    ]


def test_csv_and_json_are_exact_and_name_the_zone(capsys: pytest.CaptureFixture[str]) -> None:
    assert written("csv", capsys).splitlines()[1:] == [
        'a,7,0.00001234,103.59,2026-03-01 06:00:00Z,True,"[""x""]",',
        f"{'b' * 90},1234567,103.59,4294.30,2026-03-02 00:00:00Z,False,[],",
    ]
    row = json.loads(written("json", capsys))[0]
    assert row == {
        "name": "a", "n": 7, "share": 0.00001234, "amount": {"value": 103.59, "currency": "EUR"},
        "at": "2026-03-01 06:00:00Z", "muted": True, "tags": ["x"], "nothing": None,
    }  # fmt: skip


def test_parquet_keeps_times_and_amounts_as_such(tmp_path: Path) -> None:
    write_rows(ROWS, COLUMNS, "parquet", tmp_path / "rows.parquet", "nothing")
    row = pq.read_table(tmp_path / "rows.parquet").to_pylist()[0]
    assert (row["amount"], row["at"], row["tags"]) == (Decimal("103.59"), ROWS[0].at, '["x"]')
    with pytest.raises(InputError, match="add --output"):
        write_rows(ROWS, COLUMNS, "parquet", None, "nothing")


def test_no_rows_is_a_sentence_or_an_empty_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert written("json", capsys, []) == "[]\n"
    write_rows([], COLUMNS, "table", None, "no flags match")
    assert capsys.readouterr().err == "no flags match\n"


def test_a_progress_bar_fits_into_80_columns_of_a_terminal_and_is_nowhere_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    for stream in (Terminal(), io.StringIO()):
        monkeypatch.setattr("sys.stderr", stream)
        bar = ProgressBar()
        bar.start(
            "transactions of a/very/long/path/to/a/file/of/payments-2026-03-01.parquet", 12_345_678, "rows"
        )
        bar.advance(1_234_567)
        bar.stop()
        text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue())
        if stream.isatty():
            assert "1234567/12345678" in text
            assert max(map(len, re.split(r"[\r\n]", text))) <= 80
        else:
            assert text == ""


def test_nothing_goes_beneath_a_row_for_an_empty_value(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setenv("COLUMNS", "40")
    rows = [
        {"id": "T7", "why": "first payment with this merchant; amount is 4,294.30"},
        {"id": "T8", "why": None},
    ]
    write_rows(rows, ["id", "why"], "table", None, "nothing")
    assert [line.rstrip() for line in screen.getvalue().splitlines()][2:] == [
        "T7",
        "    why: first payment with this",
        "    merchant; amount is 4,294.30",
        "T8",
    ]
