import gzip
import json
import random
import re
import shlex
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from stdnum import luhn

from pipeline.config.config import Config
from pipeline.config.loader import load_config
from pipeline.errors import InputError
from pipeline.schema_inference.names import normalised
from pipeline.schema_inference.propose import Proposal, propose
from pipeline.simulation.simulate import simulate
from storage.database.column_types import as_datetime, as_micros
from storage.frames import DAY
from tests.support.commands import fraudwatch
from tests.support.ingest import NOW
from tests.support.payments import write_csv

ROWS = 2000
FIRST = datetime(2025, 1, 1, tzinfo=UTC)


def rows(**columns: Any) -> list[dict[str, Any]]:
    """ROWS rows with id, time, amount and further columns: a list to draw from, or a function of n."""
    draw = random.Random(1)
    made = []
    for n in range(ROWS):
        row = {
            "transaction_id": f"t{n}",
            "event_time": f"2025-01-{1 + n % 28:02}T{n % 24:02}:{n % 60:02}:00+00:00",
            "amount": f"{draw.uniform(1, 500):.2f}",
        }
        row |= {
            name: draw.choice(given) if isinstance(given, list) else given(n)
            for name, given in columns.items()
        }
        made.append(row)
    return made


def proposed(directory: Path, made: list[dict[str, Any]]) -> tuple[Proposal, Config]:
    """What is proposed for these rows as CSV, and the config it makes."""
    path = directory / "sample.csv"
    lines = [",".join(made[0]), *(",".join(str(value) for value in row.values()) for row in made)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return load(directory, path)


def load(directory: Path, path: Path) -> tuple[Proposal, Config]:
    proposal = propose(path, NOW)
    config = directory / "proposed.toml"
    config.write_text(proposal.toml, encoding="utf-8")
    return proposal, load_config(config, {})


def said(proposal: Proposal, *words: str) -> str:
    """The one explanation with all these words, which is also a comment of the file."""
    found = [line for line in proposal.explanations if all(word in line for word in words)]
    assert len(found) == 1, (words, proposal.explanations)
    assert found[0].partition(": ")[2] in proposal.toml
    return found[0]


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(20, 3, tmp_path_factory.mktemp("simulated"), per_day=300, customers=200).paths[
        "transactions"
    ]


def test_for_simulated_transactions_the_shipped_schema_is_proposed(simulated: Path, tmp_path: Path) -> None:
    _, config = load(tmp_path, simulated)
    shipped = Config().schema_.model_dump() | {"refund_kinds": ("refund",)}
    assert config.schema_.model_dump() == shipped
    assert config.labels.never_by_silence == {"status": ("declined",)}


def test_columns_as_in_the_handbook(tmp_path: Path) -> None:
    fraud = [n % 40 == 0 for n in range(ROWS)]
    table = pa.table(
        {
            "transaction_id": pa.array(range(ROWS)),
            "event_time": pa.array([10**15 + n * 10**9 for n in range(ROWS)], pa.timestamp("us", tz="UTC")),
            "customer_id": pa.array([n * 7 % 311 for n in range(ROWS)], pa.int32()),
            "terminal_id": pa.array([n * 13 % 499 for n in range(ROWS)], pa.int32()),
            "amount": pa.array([5 + n % 97 + 0.25 for n in range(ROWS)]),
            "is_fraud": pa.array([int(value) for value in fraud], pa.int8()),
            "fraud_scenario": pa.array([1 + n % 3 if fraud[n] else 0 for n in range(ROWS)], pa.int8()),
        }
    )
    pq.write_table(table, tmp_path / "handbook.parquet")
    proposal, config = load(tmp_path, tmp_path / "handbook.parquet")
    schema = config.schema_
    assert (schema.transaction_id, schema.event_time, schema.amount) == (
        "transaction_id",
        "event_time",
        "amount",
    )
    assert schema.is_fraud == "is_fraud"
    assert schema.entities == ("customer_id", "terminal_id")
    assert (schema.numeric, schema.categorical, schema.timezone, schema.kind) == ((), (), "", "")
    said(proposal, "left out", '"fraud_scenario"', "known only after the payment")


def test_other_names_for_the_same_things_are_recognised(tmp_path: Path) -> None:
    made = [
        {"TxnID": row["transaction_id"], "Transaction Date": row["event_time"], "txnAmount": row["amount"]}
        for row in rows()
    ]
    _, config = proposed(tmp_path, made)
    schema = config.schema_
    assert (schema.transaction_id, schema.event_time, schema.amount) == (
        "TxnID",
        "Transaction Date",
        "txnAmount",
    )


@pytest.mark.parametrize(
    ("name", "given", "key"),
    [
        ("customer_id", [f"c{n}" for n in range(200)], "entities"),
        ("customerId", list(range(200)), "entities"),
        ("merchant", [f"m{n}" for n in range(100)], "entities"),
        ("device", [f"{n:x}" * 4 for n in range(300)], "entities"),
        ("device", ["phone", "tablet", "computer"], "categorical"),  # a kind of device, not a device
        ("card_type", ["debit", "credit"], "categorical"),
        ("country", ["DE", "FR", "NL"], "categorical"),
        ("mcc", [5411, 5812, 5732], "categorical"),
        ("is_recurring", ["true", "false"], "categorical"),
        ("customer_age", list(range(18, 90)), "numeric"),
        ("distance_km", [n / 7 for n in range(500)], "numeric"),
        ("session_token", [f"s{n}" for n in range(400)], "entities"),  # repeats, whatever it is
        ("zip", [f"0{n}" for n in range(1000, 1100)], "entities"),  # leading zeros: no number
    ],
)
def test_fields_are_sorted_by_name_and_content(tmp_path: Path, name: str, given: list[Any], key: str) -> None:
    proposal, config = proposed(tmp_path, rows(**{name: given}))
    lists = {key: getattr(config.schema_, key) for key in ("entities", "numeric", "categorical")}
    assert lists == {**dict.fromkeys(lists, ()), key: (name,)}
    said(proposal, key, f'"{name}"')


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("shopperInteraction", ["Ecommerce", "ContAuth", "Moto"], ("ContAuth",)),
        ("is_recurring", ["true", "false"], ("true",)),
        ("MIT", [0, 1], ("1",)),
        ("initiated_by", ["customer", "merchant"], ("merchant",)),
        ("payment_type", ["single", "recurring", "retry"], ("recurring", "retry")),
        ("payment_type", ["card", "wallet"], None),  # says how, not who
        ("is_gift", ["true", "false"], None),
    ],
)
def test_who_initiated_a_payment_is_found_by_name_and_words(
    tmp_path: Path, name: str, given: list[Any], words: tuple[str, ...] | None
) -> None:
    proposal, config = proposed(tmp_path, rows(**{name: given}))
    if words is None:
        assert config.schema_.initiated_by == ""
        return
    assert config.schema_.initiated_by in config.schema_.categorical
    assert config.schema_.merchant_initiated == words
    said(proposal, "merchant_initiated", "CHECK")


@pytest.mark.parametrize(
    ("name", "given", "reason"),
    [
        ("basket", lambda n: f"{n} apples", "hardly repeat"),
        ("note", lambda n: f"thanks for order {n}", "free text"),
        ("Verwendungszweck", lambda n: f"Rechnung {n // 2}", "free text"),
        ("version", ["3"], "the same in every row"),
        ("nothing", [""], "empty in every row"),
        ("loaded_on", lambda n: f"2025-02-{1 + n % 28:02}T00:00:00+00:00", "a further time"),
    ],
)
def test_what_helps_nobody_is_left_out_with_the_reason(
    tmp_path: Path, name: str, given: Any, reason: str
) -> None:
    proposal, config = proposed(tmp_path, rows(**{name: given}))
    assert name not in (*config.schema_.entities, *config.schema_.numeric, *config.schema_.categorical)
    said(proposal, "left out", f'"{name}"', reason)


def test_what_is_known_only_after_the_fraud_is_left_out(tmp_path: Path) -> None:
    made = rows(
        isFraud=lambda n: int(n % 50 == 0), chargeback_reason=["a", "b"], loss=lambda n: int(n % 50 == 0) * n
    )
    proposal, config = proposed(tmp_path, made)
    assert config.schema_.is_fraud == "isFraud"
    assert (config.schema_.categorical, config.schema_.numeric) == ((), ())
    said(proposal, '"chargeback_reason"', "known only after the payment")
    said(proposal, '"loss"', "probably a leak of the label")


def test_a_label_the_wrong_way_round_is_asked_about(tmp_path: Path) -> None:
    proposal, _ = proposed(tmp_path, rows(label=lambda n: int(n % 50 != 0)))
    said(proposal, "is_fraud", "CHECK", "check that 1 means fraud")


def card_number(n: int) -> str:
    """A card number with a fitting check digit."""
    body = f"400000{n:09}"
    return next(body + str(digit) for digit in range(10) if luhn.is_valid(body + str(digit)))


@pytest.mark.parametrize(
    ("name", "values", "finds"),
    [
        ("pan", [card_number(n) for n in range(300)], "card numbers"),
        ("payer_email", [f"user{n}@example.org" for n in range(300)], "e-mail addresses"),
        ("contact", [f"user{n}@example.org" for n in range(300)], "e-mail addresses"),
        ("account", ["GB82WEST12345698765432", "DE89370400440532013000", "FR1420041010050500013M02606",
                     "NL91ABNA0417164300", "ES9121000418450200051332"], "account numbers (IBAN)"),
    ],
)  # fmt: skip
def test_personal_data_is_put_under_hash(tmp_path: Path, name: str, values: list[str], finds: str) -> None:
    proposal, config = proposed(tmp_path, rows(**{name: values}))
    assert config.schema_.hash == (name,)
    assert config.schema_.entities == (name,)
    assert "FRAUDWATCH_HASH_KEY" in said(proposal, "hash", finds)


def test_ordinary_numbers_are_not_taken_for_card_numbers(tmp_path: Path) -> None:
    _, config = proposed(tmp_path, rows(customer_id=[4000000000000000 + n for n in range(300)]))
    assert config.schema_.hash == ()


def test_times_without_an_offset_ask_for_a_zone(tmp_path: Path) -> None:
    made = [{**row, "event_time": str(row["event_time"])[:19]} for row in rows()]
    proposal, config = proposed(tmp_path, made)
    assert config.schema_.timezone == "UTC"
    said(proposal, "timezone", "CHECK", "no offset")


def test_days_without_a_time_are_asked_about(tmp_path: Path) -> None:
    made = [{**row, "event_time": str(row["event_time"])[:10]} for row in rows()]
    said(proposed(tmp_path, made)[0], "event_time", "CHECK", "without a time of day")


def test_one_currency_becomes_the_base_and_several_need_rates(tmp_path: Path) -> None:
    _, config = proposed(tmp_path, rows(currency=["CHF"]))
    assert (config.schema_.currency, config.schema_.base_currency, config.schema_.rates) == (
        "currency",
        "CHF",
        "",
    )
    proposal, config = proposed(tmp_path, rows(ccy=["USD", "USD", "USD", "GBP"]))
    assert (config.schema_.currency, config.schema_.base_currency) == ("ccy", "USD")
    assert config.schema_.rates == "rates.csv"
    said(proposal, "rates", "CHECK")


def test_kinds_with_refunds_and_the_payment_they_give_back(tmp_path: Path) -> None:
    made = rows(
        type=["sale", "sale", "REFUND", "reversal"], original_txn=lambda n: f"t{n // 2}" if n % 9 == 0 else ""
    )
    _, config = proposed(tmp_path, made)
    assert (config.schema_.kind, config.schema_.original_id) == ("type", "original_txn")
    assert config.schema_.refund_kinds == ("REFUND", "reversal")


def test_a_type_without_refunds_is_a_category(tmp_path: Path) -> None:
    _, config = proposed(tmp_path, rows(type=["card", "transfer"]))
    assert (config.schema_.kind, config.schema_.categorical) == ("", ("type",))


def test_payments_that_did_not_go_through_never_mature_by_silence(tmp_path: Path) -> None:
    _, config = proposed(tmp_path, rows(result=["ok", "ok", "DECLINED", "blocked by rule"]))
    assert config.labels.never_by_silence == {"result": ("DECLINED", "blocked by rule")}


def test_what_is_not_found_keeps_a_name_to_be_checked(tmp_path: Path) -> None:
    proposal, config = proposed(tmp_path, [{"x": "a", "y": "b"}, {"x": "a", "y": "c"}, {"x": "a", "y": "c"}])
    assert config.schema_.transaction_id == ""
    for key in ("event_time", "amount", "entities"):
        said(proposal, f"{key}:", "CHECK")


def test_names_cannot_break_out_of_the_file(tmp_path: Path) -> None:
    made = [{'"]\\\x1b[31m': "a", **row} for row in rows()]
    path = tmp_path / "sample.jsonl"
    path.write_text("\n".join(json.dumps(row | {"evil\n[storage]\nurl": "b"}) for row in made))
    proposal, _ = load(tmp_path, path)
    assert "storage" not in tomllib.loads(proposal.toml)
    assert "\x1b" not in proposal.toml


def test_the_same_rows_in_another_format_give_the_same_proposal(simulated: Path, tmp_path: Path) -> None:
    table = pq.read_table(simulated).slice(0, 3000)
    pq.write_table(table, tmp_path / "a.parquet")
    text = [
        {name: str(value) for name, value in row.items() if value is not None} for row in table.to_pylist()
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, text)))
    lines = [
        ",".join(table.column_names),
        *(",".join(row.get(n, "") for n in table.column_names) for row in text),
    ]
    with gzip.open(tmp_path / "a.csv.gz", "wt") as file:
        file.write("\n".join(lines))
    schemas = [
        load(tmp_path, tmp_path / name)[1].model_dump() for name in ("a.parquet", "a.jsonl", "a.csv.gz")
    ]
    assert schemas[0] == schemas[1] == schemas[2]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("none.csv", None, "does not exist"),
        ("a.xls", b"", "must end in .csv, .tsv, .txt or .jsonl"),
        ("a.csv", b"", "is empty: a CSV file begins with a header"),
        ("a.csv", b"a,b\n1\n", "holds no row that can be read .the row has fewer values"),
        ("a.csv", b"a,b\n", "holds no rows"),
        ("a.csv", b"a,b,a\n1,2,3\n", 'has the column "a" twice'),
        ("a.csv.gz", b"\x1f\x8bno gzip", "is damaged or truncated"),
        ("a.parquet", b"no parquet", "is not valid Parquet"),
        ("a.jsonl", b"{no json", "holds no row that can be read .the line is not JSON"),
        ("a.jsonl", b"[1]", "holds no row that can be read .the line is not a JSON object"),
        ("a.jsonl", b"", "holds no rows"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(
    tmp_path: Path, name: str, content: bytes | None, sentence: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=sentence) as caught:
        propose(tmp_path / name, NOW)
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("txnAmount", "txn_amount"),
        ("Txn Amount (EUR)", "txn_amount_eur"),
        ("nameOrig", "name_orig"),
        ("IP", "ip"),
    ],
)
def test_names_are_compared_in_one_spelling(name: str, expected: str) -> None:
    assert normalised(name) == expected


def test_a_proposal_is_written_whole_or_not_at_all_and_replaces_a_file_only_by_force(tmp_path: Path) -> None:
    missing = fraudwatch(tmp_path, "init", "--from", "absent.csv", "-o", "my.toml", code=2)
    assert "absent.csv" in missing
    assert list(tmp_path.iterdir()) == []
    proposed(tmp_path, rows(customer_id=[f"c{n}" for n in range(40)]))
    shown = fraudwatch(tmp_path, "init", "--from", "sample.csv", "-o", "my.toml")
    written = (tmp_path / "my.toml").read_text()
    assert written.startswith("".join(f"# {line}\n" for line in shown.splitlines()))
    assert 'Entities: ["customer_id"]' in shown
    assert "my.toml exists" in fraudwatch(tmp_path, "init", "--from", "sample.csv", "-o", "my.toml", code=2)
    fraudwatch(tmp_path, "init", "--from", "sample.csv", "-o", "my.toml", "--force")
    assert "go with --from" in fraudwatch(tmp_path, "init", "-o", "my.toml", code=2)


def test_the_commands_that_a_proposal_begins_with_lead_to_scores(tmp_path: Path) -> None:
    made = [
        f"t{n},{as_datetime(as_micros(FIRST) + n * DAY // 100):%Y-%m-%dT%H:%M:%SZ},c{n % 97},{5 + n % 89}.59"
        for n in range(4_000)
    ]
    write_csv(tmp_path / "my payments.csv", "transaction_id,event_time,customer_id,amount", made)
    shown = fraudwatch(tmp_path, "init", "--from", "my payments.csv", "-o", "my config.toml")
    commands = [shlex.split(line)[1:] for line in shown.splitlines() if line.startswith("  fraudwatch")]
    assert [command[2] for command in commands] == ["init", "ingest", "backfill"]
    outputs = [fraudwatch(tmp_path, *command) for command in commands]
    assert "0 rejected" in outputs[1]
    assert re.search(r"[1-9][\d,]* transactions scored", outputs[2])
    assert "older than the first model" not in outputs[2]
