"""Months of ticks, in the tests' time: what the daemon does when all is well and when it is not."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from pipeline.config.config import Config
from pipeline.daemon.daemon import Daemon
from pipeline.errors import ConfigError
from storage.database import leases
from storage.database.database import Store
from storage.errors import Busy
from storage.frames import DAY, HOUR, SECOND
from storage.queries.runs import gap_page
from storage.runs import ledger
from tests.support.daemon import Clock
from tests.support.databases import Copier, with_url
from tests.support.sql import count
from tests.support.worlds import FOUR_WEEKS, FROM, SMALL

HOURLY = SMALL.model_copy(update={"schedule": SMALL.schedule.model_copy(update={"window": HOUR})})
FOUR_HOURLY = SMALL.model_copy(update={"schedule": SMALL.schedule.model_copy(update={"window": 4 * HOUR})})


@pytest.fixture
def started(copier: Copier, url: str) -> Iterator[tuple[Daemon, Clock, Store]]:
    """A daemon on a database with four weeks of payments, its clock an hour after the work began."""
    store = copier(FOUR_WEEKS)
    clock = Clock(FROM + HOUR)
    daemon = Daemon(lambda: with_url(SMALL, url), by="daemon", clock=clock)
    yield daemon, clock, store
    daemon.close()


def test_a_tick_without_work_writes_nothing(started: tuple[Daemon, Clock, Store]) -> None:
    daemon, clock, store = started
    clock.now = FROM + 2 * DAY + HOUR
    assert (tally := daemon.tick()) is not None
    assert tally.windows == 2
    before = [count(store, table) for table in ("runs", "ledger", "scores")]
    for minute in range(5):
        clock.now += minute * 60 * SECOND
        daemon.tick()
    assert [count(store, table) for table in ("runs", "ledger", "scores")] == before


def test_after_downtime_the_newest_window_comes_first_and_the_rest_a_few_a_tick(
    started: tuple[Daemon, Clock, Store],
) -> None:
    daemon, clock, store = started
    few = daemon.config.schedule.model_copy(update={"catch_up": 3})
    daemon.config = daemon.config.model_copy(update={"schedule": few})
    clock.now = FROM + 7 * DAY + HOUR
    tally = daemon.tick()
    assert tally is not None
    assert (tally.windows, tally.windows_left) == (3, 4)
    done = [(e.window_start - FROM) // DAY for e in ledger.entries(store, "live", "score", status="done")]
    assert done == [0, 1, 6]
    assert len(gap_page(store, "live").rows) == 9  # four windows, their drift, the quality of the week
    daemon.tick()
    daemon.tick()
    assert gap_page(store, "live").rows == []


def test_a_second_daemon_stands_by_and_takes_over_when_the_first_lets_go(
    started: tuple[Daemon, Clock, Store], url: str
) -> None:
    daemon, clock, _ = started
    second = Daemon(lambda: with_url(SMALL, url), by="second", clock=clock)
    daemon.tick()
    assert second.tick() is None
    assert (daemon.active, second.active) == (True, False)
    with pytest.raises(Busy, match="daemon"):
        second.once()
    daemon.close()
    second.tick()
    assert second.active
    second.close()


def test_a_daemon_whose_lease_was_taken_writes_nothing_more(started: tuple[Daemon, Clock, Store]) -> None:
    daemon, clock, store = started
    daemon.tick()
    with store.write() as connection:
        connection.execute(text("UPDATE leases SET expires_at = NULL WHERE name = 'daemon:live'"))
    leases.acquire(store, "daemon:live", "another", 3600 * SECOND)
    before = count(store, "scores")
    clock.now = FROM + 3 * DAY + HOUR
    assert daemon.tick() is None
    assert count(store, "scores") == before
    assert not daemon.active


def test_a_clock_that_steps_back_undoes_nothing(started: tuple[Daemon, Clock, Store]) -> None:
    daemon, clock, store = started
    clock.now = FROM + 2 * DAY + HOUR
    daemon.tick()
    before = count(store, "ledger")
    clock.now = FROM + HOUR
    daemon.tick()
    assert count(store, "ledger") == before


def test_a_bad_config_is_refused_and_the_old_one_stays(
    started: tuple[Daemon, Clock, Store], url: str
) -> None:
    daemon, _, _ = started
    kept = daemon.config

    def bad() -> Config:
        raise ConfigError("alerts.per_day must be 1 or more, got 0")

    daemon._load = bad
    assert not daemon.reload()
    assert daemon.health.failing() == ["config"]
    assert daemon.config is kept
    daemon._load = lambda: with_url(HOURLY, url)
    assert daemon.reload()
    assert daemon.health.failing() == []
    assert daemon.config.schedule.window == HOUR


@pytest.mark.one_engine
def test_a_change_of_schedule_begins_where_the_ledger_ends(
    started: tuple[Daemon, Clock, Store], url: str
) -> None:
    daemon, clock, store = started
    clock.now = FROM + 2 * DAY + HOUR
    daemon.tick()
    daemon._load = lambda: with_url(HOURLY, url)
    assert daemon.reload()
    clock.now = FROM + 2 * DAY + 4 * HOUR
    daemon.tick()
    windows = [(e.window_start, e.window_end) for e in ledger.entries(store, "live", "score")]
    assert windows == sorted(windows)
    assert all(a[1] == b[0] for a, b in itertools.pairwise(windows))
    assert [b - a for a, b in windows] == [DAY, DAY, HOUR, HOUR, HOUR]
    assert {e.status for e in ledger.entries(store, "live", "score")} == {"done"}


def test_a_model_that_does_not_load_fails_its_windows_visibly_and_they_are_retried(
    started: tuple[Daemon, Clock, Store],
) -> None:
    daemon, clock, store = started
    clock.now = FROM + DAY + HOUR
    daemon.tick()
    with store.write() as connection:
        connection.execute(text("UPDATE models SET sha256 = 'damaged'"))
    daemon.close()  # what was in memory is gone, as after a restart
    clock.now = FROM + 2 * DAY + HOUR
    tally = daemon.tick()
    assert tally is not None
    assert "train anew" in tally.failures[0]
    gap = gap_page(store, "live").rows[-1]
    assert (gap["status"], gap["attempts"]) == ("failed", 1)
    daemon.tick()  # too early for another try
    assert gap_page(store, "live").rows[-1]["attempts"] == 1
    for _ in range(3):
        clock.now += HOUR
        daemon.tick()
    gap = next(gap for gap in gap_page(store, "live").rows if gap["kind"] == "score")
    assert (gap["attempts"], gap["not_before"]) == (3, None)
    assert gap["remedy"] == "repeat_window"


@pytest.mark.one_engine
@pytest.mark.long
def test_a_week_of_ticks_trains_scores_and_leaves_no_gap(copier: Copier, url: str) -> None:
    store = copier(FOUR_WEEKS, FOUR_HOURLY)
    clock = Clock(FROM + HOUR)
    daemon = Daemon(lambda: with_url(FOUR_HOURLY, url), by="daemon", clock=clock)
    for hour in (*range(1, 49), *range(51, 169, 3), 168):
        clock.now = FROM + (hour + 1) * HOUR
        daemon.tick()
    daemon.close()
    assert len(ledger.entries(store, "live", "score", status="done")) == 42
    assert len(ledger.entries(store, "live", "train", status="done")) == 2
    assert gap_page(store, "live").rows == []
    assert count(store, "scoring_queue") < count(store, "scores")


def test_the_process_stops_at_sigterm_and_reloads_at_sighup(copier: Copier, url: str, tmp_path: Path) -> None:
    copier(FOUR_WEEKS)
    config = tmp_path / "config.toml"
    config.write_text(as_toml(url), encoding="utf-8")
    command = [sys.executable, "-m", "pipeline", "--config", str(config), "daemon", "--log", "json"]
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path.cwd()), "FRAUDWATCH_MODEL_KEY": "0123456789abcdef"},
    ) as process:
        assert process.stderr is not None
        lines: list[str] = []
        reader = threading.Thread(target=lambda: lines.extend(process.stderr or []), daemon=True)
        reader.start()
        wait_for(lines, '"active"')
        config.write_text(as_toml(url) + "\n[alerts]\nper_day = 0\n", encoding="utf-8")
        process.send_signal(signal.SIGHUP)
        wait_for(lines, "config_refused")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    reader.join(5)
    assert any('"stopped"' in line for line in lines)
    assert not any("c1," in line for line in lines)


def as_toml(url: str) -> str:
    return f"""
[storage]
url = "{url}"
[schema]
entities = ["customer_id", "terminal_id"]
categorical = []
kind = ""
original_id = ""
[labels]
maturity = "5d"
[features]
windows = ["1d", "7d"]
[training]
min_rows = 200
[schedule]
tick = "1h"
"""


def wait_for(lines: list[str], word: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not any(word in line for line in lines):
        assert time.monotonic() < deadline, f"no {word} in {lines}"
        time.sleep(0.05)
