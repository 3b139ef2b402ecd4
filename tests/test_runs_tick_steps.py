"""One file, query or step that fails stops nothing else; everybody who should learn of it does, once."""

import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.cli.monitoring.doctor import result_line
from pipeline.config.config import Config
from pipeline.config.sections import HealthSection, NotifySection, ShadowSection, SourceSection, WatchSection
from pipeline.daemon.daemon import Daemon
from pipeline.ingest import ingest
from pipeline.ingest.formats import parquet_pages
from pipeline.monitoring import limits
from pipeline.notifications import deliver, ping
from pipeline.runs import scoring_run, steps
from pipeline.services.data.feeds import list_feeds
from pipeline.services.monitoring import doctor
from pipeline.services.session import Session
from storage.admin import prune
from storage.database.database import Store
from storage.errors import Unreachable
from storage.frames import DAY, HOUR, MINUTE
from storage.monitoring import drift_metrics
from storage.runs import tick_steps
from tests.support.daemon import Clock
from tests.support.databases import Copier, Opener, with_url
from tests.support.inbox import SECRET, Inbox, serving
from tests.support.payments import PAYMENT_HEADER, write_csv
from tests.support.sql import query
from tests.support.worlds import FOUR_WEEKS, FROM, SMALL

GOOD = "g1,2025-01-20T00:00:00Z,c1,m1,1.00"
NOT_UTF8 = os.fsdecode(b"caf\xe9.csv")


@dataclass
class Monitor:
    """A daemon on a database with four weeks of payments, which watches a folder and sends messages to an inbox."""

    daemon: Daemon
    clock: Clock
    store: Store
    folder: Path
    inbox: Inbox

    def tick(self, minutes: int = 5) -> None:
        self.clock.now += minutes * MINUTE
        assert self.daemon.tick() is not None

    def failing(self) -> dict[str, str]:
        return {step.name: step.error or "" for step in tick_steps.failing(self.store)}

    def doctor(self) -> list[str]:
        session = Session(self.store, self.daemon.config, "test", self.clock)
        return [result_line(result) for result in doctor.check(session, "live")]

    def titles(self) -> list[str]:
        return [title.removeprefix("[fraudwatch] ") for title in self.inbox.titles if "review" not in title]


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    with serving() as one:
        yield one


@pytest.fixture
def monitor(copier: Copier, url: str, tmp_path: Path, inbox: Inbox) -> Iterator[Monitor]:
    folder = tmp_path / "in"
    folder.mkdir()
    watch = {"in": WatchSection.model_validate({"folder": str(folder), "settle_time": "0s"})}
    notify = NotifySection.model_validate({"urls": [f"failure={inbox.url}"]})
    config = with_url(SMALL.model_copy(update={"watch": watch, "notify": notify}), url)
    config = config.model_copy(update={"health": HealthSection.model_validate({"port": 1})})
    clock = Clock(FROM + 400 * DAY)
    daemon = Daemon(lambda: config, by="daemon", clock=clock)
    store = copier(FOUR_WEEKS)
    with store.write() as connection:  # little to catch up
        connection.exec_driver_sql("DELETE FROM scoring_queue")
    clock.now = FROM + DAY + HOUR
    yield Monitor(daemon, clock, store, folder, inbox)
    daemon.close()


def old(path: Path) -> Path:
    """The file as it was written before the time of the tests."""
    os.utime(path, ns=(FROM * 1000, FROM * 1000))
    return path


def bomb(path: Path) -> None:
    """A page that unpacks to a thousand times its size."""
    columns = {name: ["x" * 3_000_000] for name in PAYMENT_HEADER.split(",")}
    pq.write_table(pa.table(columns), path, use_dictionary=False, compression="zstd")


def nested(path: Path) -> None:
    columns = {name: [["a"]] for name in PAYMENT_HEADER.split(",")}
    pq.write_table(pa.table(columns), path)


# A file and what is told of it; None for one that is read or left alone.
FILES: list[tuple[str, Callable[[Path], object], str | None]] = [
    ("bomb.parquet", bomb, "in one page of the column transaction_id: write it with pages"),
    ("nested.parquet", nested, "column transaction_id holds list<"),
    ("torn.parquet", lambda path: path.write_bytes(b"PAR1 and no more PAR1"), "is not valid Parquet"),
    ("null.csv", lambda path: path.write_bytes(b"\0" * 50), "null.csv"),
    ("unknown.doc", lambda path: path.write_text("x"), "must end in .csv"),
    ("loop.csv", lambda path: path.symlink_to(path.name), "loop.csv cannot be read: Too many levels"),
    ("folder.csv", lambda path: path.mkdir(), None),
    ("pipe.csv", os.mkfifo, None),
    ("gone.csv", lambda path: path.symlink_to("nowhere.csv"), None),
    ("memory.csv", lambda path: write_csv(path, PAYMENT_HEADER, []), "memory.csv: there is not enough memory"),
    ("bug.csv", lambda path: write_csv(path, PAYMENT_HEADER, []), "bug.csv: KeyError, a bug"),
    ("vanish.csv", lambda path: write_csv(path, PAYMENT_HEADER, []), "vanish.csv does not exist"),
    (NOT_UTF8, lambda path: write_csv(path, "a,b", ["1,2"]), "caf\\udce9.csv has no column"),
]  # fmt: skip


def by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that fail by their names, because their causes cannot be made on every machine."""
    real = ingest.ingest_transactions

    def broken(store: Store, config: Config, inputs: Any, **options: Any) -> Any:
        path = inputs[0].path
        if path is not None and path.name == "memory.csv":
            raise MemoryError
        if path is not None and path.name == "bug.csv":
            raise KeyError("c1")
        if path is not None and path.name == "vanish.csv":
            path.unlink()
        return real(store, config, inputs, **options)

    monkeypatch.setattr(ingest, "ingest_transactions", broken)
    monkeypatch.setattr(parquet_pages, "PAGE_BYTES_MAX", 1 << 20)


def test_bad_files_are_told_of_and_everything_else_goes_on(
    monitor: Monitor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    by_name(monkeypatch)
    for name, write, _ in FILES:
        write(monitor.folder / name)
        if (monitor.folder / name).is_file():
            old(monitor.folder / name)
    old(write_csv(monitor.folder / "zz_good.csv", PAYMENT_HEADER, [GOOD]))
    monitor.tick()

    files = dict(query(monitor.store, "SELECT path, error FROM watched_files"))
    told = {Path(path).name: error for path, error in files.items()}
    for name, _, sentence in FILES:
        shown = name.encode("utf-8", "backslashreplace").decode()
        assert (shown in told) == (sentence is not None), name
        assert sentence is None or sentence in told[shown]
    assert told["zz_good.csv"] is None
    assert query(monitor.store, "SELECT COUNT(*) FROM transactions WHERE transaction_id = 'g1'") == [(1,)]
    assert query(monitor.store, "SELECT COUNT(*) FROM ledger WHERE kind = 'score' AND status = 'done'") == [
        (1,)
    ]

    refused = sum(sentence is not None for _, _, sentence in FILES)
    assert monitor.failing()["watch.in"].startswith(f"{refused} refused: ")
    assert any(line.startswith("✗ watch.in: fails since 2025-01-21") for line in monitor.doctor())
    assert monitor.daemon.health.ready() == (True, "active")
    assert monitor.daemon.health.failing() == ["watch.in"]
    metrics = {
        sample.labels["step"]: sample.value
        for family in monitor.daemon.health.collect()
        if family.name == "fraudwatch_step_failing"
        for sample in family.samples
    }
    assert metrics["watch.in"] == 1
    assert metrics["run"] == metrics["notify"] == 0
    assert monitor.titles() == ["watch.in fails"]
    json.dumps(monitor.inbox.got).encode()

    monitor.tick()  # nothing has changed, so nothing is told again
    assert monitor.titles() == ["watch.in fails"]
    for path in monitor.folder.iterdir():
        if path.name not in ("folder.csv", "zz_good.csv"):
            path.unlink()
    old(write_csv(monitor.folder / NOT_UTF8, PAYMENT_HEADER, [GOOD.replace("g1", "g2")]))
    monitor.tick()
    assert monitor.failing() == {}
    assert query(monitor.store, "SELECT COUNT(*) FROM transactions WHERE transaction_id = 'g2'") == [(1,)]
    monitor.tick(minutes=15)
    assert monitor.titles() == ["watch.in fails", "watch.in works again"]
    monitor.tick(minutes=60)
    assert len(monitor.titles()) == 2


def test_a_file_that_the_disk_refused_is_tried_again_without_a_change(monitor: Monitor) -> None:
    path = monitor.folder / "one.csv"
    path.symlink_to("one.csv")  # as long as it points to itself
    monitor.tick()
    assert "watch.in" in monitor.failing()
    (monitor.folder / "of.part").write_text(f"{PAYMENT_HEADER}\n{GOOD}\n", encoding="utf-8")
    path.unlink()
    path.symlink_to("of.part")
    old(path)
    monitor.tick()
    assert monitor.failing() == {}
    assert query(monitor.store, "SELECT status FROM watched_files") == [("done",)]


def test_feeds_that_come_and_go_send_two_messages(monitor: Monitor) -> None:
    for _ in range(4):
        monitor.folder.rename(monitor.folder.with_name("away"))
        monitor.tick()
        listed = list_feeds(Session(monitor.store, monitor.daemon.config, "test", monitor.clock)).items
        assert [(feed.feed, feed.status, feed.path) for feed in listed] == [("watch.in", "failed", None)]
        assert "which is not a folder" in str(listed[0].error)
        monitor.folder.with_name("away").rename(monitor.folder)
        monitor.tick()
    monitor.tick(minutes=20)
    assert monitor.titles() == ["watch.in fails", "watch.in works again"]


# A query of a bank's SQLite file, and what is told of it.
QUERIES = [
    ("SELECT abs(-9223372036854775807 - 1) AS transaction_id", "source.bank gives no rows: integer overflow"),
    ("SELECT CAST(X'ff' AS TEXT) AS transaction_id, 1 AS amount", "source.bank"),
    ("SELECT * FROM nowhere", "source.bank gives no rows: no such table"),
    ("DELETE FROM payments", "must have one SELECT"),
    ("SELECT 1 AS transaction_id", "has no column"),
]


@pytest.mark.parametrize(("sql", "told"), QUERIES)
def test_a_query_that_fails_is_its_own_feeds_error(
    opener: Opener, url: str, tmp_path: Path, sql: str, told: str
) -> None:
    store, clock = opener(SMALL), Clock(FROM)
    with closing(sqlite3.connect(tmp_path / "bank.db")) as bank:
        bank.execute("CREATE TABLE payments (id TEXT)")
    source = {"url": f"sqlite:///{tmp_path / 'bank.db'}", "query": sql, "poll": True}
    config = with_url(
        SMALL.model_copy(update={"source": {"bank": SourceSection.model_validate(source)}}), url
    )
    daemon = Daemon(lambda: config, by="daemon", clock=clock)
    daemon.tick()  # without data nothing is scored
    failing = tick_steps.failing(store)
    assert [(step.name, step.failures) for step in failing] == [("source.bank", 1)]
    assert told in str(failing[0].error)
    daemon.tick()
    assert tick_steps.failing(store)[0].failures == 2
    assert store.engine is not None
    assert daemon.health.ready()[0]
    daemon.close()


def test_an_error_of_the_monitors_own_database_ends_the_tick(
    monitor: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_given: Any, **_named: Any) -> Any:
        raise Unreachable("database x does not answer")

    old(write_csv(monitor.folder / "a.csv", PAYMENT_HEADER, [GOOD]))
    monkeypatch.setattr(ingest, "ingest_transactions", away)
    assert monitor.daemon.tick() is None
    assert not monitor.daemon.health.ready()[0]
    assert query(monitor.store, "SELECT COUNT(*) FROM watched_files") == [(0,)]
    monkeypatch.undo()
    monitor.tick()
    assert monitor.failing() == {}


def broken(*_given: Any, **_named: Any) -> Any:
    raise ZeroDivisionError("amount 4111111111111111")


# Where a bug is, and the part of the tick that fails by it.
PARTS = [
    (limits, "check_due_limits", "limits"),
    (deliver, "queue_messages", "notify"),
    (drift_metrics, "write_drift", "run"),
    (prune, "prune", "run"),
    (steps.train, "fit", "run"),
]


@pytest.mark.one_engine
@pytest.mark.parametrize(("module", "function", "part"), PARTS)
def test_a_bug_in_one_part_stops_no_other(
    monitor: Monitor,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    module: Any,
    function: str,
    part: str,
) -> None:
    from pipeline import logs

    logs.configure("json")
    monkeypatch.setattr(module, function, broken)
    shadow = {"cautious": ShadowSection.model_validate({"alerts": {"per_day": 2}})}
    monitor.daemon.config = monitor.daemon.config.model_copy(update={"shadow": shadow})
    monitor.clock.now = FROM + 7 * DAY + HOUR  # a training and a pruning are due as well
    monitor.tick()
    failing = monitor.failing()
    assert "ZeroDivisionError, a bug" in failing.pop(part)
    assert set(failing) <= {"shadow.cautious"}  # which does the same steps
    assert "4111" not in str(query(monitor.store, "SELECT error FROM tick_steps"))
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert any("ZeroDivisionError" in line.get("traceback", "") for line in lines)
    assert query(monitor.store, "SELECT COUNT(*) FROM tick_steps WHERE name = 'tick'") == [(1,)]
    if function != "fit":
        scored = "SELECT COUNT(*) FROM ledger WHERE policy = 'live' AND kind = 'score' AND status = 'done'"
        assert query(monitor.store, scored) == [(7,)]
    monkeypatch.undo()
    monitor.tick(minutes=60)
    assert part not in monitor.failing()


def test_each_tick_that_ended_well_is_pinged_and_no_other(
    monitor: Monitor, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    notify = {"ping_url": f"http://127.0.0.1:{inbox.port}/{SECRET}"}
    monitor.daemon.config = monitor.daemon.config.model_copy(
        update={"notify": NotifySection.model_validate(notify)}
    )
    assert SECRET not in monitor.daemon.config.public_text() + repr(monitor.daemon.config)
    monitor.tick()
    assert inbox.pings == [f"/{SECRET}"]
    inbox.status = 500
    monitor.tick()
    assert "notify.ping_url was not reached: the answer was 500" in monitor.failing()["ping"]
    assert SECRET not in str(query(monitor.store, "SELECT error FROM tick_steps"))
    inbox.status = 200
    monkeypatch.setattr(scoring_run, "run", broken)
    assert monitor.daemon.tick() is None
    assert len(inbox.pings) == 2
    monkeypatch.undo()

    import threading

    answered = threading.Event()
    inbox.before_answer = lambda: answered.wait(10) and None
    monkeypatch.setattr(ping, "WITHIN_S", 0.3)
    monitor.tick()
    assert "no answer" in monitor.failing()["ping"]
    answered.set()


def test_people_learn_that_no_tick_came_for_long(monitor: Monitor, url: str) -> None:
    monitor.tick()
    second = Daemon(lambda: monitor.daemon.config, by="second", clock=monitor.clock)
    monitor.clock.now += 2 * HOUR  # a long tick
    assert second.tick() is None
    assert monitor.titles() == []
    monitor.clock.now += 5 * HOUR  # the first one hangs, although it renews its lease
    for _ in range(2):
        assert second.tick() is None
        assert monitor.titles() == ["no tick since 2025-01-21 01:05 UTC"]
    second.close()
    monitor.tick()
    monitor.tick()
    assert len(monitor.titles()) == 1
    monitor.tick(minutes=90)  # it was down
    assert monitor.titles()[1:] == ["no tick since 2025-01-21 08:15 UTC"]
