"""New rows reach a daemon by queries it polls and folders it watches, each once."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from pipeline.config.config import Config
from pipeline.config.sections import SourceSection, WatchSection
from pipeline.ingest import feeds
from pipeline.ingest.feeds import FeedReport
from storage.database.database import Store
from storage.frames import DAY, HOUR, SECOND
from tests.support.databases import Opener
from tests.support.payments import PAYMENT_HEADER, START, write_csv
from tests.support.worlds import SMALL

QUERY = "SELECT id AS transaction_id, at AS event_time, customer_id, terminal_id, amount, updated_at FROM payments"
TABLE = "CREATE TABLE payments (id TEXT, at {time}, customer_id TEXT, terminal_id TEXT, amount REAL, updated_at {time})"
NOON = START + 12 * HOUR


def configured(
    source: dict[str, dict[str, object]] | None = None, watch: dict[str, dict[str, object]] | None = None
) -> Config:
    return SMALL.model_copy(
        update={
            "schema_": SMALL.schema_.model_copy(update={"timezone": "UTC"}),
            "source": {name: SourceSection.model_validate(given) for name, given in (source or {}).items()},
            "watch": {name: WatchSection.model_validate(given) for name, given in (watch or {}).items()},
        }
    )


class Bank:
    """The user's database: SQLite, or the Postgres server of the tests."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = f"sqlite:///{folder / 'bank.db'}" if url.startswith("sqlite") else url
        self.engine = create_engine(
            self.url.replace("postgresql://", "postgresql+psycopg://"), poolclass=NullPool
        )
        self.run(TABLE.format(time="TEXT" if url.startswith("sqlite") else "TIMESTAMPTZ"))

    def run(self, sql: str) -> None:
        with self.engine.begin() as connection:
            connection.exec_driver_sql(sql)

    def add(self, name: str, hour: int, updated: str) -> None:
        self.run(
            f"INSERT INTO payments VALUES ('{name}', '2025-01-01T{hour:02d}:00:00+00:00', 'c', 'm', 5, '{updated}')"
        )

    def config(self, **more: object) -> Config:
        source = {"url": self.url, "query": QUERY, "poll": True, "cursor": "updated_at", "overlap": "1h"}
        return configured(source={"bank": source | more})


def count(store: Store, sql: str) -> int:
    with store.read() as connection:
        return int(connection.execute(text(sql)).scalar_one())


def poll(store: Store, config: Config, now: int = NOON) -> list[FeedReport]:
    return list(feeds.poll(store, config, lambda: now))


def accepted(reports: list[FeedReport]) -> list[int]:
    return [told.report.counts.accepted for told in reports if told.report is not None]


@pytest.mark.parametrize("spelling", ["2025-01-01T{}+00:00", "2025-01-01 {}"])
def test_a_polled_query_goes_on_from_its_cursor_and_looks_back_for_late_commits(
    opener: Opener, url: str, tmp_path: Path, spelling: str
) -> None:
    store, bank = opener(SMALL), Bank(url, tmp_path)
    bank.add("a", 1, spelling.format("07:00:00"))
    bank.add("b", 2, spelling.format("09:00:00"))
    assert accepted(poll(store, bank.config())) == [2]
    bank.add("late", 3, spelling.format("08:30:00"))  # committed after the rows that were written later
    bank.add("c", 4, spelling.format("10:00:00"))
    (told,) = poll(store, bank.config())
    assert told.report is not None
    assert (told.report.counts.read, told.report.counts.accepted) == (3, 2)
    assert count(store, "SELECT COUNT(*) FROM transactions") == 4


def test_polls_that_bring_nothing_leave_no_batches_behind(opener: Opener, url: str, tmp_path: Path) -> None:
    store, bank = opener(SMALL), Bank(url, tmp_path)
    bank.add("a", 1, "2025-01-01T08:00:00+00:00")
    for minute in range(6):
        poll(store, bank.config(), NOON + minute * 60 * SECOND)
    assert count(store, "SELECT COUNT(*) FROM batches") <= 2
    assert count(store, "SELECT COUNT(*) FROM transactions") == 1


def test_a_column_that_vanished_is_one_feeds_error_and_the_others_go_on(
    opener: Opener, url: str, tmp_path: Path
) -> None:
    store, bank = opener(SMALL), Bank(url, tmp_path)
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    write_csv(inbox / "one.csv", PAYMENT_HEADER, ["f1,2025-01-01T00:00:00Z,c,m,1.00"])
    query = "SELECT id AS transaction_id FROM payments"
    config = configured(
        source={"bank": {"url": bank.url, "query": query, "poll": True}},
        watch={"inbox": {"folder": str(inbox), "settle_time": "0s"}},
    )
    broken, whole = poll(store, config, START + 1000 * DAY)
    assert broken.error is not None
    assert "event_time" in broken.error
    assert accepted([whole]) == [1]


def test_a_source_that_does_not_answer_is_said_so(opener: Opener, tmp_path: Path) -> None:
    store = opener(SMALL)
    config = configured(
        source={"bank": {"url": f"sqlite:///{tmp_path}/none.db", "query": "SELECT 1", "poll": True}}
    )
    (told,) = poll(store, config)
    assert told.error is not None
    assert "source.bank" in told.error


def test_a_watched_file_is_taken_once_complete_and_again_when_it_changes(
    opener: Opener, tmp_path: Path
) -> None:
    store, inbox = opener(SMALL), tmp_path / "inbox"
    inbox.mkdir()
    config = configured(watch={"inbox": {"folder": str(inbox), "settle_time": "10s"}})
    rows = ["f1,2025-01-01T00:00:00Z,c,m,1.00"]
    path = write_csv(inbox / "one.csv", PAYMENT_HEADER, rows)
    write_csv(inbox / "two.csv.part", PAYMENT_HEADER, ["f2,2025-01-01T00:00:00Z,c,m,1.00"])
    written = path.stat().st_mtime_ns // 1000
    assert poll(store, config, written + 9 * SECOND) == []
    assert accepted(poll(store, config, written + 10 * SECOND)) == [1]
    assert poll(store, config, written + 20 * SECOND) == []
    write_csv(path, PAYMENT_HEADER, [*rows, "f3,2025-01-01T00:00:00Z,c,m,1.00"])
    os.utime(path, ns=(written * 1000 + 1, written * 1000 + 1))
    (told,) = poll(store, config, written + 60 * SECOND)
    assert told.report is not None
    assert (told.report.counts.accepted, told.report.counts.duplicate) == (1, 1)


def test_a_bad_file_is_refused_once_and_tried_again_when_it_changes(opener: Opener, tmp_path: Path) -> None:
    store, inbox = opener(SMALL), tmp_path / "inbox"
    inbox.mkdir()
    config = configured(watch={"inbox": {"folder": str(inbox), "settle_time": "0s"}})
    path = write_csv(inbox / "bad.csv", "transaction_id,amount", ["f1,1.00"])
    later = path.stat().st_mtime_ns // 1000 + DAY
    (told,) = poll(store, config, later)
    assert told.error is not None
    assert "event_time" in told.error
    assert poll(store, config, later) == []
    assert count(store, "SELECT COUNT(*) FROM watched_files WHERE status = 'failed'") == 1
    write_csv(path, PAYMENT_HEADER, ["f1,2025-01-01T00:00:00Z,c,m,1.00"])
    assert accepted(poll(store, config, later)) == [1]


def test_a_file_of_which_nothing_is_accepted_says_why(opener: Opener, tmp_path: Path) -> None:
    store, inbox = opener(SMALL), tmp_path / "inbox"
    inbox.mkdir()
    config = configured(watch={"inbox": {"folder": str(inbox), "settle_time": "0s"}})
    path = write_csv(inbox / "bad.csv", PAYMENT_HEADER, ["f1,2025-01-01T00:00:00Z,c,m,much"])
    _, refused = poll(store, config, path.stat().st_mtime_ns // 1000 + DAY)
    assert refused.error is not None
    assert "every row was rejected (amount is not a number" in refused.error


def test_a_file_that_the_settings_refused_is_tried_again_by_others(opener: Opener, tmp_path: Path) -> None:
    store, inbox = opener(SMALL), tmp_path / "inbox"
    inbox.mkdir()
    right = configured(watch={"inbox": {"folder": str(inbox), "settle_time": "0s"}})
    wrong = right.model_copy(update={"schema_": right.schema_.model_copy(update={"amount": "amountx"})})
    path = write_csv(inbox / "payments.csv", PAYMENT_HEADER, ["f1,2025-01-01T00:00:00Z,c,m,1.00"])
    later = path.stat().st_mtime_ns // 1000 + DAY
    (refused,) = poll(store, wrong, later)
    assert "amountx" in (refused.error or "")
    assert poll(store, wrong, later) == []
    assert accepted(poll(store, right, later)) == [1]


def test_what_is_remembered_may_be_lost_and_nothing_is_doubled(
    opener: Opener, url: str, tmp_path: Path
) -> None:
    store, bank = opener(SMALL), Bank(url, tmp_path)
    bank.add("a", 1, "2025-01-01T08:00:00+00:00")
    poll(store, bank.config())
    with store.write() as connection:  # as after a kill between the batch and its cursor
        connection.execute(text("DELETE FROM source_cursors"))
    bank.add("b", 2, "2025-01-01T09:00:00+00:00")
    assert accepted(poll(store, bank.config())) == [1]
    assert count(store, "SELECT COUNT(*) FROM transactions") == 2


def test_the_users_database_is_only_read(opener: Opener, tmp_path: Path) -> None:
    store, bank = opener(SMALL), Bank("sqlite://", tmp_path)
    bank.add("a", 1, "2025-01-01T08:00:00+00:00")
    poll(store, bank.config())
    with closing(sqlite3.connect(tmp_path / "bank.db")) as connection, connection:
        tables = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
    assert tables == (1,)
