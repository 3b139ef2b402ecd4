"""Files whose rows are events of payments: what is stored of them, in any order and division of the rows."""

import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from pipeline.cli.data import ingest_lines
from pipeline.config.config import Config
from pipeline.config.consistency import find_violations
from pipeline.ingest.events import row_spool
from pipeline.ingest.ingest import ingest_transactions
from pipeline.ingest.ingest_report import IngestReport, Options
from storage.database.database import Store
from tests.support.databases import Opener
from tests.support.ingest import file, micros, rejected, run
from tests.support.sql import query

HEADER = "psp,type,amount,time,event,card,reason"
SCHEMA = {
    "transaction_id": "psp",
    "event_time": "time",
    "entities": ["card"],
    "categorical": ["type"],
    "kind": "kind",
    "original_id": "original_id",
}
EVENTS = {"type": "type", "id": "event", "ignored": ["Fee"]}
CONFIG = Config.model_validate(
    {"schema": SCHEMA, "events": EVENTS, "labels": {"never_by_silence": {"type": ["Refused"]}}}
)
LIFE = [
    "p1,Authorised,20,2026-03-01T10:00:00Z,,k1,",
    "p1,SentForSettle,20,2026-03-01T11:00:00Z,m1,k1,",
    "p1,Settled,18,2026-03-02T10:00:00Z,m1,k1,",  # less was collected
    "p1,Refunded,-5,2026-03-03T10:00:00Z,r1,,",
    "p1,refunded,-2.50,2026-03-04T10:00:00Z,,k1,",  # an event without an id
    "p1,Fee,-0.10,2026-03-02T10:00:00Z,f1,,",
    "p1,Chargeback,-10.5,2026-03-10T10:00:00Z,c1,,10.4",
    "p1,ChargebackReversed,10.5,2026-03-20T10:00:00Z,c2,,",
    "p2,AUTHORISED,30,2026-03-01T10:30:00Z,,k2,",
    "p2,Refused,30,2026-03-01T10:31:00Z,,,",
    "p3,Settled,7,2026-03-02T09:00:00Z,m3,k3,",  # begins without Authorised
    "p3,Chargeback,7,2026-03-09T09:00:00Z,c3,,13.1",
    "p4,Authorised,8,2026-03-02T09:00:00Z,,k1,",
    "p4,Chargeback,8,2026-03-08T09:00:00Z,c4,,",  # without a reason
]
PAYMENTS = [
    ("p1", "2026-03-01T10:00:00", 20.0, None, None, "k1", "Authorised"),
    ("p1-refunded-20260304T100000-2.5", "2026-03-04T10:00:00", 2.5, "refund", "p1", "k1", "refunded"),
    ("p2", "2026-03-01T10:30:00", 30.0, None, None, "k2", "AUTHORISED"),
    ("p3", "2026-03-02T09:00:00", 7.0, None, None, "k3", "Settled"),
    ("p4", "2026-03-02T09:00:00", 8.0, None, None, "k1", "Authorised"),
    ("r1", "2026-03-03T10:00:00", 5.0, "refund", "p1", None, "Refunded"),
]
# a later version has the time of its payment, and its card where the event has none
VERSIONS = [
    ("p1", 1, "2026-03-01T10:00:00", 20.0, "k1", "SentForSettle"),
    ("p1", 2, "2026-03-01T10:00:00", 18.0, "k1", "Settled"),
    ("p2", 1, "2026-03-01T10:30:00", 30.0, "k2", "Refused"),
]
WITHOUT_REASON = "chargeback_without_reason"
LABELS = [
    ("p1", True, None, "10.4", "dispute", 10.5, "chargeback", "2026-03-10T10:00:00"),
    ("p1", None, None, None, "won", 10.5, "chargeback", "2026-03-20T10:00:00"),
    ("p3", None, "not_received", "13.1", "dispute", 7.0, "chargeback", "2026-03-09T09:00:00"),
    ("p4", None, "unknown", None, "dispute", 8.0, WITHOUT_REASON, "2026-03-08T09:00:00"),
]


def instant(value: Any) -> str:
    moment = datetime.fromisoformat(str(value))
    return (moment.astimezone(UTC) if moment.tzinfo else moment).strftime("%Y-%m-%dT%H:%M:%S")


def stored(store: Store) -> tuple[list[Any], list[Any], list[Any]]:
    """Transactions, revisions and labels."""
    payments = query(
        store, "SELECT transaction_id, event_time, amount, kind, original_id, card, type FROM transactions"
    )
    versions = query(store, "SELECT transaction_id, revision, event_time, amount, card, type FROM revisions")
    labels = query(
        store,
        "SELECT transaction_id, is_fraud, type, reason, stage, amount, source, known_at FROM labels",
    )
    return (
        sorted((name, instant(time), float(amount), *rest) for name, time, amount, *rest in payments),
        sorted((name, n, instant(time), float(amount), *rest) for name, n, time, amount, *rest in versions),
        sorted(
            (
                (
                    name,
                    None if fraud is None else bool(fraud),
                    *words,
                    float(amount),
                    source,
                    instant(known_at),
                )
                for name, fraud, *words, amount, source, known_at in labels
            ),
            key=lambda row: (row[0], row[-1]),
        ),
    )


EXPECTED = (PAYMENTS, VERSIONS, LABELS)


def ingest(store: Store, tmp_path: Path, rows: list[str], config: Config = CONFIG) -> list[IngestReport]:
    return run(store, config, file(tmp_path, rows, HEADER))


def test_reports_of_fraud_and_inquiries_are_no_disputes(opener: Opener, tmp_path: Path) -> None:
    rows = [
        "p1,Authorised,20,2026-03-01T10:00:00Z,,k1,",
        "p1,NotificationOfFraud,20,2026-03-05T10:00:00Z,n1,,",
        "p2,Authorised,30,2026-03-01T10:00:00Z,,k2,",
        "p2,RequestForInformation,30,2026-03-06T10:00:00Z,n2,,",
    ]
    store = opener(CONFIG)
    ingest(store, tmp_path, rows)
    assert stored(store)[2] == [
        ("p1", True, None, None, "inquiry", 20.0, "chargeback", "2026-03-05T10:00:00"),
        ("p2", None, None, None, "inquiry", 30.0, "chargeback", "2026-03-06T10:00:00"),
    ]


def test_events_become_payments_versions_refunds_and_labels(opener: Opener, tmp_path: Path) -> None:
    store = opener(CONFIG)
    payments, labels = ingest(store, tmp_path, LIFE)
    assert stored(store) == EXPECTED
    assert (payments.counts.read, payments.counts.accepted, payments.counts.revised) == (9, 6, 3)
    assert payments.events is not None
    assert {word: payments.events[word] for word in ("Authorised", "Chargeback", "Fee")} == {
        "Authorised": 2, "Chargeback": 3, "Fee": 1
    }  # fmt: skip
    assert "events: Chargeback 3, Authorised 2, " in "\n".join(ingest_lines(payments))
    assert (labels.without_reason, labels.neither, labels.only_stages) == (1, 1, 1)
    assert "1 dispute has no reason, so it is neither fraud nor genuine" in "\n".join(ingest_lines(labels))
    # an earlier event of the file says how far it goes: later labels may be missing
    through = query(store, "SELECT complete_through FROM batches WHERE kind = 'labels'")
    assert instant(through[0][0]) == "2026-03-20T10:00:00"


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_the_rows_does_not_matter(
    opener: Opener, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, rows = opener(CONFIG), list(LIFE)
    random.Random(seed).shuffle(rows)
    if seed:  # a file that is too large for memory
        monkeypatch.setattr(row_spool, "BATCH_ROWS", 2)
    ingest(store, tmp_path, rows if seed < 2 else LIFE[::-1])
    assert stored(store) == EXPECTED


# how the events come in files → the same as from one file
DIVISIONS: dict[str, list[list[str]]] = {
    "the same file twice": [LIFE, LIFE],
    "overlapping files": [LIFE[:6], LIFE[2:10], LIFE[7:]],
    "two events a file": [LIFE[start : start + 2] for start in range(0, len(LIFE), 2)],
    "refunds and disputes before their payments": [LIFE[3:8] + LIFE[11:12], LIFE],
}


@pytest.mark.parametrize("name", DIVISIONS)
def test_the_division_into_files_does_not_matter(name: str, opener: Opener, tmp_path: Path) -> None:
    store = opener(CONFIG)
    for rows in DIVISIONS[name]:
        ingest(store, tmp_path, rows)
    assert stored(store) == EXPECTED


def test_a_later_file_with_the_beginning_of_a_payment_changes_nothing(opener: Opener, tmp_path: Path) -> None:
    store = opener(CONFIG)
    ingest(store, tmp_path, LIFE[2:3])
    report, _ = ingest(store, tmp_path, LIFE[:1])
    assert (report.counts.accepted, report.counts.duplicate) == (0, 1)
    assert stored(store)[:2] == ([("p1", "2026-03-02T10:00:00", 18.0, None, None, "k1", "Settled")], [])


def test_a_report_of_disputes_says_what_a_chargeback_without_a_reason_was(
    opener: Opener, tmp_path: Path
) -> None:
    store = opener(CONFIG)
    ingest(store, tmp_path, LIFE[-2:])
    status = "SELECT is_fraud, source FROM current_labels WHERE transaction_id = 'p4'"
    assert query(store, status) == [(None, WITHOUT_REASON)]
    with store.write() as connection:  # known before the chargeback was booked
        connection.execute(
            text(
                'INSERT INTO labels (transaction_id, is_fraud, source, known_at, recorded_at, "by") '
                "SELECT transaction_id, TRUE, 'chargeback', event_time, event_time, 'x' FROM transactions"
            )
        )
    assert [(bool(fraud), source) for fraud, source in query(store, status)] == [(True, "chargeback")]


UNKNOWN = (
    "type is no word of [events]: add it to events.ignored, or to the key of [events] that says what it means"
)
# a row → why it is set aside, by the batch of transactions or of labels
BAD: list[tuple[str, str, int]] = [
    ("p1,Payout,5,2026-03-01T10:00:00Z,,,", UNKNOWN, 0),
    ("p1,,5,2026-03-01T10:00:00Z,,,", UNKNOWN, 0),
    (",Authorised,5,2026-03-01T10:00:00Z,,,", "psp is missing: every row needs an id", 0),
    ("p1,Refunded,five,2026-03-01T10:00:00Z,,,", "amount is not a number", 0),
    ("p1,Refunded,5,,,,", "time is missing: every transaction needs its time", 0),
    (",Chargeback,5,2026-03-01T10:00:00Z,,,", "psp is missing: every row needs an id", 1),
    ("p1,Chargeback,5,2026-13-01T10:00:00Z,,,", "time is", 1),
]


def test_rows_that_cannot_be_read_are_set_aside_with_their_reason(opener: Opener, tmp_path: Path) -> None:
    store = opener(CONFIG)
    reports = ingest(store, tmp_path, [row for row, _, _ in BAD])
    for place, report in enumerate(reports):
        reasons = {number: reason for number, (_, reason) in rejected(store, report.batch_id).items()}
        expected = {number: reason for number, (_, reason, batch) in enumerate(BAD, 1) if batch == place}
        assert set(reasons) == set(expected)
        for number, reason in expected.items():
            assert reasons[number].startswith(reason)


def test_an_interrupted_ingest_loads_the_disputes_the_next_time(opener: Opener, tmp_path: Path) -> None:
    store = opener(CONFIG)
    source = file(tmp_path, LIFE, HEADER)
    now = micros("2026-04-01T00:00:00Z")
    next(ingest_transactions(store, CONFIG, [source], clock=lambda: now, options=Options()))
    assert stored(store) == (PAYMENTS, VERSIONS, [])
    again = run(store, CONFIG, source)
    assert again[0].nothing_new
    assert stored(store) == EXPECTED


# keys that do not go with events.type → the key that is refused
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"kind": "", "original_id": ""}, "schema.kind"),
    ({"original_id": ""}, "schema.original_id"),
    ({"transaction_id": ""}, "schema.transaction_id"),
    ({"is_fraud": "fraud"}, "schema.is_fraud"),
    ({"line_items": True}, "schema.line_items"),
]


@pytest.mark.parametrize(("wrong", "key"), WRONG)
def test_keys_that_do_not_go_with_events_are_refused(wrong: dict[str, Any], key: str) -> None:
    config = CONFIG.model_copy(update={"schema_": CONFIG.schema_.model_copy(update=wrong)})
    assert key in [violation[0] for violation in find_violations(config)]
