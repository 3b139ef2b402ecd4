"""What a daemon does when disk, lock or schema are against it, with the real thing each time."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import event, update

from pipeline.daemon.daemon import Daemon
from storage.database import database, leases, tables
from storage.database.database import Store
from storage.frames import DAY, HOUR
from storage.queries.runs import gap_page
from storage.runs import ledger
from tests.support.daemon import Clock
from tests.support.databases import Copier, with_url
from tests.support.sql import query
from tests.support.worlds import FOUR_WEEKS, FROM, SMALL


def on_sqlite(copier: Copier, url: str) -> tuple[Daemon, Clock, Store]:
    """A daemon that has done a day, on a file."""
    store, clock = copier(FOUR_WEEKS), Clock(FROM + DAY + HOUR)
    config = with_url(SMALL, url)
    daemon = Daemon(lambda: config, by="daemon", clock=clock)
    assert daemon.tick() is not None
    return daemon, clock, store


def undisturbed(store: Store) -> bool:
    """Every score has its transaction once, every flag its score, every window its row."""
    flags = "SELECT COUNT(*) FROM flags f LEFT JOIN scores s USING (policy, transaction_id) WHERE s.policy IS NULL"
    queued = "SELECT COUNT(*) FROM scoring_queue JOIN scores USING (policy, transaction_id)"
    return query(store, flags) == query(store, queued) == [(0,)]


def test_a_full_disk_loses_nothing_and_the_next_tick_goes_on(sqlite_copier: Copier, sqlite_url: str) -> None:
    daemon, clock, store = on_sqlite(sqlite_copier, sqlite_url)
    assert daemon._session is not None
    pages = query(store, "PRAGMA page_count")[0][0]

    def no_more_pages(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages}")

    event.listen(daemon._session.store.engine, "connect", no_more_pages)
    daemon._session.store.close()  # the connections that are open have space
    clock.now = FROM + 5 * DAY + HOUR
    assert daemon.tick() is None
    assert daemon.health.ready()[0] is False
    assert "is full, and nothing was half written: free space" in daemon.health.ready()[1]
    assert undisturbed(store)
    assert daemon.pause() > 0

    tally = daemon.tick()  # opens the file anew: there is space again
    assert tally is not None
    assert not tally.failures
    assert daemon.pause() == 0
    assert gap_page(store, "live").rows == []
    assert len(ledger.entries(store, "live", "score", status="done")) == 5
    daemon.close()


def test_a_locked_file_is_waited_for_then_said_and_tried_again(
    sqlite_copier: Copier, sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 200)
    daemon, clock, store = on_sqlite(sqlite_copier, sqlite_url)
    clock.now = FROM + 2 * DAY + HOUR
    with closing(sqlite3.connect(tmp_path / "fraudwatch.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert daemon.tick() is None
        assert "locked" in daemon.health.ready()[1]
        other.execute("ROLLBACK")
    tally = daemon.tick()
    assert tally is not None
    assert tally.windows == 1
    assert undisturbed(store)
    daemon.close()


@pytest.mark.one_engine
def test_a_field_that_is_dropped_from_the_schema_stays_with_its_model_until_the_next_promotion(
    copier: Copier, url: str
) -> None:
    store = copier(FOUR_WEEKS)
    clock = Clock(FROM + 2 * DAY + HOUR)
    daemon = Daemon(lambda: with_url(SMALL, url), by="daemon", clock=clock)
    daemon.tick()
    narrow = SMALL.model_copy(
        update={"schema_": SMALL.schema_.model_copy(update={"entities": ("customer_id",)})}
    )
    daemon._load = lambda: with_url(narrow, url)
    assert daemon.reload()
    clock.now = FROM + 6 * DAY + HOUR
    tally = daemon.tick()
    assert tally is not None
    assert (tally.windows, tally.failures) == (4, [])
    models = query(store, "SELECT DISTINCT model_id FROM scores ORDER BY 1")
    assert len(models) == 1
    clock.now = FROM + 9 * DAY + HOUR
    daemon.tick()
    models = query(store, "SELECT model_id, COUNT(*) FROM scores GROUP BY model_id ORDER BY 1")
    assert len(models) == 2
    names = query(store, "SELECT feature_names FROM models ORDER BY model_id")
    assert "terminal" in str(names[0])
    assert "terminal" not in str(names[1])
    daemon.close()


def test_a_field_that_the_database_lacks_is_refused_with_its_remedy(copier: Copier, url: str) -> None:
    copier(FOUR_WEEKS)
    daemon = Daemon(lambda: with_url(SMALL, url), by="daemon", clock=Clock(FROM + DAY + HOUR))
    daemon.tick()
    wide = SMALL.model_copy(update={"schema_": SMALL.schema_.model_copy(update={"numeric": ("distance",)})})
    daemon._load = lambda: with_url(wide, url)
    assert not daemon.reload()
    assert daemon.config.schema_.numeric == ()
    assert daemon.tick() is not None
    daemon.close()


def test_a_daemon_that_fell_silent_on_another_machine_is_followed_when_its_lease_runs_out(
    copier: Copier, url: str
) -> None:
    store = copier(FOUR_WEEKS)
    clock = Clock(FROM + DAY + HOUR)
    first = Daemon(lambda: with_url(SMALL, url), by="first", clock=clock)
    second = Daemon(lambda: with_url(SMALL, url), by="second", clock=clock)
    first.tick()
    with store.write() as connection:
        over = leases.database_now(connection) + 1_500_000
        silent = {"process": "elsewhere/1", "expires_at": over}
        connection.execute(update(tables.leases).where(tables.leases.c.name == "daemon:live").values(silent))
    assert second.tick() is None
    assert second.health.ready() == (True, "standby")
    time.sleep(1.7)
    clock.now = FROM + 2 * DAY + HOUR
    tally = second.tick()
    assert tally is not None
    assert tally.windows == 1
    clock.now = FROM + 3 * DAY + HOUR
    assert first.tick() is None  # it was away and did not know; its first write tells it
    assert not first.active
    assert second.tick() is not None
    first.close()
    second.close()
