"""The command line: output, exit codes, and one-line messages for expected errors."""

import json
import re
from pathlib import Path

import pytest

from tests.support.commands import CONFIG, fraudwatch, fraudwatch_process, invoke
from tests.support.payments import LABEL_HEADER, PAYMENT_HEADER, payments, write_csv


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a newcomer typed the commands of the README."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "config.toml").write_text(CONFIG)
    rows, labels = payments(30)
    write_csv(folder / "payments.csv", PAYMENT_HEADER, rows)
    write_csv(folder / "labels.csv", LABEL_HEADER, labels)
    fraudwatch_process(folder, "init")
    fraudwatch_process(folder, "ingest", "transactions", "payments.csv")
    fraudwatch_process(folder, "ingest", "labels", "labels.csv")
    assert "scored in 10 windows" in fraudwatch_process(
        folder, "backfill", "--from", "2025-01-20", "--to", "2025-01-30"
    )
    return folder


def test_flags_come_in_every_format(home: Path) -> None:
    rows = json.loads(fraudwatch(home, "flags", "list", "--format", "json", "--limit", "3"))
    assert len(rows) == 3
    assert rows[0]["reasons"][0]["code"]
    assert (
        fraudwatch(home, "flags", "list", "--format", "csv")
        .splitlines()[0]
        .startswith("transaction_id,event_time")
    )
    assert "transaction_id" in fraudwatch(home, "flags", "list", "--channel", "blend")
    of_customer = fraudwatch(
        home, "flags", "list", "--entity", f"customer_id={rows[0]['customer_id']}", "--format", "json"
    )
    assert rows[0] in json.loads(of_customer)
    assert f"flagged:        on channel {rows[0]['channel']}" in fraudwatch(
        home, "flags", "show", rows[0]["transaction_id"]
    )
    fraudwatch(home, "flags", "list", "--format", "parquet", "--output", "flags.parquet")
    assert (home / "flags.parquet").stat().st_size > 1000


def test_a_missing_option_or_argument_is_named_in_a_sentence(home: Path) -> None:
    assert fraudwatch(home, "undo", "batch", "11", code=2).endswith(
        "undo batch needs --reason: Stored in withdrawals and in the audit trail. "
        'For example: fraudwatch undo batch 12 --reason "amounts in cents"\n'
    )
    assert "flags show needs TRANSACTION_ID. For example: " in fraudwatch(home, "flags", "show", code=2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("flgas",), "there is no command 'flgas', did you mean flags?"),
        (("flags", "lst"), "there is no command 'lst', did you mean list?"),
        (("frobnicate",), "there is no command 'frobnicate': see --help"),
    ],
)
def test_an_unknown_command_is_refused_with_the_one_that_may_be_meant(
    home: Path, words: tuple[str, ...], said: str
) -> None:
    assert said in fraudwatch(home, *words, code=2)


def test_every_query_answers(home: Path) -> None:
    for command in ("strategy list", "drift", "runs", "models list"):
        assert json.loads(fraudwatch(home, *command.split(), "--format", "json"))
    assert "blend" in fraudwatch(home, "models", "list")
    assert "live instead of live: +0.00 EUR" in fraudwatch(home, "policies", "diff", "live", "live")
    assert "yes, its sample rows have the same scores" in fraudwatch(home, "models", "show", "1")
    assert "caught" in fraudwatch(home, "summary", "--from", "2025-01-20", "--to", "2025-01-30")
    assert "✓ database" in fraudwatch(home, "doctor")


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "cp437", "utf-16"])
def test_a_terminal_of_any_encoding_gets_every_text(home: Path, encoding: str) -> None:
    commands = (
        "doctor", "flags list", "flags list --format csv", "readiness", "summary", "strategy show", "models show 1",
        "drift", "quality", "runs", "verdict --help",
    )  # fmt: skip
    for command in commands:
        assert fraudwatch(home, *command.split(), encoding=encoding), command
    assert "database" in fraudwatch(home, "doctor", encoding=encoding)


def test_a_verdict_closes_a_flag(home: Path) -> None:
    first, *others = json.loads(
        fraudwatch(home, "flags", "list", "--status", "open", "--limit", "4", "--format", "json")
    )
    name = first["transaction_id"]
    assert f"{name}: open → genuine; it counts as genuine" in fraudwatch(
        home, "verdict", name, "genuine", "--action", "contacted", "--note", "called"
    )
    shown = fraudwatch(home, "flags", "show", name)
    assert re.search(r"verdict: +genuine, contacted, by \w+ at .* UTC, called", shown)
    ids = home / "ids.txt"
    ids.write_bytes(
        "\ufeff".encode() + "\r\n".join([row["transaction_id"] for row in others] + [""]).encode()
    )
    closed = fraudwatch(home, "verdict", "no-opinion", "--from", str(ids))
    assert closed.count("open → closed; it counts as no label") == 3
    assert "3 closed without opinion" in fraudwatch(home, "doctor")
    assert fraudwatch(home, "verdict", name, "undo", "--note", "wrong line").startswith(
        f"{name}: genuine → open"
    )
    assert "no flag; it counts as fraud" in fraudwatch(
        home, "label", "add", "t000001", "--fraud", "--type", "scam"
    )
    assert "no flag; it counts as no label" in fraudwatch(
        home, "label", "retract", "t000001", "--reason", "typo"
    )
    listed = json.loads(fraudwatch(home, "label", "list", "t000001", "--format", "json"))
    assert [(row["verdict"], row["type"], row["note"]) for row in listed] == [
        ("retracted", None, "typo"), ("fraud", "scam", None),
    ]  # fmt: skip


def test_the_first_run_sets_where_the_schedule_starts_and_scores_the_newest_window(home: Path) -> None:
    assert "in 1 window, " in fraudwatch(home, "run", "--as-of", "2025-01-31T02:00")


WRONG = [
    (("backfill", "--from", "2025-02-01", "--to", "2025-01-01"), 2, "must be before"),
    (("run", "--as-of", "2999-01-01"), 2, "future"),
    (("flags", "list", "--entity", "planet=mars"), 2, "COLUMN=VALUE"),
    (("verdict", "nobody", "fraud"), 1, "there is no transaction 'nobody': nothing was written"),
    (("verdict", "t000001", "undo"), 2, "undo takes --note with the reason"),
    (("verdict", "t000001", "no-opinion"), 1, "there is no flag to close on transaction 't000001'"),
    (("verdict", "fraud"), 2, "no transaction is named"),
    (("label", "add", "t000001"), 2, "--fraud"),
    (("undo", "run", "99", "--reason", "x"), 1, "there is no run 99 (fraudwatch runs)"),
    (("mutes", "end", "9"), 1, "there is no mute 9 (fraudwatch mutes list)"),
    (("mutes", "add", "--for", "7", "--channel", "rule", "--reason", "x"), 2, "must be a duration"),
    (("mutes", "add", "--for", "7d", "--channel", "moon", "--reason", "x"), 2, "none of outlier"),
    (("rules", "add", "amount > 1", "--until", "2020-01-01", "--reason", "x", "--yes"), 2, "in the past"),
    (("rules", "add", "amount > 1", "--for", "1d", "--reason", "x"), 2, "add --yes"),
    (("erase", "--entity", "customer_id=c1"), 2, "add --yes"),
    (("ingest", "transactions", "gone.csv"), 2, "gone.csv"),
    (("ingest", "transactions"), 2, "there is nothing to ingest: name a file"),
    (("flags", "list", "--format", "parquet"), 2, "--output"),
    (("models", "show", "99"), 1, "no model 99"),
    (("flags", "show", "none"), 1, "no flag on transaction 'none'"),
    (("policies", "diff", "live", "none"), 1, "has no scores: choose among live"),
    (("models", "promote", "1", "--from", "2025-01-01", "--reason", "x"), 2, "takes effect now or later"),
    (("--config", "gone.toml", "flags", "list"), 2, "gone.toml"),
]


@pytest.mark.parametrize(("arguments", "code", "expected"), WRONG, ids=[" ".join(case[0]) for case in WRONG])
def test_an_expected_error_is_one_sentence(
    home: Path, arguments: tuple[str, ...], code: int, expected: str
) -> None:
    message = fraudwatch(home, *arguments, code=code)
    assert expected in message


def test_a_process_ends_with_the_exit_code_and_the_message_of_its_error(home: Path) -> None:
    arguments, code, sentence = WRONG[0]
    assert sentence in fraudwatch_process(home, *arguments, code=code)


def test_doctor_on_an_empty_database_says_what_to_do(tmp_path: Path) -> None:
    fraudwatch(tmp_path, "init")
    env_free = fraudwatch(tmp_path, "flags", "list", "--format", "json")
    assert json.loads(env_free) == []
    fraudwatch(tmp_path, "doctor", code=1)


def test_a_database_without_tables_is_refused_with_the_remedy(tmp_path: Path) -> None:
    assert "create or upgrade the tables (fraudwatch init)" in fraudwatch(tmp_path, "flags", "list", code=1)


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("cp1252", "-> \\u015f…"), ("latin-1", "-> \\u015f..."), ("utf-8", "→ ş…"), ("cp437", "-> \\u015f...")],
)
def test_a_character_that_the_output_lacks_is_written_in_a_simpler_form(
    home: Path, encoding: str, shown: str
) -> None:
    assert f"'{shown}'" in fraudwatch(home, "flags", "show", "→ ş…", code=1, encoding=encoding)


def test_what_says_that_nothing_was_scored_names_the_command_that_scores(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(CONFIG)
    rows, labels = payments(20)
    write_csv(tmp_path / "payments.csv", PAYMENT_HEADER, rows)
    write_csv(tmp_path / "labels.csv", LABEL_HEADER, labels)
    fraudwatch(tmp_path, "init")
    fraudwatch(tmp_path, "ingest", "transactions", "payments.csv")
    until = ("--as-of", "2025-01-25")
    run = invoke(tmp_path, "run", *until)
    assert "transactions from 2025-01-01 on are older than the schedule and have no score" in run.err
    assert (
        "older than the schedule" in invoke(tmp_path, "run", *until).err
    )  # nothing is due, and nothing has changed
    assert "2025-01-21 00:00, policy live" in fraudwatch(tmp_path, "summary")  # not the empty windows since
    for start, end in (("2020-01-01", "2020-01-03"), ("2025-01-01", "2025-01-02")):
        outcome = invoke(tmp_path, "backfill", "--from", start, "--to", end)
        assert outcome.out.startswith("0 transactions scored")
    advice = re.search(r"fraudwatch (backfill [^;]*) scores", outcome.err)
    assert advice is not None
    assert re.match(r"[1-9][\d,]* transactions scored", fraudwatch(tmp_path, *advice[1].split()))
    assert "older than the schedule" not in invoke(tmp_path, "run", *until).err
    finding = fraudwatch(tmp_path, "readiness", "--as-of", "2025-01-20")
    assert "labels.maturity (5 days)" in finding
    assert "say until when they are complete (--complete-through)" in finding
    fraudwatch(tmp_path, "ingest", "labels", "labels.csv", "--complete-through", "2025-02-01", "--history")
    assert "no transaction is mature" not in fraudwatch(tmp_path, "readiness", "--as-of", "2025-01-20")
