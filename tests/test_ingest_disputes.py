"""Files of disputes: which are fraud, which are something else, and which only say where the money went."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.data import ingest_lines
from pipeline.errors import InputError
from pipeline.ingest.checks.disputes import STAGES, stage_of
from pipeline.ingest.ingest import ingest_labels
from pipeline.ingest.ingest_report import IngestReport
from storage.database.database import Store
from tests.support.databases import Opener
from tests.support.ingest import CONFIG, configured, file, rejected, run
from tests.support.sql import query

HEADER = "transaction_id,is_fraud,reason,stage,source,known_at"
WON_IS_GENUINE = configured(entities=("card",), labels={"won_means": "genuine"})

# is_fraud, reason, stage, source → what is stored: is_fraud, type, stage; or the reason why the row is set aside
MEANINGS: list[tuple[str, tuple[Any, ...] | str]] = [
    # the reason decides
    (",10.4,,", (True, None, None)),  # Visa: fraud, card absent
    (",4837,dispute,", (True, None, "dispute")),  # Mastercard: no cardholder authorisation
    (",FRAUDULENT,needs_response,", (True, None, "dispute")),  # Stripe, in capitals
    (",13.1,,", (None, "not_received", None)),
    (",subscription_canceled,Chargeback,", (None, "cancelled", "dispute")),
    (",friendly_fraud,,", (None, "friendly_fraud", None)),
    (",C14,,", (None, "other", None)),  # a code that [labels] does not know
    # reports of fraud, whatever their own code is
    (",TC40,,", (True, None, None)),
    (",6,,tc40", (True, None, None)),
    (",04,,SAFE", (True, None, None)),
    (",,NotificationOfFraud,", (True, None, "inquiry")),  # Adyen
    # stages
    (",10.4,Retrieval Request,", (True, None, "inquiry")),
    (",10.4,won,", (True, None, "won")),  # money only, by default
    (",10.4,ChargebackReversed,", (True, None, "won")),
    (",13.1,lost,", (None, "not_received", "lost")),
    (",,won,", (None, None, "won")),  # money only
    (",,lost,", (None, None, "lost")),
    (",10.4,perhaps,", "stage is no stage of a dispute: write inquiry, dispute, won or lost"),
    # an explicit word for it
    ("1,,,", (True, None, None)),
    ("0,,,", (False, None, None)),
    ("1,,won,", (True, None, "won")),
    ("1,10.4,,", (True, None, None)),
    ("0,13.1,,", (None, "not_received", None)),  # no fraud, but not an example of a genuine payment
    ("1,called by the customer,,", (True, None, None)),  # [labels] does not know it, so it contradicts nothing
    ("0,called by the customer,,", (False, None, None)),
    ("1,13.1,,", "is_fraud is fraud, but reason 13.1 is not about fraud: correct one of them, or add the code to labels.fraud_reasons"),
    ("0,10.4,,", "is_fraud is genuine, but reason 10.4 is fraud: correct one of them, or take the code out of labels.fraud_reasons"),
    ("0,10.4,won,", 'is_fraud is genuine, but reason 10.4 is fraud: correct one of them, or set labels.won_means = "genuine"'),
    ("0,,,safe", "is_fraud is genuine, but the reason or source of the dispute is fraud: correct one of them"),
    (",,,", "is_fraud and reason and stage are missing: write 1 or 0"),
    ("perhaps,10.4,,", "is_fraud is neither fraud nor genuine"),
]  # fmt: skip


def loaded(store: Store, config: Any, tmp_path: Path, rows: list[str], header: str = HEADER) -> IngestReport:
    """The report on a file of labels, known on the fifth of March."""
    given = [f"{number},{row},2026-03-05T06:00Z" for number, row in enumerate(rows)]
    (report,) = run(store, config, file(tmp_path, given, header, "disputes.csv"), ingest_labels)
    return report


def stored(store: Store) -> dict[int, tuple[Any, ...]]:
    """What is stored of each row."""
    rows = query(store, "SELECT transaction_id, is_fraud, type, stage FROM labels")
    return {int(row[0]): (None if row[1] is None else bool(row[1]), *row[2:]) for row in rows}


def test_what_a_dispute_says(opener: Opener, tmp_path: Path) -> None:
    store = opener(CONFIG)
    report = loaded(store, CONFIG, tmp_path, [row for row, _ in MEANINGS])
    found, reasons = stored(store), rejected(store, report.batch_id)
    for number, (row, expected) in enumerate(MEANINGS):
        if isinstance(expected, str):
            assert reasons[number + 1][1].startswith(expected), row
        else:
            assert found.get(number) == expected, (row, reasons.get(number + 1))
    lines = "\n".join(ingest_lines(report))
    neither = sum(
        expected[0] is None and expected[1] is not None
        for _, expected in MEANINGS
        if not isinstance(expected, str)
    )
    assert (
        f"  {neither} rows are disputes about something else than fraud: neither fraud nor genuine" in lines
    )
    assert "  2 rows say only the stage of a dispute, and change no label" in lines
    assert '  [labels] does not know the reasons C14 (1): they count as "other"' in lines
    again = loaded(store, CONFIG, tmp_path, [row for row, _ in MEANINGS] + [MEANINGS[0][0]])
    assert (again.counts.accepted, again.counts.duplicate) == (1, len(found))


def test_a_won_dispute_may_leave_a_genuine_payment(opener: Opener, tmp_path: Path) -> None:
    store = opener(WON_IS_GENUINE)
    rows = [",10.4,dispute,", ",10.4,won,", ",13.1,won,", "1,,won,", "0,10.4,won,"]
    loaded(store, WON_IS_GENUINE, tmp_path, rows)
    assert stored(store) == {
        0: (True, None, "dispute"), 1: (False, None, "won"), 2: (None, "not_received", "won"), 3: (False, None, "won"),
        4: (False, None, "won"),
    }  # fmt: skip


def test_a_file_of_disputes_needs_no_column_for_fraud(opener: Opener, tmp_path: Path) -> None:
    store = opener(CONFIG)
    report = loaded(store, CONFIG, tmp_path, ["10.4", "13.1", ""], "transaction_id,reason,known_at")
    assert stored(store) == {0: (True, None, None), 1: (None, "not_received", None)}
    assert list(report.reasons) == ["reason is missing: write the reason code of the dispute"]
    won = '{"transaction_id": "9", "stage": "won", "known_at": "2026-03-09T06:00Z"}'
    run(store, CONFIG, file(tmp_path, [], won, "stages.jsonl"), ingest_labels)
    assert stored(store)[9] == (None, None, "won")
    with pytest.raises(InputError) as error:
        loaded(store, CONFIG, tmp_path, ["x"], "transaction_id,fraud_code,known_at")
    assert error.value.message == (
        'disputes.csv has no column "is_fraud" (labels.is_fraud) or "reason" (labels.reason) or "stage" (labels.stage); '
        "it has transaction_id, fraud_code, known_at"
    )
    assert error.value.remedy == "set one of these keys to the right column"


def test_the_disputed_amount_is_in_the_base_currency(opener: Opener, tmp_path: Path) -> None:
    config = configured(form={"decimal": ",", "amount_unit": "minor"}, labels={"amount": "Betrag"})
    store = opener(config)
    rows = ['10.4,"1250,5"', "10.4,", "10.4,-5", "10.4,viel", "10.4,99999999999999", "10.4,5 USD"]
    report = loaded(store, config, tmp_path, rows, "transaction_id,reason,Betrag,known_at")
    amounts = query(store, "SELECT amount FROM labels ORDER BY transaction_id")
    assert [amount and float(amount) for (amount,) in amounts] == [12.505, None]
    assert [reason for _, reason in rejected(store, report.batch_id).values()] == [
        "Betrag is negative: write what is disputed without a sign",
        "Betrag is not a number: write 1234,56",
        "Betrag is 900,000,000,000 or more in the base currency: check its unit and rate",
        "Betrag names another currency than that of the row: check schema.currency and base_currency",
    ]  # fmt: skip


def test_stages_have_one_spelling() -> None:
    assert all(stage_of(word) == stage for word, stage in STAGES.items())
    assert [stage_of(word) for word in ("Warning_Needs_Response", "Chargeback Reversed", "RESOLVED_BUYER_FAVOUR", "Paid")] == [
        "inquiry", "won", "lost", None,
    ]  # fmt: skip


def test_a_card_number_beside_a_dispute_is_masked(opener: Opener, tmp_path: Path) -> None:
    store = opener(CONFIG)
    loaded(store, CONFIG, tmp_path, ["1,card 4111 1111 1111 1111 was stolen,,"])
    assert query(store, "SELECT reason FROM labels") == [("card •••• 1111 was stolen",)]
