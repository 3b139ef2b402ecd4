"""What `init --from` proposes for labels: what a 0 means, how late frauds are reported, and the columns of exports of disputes."""

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.config.config import Config
from pipeline.config.loader import load_config
from pipeline.schema_inference.propose import Proposal, propose
from storage.frames import DAY
from tests.support.commands import fraudwatch
from tests.support.ingest import NOW
from tests.support.payments import write_csv

FIRST = datetime(2025, 6, 1, tzinfo=UTC)
DAYS, PER_DAY = 130, 60
END = FIRST + timedelta(days=DAYS)
METHODS = ("card", "wallet", "transfer")
HEADER = "transaction_id,created_at,customer_id,amount,method,is_fraud,reported_at"

Label = Callable[
    [int, datetime, random.Random], tuple[str, datetime | None]
]  # is_fraud, when it was reported


def delay(days: float, draw: random.Random) -> timedelta:
    """Most reports come in the second half of so many days."""
    return timedelta(days=days * (1 - draw.random() ** 2 / 2))


def late(number: int, time: datetime, draw: random.Random) -> tuple[str, datetime | None]:
    """One in thirty is fraud, which is reported within 40 days: 1 once it is."""
    reported = time + delay(40, draw)
    return ("1", reported) if number % 30 == 7 and reported < END else ("0", None)


def at_once(number: int, time: datetime, _draw: random.Random) -> tuple[str, datetime | None]:
    """One in thirty is fraud, of which the file knows all."""
    return "1" if number % 30 == 7 else "0", None


def investigated(number: int, time: datetime, _draw: random.Random) -> tuple[str, datetime | None]:
    """Somebody looked at one in ten."""
    return ("1" if number % 30 == 7 else "0" if number % 10 == 3 else ""), None


def by_method(number: int, time: datetime, draw: random.Random) -> tuple[str, datetime | None]:
    """Frauds with wallets are reported within days, those with cards within weeks."""
    reported = time + delay({"card": 40, "wallet": 4, "transfer": 4}[METHODS[number % 3]], draw)
    return ("1", reported) if number % 20 < 2 and reported < END else ("0", None)


def payments(folder: Path, label: Label, labelled: bool = True, dated: bool = True) -> Path:
    """A file of payments and their labels."""
    draw, rows = random.Random(3), list[str]()
    for number in range(DAYS * PER_DAY):
        time = FIRST + timedelta(days=number / PER_DAY)
        fraud, reported = label(number, time, draw)
        row = [
            f"t{number * 7919 % 99991:x}",
            time.isoformat(),
            f"c{number * 37 % 211}",
            f"{5 + number * 7919 % 9973 / 100:.2f}",
        ]
        row += [METHODS[number % 3], fraud, reported.isoformat() if reported else ""]
        rows.append(",".join(row[: 5 + labelled + dated]))
    return write_csv(folder / "sample.csv", ",".join(HEADER.split(",")[: 5 + labelled + dated]), rows)


def loaded(folder: Path, proposal: Proposal) -> Config:
    (folder / "proposed.toml").write_text(proposal.toml, encoding="utf-8")
    return load_config(folder / "proposed.toml", {})


def reasons(proposal: Proposal, key: str) -> str:
    """The reasons for a key."""
    return "\n".join(line for line in proposal.explanations if line.startswith(f"{key}: "))


ZEROS: list[tuple[Label, str, str, bool]] = [
    # labels, what a 0 means, a part of the reason, whether it is to be checked
    (late, "silence", "3.3 % of the payments older than 60 days are fraud, and 0 % of the newest 7 days: a 0 says", False),
    (at_once, "silence", "3.3 % of the payments older than 60 days are fraud, and 3.3 % of the newest 7 days", True),
    (investigated, "genuine", "only 13 % of the rows have a label", True),
]  # fmt: skip


@pytest.mark.parametrize(("label", "means", "reason", "check"), ZEROS)
def test_the_share_of_fraud_by_age_says_what_a_zero_means(
    tmp_path: Path, label: Label, means: str, reason: str, check: bool
) -> None:
    proposal = propose(payments(tmp_path, label, dated=False), NOW)
    assert loaded(tmp_path, proposal).schema_.genuine_means == means
    assert reason in reasons(proposal, "genuine_means")
    assert ("CHECK" in reasons(proposal, "genuine_means")) == check


def test_the_newest_payments_count_although_they_are_not_in_the_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.schema_inference.sample.ROWS_MAX", 3_000)
    proposal = propose(payments(tmp_path, late, dated=False), NOW)
    assert "0 % of the newest 7 days: a 0 says" in reasons(proposal, "genuine_means")


def test_the_delays_of_reports_give_the_maturity(tmp_path: Path) -> None:
    proposal = propose(payments(tmp_path, late), NOW)
    labels = loaded(tmp_path, proposal).labels
    assert 36 * DAY <= labels.maturity <= 40 * DAY
    assert "95 % of " in reasons(proposal, "labels.maturity")
    assert labels.maturity_by == {}


def test_a_field_whose_values_differ_gets_maturities_of_its_own(tmp_path: Path) -> None:
    proposal = propose(payments(tmp_path, by_method), NOW)
    (by,) = loaded(tmp_path, proposal).labels.maturity_by.items()
    assert by[0] == "method"
    assert {value: span // DAY for value, span in by[1].items()} == {"card": 40, "wallet": 4, "transfer": 4}
    assert reasons(proposal, "labels.maturity_by").startswith(
        "labels.maturity_by: 95 % of the frauds were reported within so many days"
    )


EXPORTS = [
    # header, words for fraud, for another dispute, keys of [labels] that are not the default
    (
        "id,Charge ID,Amount,Currency,Reason,Status,Dispute Created (UTC),Evidence Due (UTC)",
        lambda n, name, time, fraud: f"dp_{n},{name},12.50,eur,{'fraudulent' if fraud else 'general'},{'lost' if n % 2 else 'needs_response'},{time},{time}",
        {"transaction_id": "Charge ID", "known_at": "Dispute Created (UTC)", "reason": "Reason", "stage": "Status", "amount": "Amount"},
    ),
    (
        "Company,Psp Reference,Record Date,Dispute Currency,Dispute Amount,Record Type,CB Reason Code",
        lambda n, name, time, fraud: f"shop,{name},{time},USD,12.50,{'Chargeback' if n % 2 else 'NotificationOfChargeback'},{'10.4' if fraud else '13.1'}",
        {"transaction_id": "Psp Reference", "known_at": "Record Date", "reason": "CB Reason Code", "stage": "Record Type"},
    ),
    (
        "transaction_id,reason_code,known_at,amount",
        lambda n, name, time, fraud: f"{name},{'4837' if fraud else '4853'},{time},unknown",
        {"reason": "reason_code", "amount": ""},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("header", "row", "expected"), EXPORTS)
def test_columns_of_exports_of_disputes(
    tmp_path: Path, header: str, row: Callable[..., str], expected: dict[str, str]
) -> None:
    disputes = list[str]()

    def unlabelled(number: int, time: datetime, draw: random.Random) -> tuple[str, datetime | None]:
        reported = time + delay(40, draw)
        if number % 30 in (7, 8) and reported < END:
            name = f"t{number * 7919 % 99991:x}"
            disputes.append(row(number, name, reported.isoformat(), number % 30 == 7))
        return "", None

    sample = payments(tmp_path, unlabelled, labelled=False, dated=False)
    write_csv(tmp_path / "disputes.csv", header, disputes)
    heading = fraudwatch(
        tmp_path, "init", "--from", "sample.csv", "--labels", "disputes.csv", "-o", "my.toml"
    )
    assert "  fraudwatch --config my.toml ingest labels disputes.csv" in heading
    labels = load_config(tmp_path / "my.toml", {}).labels
    roles = ("transaction_id", "is_fraud", "known_at", "source", "reason", "stage", "amount")
    default = Config().labels
    assert {r: getattr(labels, r) for r in roles if getattr(labels, r) != getattr(default, r)} == expected
    assert 36 * DAY <= labels.maturity <= 40 * DAY
    assert labels.dispute_types.get("other", ()) == (("general",) if "Charge ID" in header else ())
    for command in (["init"], ["ingest", "transactions", sample.name], ["ingest", "labels", "disputes.csv"]):
        output = fraudwatch(tmp_path, "--config", "my.toml", *command)
    assert f"{len(disputes):,} labels read = {len(disputes):,} accepted + 0 duplicate" in output
