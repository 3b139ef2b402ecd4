"""How `init --from` recognises separators, times, units and encodings, and asks where two readings are possible."""

import random
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.config import Config
from pipeline.config.loader import load_config
from pipeline.errors import ConfigError, InputError
from pipeline.ingest.decoding import encodings
from pipeline.schema_inference.propose import Proposal, propose
from tests.support.commands import fraudwatch, invoke
from tests.support.ingest import NOW
from tests.support.payments import write_csv

ROWS = 400
FIRST = datetime(2025, 1, 1, tzinfo=UTC)
Column = list[Any] | Callable[[int], Any]


def table(**columns: Column) -> dict[str, list[str]]:
    """Columns of rows with a customer: values to draw from, or a function of the row."""
    draw = random.Random(3)
    all_columns: dict[str, Column] = {"customer": lambda n: f"c{n * 37 % 101}", **columns}
    return {
        name: [str(given(n) if callable(given) else draw.choice(given)) for n in range(ROWS)]
        for name, given in all_columns.items()
    }


def written(
    folder: Path, columns: dict[str, list[str]], separator: str = ";", name: str = "rows.csv"
) -> Path:
    lines = [separator.join(row) for row in zip(*columns.values(), strict=True)]
    write_csv(folder / name, separator.join(columns), lines)
    return folder / name


def proposed(folder: Path, **columns: Column) -> Proposal:
    usual: dict[str, Column] = {
        "id": lambda n: f"t{n}",
        "date": lambda n: (FIRST + timedelta(hours=n)).isoformat(),
        "amount": lambda n: f"{n * 7919 % 9973 / 100:.2f}",
    }
    return propose(written(folder, table(**{k: v for k, v in (usual | columns).items() if v})), NOW)


def load(folder: Path, proposal: Proposal, **answers: str) -> Config:
    """The config, with each unanswered key answered."""
    toml = proposal.toml
    for key, answer in answers.items():
        assert f'\n{key} = "CHECK"\n' in toml
        toml = toml.replace(f'\n{key} = "CHECK"\n', f'\n{key} = "{answer}"\n')
    (folder / "proposed.toml").write_text(toml, encoding="utf-8")
    return load_config(folder / "proposed.toml", {"FRAUDWATCH_HASH_KEY": "0123456789abcdef"})


def german(value: float) -> str:
    return f"{value:,.2f}".translate(str.maketrans(",.", ".,"))


def french(value: float, blank: str) -> str:
    return f"{value:,.2f}".translate(str.maketrans({",": blank, ".": ","}))


NUMBERS = [
    # how n is written as an amount, decimal, thousands
    (lambda n: f"{n * 97 % 9973 / 7:.2f}", ".", ""),
    (lambda n: n * 97 % 89, ".", ""),
    (lambda n: f"{n * 97 % 9973 / 7:.2f}".replace(".", ","), ",", ""),
    (lambda n: german(n * 9700 % 9973 + 0.5), ",", "."),
    (lambda n: f"{n * 9700 % 9973 + 0.5:,.2f}", ".", ","),
    (lambda n: f"{n * 9700 % 9973 + 0.5:,.2f}".replace(",", "'"), ".", "'"),
    (lambda n: f"{n * 9700 % 9973 + 0.5:,.2f}".replace(",", " ").replace(".", ","), ",", " "),
    (lambda n: french(n * 9700 % 9973 + 0.5, "\u202f"), ",", " "),
    (lambda n: french(n * 9700 % 9973 + 0.5, "\xa0"), ",", " "),
    (lambda n: french(n * 9700 % 9973 + 0.5, "\u2009") + "\xa0€", ",", " "),
    (lambda n: f"{n * 9700 % 9973 + 0.5:,.2f}".replace(",", "’"), ".", "'"),
    (lambda n: f"€ {german(n * 9700 % 9973 + 0.5)}", ",", "."),
    (lambda n: f"({german(n * 9700 % 9973 + 0.5)})", ",", "."),
    (lambda n: f"{(n + 1) * 97 % 9973 / 1000:.3f}", ".", ""),  # 0.485 is no thousand
    (lambda n: f"{1 + n * 97 % 9973 // 1000}.{n * 97 % 1000:03}" if n % 9 else "12.5", ".", ""),
]  # fmt: skip


@pytest.mark.parametrize(("write", "decimal", "thousands"), NUMBERS)
def test_separators_of_numbers_are_recognised(
    tmp_path: Path, write: Column, decimal: str, thousands: str
) -> None:
    config = load(tmp_path, proposed(tmp_path, amount=write))
    assert config.schema_.amount == "amount"
    assert (config.format.decimal, config.format.thousands) == (decimal, thousands)


@pytest.mark.parametrize(
    ("write", "readings"),
    [
        (lambda n: f"{1 + n % 9}.{n * 97 % 1000:03}", [("decimal = ",), ("is 1,",)]),
        (lambda n: f"{1 + n % 9},{n * 97 % 1000:03}", [("decimal = ",), ("is 1,",)]),
    ],
)
def test_numbers_that_can_be_read_in_two_ways_are_asked_about(
    tmp_path: Path, write: Column, readings: Any
) -> None:
    proposal = proposed(tmp_path, amount=write)
    asked = [line for line in proposal.explanations if line.startswith("format.decimal: CHECK")]
    assert len(asked) == 2
    assert all(any(word in line for line in asked) for reading in readings for word in reading)
    assert any(
        line.startswith("Answer first: format.decimal, format.thousands.") for line in proposal.heading
    )
    with pytest.raises(ConfigError, match="decimal"):
        load(tmp_path, proposal)
    assert load(tmp_path, proposal, decimal=",", thousands=".").schema_.amount == "amount"


DECIDED = [
    # how amounts of row n are written, what decides, decimal, thousands
    (lambda n: f"{n * 97 % 997 + 0.25:.2f}" if n != 7 else "1,573.62", ".", ","),
    (lambda n: f"-{german(n * 97 % 997 + 0.25)}" if n != 7 else "-1.328,35", ",", "."),
    (lambda n: f"${n * 97 % 997 + 0.25:.2f}" if n != 399 else "$2,387.19", ".", ","),
    (lambda n: n * 97 % 997 if n != 399 else "2,387,190", ".", ","),
    (lambda n: f"{1 + n % 9},{n * 97 % 1000:03}" if n != 7 else "1,573,620", ".", ","),
    (lambda n: f"{1 + n % 9},{n * 97 % 1000:03}" if n != 7 else "0,573", ",", ""),
    (lambda n: f"JPY {1 + n % 9},{n * 97 % 1000:03}", ".", ","),
    (lambda n: f"₩{1 + n % 9},{n * 97 % 1000:03}" if n % 5 else f"₩{n * 97 % 1000}", ".", ","),
]  # fmt: skip


@pytest.mark.parametrize(("write", "decimal", "thousands"), DECIDED)
def test_one_value_decides_what_separators_mean(
    tmp_path: Path, write: Column, decimal: str, thousands: str
) -> None:
    config = load(tmp_path, proposed(tmp_path, amount=write))
    assert config.schema_.amount == "amount"
    assert (config.format.decimal, config.format.thousands) == (decimal, thousands)


def test_a_column_of_currencies_without_decimals_decides(tmp_path: Path) -> None:
    proposal = proposed(tmp_path, amount=lambda n: f"{1 + n % 9},{n * 97 % 1000:03}", cur=["JPY"])
    assert load(tmp_path, proposal).format.thousands == ","


def test_a_large_amount_behind_many_small_ones_decides(tmp_path: Path) -> None:
    small = [f"t{n},2025-01-03T{n % 24:02}:00:00Z,{n / 100 + 0.01:.2f}" for n in range(3000)]
    write_csv(tmp_path / "rows.csv", "id,date,amount", [*small, 't,2025-01-04T00:00:00Z,"1,573.62"'])
    assert load(tmp_path, propose(tmp_path / "rows.csv", NOW)).format.thousands == ","


def test_a_damaged_amount_among_many_is_one_rejected_row(tmp_path: Path) -> None:
    proposal = proposed(
        tmp_path, amount=[], Betrag=lambda n: "zwölf" if n == 70 else german(n * 97 % 9973 / 7)
    )
    assert load(tmp_path, proposal).schema_.amount == "Betrag"
    assert any("CHECK: some are no numbers" in line for line in proposal.explanations)
    nowhere = proposed(tmp_path, amount=[], Betrag=lambda n: "zwölf" if n % 2 else german(n * 97 % 9973 / 7))
    named = next(line for line in nowhere.toml.splitlines() if line.startswith("# Found: "))
    assert "amount" not in named


def test_the_question_quotes_a_value_that_differs(tmp_path: Path) -> None:
    proposal = proposed(tmp_path, amount=lambda n: f"{n % 7}0.5" if n % 2 else f"{2 + n % 7},{n:03}")
    asked = [line for line in proposal.explanations if line.startswith("format.decimal: CHECK")]
    assert not asked  # 10.5 has a decimal point
    proposal = proposed(tmp_path, amount=lambda n: n % 7 if n % 2 else f"{2 + n % 7},{n + 100:03}")
    asked = [line for line in proposal.explanations if line.startswith("format.decimal: CHECK")]
    assert [line.split(" is ")[1].split(" ")[0] for line in asked] == ["2.1", "2,100"]


def test_other_columns_decide_what_a_separator_means(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        proposed(
            tmp_path, amount=lambda n: f"{1 + n % 9}.{n * 97 % 1000:03}", fee=lambda n: f"{n % 9},5{n % 7}"
        ),
    )
    assert (config.format.decimal, config.format.thousands) == (",", ".")


def moment(n: int) -> datetime:
    return FIRST + timedelta(hours=7 * n)


TIMES = [
    # how row n is written, format.time
    (lambda n: moment(n).isoformat(), "iso"),
    (lambda n: f"{moment(n):%Y/%m/%d %H:%M}", "year_first"),
    (lambda n: f"{moment(n):%Y%m%d%H%M%S}", "year_first"),
    (lambda n: f"{moment(n).year}年{moment(n).month}月{moment(n).day}日 {moment(n):%H:%M:%S}", "year_first"),
    (lambda n: f"{moment(n):%d.%m.%Y %H:%M}", "day_first"),
    (lambda n: f"{moment(n):%d/%m/%y}", "day_first"),
    (lambda n: f"{moment(n):%m/%d/%Y %I:%M %p}", "month_first"),
    (lambda n: f"{moment(n):%b %d, %Y}", "month_first"),
    (lambda n: f"{moment(n):%d %B %Y %H:%M:%S}", "day_first"),
    (lambda n: int(moment(n).timestamp()), "epoch_seconds"),
    (lambda n: f"{moment(n).timestamp():.3f}", "epoch_seconds"),
    (lambda n: int(moment(n).timestamp() * 1000), "epoch_milliseconds"),
    (lambda n: f"{moment(n).replace(month=1 + n % 12, day=5 + n % 3):%d.%m.%Y}", "day_first"),  # points: never US
    (lambda n: f"{1 + n % 40 // 4:02}/{1 + n // 40:02}/2025", "day_first"),  # so they are in order
    (lambda n: f"{1 + n // 40:02}/{1 + n % 40 // 4:02}/2025", "month_first"),
]  # fmt: skip


@pytest.mark.parametrize(("write", "form"), TIMES)
def test_formats_of_times_are_recognised(tmp_path: Path, write: Column, form: str) -> None:
    config = load(tmp_path, proposed(tmp_path, date=write))
    assert (config.schema_.event_time, config.format.time) == ("date", form)


def test_days_and_months_that_can_be_swapped_are_asked_about(tmp_path: Path) -> None:
    def mixed(n: int) -> str:
        return f"{1 + n * 7 % 11:02}/{1 + n * 5 % 11:02}/2025"

    proposal = proposed(tmp_path, date=mixed)
    asked = [line for line in proposal.explanations if line.startswith("format.time: CHECK")]
    assert ["day_first" in asked[0], "month_first" in asked[1]] == [True, True]
    with pytest.raises(ConfigError, match="time"):
        load(tmp_path, proposal)
    assert load(tmp_path, proposal, time="month_first").schema_.event_time == "date"
    another = proposed(tmp_path, date=mixed, due=lambda n: f"{13 + n % 9}/02/2025")
    assert load(tmp_path, another).format.time == "day_first"


def test_a_date_and_a_time_of_day_are_one_time(tmp_path: Path) -> None:
    proposal = proposed(
        tmp_path,
        date=lambda n: f"{moment(n):%d.%m.%Y}",
        Uhrzeit=lambda n: f"{moment(n):%H:%M}",
        due=["10:30", "11:00"],
    )
    config = load(tmp_path, proposal)
    assert (config.schema_.event_time, config.schema_.time_of_day) == ("date", "Uhrzeit")
    assert not any("without a time of day" in line for line in proposal.explanations)


ELAPSED = [
    # name, value of row n, further columns, format.time
    ("Time", lambda n: n * 172_792 // ROWS, {}, "elapsed_seconds"),
    ("TransactionDT", lambda n: 86_400 + n * 39_000, {}, "elapsed_seconds"),
    ("step", lambda n: 1 + n * 743 // ROWS, {"nameOrig": lambda n: f"C{n}"}, "elapsed_hours"),
    ("step", lambda n: n * 180 // ROWS, {"zipMerchant": ["28007", "28008"]}, "elapsed_days"),
    ("minutes_since_start", lambda n: n * 77, {}, "elapsed_minutes"),
    ("day", lambda n: n // 9, {}, "elapsed_days"),
]


@pytest.mark.parametrize(("name", "write", "others", "form"), ELAPSED)
def test_times_that_count_from_a_start_are_recognised(tmp_path: Path, name, write, others, form) -> None:
    proposal = proposed(tmp_path, date=[], **{name: write}, **others)
    config = load(tmp_path, proposal)
    assert (config.schema_.event_time, config.format.time) == (name, form)
    assert config.format.time_start == "2025-01-01T00:00:00+00:00"
    assert any(line.startswith("format.time_start: CHECK") for line in proposal.explanations)
    assert any("Correct format.time_start first" in line for line in proposal.heading)
    assert (
        "timezone: the times count from format.time_start, which has an offset from UTC"
        in proposal.explanations
    )


def test_steps_of_unknown_length_are_asked_about(tmp_path: Path) -> None:
    proposal = proposed(tmp_path, date=[], step=lambda n: n * 300 // ROWS)
    with pytest.raises(ConfigError, match="time"):
        load(tmp_path, proposal)
    assert load(tmp_path, proposal, time="elapsed_days").schema_.event_time == "step"


def test_times_since_1970_are_said_to_be_in_utc(tmp_path: Path) -> None:
    proposal = proposed(tmp_path, date=lambda n: int(moment(n).timestamp()))
    assert "timezone: the times count from 1970 in UTC" in proposal.explanations


@pytest.mark.parametrize("first", [10**15, 10**18, 10**25])  # 1.7e15 may be microseconds since 1970
@pytest.mark.parametrize("name", ["time", "step", "day"])
def test_numbers_too_large_to_count_from_a_start_are_no_times(tmp_path: Path, name: str, first: int) -> None:
    proposal = proposed(tmp_path, date=[], **{name: lambda n: first + n * 10**9})
    assert any(line.startswith("event_time: CHECK: no column") for line in proposal.explanations)


def test_a_start_is_proposed_with_which_the_last_row_lies_in_the_past(tmp_path: Path) -> None:
    config = load(tmp_path, proposed(tmp_path, date=[], day=lambda n: n * 5))
    start = datetime.fromisoformat(config.format.time_start)
    last = start + timedelta(days=5 * (ROWS - 1))
    assert NOW - 2 * 366 * 86_400_000_000 < last.timestamp() * 1e6 < NOW


@pytest.mark.parametrize(
    ("columns", "unit", "asked"),
    [
        ({"amount": lambda n: 100 + n * 97 % 9973}, "major", True),
        ({"amount": [], "amount_cents": lambda n: 100 + n * 97 % 9973}, "minor", False),
        ({"amount": [], "Amount (minor units)": lambda n: 7 + n * 97 % 9973}, "minor", False),
        ({"amount": lambda n: 100 * (n % 97)}, "major", False),  # whole hundreds are no cents
        ({"amount": lambda n: 1 + n % 97}, "major", False),
        ({"amount": lambda n: f"{100 + n * 97 % 9973}.00"}, "major", False),
        ({"amount": lambda n: 100 + n * 97 % 9973, "currency": ["JPY"]}, "major", False),  # has no cents
    ],
)
def test_amounts_in_cents_are_recognised_or_asked_about(
    tmp_path: Path, columns, unit: str, asked: bool
) -> None:
    proposal = proposed(tmp_path, **columns)
    answers = {"amount_unit": unit} if asked else {}
    if asked:
        with pytest.raises(ConfigError, match="amount_unit"):
            load(tmp_path, proposal)
    assert load(tmp_path, proposal, **answers).format.amount_unit == unit


def test_line_items_of_one_order_are_recognised(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        proposed(
            tmp_path,
            id=[],
            order=lambda n: f"#{1000 + n // 2}",
            amount=lambda n: "" if n % 2 else f"{n * 97 % 991 / 7:.2f}",
            item=["pen", "cup", "hat"],
            brand=lambda n: ["A", "B"][n // 2 % 2],
        ),
    )
    assert (config.schema_.transaction_id, config.schema_.line_items) == ("order", True)
    assert config.schema_.categorical == ("brand",)  # items differ within an order


def test_rows_without_an_id_get_made_ones(tmp_path: Path) -> None:
    assert load(tmp_path, proposed(tmp_path, id=[])).schema_.transaction_id == ""
    proposal = proposed(tmp_path, id=lambda n: f"t{n or 1}")  # one occurs twice
    assert load(tmp_path, proposal).schema_.transaction_id == "id"
    assert any(
        line.startswith("transaction_id: named like an id; CHECK: 1 of 400") for line in proposal.explanations
    )


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16-le", "utf-16", "utf-8-sig"])
def test_encodings_are_recognised(tmp_path: Path, encoding: str) -> None:
    path = written(
        tmp_path,
        table(
            Buchungstag=lambda n: f"{moment(n):%d.%m.%Y}",
            Betrag=lambda n: f"{n},50",
            Händler=["Müller", "Börse"],
        ),
    )
    path.write_bytes(path.read_text(encoding="utf-8").encode(encoding))
    proposal = propose(path, NOW)
    config = load(tmp_path, proposal)
    marked = encoding in ("utf-16", "utf-8-sig")  # by a byte order mark
    assert config.format.encoding == ("utf-8" if marked else encoding)
    assert config.schema_.columns == {"Händler": "haendler"}


def test_single_quotes_are_recognised(tmp_path: Path) -> None:
    config = load(tmp_path, proposed(tmp_path, id=lambda n: f"'t{n}'", type=["'a;b'", "'c'"]))
    assert (config.format.quote, config.schema_.transaction_id) == ("single", "id")


def test_files_of_a_pattern_are_one_history(tmp_path: Path) -> None:
    for part in range(3):
        columns = table(
            id=lambda n, part=part: f"t{part}-{n}",
            date=lambda n, part=part: (FIRST + timedelta(days=30 * part + n / 14)).isoformat(),
            amount=lambda n: f"{n}.50",
        )
        written(tmp_path, columns, name=f"part-{part}.csv")
    proposal = propose(tmp_path / "part-*.csv", NOW)
    assert any(line.startswith("Times: 2025-01-01 to 2025-03-30") for line in proposal.heading)
    assert any("part-*.csv" in line for line in proposal.heading)
    written(tmp_path, table(id=lambda n: n, other=["a"]), name="part-9.csv")
    with pytest.raises(
        InputError, match=r"part-9.csv has no column \"date\", \"amount\", and has \"other\", which"
    ):
        propose(tmp_path / "part-*.csv", NOW)


def test_files_in_archives_are_read(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        table(id=lambda n: f"t{n}", date=lambda n: f"{moment(n):%d.%m.%Y}", amount=lambda n: f"{n},50"),
    )
    with zipfile.ZipFile(tmp_path / "rows.zip", "w") as archive:
        archive.write(path, "rows.csv")
    one, other = (propose(tmp_path / name, NOW).toml for name in ("rows.csv", "rows.zip"))
    assert one.replace("rows.csv", "rows.zip") == other


def test_a_proposal_is_deterministic(tmp_path: Path) -> None:
    proposed(tmp_path, kind=["a", "b"])
    assert propose(tmp_path / "rows.csv", NOW) == propose(tmp_path / "rows.csv", NOW)


def paypal_kind(n: int) -> str:
    return {3: "Payment Refund", 7: "Chargeback"}.get(n % 20, "Express Checkout Payment")


def less(kinds: Column) -> Column:
    return lambda n: f"{'-' if kinds(n) != 'Express Checkout Payment' else ''}{1 + n * 7919 % 9973 / 100:.2f}"  # type: ignore[operator]


ASKED = [
    # columns, key, words of its reason, columns left out
    ({"amount": lambda n: f"-{1 + n * 7 % 97}.50"}, "amount", "all money", set()),
    ({"amount": lambda n: f"{'' if n % 20 == 0 else '-'}{1 + n * 7 % 97}.50"}, "amount", "95 % of the amounts are negative", set()),
    (
        {"amount": [], "Debit": lambda n: f"{n}.50" if n % 9 else "", "Credit": lambda n: "" if n % 9 else f"{n}.50"},
        "amount", '"Debit" and "Credit" are two halves', {"Credit"},
    ),
    (
        {"amount": [], "Debit": lambda n: f"{n}.50" if n % 9 else "0.00", "Credit": lambda n: "0.00" if n % 9 else f"{n}.50"},
        "amount", '"Debit" and "Credit" are two halves', {"Credit"},
    ),
    *(
        ({"x": lambda n, out=out, back=back: back if n % 20 == 0 else out}, "kind", f'kind = "x" and refund_kinds = ["{back}"]', set())
        for out, back in (("D", "C"), ("DR", "CR"), ("debit", "credit"), ("S", "H"), ("Soll", "Haben"))
    ),
    (
        {"Type": paypal_kind, "amount": less(paypal_kind)},
        "refund_kinds", "Express Checkout Payment 360, Payment Refund 20 (all negative), Chargeback 20 (all negative)", set(),
    ),
    ({"date": lambda n: f"{moment(n):%Y-%m-%d %H:%M}", "TimeZone": ["PST", "PDT"]}, "timezone", '"TimeZone" says P', {"TimeZone"}),
    (
        {"date": lambda n: f"{moment(n):%Y-%m-%d %H:%M}", "Time Zone": ["Eastern Time (US & Canada)"]},
        "timezone", '"Time Zone" says Eastern Time (US & Canada)', {"Time Zone"},
    ),
    ({"amount": lambda n: f"{n * 7 % 97}.50 {'USD' if n % 8 == 0 else 'EUR'}"}, "base_currency", "EUR in 350 rows, USD in 50 rows", set()),
    ({"amount": lambda n: f"{'$' if n % 8 else '€'}{n * 7 % 97}.50"}, "base_currency", "EUR in 50 rows, USD in 350 rows", set()),
]  # fmt: skip


@pytest.mark.parametrize(("columns", "key", "words", "left_out"), ASKED)
def test_what_money_means_is_asked_about(tmp_path: Path, columns, key: str, words: str, left_out) -> None:
    proposal = proposed(tmp_path, **columns)
    assert any(
        line.startswith(f"{key}: ") and "CHECK: " in line and words in line for line in proposal.explanations
    )
    assert any(
        line.startswith("Look at: the lines marked CHECK") and key in line for line in proposal.heading
    )
    config = load(tmp_path, proposal)
    assert not left_out & {*config.schema_.numeric, *config.schema_.categorical, *config.schema_.columns}


@pytest.mark.parametrize(
    "columns",
    [{}, {"card_type": ["debit", "credit"]}, {"x": ["D", "C", "E"]}, {"fee": lambda n: f"{n}.50" if n % 9 else ""}],
)  # fmt: skip
def test_usual_money_is_not_asked_about(tmp_path: Path, columns) -> None:
    proposal = proposed(tmp_path, **columns)
    assert not any(line.startswith(("amount: CHECK", "kind: CHECK")) for line in proposal.explanations)


@pytest.mark.parametrize(
    ("columns", "original"),
    [
        ({"Reference Txn ID": lambda n: f"t{n - 2}" if n % 20 == 3 else ""}, "Reference Txn ID"),
        ({"x": lambda n: f"t{n - 2 if n % 40 == 3 else n + 10_000 * (n == 23)}" if n % 20 == 3 else ""}, "x"),
        ({"Type": ["sale"], "x": lambda n: f"t{n - 2}" if n % 20 == 3 else ""}, ""),  # left out, as there is no kind
        ({"x": lambda n: f"t{n % 5}" if n % 20 else ""}, ""),  # repeats
        ({"id": lambda n: n + 1000, "x": lambda n: n * 7 % 390 + 1000 if n % 20 else ""}, ""),  # any number
        ({"x": lambda n: f"r{n}" if n % 20 == 3 else ""}, ""),
    ],
)  # fmt: skip
def test_a_column_of_ids_of_other_rows_names_the_original_payment(
    tmp_path: Path, columns, original: str
) -> None:
    kinds: dict[str, Column] = {"Type": lambda n: "Refund" if n % 20 == 3 else "Sale"}
    config = load(tmp_path, proposed(tmp_path, **(kinds | columns)))
    assert config.schema_.original_id == original
    assert "Reference Txn ID" not in config.schema_.entities


@pytest.mark.parametrize(
    ("count", "footer"),
    [
        (400, ["Summe", "", "", "85000"]),
        (400, ["Total", "", "", ""]),
        (60, ["Summe", "", "", "850.25"]),
        (60, ["exported by J. Doe", "", "", ""]),
    ],
)
def test_a_total_below_the_rows_hides_neither_the_date_nor_the_time(
    tmp_path: Path, count: int, footer: list[str]
) -> None:
    rows = [
        [f"{moment(n // 3):%d.%m.%Y}", f"{n % 24:02}:{n % 60:02}:07", f"k{n % 37}", f"{n * 7 % 97 + 0.25}"]
        for n in range(count)
    ]
    write_csv(tmp_path / "rows.csv", "Datum,Uhrzeit,Kunde,Betrag", [",".join(row) for row in [*rows, footer]])
    config = load(tmp_path, propose(tmp_path / "rows.csv", NOW))
    assert (config.schema_.event_time, config.schema_.time_of_day) == ("Datum", "Uhrzeit")
    assert (config.format.time, config.schema_.amount) == ("day_first", "Betrag")


RECEIPTS = "取引日時,取引番号,会員番号,金額,通貨\n" + "".join(
    f"2025-01-{1 + n // 24:02}T{n % 24:02}:00:00,J{n:06},{n % 37:06},{300 + n},JPY\n" for n in range(200)
)


@pytest.mark.parametrize(
    ("text", "encoding", "detected"),
    [
        ("Übung straße créée 12 € Nº – œuvre’s «à»", "cp1252", "cp1252"),
        ("取引日時,会員番号,金額", "cp932", "utf-8"),
        ("ひらがな,カタカナ", "cp932", "utf-8"),
        ("ｶﾀｶﾅ,ｷﾝｶﾞｸ", "cp932", "utf-8"),
        ("交易日期,金额,客户", "gb18030", "utf-8"),
        ("거래일시,금액,고객", "euc-kr", "utf-8"),
        ("Дата,Сумма,Клиент", "cp1251", "utf-8"),
    ],
)
def test_only_western_text_is_read_as_cp1252(text: str, encoding: str, detected: str) -> None:
    assert encodings.detected(text.encode(encoding)) == detected


@pytest.mark.parametrize(
    ("options", "environ"),
    [([], {"FRAUDWATCH_FORMAT__ENCODING": "cp932"}), (["--config", "c.toml"], {})],
)
def test_a_configured_encoding_is_that_of_the_sample(
    tmp_path: Path, options: list[str], environ: dict[str, str]
) -> None:
    (tmp_path / "rows.csv").write_bytes(RECEIPTS.encode("cp932"))
    (tmp_path / "c.toml").write_text('[format]\nencoding = "cp932"\ntime = "CHECK"\n', encoding="utf-8")
    refused = fraudwatch(tmp_path, "init", "--from", "rows.csv", code=2)
    assert "put FRAUDWATCH_FORMAT__ENCODING=cp932 or another before it" in refused
    config = fraudwatch(tmp_path, *options, "init", "--from", "rows.csv", **environ)
    assert 'event_time = "取引日時"' in config
    assert 'encoding = "cp932"' in config


def test_files_with_other_columns_are_named_with_their_columns(tmp_path: Path) -> None:
    for month, header in enumerate(["id,at,amount,fee", "id,at,amount_eur,fee", "id,at,amount,fee"], 1):
        write_csv(tmp_path / f"{month}.csv", header, [f"{n},2025-01-{n + 10},{n}.5,1" for n in range(9)])
    with pytest.raises(InputError) as error:
        propose(tmp_path / "*.csv", NOW)
    assert '2.csv has no column "amount" (did you mean "amount_eur"?)' in str(error.value)
    assert 'has "amount_eur", which ' in str(error.value)


def test_nothing_is_said_of_times_that_depend_on_an_answer(tmp_path: Path) -> None:
    proposal = proposed(tmp_path, date=None, time=lambda n: n)
    heading = "\n".join(proposal.heading)
    assert "Times: known once format.time is answered" in heading
    assert "backfill --from 2" not in heading


def test_init_says_that_ingest_needs_the_key_of_hashes(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[schema]\nhash = ["customer_id"]\n', encoding="utf-8")
    warned = invoke(tmp_path, "init")
    assert warned.code == 0
    assert "warning: nothing can be ingested yet: schema.hash needs a key" in warned.err
    assert not invoke(tmp_path, "init", FRAUDWATCH_HASH_KEY="0123456789abcdef").err


def test_a_column_with_a_name_in_other_letters_may_hold_the_ids(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(RECEIPTS, encoding="utf-8")
    assert '\ntransaction_id = "取引番号"\n' in propose(tmp_path / "rows.csv", NOW).toml
