"""Files as people have them, from `init --from` to the first flag by the commands that the proposal begins with."""

import json
import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.config import Config, as_toml
from pipeline.config.database import open_configured
from pipeline.config.loader import load_config
from tests.layouts import LAYOUTS
from tests.layouts.judge import proposal_differences, stored_differences
from tests.layouts.layout import Layout, Payment
from tests.support.commands import Outcome, invoke
from tests.support.databases import PostgresServer

HASH_KEY = "0123456789abcdef"
ON_POSTGRES = ("stripe", "banksim", "parquet")
FAULTS: dict[str, str] = {}  # what is wrong with the product; remove the line of what is mended
DATE = re.compile(r"\d{4}-\d\d-\d\d")
TRUSTED = re.compile(r"trusted = \[[^\]]*\](?= under)")
SETTING, UNANSWERED = re.compile(r"(\w+) = (.*)"), '"CHECK"'


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_truth_about_a_file_goes_with_its_columns(name: str) -> None:
    layout = LAYOUTS[name]()
    named = set(layout.roles.values()).union(
        layout.entities, layout.payers, layout.not_entities, layout.never_fields, layout.unsettled
    )
    assert layout.hashed <= layout.entities | layout.payers <= set(layout.columns)
    assert named - set(layout.columns) == layout.made
    assert not layout.never_fields & layout.entities
    assert layout.read <= 3_000
    ids = [payment.transaction_id for payment in layout.payments]
    assert set(ids) == {None} or len(set(ids)) == len(ids)
    assert ("transaction_id" in layout.roles) == (None not in ids)
    assert {
        column for payment in layout.payments for column in payment.entities
    } >= layout.entities | layout.payers
    assert ("is_fraud" in layout.roles) == any(payment.is_fraud for payment in layout.payments)


SPARKOV = {
    "transaction_id": "trans_num",
    "event_time": "trans_date_trans_time",
    "amount": "amt",
    "is_fraud": "is_fraud",
    "timezone": "America/Chicago",
    "base_currency": "USD",
    "kind": "",
    "original_id": "",
    "entities": ["cc_num", "merchant"],
    "hash": ["cc_num"],
    "categorical": ["category"],
}
WRONG_KEYS: list[tuple[dict[str, object], str]] = [
    ({"transaction_id": "unix_time"}, "schema.transaction_id"),
    ({"time_of_day": "dob"}, "schema.time_of_day"),
    ({"timezone": "UTC"}, "timezone is 'UTC'"),
    ({"entities": ["cc_num"]}, "'merchant' is no entity"),
    ({"entities": ["cc_num", "merchant", "first"]}, "'first' is another name"),
    ({"hash": []}, "'cc_num' is not hashed"),
    ({"numeric": ["clock"], "columns": {"unix_time": "clock"}}, "'unix_time' is a field"),
    ({"kind": "gender"}, "schema.kind"),
]


@pytest.mark.parametrize(("wrong", "expected"), WRONG_KEYS)
def test_a_wrong_key_in_the_proposal_is_a_difference(wrong: dict[str, object], expected: str) -> None:
    layout = LAYOUTS["sparkov"]()
    assert list(proposal_differences(layout, Config.model_validate({"schema": SPARKOV}))) == []
    (difference,) = proposal_differences(layout, Config.model_validate({"schema": SPARKOV | wrong}))
    assert expected in difference


WRONG: dict[str, Callable[[Payment], dict[str, Any]]] = {
    "amount": lambda payment: {"amount": payment.amount + Decimal(".01")},
    "event_time": lambda payment: {"event_time": payment.event_time + timedelta(hours=1)},
    "is_fraud": lambda payment: {"is_fraud": not payment.is_fraud},
    "cc_num": lambda payment: {"entities": dict(payment.entities) | {"cc_num": "4111111111111111"}},
    "missing": lambda payment: {"transaction_id": "another"},
}


def test_a_wrong_value_in_the_database_is_a_difference(tmp_path: Path) -> None:
    layout = LAYOUTS["sparkov"]()
    (tmp_path / layout.file_name).write_bytes(layout.content)
    lines = ["[schema]", *(f"{key} = {as_toml(value)}" for key, value in SPARKOV.items())]
    (tmp_path / "config.toml").write_text("\n".join(lines))
    environ = environment(tmp_path)
    assert invoke(tmp_path, "init", **environ).code == 0
    ingest = ("ingest", "transactions", layout.file_name, "--known-after", "7d")
    assert invoke(tmp_path, *ingest, **environ).code == 0
    config = load_config(tmp_path / "config.toml", environ)
    with open_configured(config) as store:
        assert list(stored_differences(layout, config, store, HASH_KEY)) == []
        for name, wrong in WRONG.items():
            payments = (replace(layout.payments[0], **wrong(layout.payments[0])), *layout.payments[1:])
            changed = replace(layout, payments=payments)
            assert name in "".join(stored_differences(changed, config, store, HASH_KEY))
            roles = {key: column for key, column in layout.roles.items() if key != "transaction_id"}
            by_content = replace(changed, roles=roles)
            assert list(stored_differences(by_content, config, store, HASH_KEY)) or name == "missing"
        surplus = replace(layout, payments=layout.payments[1:])
        assert "too many" in "".join(stored_differences(surplus, config, store, HASH_KEY))


def test_a_wrong_refund_label_or_version_in_the_database_is_a_difference(tmp_path: Path) -> None:
    layout = LAYOUTS["adyen_accounting"]()
    (tmp_path / layout.file_name).write_bytes(layout.content)
    environ = environment(tmp_path)
    for command in (("init", "--from", layout.file_name, "-o", "config.toml"), ("init",)):
        assert invoke(tmp_path, *command, **environ).code == 0
    assert invoke(tmp_path, "ingest", "transactions", layout.file_name, **environ).code == 0
    config = load_config(tmp_path / "config.toml", environ)
    assert layout.refunds
    assert layout.disputes
    with open_configured(config) as store:
        assert list(stored_differences(layout, config, store, HASH_KEY)) == []
        for name, wrong in (
            ("refunds", replace(layout, refunds=layout.refunds[1:])),
            ("labels", replace(layout, disputes=layout.disputes[1:])),
            ("newest versions", replace(layout, final=dict(list(layout.final.items())[1:]))),
        ):
            (difference,) = stored_differences(wrong, config, store, HASH_KEY)
            assert difference.startswith(f"{name}: 0 are missing")


def cases(names: Iterable[str]) -> list[Any]:
    """The layouts as cases; those with a fault must fail."""
    marks = {name: pytest.mark.xfail(strict=True, reason=reason) for name, reason in FAULTS.items()}
    return [pytest.param(name, marks=marks.get(name, ())) for name in names]


@pytest.mark.parametrize("name", cases(LAYOUTS))
def test_a_file_goes_in_as_it_is_and_brings_flags(name: str, tmp_path: Path) -> None:
    assert list(differences(LAYOUTS[name](), tmp_path)) == []


@pytest.mark.parametrize("name", cases(ON_POSTGRES))
def test_a_file_goes_into_postgres_too(name: str, tmp_path: Path, postgres: PostgresServer) -> None:
    database = f"layout_{name}"
    url = postgres.create(database)
    try:
        environ = {"FRAUDWATCH_STORAGE__URL": url, "FRAUDWATCH_MODEL_KEY": "0123456789abcdef"}
        assert list(differences(LAYOUTS[name](), tmp_path, **environ)) == []
    finally:
        postgres.drop(database)


def differences(layout: Layout, home: Path, **environ: str) -> Iterator[str]:
    """Go from the file to the first flag, and tell what is not as it should be."""
    environ = environment(home) | environ
    for file_name, content in {layout.file_name: layout.content, **layout.files}.items():
        (home / file_name).write_bytes(content)

    def run(*arguments: str) -> Outcome:
        return invoke(home, *arguments, **environ)

    proposal = run("init", "--from", layout.file_name, "-o", "config.toml")
    if proposal.code:
        yield f"init --from: {proposal.err}"
        return
    asked = f"= {UNANSWERED}\n" in (home / "config.toml").read_text(encoding="utf-8")
    if asked and not run("--config", "config.toml", "ingest", "transactions", layout.file_name).code:
        yield "ingest does not wait for an answer"
    guessed = start_of((home / "config.toml").read_text(encoding="utf-8"))
    unanswered = answer(home / "config.toml", layout)
    yield from (f"nobody can answer {key}" for key in unanswered)
    if unanswered:
        return
    config = load_config(home / "config.toml", environ)
    yield from proposal_differences(layout, config)
    toml = (home / "config.toml").read_text(encoding="utf-8")
    commands = moved(next_commands(toml), start_of(toml) - guessed)
    if start_of(toml) != guessed and "# Correct format.time_start first: the dates below follow" not in toml:
        yield "nothing says that the dates of the commands follow from format.time_start"
    if [command[2] for command in commands] != ["init", "ingest", "backfill"]:
        yield f"the next commands are {commands}"
    for command in commands:
        outcome = run(*command)
        if trusted := TRUSTED.search(outcome.err):  # components that are known when a payment happens
            toml = (home / "config.toml").read_text(encoding="utf-8")
            toml = toml.replace("[schema]\n", f"[schema]\n{trusted[0]}\n", 1)
            (home / "config.toml").write_text(toml, encoding="utf-8")
            outcome = run(*command)
        if outcome.code:
            yield f"{shlex.join(command)}: {outcome.err or outcome.out}"
            return
        if command[2] == "ingest":
            yield from counted(layout, outcome)
            with open_configured(config) as store:
                yield from stored_differences(layout, config, store, HASH_KEY)
    flags = run("--config", "config.toml", "flags", "list", "--format", "json")
    if flags.code or not json.loads(flags.out):
        yield f"there are no flags: {flags.err}"


def environment(home: Path) -> dict[str, str]:
    """A key for hashes, and a database in the folder."""
    return {"FRAUDWATCH_HASH_KEY": HASH_KEY, "FRAUDWATCH_STORAGE__URL": f"sqlite:///{home / 'fraudwatch.db'}"}


def answer(path: Path, layout: Layout) -> list[str]:
    """Write what a person would where a value is CHECK, or a comment above it says so; return what nobody can answer."""
    section, marked, unanswered, lines = "", False, [], []
    for line in path.read_text(encoding="utf-8").splitlines():
        section = line.strip("[]") if line.startswith("[") else section
        setting = SETTING.match(line)
        key = f"{section}.{setting[1]}" if setting else ""
        if key in layout.answers and (marked or setting[2] == UNANSWERED):
            line = f"{setting[1]} = {as_toml(layout.answers[key])}"  # noqa: PLW2901
        elif setting and setting[2] == UNANSWERED:
            unanswered.append(key)
        marked = line.startswith("#") and (marked or "CHECK" in line)
        lines.append(line)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return unanswered


def next_commands(toml: str) -> list[list[str]]:
    """Arguments of the commands under "Next:" in the heading."""
    below = toml.split("# Next:\n", 1)[1]
    lines = [line.removeprefix("#").strip() for line in below.split("\n\n", 1)[0].splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("fraudwatch ")]


def start_of(toml: str) -> date:
    """The day of format.time_start; any day if it is not there."""
    start = re.search(r'^time_start = "(\S{10})', toml, re.MULTILINE)
    return date.fromisoformat(start[1] if start else "2025-01-01")


def moved(commands: list[list[str]], by: timedelta) -> list[list[str]]:
    """The commands with their dates moved, as the heading says of those that follow from format.time_start."""
    return [
        [f"{date.fromisoformat(word) + by}" if DATE.fullmatch(word) else word for word in command]
        for command in commands
    ]


def counted(layout: Layout, outcome: Outcome) -> Iterator[str]:
    """What ingest says of the numbers of rows, if it is not so."""
    accepted = len(layout.payments) + len(layout.refunds)
    expected = (
        f" {accepted:,} accepted + 0 duplicate + {layout.revised:,} revised + {layout.rejected:,} rejected"
    )
    if expected not in outcome.out:
        yield f"ingest says {outcome.out!r}, not {expected!r}"
    if layout.line_items and f"{layout.line_items:,} " not in outcome.out:
        yield f"ingest says {outcome.out!r}, without {layout.line_items} line items"
