"""A column of 0 and 1 beside payments: what a 0 says, and what later files of the same payments change."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.data import ingest_lines
from pipeline.ingest.ingest import ingest_labels
from pipeline.ingest.ingest_report import IngestReport
from storage.admin.undo import undo_batch
from storage.database.database import Store
from storage.frames import DAY, HOUR
from tests.support.databases import Opener
from tests.support.ingest import NOW, configured, file, micros, run
from tests.support.sql import query

HEADER = "transaction_id,event_time,amount,fraud,reported"
SILENT = configured(is_fraud="fraud", known_at="reported", timezone="UTC")
ESTABLISHED = configured(is_fraud="fraud", known_at="reported", timezone="UTC", genuine_means="genuine")
LABELS = "SELECT transaction_id, is_fraud, type, known_at FROM labels WHERE retracts IS NULL ORDER BY transaction_id, label_id"


def payment(name: str, day: int, fraud: str, reported: str = "") -> str:
    """A row of a payment at six on a day of March."""
    return f"{name},2026-03-{day:02}T06:00,1,{fraud},{reported}"


def ingested(store: Store, config: Any, tmp_path: Path, rows: list[str], **options: Any) -> IngestReport:
    """The report on the labels of a file."""
    return run(store, config, file(tmp_path, rows, HEADER), **options)[-1]


def stored(store: Store) -> list[tuple[str, bool | None, str]]:
    """Labels: payment, whether it is fraud, and when that was known."""
    return [
        (name, None if fraud is None else bool(fraud), str(known_at)[:16])
        for name, fraud, _, known_at in query(store, LABELS)
    ]


def through(store: Store) -> list[str]:
    """Until when labels are complete, by the batches of labels."""
    rows = query(store, "SELECT complete_through FROM batches WHERE kind = 'labels' ORDER BY batch_id")
    return [str(instant)[:16] for (instant,) in rows]


COMPLETE: list[tuple[list[str], dict[str, Any], str]] = [
    # rows, options, until when labels are complete
    ([payment("a", 1, "1", "2026-03-02"), payment("b", 3, "0")], {}, "2026-03-03 06:00"),
    ([payment("a", 1, "1", "2026-03-02"), payment("b", 3, "0")], {"history": False}, "2026-03-03 06:00"),
    ([payment("a", 1, "0"), payment("b", 3, "0")], {}, "2026-03-03 06:00"),  # no fraud at all
    ([payment("a", 1, "0"), payment("b", 3, "")], {}, "2026-03-01 06:00"),  # of the newest nobody knows yet
    ([payment("a", 1, "1", "2026-03-20"), payment("b", 3, "0")], {}, "2026-03-20 00:00"),  # the file is that new
    ([payment("a", 1, "1"), payment("b", 3, "0")], {"known_after": 40 * DAY}, "2026-03-03 06:00"),  # assumed only
    ([payment("a", 3, "0")], {"complete_through": micros("2026-03-15T00:00+00:00")}, "2026-03-15 00:00"),
    (["a,2026-04-01T00:30,1,0,"], {"history": False}, "2026-04-01 00:00"),  # a clock that is fast: as of now
    ([payment("a", 1, "1", "2026-03-02"), payment("b", 3, "")], {}, "2026-03-02 00:00"),  # only frauds, as a list of them
    ([payment("a", 1, "1", "2026-03-02"), payment("b", 3, "")], {"history": False}, "2026-04-01 00:00"),
    ([payment("a", 1, "1", "never"), payment("b", 3, "0")], {}, "None"),  # the only fraud is set aside
    ([payment("a", 1, ""), payment("b", 3, "")], {}, "None"),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "options", "expected"), COMPLETE)
def test_a_zero_says_until_when_labels_are_complete(
    opener: Opener, tmp_path: Path, rows: list[str], options: dict[str, Any], expected: str
) -> None:
    store = opener(SILENT)
    report = ingested(store, SILENT, tmp_path, rows, **options)
    assert through(store) == [expected]
    assert [fraud for _, fraud, _ in stored(store)] == [True] * report.counts.accepted
    assert report.silent == sum(",1,0," in row for row in rows)


def test_the_report_counts_zeros_and_names_the_remedy(opener: Opener, tmp_path: Path) -> None:
    store = opener(SILENT)
    rows = [payment("a", 1, "1", "2026-03-02"), payment("b", 3, "0"), payment("c", 4, "0")]
    report = ingested(store, SILENT, tmp_path, rows)
    assert ingest_lines(report)[2] == (
        "  2 say genuine, which is silence: no fraud of them is known by 2026-03-04 06:00 UTC; if somebody has established it, "
        'set schema.genuine_means = "genuine" and ingest the file again'
    )
    established = ingested(store, ESTABLISHED, tmp_path, rows, known_after=DAY)
    assert (established.counts.accepted, established.counts.duplicate, established.silent) == (2, 1, 0)
    again = ingested(store, ESTABLISHED, tmp_path, rows, known_after=DAY)
    assert again.nothing_new


DAILY: list[tuple[list[str], list[tuple[bool, int]]]] = [
    # what each daily export says of a payment; labels that are stored, and on which day they were known
    (["0", "1"], [(True, 1)]),  # a later file shows a fraud: it is known from then on
    (["0", "1", "1", "1"], [(True, 1)]),  # and is not known anew every day
    (["1", "0"], [(True, 0), (False, 1)]),  # somebody has changed it
    (["1", "0", "0"], [(True, 0), (False, 1)]),
    (["1", "0", "1", "1"], [(True, 0), (False, 1), (True, 2)]),
    (["1", ""], [(True, 0)]),  # nothing is said
    (["0", "0"], []),
]


@pytest.mark.parametrize(("said", "expected"), DAILY)
def test_daily_exports_of_the_same_payments(
    opener: Opener, tmp_path: Path, said: list[str], expected: list[tuple[bool, int]]
) -> None:
    store = opener(SILENT)
    for day, word in enumerate(said):
        rows = [payment("a", 1, word), *(payment(f"b{n}", 2 + n, "0") for n in range(day + 1))]
        ingested(store, SILENT, tmp_path, rows, history=False, now=NOW + day * DAY)
    dates = [f"2026-04-{1 + day:02} 00:00" for _, day in expected]
    assert stored(store) == [("a", fraud, date) for (fraud, _), date in zip(expected, dates, strict=True)]


def test_a_fraud_with_its_own_time_that_was_genuine_meanwhile_is_known_from_the_file_on(
    opener: Opener, tmp_path: Path
) -> None:
    store = opener(SILENT)
    for day, word in enumerate("1011"):
        rows = [payment("a", 1, word, "2026-03-05"), payment("b", 2 + day, "0")]
        ingested(store, SILENT, tmp_path, rows, now=NOW + day * DAY)
    assert stored(store) == [
        ("a", True, "2026-03-05 00:00"), ("a", False, "2026-04-02 00:00"), ("a", True, "2026-04-03 00:00")
    ]  # fmt: skip


def test_a_list_of_frauds_without_times_that_grows_does_not_repeat_itself(
    opener: Opener, tmp_path: Path
) -> None:
    config = configured()
    store = opener(config)
    lists = [["a,1,,"], ["a,1,,", "b,,10.4,dispute"], ["b,,10.4,dispute", "b,,10.4,won", "a,0,,"]]
    reports = [
        run(store, config, file(tmp_path, rows, "transaction_id,is_fraud,reason,stage"), ingest_labels, now=NOW + day * DAY, history=False)[0]
        for day, rows in enumerate(lists)
    ]  # fmt: skip
    assert [report.counts.duplicate for report in reports] == [0, 1, 1]
    assert [row[:2] for row in stored(store)] == [("a", True), ("a", False), ("b", True), ("b", True)]


def test_a_word_that_is_a_reason_of_a_dispute_is_one(opener: Opener, tmp_path: Path) -> None:
    config = configured(is_fraud="fraud", known_at="reported", timezone="UTC")
    store = opener(config)
    words = ["Fraudulent", "product_not_received", "4837", "perhaps", "0", ""]
    rows = [payment(word or "empty", 1, word, "2026-03-05") for word in words]
    report = ingested(store, config, tmp_path, rows)
    assert query(store, "SELECT is_fraud, type, reason FROM labels ORDER BY transaction_id") == [
        (True, None, "4837"), (True, None, "Fraudulent"), (None, "not_received", "product_not_received")
    ]  # fmt: skip
    assert (report.neither, report.silent, report.counts.rejected) == (1, 1, 1)
    assert len(query(store, "SELECT 1 FROM transactions")) == len(words)


# ── labels that came before their payment


def test_a_label_that_came_first_is_checked_when_its_payment_comes(opener: Opener, tmp_path: Path) -> None:
    config = configured(timezone="UTC")
    store = opener(config)
    known = ["a,1,2026-03-09T06:00Z", "b,1,2026-03-01T06:00Z", "c,1,2026-03-05", "d,1,2026-03-05T05:30Z"]
    labels = file(tmp_path, known, "transaction_id,is_fraud,known_at", "labels.csv")
    run(store, config, labels, ingest_labels)
    rows = [f"{name},2026-03-05T06:00Z,1" for name in "abcd"]
    (report,) = run(store, config, file(tmp_path, rows, "transaction_id,event_time,amount"))
    assert report.early_labels == 1
    assert (
        "  1 label that came before these transactions says it was known more than an hour before"
        in ingest_lines(report)[2]
    )
    sql = "SELECT r.transaction_id, l.transaction_id, r.known_at = l.known_at FROM labels r JOIN labels l ON l.label_id = r.retracts"
    assert query(store, sql) == [("b", "b", True)]
    undo_batch(store, int(report.batch_id or 0), "wrong times", "anna", NOW + HOUR)
    assert query(store, "SELECT count(*) FROM labels WHERE retracts IS NOT NULL") == [(0,)]
    (again,) = run(store, config, file(tmp_path, rows, "transaction_id,event_time,amount"), now=NOW + DAY)
    assert (again.early_labels, query(store, sql)) == (1, [("b", "b", True)])
