"""Payments whose currency has no rate wait for one, and are taken up once, whatever happens meanwhile."""

import io
import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import Connection

from pipeline import logs
from pipeline.cli.data import ingest_lines
from pipeline.config.config import Config
from pipeline.config.consistency import find_violations
from pipeline.config.database import open_configured
from pipeline.config.sections import SourceSection, WatchSection
from pipeline.daemon.daemon import Daemon
from pipeline.ingest import feeds, waiting_rows
from pipeline.ingest.formats import csv_reader
from pipeline.ingest.ingest_report import IngestReport
from pipeline.ingest.sources import Source
from pipeline.services.data.ingest import IngestRequest, ingest, waiting_payments
from pipeline.services.session import Session
from storage.admin.erase import erase
from storage.admin.personal_rows import PersonValue
from storage.admin.prune import prune
from storage.admin.undo import undo_batch
from storage.database.database import Store
from storage.frames import DAY, HOUR
from storage.ingest.batches import Counts
from tests.support.databases import Opener, with_url
from tests.support.ingest import NOW, configured, file, run
from tests.support.sql import count, execute, query

HEADER = "transaction_id,event_time,amount,currency,card"
EUR, CHF, GBP = (
    "e,2026-03-01T00:00:00Z,1,EUR,k1",
    "c,2026-03-02T00:00:00Z,10.5,CHF,k1",
    "g,2026-03-03T00:00:00Z,4,GBP,k2",
)
AMOUNTS = "SELECT transaction_id, amount, amount_base, currency, card FROM transactions ORDER BY 1"
TAKEN_UP = Counts(1, accepted=1)


class Place:
    """A database whose rates come as a file."""

    def __init__(self, opener: Opener, folder: Path, **schema: object) -> None:
        self.folder = folder
        self.path = folder / "rates.csv"
        self.rates("2026-01-01,USD,0.5")
        fields = {"currency": "currency", "rates": str(self.path), "entities": ("card",)} | schema
        self.config = configured(key="sixteen characters", **fields)
        self.store = opener(self.config)

    def rates(self, *lines: str) -> None:
        self.path.write_text("\n".join(["date,currency,rate", *lines]) + "\n")

    def ingest(
        self, *rows: str, name: str = "t.csv", header: str = HEADER, **options: object
    ) -> IngestReport:
        return self.load(file(self.folder, list(rows), header, name), **options)[0]

    def load(self, source: Source, **options: object) -> list[IngestReport]:
        return run(self.store, self.config, source, **options)  # type: ignore[arg-type]

    def take_up(self, now: int = NOW + DAY) -> list[IngestReport]:
        return list(waiting_rows.take_up(self.store, self.config, lambda: now))

    def amounts(self) -> list[tuple[object, ...]]:
        return [
            (name, float(amount), float(base), *others)
            for name, amount, base, *others in query(self.store, AMOUNTS)
        ]

    def waiting(self) -> dict[str, int]:
        session = Session(self.store, self.config, "ann", lambda: NOW)
        return {waiting.currency: waiting.payments for waiting in waiting_payments(session)}


@pytest.fixture
def place(opener: Opener, tmp_path: Path) -> Place:
    return Place(opener, tmp_path)


def test_a_row_without_a_rate_waits_and_is_taken_up_once(place: Place) -> None:
    report = place.ingest(EUR, CHF, GBP)
    assert (report.counts, report.waiting, report.reasons) == (
        Counts(3, accepted=1, rejected=2), {"CHF": 1, "GBP": 1}, {}
    )  # fmt: skip
    assert not any("rejected rows are in" in line for line in ingest_lines(report))
    assert count(place.store, "rejected_rows") == 0
    assert place.take_up() == []
    place.rates("2026-03-02,CHF,1.1", "2026-03-04,GBP,1.2")  # that of GBP is too late
    (taken,) = place.take_up()
    assert (taken.source, taken.counts, taken.waiting) == ("waiting rows", TAKEN_UP, {})
    assert place.amounts() == [("c", 10.5, 11.55, "CHF", "k1"), ("e", 1.0, 1.0, "EUR", "k1")]
    assert place.waiting() == {"GBP": 1}
    assert place.take_up() == []
    assert count(place.store, "batches") == 2
    place.rates("2026-03-01,GBP,1.2", "2026-03-02,CHF,2")
    assert [report.counts for report in place.take_up()] == [TAKEN_UP]
    assert place.waiting() == {}
    assert [row[2] for row in place.amounts()] == [11.55, 1.0, 4.8]


def test_a_file_whose_rows_all_wait_is_no_failure_and_is_the_same_file_afterwards(place: Place) -> None:
    session = Session(place.store, place.config, "ann", lambda: NOW)
    path = file(place.folder, [CHF], HEADER).path
    (first,) = ingest(session, IngestRequest("transactions", (str(path),)))
    assert first.counts.rejected == 1
    place.rates("2026-03-02,CHF,1.1")
    taken, again = ingest(session, IngestRequest("transactions", (str(path),)))
    assert (taken.source, taken.counts) == ("waiting rows", TAKEN_UP)
    assert again.same_as == first.batch_id


def test_a_row_that_waits_already_is_a_duplicate_and_another_version_is_a_revision(place: Place) -> None:
    place.ingest(CHF)
    again = place.ingest(CHF, CHF, EUR, name="u.csv")
    assert again.counts == Counts(3, accepted=1, duplicate=2)
    place.ingest(CHF.replace("10.5", "11"), name="v.csv")
    assert place.waiting() == {"CHF": 1}
    place.rates("2026-03-02,CHF,2")
    (taken,) = place.take_up()
    assert taken.counts == Counts(2, accepted=1, revised=1)
    assert query(place.store, "SELECT revision, amount FROM revisions") == [(1, 11.0)]


@pytest.mark.parametrize("stored_before", [False, True])
def test_a_version_that_arrived_later_with_a_rate_stays_the_newest(place: Place, stored_before: bool) -> None:
    if stored_before:
        place.ingest(CHF.replace("CHF", "EUR").replace("10.5", "9"))
    place.ingest(CHF, name="u.csv")
    place.ingest(CHF.replace("CHF", "EUR"), name="v.csv")
    before = place.amounts(), query(place.store, "SELECT revision, amount FROM revisions")
    place.rates("2026-03-02,CHF,2")
    assert [report.counts for report in place.take_up()] == [Counts()]
    assert (place.amounts(), query(place.store, "SELECT revision, amount FROM revisions")) == before
    assert place.waiting() == {}


LATER = CHF.replace("CHF", "EUR").replace("10.5", "11")
MANY = [f"m{n},2026-03-02T00:00:00Z,1,EUR,k1" for n in range(50)]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([CHF, LATER], [11.0]),
        ([LATER, CHF], [11.0, 10.5]),
        ([CHF, LATER, CHF.replace("10.5", "12")], [11.0, 12.0]),
        ([CHF, CHF.replace("10.5", "12"), LATER], [11.0]),
        ([CHF, *MANY, LATER, *MANY], [11.0]),  # in different chunks
        ([LATER, *MANY, CHF], [11.0, 10.5]),
    ],
)
@pytest.mark.parametrize("stored_before", [False, True])
def test_of_versions_in_one_batch_the_last_row_is_the_newest(
    place: Place, monkeypatch: pytest.MonkeyPatch, rows: list[str], expected: list[float], stored_before: bool
) -> None:
    """`stored_before`: the version with a rate is a duplicate of one that an earlier batch brought."""
    monkeypatch.setattr(csv_reader, "BATCH_ROWS", 20)
    if stored_before:
        place.ingest(LATER, name="s.csv")
    place.ingest(*rows)
    place.rates("2026-03-02,CHF,2")
    place.take_up()
    first = query(place.store, "SELECT amount FROM transactions WHERE transaction_id = 'c'")
    revisions = query(place.store, "SELECT amount FROM revisions ORDER BY revision")
    assert [float(amount) for (amount,) in [*first, *revisions]] == expected
    assert place.waiting() == {}


def test_a_batch_with_a_superseded_row_still_has_newer_versions_than_older_batches(place: Place) -> None:
    place.ingest(CHF)
    place.ingest(GBP, GBP.replace("GBP", "EUR"), LATER, name="u.csv")
    place.rates("2026-03-02,CHF,2", "2026-03-02,GBP,2")
    place.take_up()
    assert count(place.store, "revisions") == 0


def test_a_row_that_is_wrong_otherwise_does_not_wait(place: Place) -> None:
    report = place.ingest(
        CHF, "c2,2026-03-02T00:00:00Z,x,CHF,k1", "c3,2026-03-02T00:00:00Z,1,CHF," + "k" * 600
    )
    assert (report.waiting, len(report.reasons), report.counts.rejected) == ({"CHF": 1}, 2, 3)
    assert query(place.store, "SELECT row_number FROM rejected_rows ORDER BY 1") == [(2,), (3,)]


@pytest.mark.parametrize(
    ("history", "scored", "taken_as_history"),
    [(None, False, True), (None, True, False), (True, True, False), (False, False, False)],
)
def test_taken_up_rows_are_history_only_if_they_came_as_history_and_nothing_was_scored(
    place: Place, history: bool | None, scored: bool, taken_as_history: bool
) -> None:
    place.ingest(CHF, history=history)
    if scored:
        execute(
            place.store,
            "INSERT INTO ledger (policy, kind, window_start, window_end, due_at, status, attempts) VALUES "
            "('live', 'score', '2026-03-01', '2026-03-02', '2026-03-02', 'done', 1)",
        )
    place.rates("2026-03-02,CHF,2")
    (taken,) = place.take_up()
    assert taken.history == taken_as_history
    (expected,) = (
        query(place.store, "SELECT event_time FROM visible_transactions") if taken_as_history else [None]
    )
    ((stored,),) = query(place.store, "SELECT ingested_at FROM visible_transactions")
    visible = query(place.store, f"SELECT visible_at FROM batches WHERE batch_id = {taken.batch_id}")
    assert (stored,) == (expected or visible[0])


def test_rows_of_both_modes_become_two_batches(place: Place) -> None:
    place.ingest(CHF, history=True)
    place.ingest(CHF.replace("c,", "c2,"), name="u.csv", history=False)
    place.rates("2026-03-02,CHF,2")
    assert [(taken.history, taken.counts) for taken in place.take_up()] == [
        (True, TAKEN_UP),
        (False, TAKEN_UP),
    ]


def test_inline_labels_of_waiting_rows_are_kept(opener: Opener, tmp_path: Path) -> None:
    place = Place(opener, tmp_path, is_fraud="fraud", genuine_means="genuine")
    given = file(tmp_path, [f"{EUR},0", f"{CHF},1", f"{GBP},"], HEADER + ",fraud")
    _, labels = place.load(given, known_after=7 * DAY)
    assert labels.counts.accepted == 2
    place.rates("2026-03-02,CHF,2")
    place.take_up()
    current = "SELECT transaction_id, is_fraud FROM current_labels JOIN transactions USING (transaction_id) ORDER BY 1"
    assert query(place.store, current) == [("c", True), ("e", False)]
    assert count(place.store, "labels") == 2


def test_hashed_fields_are_hashed_once_and_values_stay_what_they_are(opener: Opener, tmp_path: Path) -> None:
    place = Place(
        opener, tmp_path, hash=("card",), entities=("card", "shop"), numeric=("n", "m"), categorical=("city",),
        kind="kind", refund_kinds=("refund",), original_id="original",
    )  # fmt: skip
    columns = {
        "transaction_id": pa.array([1.0, 2.0]), "event_time": pa.array([NOW * 1000 - 7, NOW * 1000], pa.timestamp("ns", "UTC")),
        "amount": pa.array(["0.1000", "1e-7"]), "currency": pa.array(["CHF", "CHF"]), "card": pa.array([4111, 4111]),
        "shop": pa.array([7.0, None]), "n": pa.array([0.1, None], pa.float32()), "m": pa.array([2**53, 1]),
        "city": pa.array(['Zür"ich\n', "null"]), "kind": pa.array(["refund", None]), "original": pa.array(["x", None]),
    }  # fmt: skip
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    place.load(Source("t", tmp_path / "t.parquet", "parquet"))
    assert place.waiting() == {"CHF": 2}
    assert "4111" not in str(query(place.store, "SELECT row FROM waiting_rows"))
    place.rates("2026-03-02,CHF,1")
    place.take_up()
    taken = query(place.store, "SELECT * FROM transactions ORDER BY 1")
    execute(
        place.store,
        "DELETE FROM transactions",
        "DELETE FROM waiting_rows",
        "UPDATE batches SET status = 'withdrawn'",
    )
    place.load(Source("t", tmp_path / "t.parquet", "parquet"))
    loaded = query(place.store, "SELECT * FROM transactions ORDER BY 1")
    assert [[value for value in row if value not in (2, 3)] for row in taken] == [
        [value for value in row if value not in (2, 3)] for row in loaded
    ]


# ── undo, erase, prune


def test_undo_of_the_batch_withdraws_what_waits_and_what_was_taken_up(place: Place) -> None:
    report = place.ingest(EUR, CHF, CHF.replace("10.5", "11"), GBP)
    other = place.ingest(GBP.replace("g,", "g2,"), CHF.replace("c,", "c2,"), name="u.csv")
    place.rates("2026-03-02,CHF,2")
    place.take_up()
    assert report.batch_id is not None
    withdrawal = undo_batch(place.store, report.batch_id, "bad", "ann", NOW)
    assert withdrawal.counts == {"revisions": 1, "transactions": 2, "waiting_rows": 3}
    assert [row[0] for row in place.amounts()] == ["c2"]
    assert place.waiting() == {"GBP": 1}
    place.rates("2026-03-02,CHF,2", "2026-03-02,GBP,2")
    assert [taken.counts for taken in place.take_up()] == [TAKEN_UP]
    assert [row[0] for row in place.amounts()] == ["c2", "g2"]
    again = place.ingest(EUR, CHF, GBP)
    assert (again.counts, other.counts.rejected) == (Counts(3, accepted=3), 2)


def test_undo_of_what_was_taken_up_lets_it_wait_for_a_corrected_rate(place: Place) -> None:
    place.ingest(CHF)
    place.rates("2026-03-02,CHF,200")
    (taken,) = place.take_up()
    assert taken.batch_id is not None
    undo_batch(place.store, taken.batch_id, "wrong rate", "ann", NOW)
    assert place.waiting() == {"CHF": 1}
    place.rates("2026-03-02,CHF,2")
    place.take_up()
    assert [row[2] for row in place.amounts()] == [21.0]


def test_a_person_who_was_erased_stays_erased(place: Place) -> None:
    place.ingest(CHF)
    erased = erase(place.store, [PersonValue("card", "k1")], "ann", NOW)
    assert erased.counts["waiting_rows"] == 1
    place.rates("2026-03-02,CHF,2")
    place.take_up()
    assert [row[4] for row in place.amounts()] == [erased.values[0].pseudonym]


def test_retention_of_rejected_rows_keeps_what_waits(place: Place) -> None:
    place.ingest(CHF, GBP)
    place.rates("2026-03-02,CHF,2")
    place.take_up()
    assert prune(place.store, {"rejected": NOW + 300 * DAY}, NOW) == {"waiting_rows": 1}
    assert place.waiting() == {"GBP": 1}


def test_rows_that_have_become_too_old_or_too_large_are_rejected_when_they_are_taken_up(
    opener: Opener, tmp_path: Path
) -> None:
    place = Place(opener, tmp_path)
    place.ingest(CHF, GBP, CHF.replace("c,", "c2,").replace("10.5", "9e14"))
    retention = place.config.retention.model_copy(update={"transactions": 100 * DAY})
    place.config = place.config.model_copy(update={"retention": retention})
    place.rates("2026-01-01,CHF,2", "2026-01-01,GBP,2")
    (taken,) = place.take_up(NOW + 71 * DAY)  # CHF is of 2 March, GBP of 3 March
    assert taken.counts == Counts(3, accepted=1, rejected=2)
    assert sorted(taken.reasons) == [
        "amount is 900,000,000,000 or more in the base currency: check its unit and rate",
        "event_time is older than retention.transactions allows",
    ]
    rows = [row for (row,) in query(place.store, "SELECT row FROM rejected_rows ORDER BY row_number")]
    assert ['"transaction_id": "c"' in row for row in rows] == [True, False]


# ── kills


@contextmanager
def killed_in_write(number: int) -> Iterator[None]:
    """End this process, as SIGKILL does, before its write of this number commits."""
    original, writes = Store._writing, 0

    @contextmanager
    def writing(store: Store) -> Iterator[Connection]:
        nonlocal writes
        writes += 1
        with original(store) as connection:
            yield connection
            if writes == number:
                os.kill(os.getpid(), signal.SIGKILL)

    Store._writing = writing  # type: ignore[method-assign]
    try:
        yield
    finally:
        Store._writing = original  # type: ignore[method-assign]


def survives(config: Config, number: int) -> bool:
    """Take rows up in a process that is killed in its write of this number; whether it came to its end before."""
    child = os.fork()
    if child == 0:
        try:
            with open_configured(config) as store, killed_in_write(number):
                list(waiting_rows.take_up(store, config, lambda: NOW + DAY))
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL)
    return status == 0


def test_a_kill_in_any_write_loses_nothing_and_doubles_nothing(place: Place, url: str) -> None:
    place.ingest(EUR, CHF, CHF.replace("c,", "c2,"), CHF)
    place.rates("2026-03-02,CHF,2")
    config = with_url(place.config, url)
    place.store.close()
    number = 1
    while not survives(config, number):
        waiting, amounts = place.waiting(), len(query(place.store, "SELECT * FROM visible_transactions"))
        assert (waiting, amounts) == ({"CHF": 2}, 1), number
        place.store.close()
        number += 1
    assert number > 4  # there are several writes, and each was hit
    assert [row[0] for row in place.amounts()] == ["c", "c2", "e"]
    assert place.waiting() == {}
    assert place.take_up() == []
    done = query(place.store, "SELECT source, accepted FROM batches ORDER BY batch_id")
    assert done == [("t.csv", 1), ("waiting rows", 2)]


# ── the daemon's poll


def without_file(config: Config, **sections: object) -> Config:
    """The config with these sections instead of a file of rates."""
    schema = config.schema_.model_copy(update={"rates": ""})
    changed = config.model_copy(update={"schema_": schema, **sections})
    assert list(find_violations(changed)) == []
    return changed


def test_a_poll_reads_rates_first_then_takes_up_what_waited_then_the_other_feeds(
    opener: Opener, tmp_path: Path, url: str
) -> None:
    inbox, exchange = tmp_path / "inbox", tmp_path / "exchange"
    inbox.mkdir()
    exchange.mkdir()
    place = Place(opener, tmp_path)
    watch = {
        "a": {"folder": str(inbox), "settle_time": "0s"},
        "z": {"folder": str(exchange), "kind": "rates", "settle_time": "0s"},
    }
    place.config = without_file(
        place.config, watch={name: WatchSection.model_validate(given) for name, given in watch.items()}
    )
    now = 4 * NOW  # after the files were written

    def poll() -> list[tuple[str, object]]:
        reports = feeds.poll(place.store, place.config, lambda: now)
        return [
            (each.feed, each.error or each.rates or (each.report and each.report.counts)) for each in reports
        ]

    file(inbox, [CHF], HEADER, "1.csv")
    assert poll() == [("watch.a", Counts(1, rejected=1))]
    assert poll() == []
    (exchange / "fx.csv").write_text("date,currency,rate\n2026-03-01,CHF,much\n")
    ((feed, error),) = poll()
    assert feed == "watch.z"
    assert "row 1 must be like" in str(error)
    assert place.waiting() == {"CHF": 1}
    (exchange / "fx.csv").write_text("date,currency,rate\n2026-03-01,CHF,2.0\n")
    file(inbox, [CHF.replace("c,", "c2,"), GBP], HEADER, "2.csv")
    polled = poll()
    assert [feed for feed, _ in polled] == ["watch.z", "waiting rows", "watch.a"]
    assert [counts for _, counts in polled[1:]] == [TAKEN_UP, Counts(2, accepted=1, rejected=1)]
    assert place.waiting() == {"GBP": 1}
    assert poll() == []


def test_the_daemon_logs_what_waits_and_which_rates_are_old_and_takes_up_by_itself(
    opener: Opener, tmp_path: Path, url: str
) -> None:
    place, inbox = Place(opener, tmp_path), tmp_path / "inbox"
    inbox.mkdir()
    section = WatchSection.model_validate({"folder": str(inbox), "settle_time": "0s"})
    config = with_url(place.config, url).model_copy(update={"watch": {"inbox": section}})
    log = io.StringIO()
    logs.configure("json", log)
    daemon = Daemon(lambda: config, by="test", clock=lambda: NOW)

    def tick() -> list[tuple[str, dict[str, object]]]:
        start = log.tell()
        daemon.tick()
        lines = [json.loads(line) for line in log.getvalue()[start:].splitlines()]
        return [
            (line.pop("action"), {key: line[key] for key in line if key not in ("at", "level")})
            for line in lines
        ]

    try:
        arrived = file(inbox, [CHF, GBP.replace("GBP", "USD")], HEADER, "1.csv")
        os.utime(str(arrived.path), ns=((NOW - HOUR) * 1000,) * 2)
        told = tick()
        assert ("waiting_for_rate", {"feed": "watch.inbox", "currency": "CHF", "payments": 1}) in told
        old = {"currency": "USD", "payments": 1, "rate_of": "2026-01-01", "age_days": 61}
        assert ("old_rate", {"feed": "watch.inbox"} | old) in told
        place.rates("2026-03-02,CHF,2")
        (taken,) = [fields for action, fields in tick() if action == "ingested"]
        assert (taken["feed"], taken["accepted"]) == ("waiting rows", 1)
        assert "ingested" not in [action for action, _ in tick()]
    finally:
        daemon.close()


def test_rates_are_polled_from_a_query_at_each_tick(opener: Opener, tmp_path: Path) -> None:
    place = Place(opener, tmp_path)
    path = tmp_path / "fx.db"
    section = {
        "url": f"sqlite:///{path}", "query": "SELECT date, currency, rate, at FROM fx", "kind": "rates", "poll": True,
        "cursor": "at", "overlap": "1h",
    }  # fmt: skip
    place.config = without_file(place.config, source={"fx": SourceSection.model_validate(section)})

    def publish(*rows: tuple[object, ...]) -> list[tuple[int, int, int]]:
        with closing(sqlite3.connect(path)) as bank:
            bank.execute("CREATE TABLE IF NOT EXISTS fx (date TEXT, currency TEXT, rate REAL, at TEXT)")
            bank.executemany("INSERT INTO fx VALUES (?, ?, ?, ?)", rows)
            bank.commit()
        reports = [each.rates for each in feeds.poll(place.store, place.config, lambda: NOW + HOUR)]
        return [(rates.added, rates.corrected, rates.unchanged) for rates in reports if rates is not None]

    assert publish(("2026-03-01", "CHF", 1.5, "2026-03-01T08:00:00Z")) == [(1, 0, 0)]
    assert publish() == [(0, 0, 1)]
    assert publish(("2026-03-02", "CHF", 1.6, "2026-03-02T08:00:00Z")) == [(1, 0, 1)]
    assert publish() == [(0, 0, 1)]  # the cursor has gone on
    report = place.ingest(CHF)
    assert report.waiting == {}
    assert [row[2] for row in place.amounts()] == [16.8]
