"""Every kind of malformed input: set aside with its reason, and nothing lost."""

import json
from pathlib import Path

import pytest

from pipeline.config.config import Config
from pipeline.ingest.ingest import ingest_labels, ingest_transactions
from pipeline.ingest.ingest_report import Options
from pipeline.ingest.sources import Source
from tests.support.ingest import NOW, configured, rejected
from tests.support.sql import query

HEADER = "id,at,amount,currency,kind,first,customer,card,channel,score"
GOOD = "t{n},2026-03-01T06:00:00Z,12.50,EUR,payment,,c1,4111,web,0.5"


def line(**changed):
    """A good line but for the fields named."""
    names = HEADER.split(",")
    row = dict(zip(names, GOOD.format(n="x").split(","), strict=True)) | changed
    return ",".join(row[name] for name in names).encode()


MALFORMED = [
    # what is wrong, the line, the reason it has to give
    ("id missing", line(id=""), "id is missing: every row needs an id"),
    ("id of blanks", line(id="   "), "id is missing: every row needs an id"),
    ("id too long", line(id="x" * 201), "id is longer than 200 characters: shorten it"),
    ("id with NUL", line(id="a\0b"), "id holds a NUL character, which no database stores: remove it"),
    ("time missing", line(at=""), "at is missing: every transaction needs its time"),
    ("time in words", line(at="yesterday"), "at is not an ISO 8601 time: write 2026-03-01T06:00:00+00:00"),
    ("time as a number", line(at="1772344800"), "at is not an ISO 8601 time, but reads as epoch_seconds: set format.time"),
    ("no such day", line(at="2026-02-30T06:00:00Z"), "at is not an ISO 8601 time: write 2026-03-01T06:00:00+00:00"),
    ("hour 25", line(at="2026-03-01T25:00:00Z"), "at is not an ISO 8601 time: write 2026-03-01T06:00:00+00:00"),
    ("day first", line(at="13/03/2026 06:00"), "at is not an ISO 8601 time, but reads as day_first: set format.time"),
    ("day or month first", line(at="01/03/2026 06:00"), "at is not an ISO 8601 time, but reads as day_first or month_first: set format.time"),
    ("time that is skipped", line(at="2025-03-30T02:30:00"), "at is a local time that does not exist, the clocks of Europe/Paris skipped it: add its offset"),
    ("time that occurs twice", line(at="2025-10-26T02:30:00"), "at is a local time that occurs twice in Europe/Paris, when clocks go back: add its offset"),
    ("before 1970", line(at="1969-12-31T23:00:00Z"), "at is out of range: check its year"),
    ("year 0001", line(at="0001-01-01T00:00:00Z"), "at is out of range: check its year"),
    ("tomorrow", line(at="2026-04-02T06:00:00Z"), "at is more than an hour ahead of now"),
    ("61 minutes ahead", line(at="2026-04-01T01:01:00Z"), "at is more than an hour ahead of now"),
    ("amount missing", line(amount=""), "amount is missing: every transaction needs one, 0 is allowed"),
    ("amount in words", line(amount="twelve"), "amount is not a number: write 1234.56"),
    ("amount with a unit", line(amount="12.50 kg"), "amount has a unit that is no currency: write 1234.56"),
    ("amount in another currency", line(amount="12.50 USD"), "amount names another currency than that of the row: check schema.currency and base_currency"),
    ("amount in percent", line(amount="12.50%"), "amount is not a number: write 1234.56"),
    ("amount in hexadecimal", line(amount="0x1F"), "amount is not a number: write 1234.56"),
    ("amount NaN", line(amount="NaN"), "amount is not finite: write 1234.56"),
    ("amount infinite", line(amount="-inf"), "amount is not finite: write 1234.56"),
    ("amount overflows", line(amount="1e999"), "amount is not finite: write 1234.56"),
    ("amount too large", line(amount="1000000000000000"), "amount is 1,000,000,000,000,000 or more: check its unit"),
    ("amount too large in euros", line(amount="899999999999", currency="GBP"), "amount is 900,000,000,000 or more in the base currency: check its unit and rate"),
    ("currency missing", line(currency=""), "currency is missing: write its code, such as EUR"),
    ("currency unknown", line(currency="XXX"), "currency XXX is no code of ISO 4217 and has no rate: correct it, or add its rates to {rates} (schema.rates)"),
    ("text too long", line(customer="c" * 501), "customer is longer than 500 characters: shorten it"),
    ("text with NUL", line(channel="a\0"), "channel holds a NUL character, which no database stores: remove it"),
    ("original too long", line(first="o" * 201), "first is longer than 200 characters: shorten it"),
    ("field not a number", line(score="high"), "score is not a number: write 1234.56"),
    ("field infinite", line(score="inf"), "score is infinite: write a finite number or leave it empty"),
    ("too few values", b"t9,2026-03-01T06:00:00Z,1", "the row has fewer values than the header has columns: quote values that hold a comma"),
    ("decimal comma", line(amount="12,50"), "the row has more values than the header has columns: quote values that hold a comma"),
    ("quote left open", line(customer='"c1'), "a quoted value is not closed: close it, or write a quote twice inside a quoted value"),
    ("not UTF-8", line().replace(b"c1", b"c\xe9"), 'the row is not UTF-8: set format.encoding (usual are cp1252, cp932, gb18030, euc-kr, cp1251), or save the file in UTF-8'),
    ("lone carriage return", line(customer="c\r1"), "a line break inside a value without quotes: put the value in quotes"),
]  # fmt: skip


def settings(tmp_path: Path, **more) -> Config:
    rates = tmp_path / "rates.csv"
    rates.write_text("date,currency,rate\n2026-01-01,USD,0.9\n2020-01-01,GBP,1.2\n")
    return configured(
        transaction_id="id", event_time="at", amount="amount", currency="currency", rates=str(rates), kind="kind",
        original_id="first", entities=("customer", "card"), categorical=("channel",), numeric=("score",),
        **({"timezone": "Europe/Paris"} | more),
    )  # fmt: skip


def ingest(store, config, path, kind=ingest_transactions, **options):
    given = [Source(path.name, path)]
    (report,) = kind(store, config, given, clock=lambda: NOW, options=Options(**options))
    return report


def write(tmp_path: Path, lines: list[bytes]) -> Path:
    path = tmp_path / "malformed.csv"
    path.write_bytes(b"\n".join([HEADER.encode(), *lines]) + b"\n")
    return path


def test_every_malformed_line_is_set_aside_with_its_reason_and_no_other_line_is(opener, tmp_path):
    config = settings(tmp_path)
    lines = [one for _, bad, _ in MALFORMED for one in (bad, b"")]
    lines[1::2] = [GOOD.format(n=number).encode() for number in range(len(MALFORMED))]
    store = opener(config)
    report = ingest(store, config, write(tmp_path, lines))
    found = rejected(store, report.batch_id)
    expected = {
        2 * place + 1: reason.format(rates=tmp_path / "rates.csv")
        for place, (_, _, reason) in enumerate(MALFORMED)
    }
    assert {number: reason for number, (_, reason) in found.items()} == expected
    counts = report.counts
    assert counts.accepted == counts.rejected == len(MALFORMED)
    assert counts.read == counts.accepted + counts.duplicate + counts.revised + counts.rejected == len(lines)
    assert sum(report.reasons.values()) == len(MALFORMED)


def test_a_row_set_aside_is_kept_as_it_came(opener, tmp_path):
    config = settings(tmp_path)
    bad = line(id="t1", amount="a lot", customer="\x1b[2J ü", channel="a\0")
    store = opener(config)
    report = ingest(store, config, write(tmp_path, [bad, b"only,three,values"]))
    found = rejected(store, report.batch_id)
    row = json.loads(found[1][0])
    assert (row["id"], row["amount"], row["customer"], row["channel"]) == ("t1", "a lot", "\x1b[2J ü", "a\0")
    assert json.loads(found[2][0]) == {"line": "only,three,values"}


def test_hashed_fields_are_readable_nowhere(opener, tmp_path):
    config = settings(tmp_path, hash=("card", "customer"), key="a key of more than sixteen")
    number = "4929123456781234"
    lines = [
        line(id="good", card=number),
        line(id="good", card=number, amount="13"),  # becomes a revision
        line(id="bad", card=number, amount="x"),
        b"torn," + number.encode(),
        line(id="open", card='"' + number),
        line(id="latin", card=number).replace(b"c1", b"\xe9"),
    ]
    store = opener(config)
    report = ingest(store, config, write(tmp_path, lines))
    found = rejected(store, report.batch_id)
    tables = ("transactions", "revisions", "rejected_rows", "batches", "labels", "scoring_queue")
    everything = [str(row) for name in tables for row in query(store, f"SELECT * FROM {name}")]
    ((stored,),) = query(store, "SELECT card FROM transactions")
    assert (report.counts.accepted, report.counts.revised, report.counts.rejected) == (1, 1, 4)
    assert not [row for row in everything if number in row]
    assert len(stored) == 64
    assert json.loads(found[3][0])["card"] == stored  # the same card is the same everywhere
    assert json.loads(found[4][0]).keys() == {"line_hash", "length"}


LABELS = [
    (b",1,2026-03-02T00:00Z,bank", "transaction_id is missing: every row needs an id"),
    (b"t1,,2026-03-02T00:00Z,bank", "is_fraud is missing: write 1 or 0"),
    (b"t1,maybe,2026-03-02T00:00Z,bank", "is_fraud is neither fraud nor genuine: write 1 or 0, or add the word to labels.fraud_words, genuine_words or unlabelled_words"),
    (b"t1,1,soon,bank", "known_at is not an ISO 8601 time: write 2026-03-01T06:00:00+00:00"),
    (b"t1,1,2026-04-01T01:01Z,bank", "known_at is more than an hour ahead of now"),
    (b"t1,1,,bank", "known_at is missing: add it, or pass known-after, such as 7d"),
    (b"t1,1,2026-03-02T00:00Z," + b"s" * 201, "source is longer than 200 characters: shorten it"),
    (b"t1,1,2026-03-02T00:00Z", "the row has fewer values than the header has columns: quote values that hold a comma"),
]  # fmt: skip


def test_every_malformed_label_is_set_aside_with_its_reason(opener, tmp_path):
    config = settings(tmp_path)
    path = tmp_path / "labels.csv"
    path.write_bytes(
        b"\n".join([b"transaction_id,is_fraud,known_at,source", *(one for one, _ in LABELS), b""])
    )
    store = opener(config)
    report = ingest(store, config, path, ingest_labels)
    found = rejected(store, report.batch_id)
    assert [reason for _, (_, reason) in sorted(found.items())] == [reason for _, reason in LABELS]
    assert report.counts.read == report.counts.rejected == len(LABELS)


@pytest.mark.parametrize(
    ("zone", "reason"),
    [("", "at has no offset from UTC: add it, or set schema.timezone to its zone"), ("Europe/Paris", None)],
)
def test_a_time_without_an_offset_needs_a_zone(opener, tmp_path, zone, reason):
    config = settings(tmp_path, timezone=zone)
    store = opener(config)
    report = ingest(store, config, write(tmp_path, [line(at="2026-03-01 06:00")]))
    assert list(report.reasons) == ([reason] if reason else [])
