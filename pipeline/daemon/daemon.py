"""
The daemon: ticks, signals, the lease, and retries while the database is unreachable.

A tick only does what feeds, ledger and queue require, so a missed tick costs nothing: the next one finds the same
work. Of all daemons on a database only the one that holds the lease works. The others stand by and check the lease
every `STANDBY_S`, so one of them takes over within `LEASE` of the first one's death, at once if it died on the same
machine.

Only the daemon and the command line read the clock.
"""

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import Any

from pipeline.config.config import Config
from pipeline.config.database import open_configured
from pipeline.daemon import logs
from pipeline.daemon.health import Health, Outcome, serve_health
from pipeline.errors import ConfigError, FraudwatchError, NotReady
from pipeline.ingest import feeds
from pipeline.ingest.feeds import FeedReport
from pipeline.notifications import apprise_transport, deliver
from pipeline.runs import challengers, scoring_run
from pipeline.schedule.run_context import LIVE, RunSummary
from storage.database import leases
from storage.database.database import Store
from storage.database.leases import Lease
from storage.database.setup import verify
from storage.errors import Busy, Locked, StorageError, UnsupportedSchema
from storage.frames import SECOND
from storage.monitoring import health

LEASE = 30 * SECOND
STANDBY_S = 10  # how often a daemon that stands by checks the lease
STOP_WITHIN_S = 30  # after SIGTERM; a step that has not finished by then is rolled back
RETRY_S_MIN, RETRY_S_MAX = (
    1.0,
    60.0,
)  # pauses while the database is unreachable double from the first to the second
WARNING, ERROR = 30, 40
TICK_JOB = "tick"


class Daemon:
    """Runs ticks for one policy of one database."""

    def __init__(
        self,
        load: Callable[[], Config],
        *,
        by: str,
        clock: Callable[[], int],
        policy: str = "live",
        stopping: threading.Event | None = None,
    ) -> None:
        self._load = load
        self._by = by
        self._clock = clock
        self._policy = policy
        self._newest = 0
        self._failures = 0
        self._store: Store | None = None
        self._lease: Lease | None = None
        self._resources = ExitStack()
        self._lock = threading.Lock()
        self.config = load()
        self.config.model_key()  # fails now rather than at the first training
        apprise_transport.require_apprise(self.config)
        self.health = Health(clock)
        self.stopping = stopping or threading.Event()

    @property
    def active(self) -> bool:
        """Whether this daemon holds the lease; otherwise it stands by."""
        return self._lease is not None and not self._lease.lost

    def check_schema(self) -> None:
        """
        Check that a tick can ever use the database; ticks report every other error and try again.

        Raises
        ------
        UnsupportedSchema
            The schema is too old to be upgraded, or newer than this program.
        """
        try:
            with open_configured(self.config) as store:
                verify(store, self.config.monitor.name)
        except UnsupportedSchema:
            raise
        except StorageError:
            return

    def tick(self) -> RunSummary | None:
        """
        Run one tick without raising; None if it stood by or failed.

        A failure is logged and left to the next tick: the work is still in the ledger and the queue.
        """
        with self._lock:
            self.health.tick_started()
            summary, outcome, reason = self._tick_outcome()
            self.health.tick_ended(outcome, reason)
            return summary

    def _tick_outcome(self) -> tuple[RunSummary | None, Outcome, str]:
        try:
            summary = self._tick()
        except StorageError as error:
            return None, self._handle_storage_error(error), str(error)
        except NotReady as error:
            logs.event("not_ready", reason=str(error))
            return None, "not_ready", str(error)
        except FraudwatchError as error:
            logs.event("tick_failed", WARNING, reason=str(error))
            return None, "failed", str(error)
        except Exception:  # noqa: BLE001 (top level: a bug must not end a daemon that has other work)
            logs.bug("tick_failed")
            return None, "failed", "a bug: see the log"
        self._failures = 0
        return summary, "done", ""

    def once(self) -> RunSummary:
        """
        Run one tick; errors are raised.

        Raises
        ------
        Busy
            Another daemon holds the lease.
        """
        with self._lock:
            return self._tick()

    def reload(self) -> bool:
        """Read the configuration again; if it is invalid, the old one stays in force."""
        try:
            config = self._load()
            config.model_key()
            apprise_transport.require_apprise(config)
            with open_configured(config) as store:
                verify(store, config.monitor.name)
        except (ConfigError, StorageError) as error:
            logs.event("config_refused", ERROR, reason=str(error), kept=self.config.origin)
            return False
        with self._lock:
            self._release()
            self.config = config
        logs.event("config_reloaded", origin=config.origin)
        return True

    def close(self) -> None:
        """Release the lease and close the database."""
        with self._lock:
            self._release()

    def pause(self) -> float:
        """Seconds until the next retry: doubles with each failure in a row, with jitter; 0 after a success."""
        if not self._failures:
            return 0.0
        longest: float = min(RETRY_S_MIN * 2.0 ** (self._failures - 1), RETRY_S_MAX)
        return longest * float(random.uniform(0.5, 1.0))  # spreads retries

    def _tick(self) -> RunSummary:
        self._now()
        store = self._acquire()
        started = time.monotonic()
        for feed in feeds.poll(store, self.config, self._now):
            _log_feed(feed)
            self.health.feed_read(feed)
        as_of = self._now()
        with self._notify_after(store):
            summary = self._run(store, self.config, self._policy, as_of)
        if summary.run_id:
            seconds = time.monotonic() - started
            self._log_run(summary, seconds)
            self.health.run_finished(summary, seconds)
        self._run_challengers(store, as_of)
        if self.config.health.port:
            self.health.update_snapshot(health.read(store, self._policy), summary.windows_left)
        return summary

    @contextmanager
    def _notify_after(self, store: Store) -> Iterator[None]:
        """Send notifications after the block, even if the run failed; not while the database is unreachable."""
        try:
            yield
        except StorageError:
            raise
        except Exception:
            self._notify(store)
            raise
        self._notify(store)

    def _notify(self, store: Store) -> None:
        delivery = deliver.send_notifications(
            store, self.config, clock=self._now, by=self._by, stopping=self._should_stop
        )
        if delivery.sent:
            logs.event("notified", messages=delivery.sent, deferred=delivery.deferred)
        for error in delivery.errors:
            logs.event("notify_failed", WARNING, reason=error)

    def _run_challengers(self, store: Store, as_of: int) -> None:
        """Run challengers after live; a failure is logged and left to the next tick."""
        if self._policy != LIVE:
            return
        for result in challengers.run_challengers(
            self.config, lambda config, name: self._run_challenger(store, config, name, as_of)
        ):
            if result.error is not None:
                logs.event("challenger_failed", WARNING, challenger=result.name, reason=str(result.error))
        for name in challengers.retire(store, self.config):
            logs.event("challenger_ended", challenger=name)

    def _run_challenger(self, store: Store, config: Config, name: str, as_of: int) -> RunSummary:
        started = time.monotonic()
        try:
            summary = self._run(store, config, name, as_of)
        except challengers.EXPECTED_ERRORS:
            raise
        except Exception:  # noqa: BLE001 (a bug in a challenger must not end live's tick)
            logs.bug("challenger_failed", challenger=name)
            return RunSummary()
        if summary.run_id:
            self._log_run(summary, time.monotonic() - started, challenger=name)
        return summary

    def _run(self, store: Store, config: Config, policy: str, as_of: int) -> RunSummary:
        return scoring_run.run(
            store,
            config,
            as_of=as_of,
            policy=policy,
            by=self._by,
            kind="schedule",
            catch_up=config.schedule.catch_up,
            stopping=self._should_stop,
        )

    def _log_run(self, summary: RunSummary, seconds: float, **labels: str) -> None:
        for sentence in summary.trainings:
            logs.event("trained", **labels, message=sentence)
        for sentence in summary.failures:
            logs.event("step_failed", WARNING, **labels, reason=sentence)
        if summary.windows_left:
            logs.event("catching_up", WARNING, **labels, windows_left=summary.windows_left)
        logs.event("run", **labels, run_id=summary.run_id, **summary.counts(), seconds=round(seconds, 3))

    def _now(self) -> int:
        """The newest reading of the clock; a clock that steps back is logged and ignored."""
        now = self._clock()
        if now < self._newest - SECOND:
            logs.event("clock_back", WARNING, seconds=(self._newest - now) // SECOND)
        self._newest = max(self._newest, now)
        return self._newest

    def _acquire(self) -> Store:
        """Open the database and take the lease, unless this daemon already holds it."""
        if self._store is not None and self.active:
            return self._store
        self._release()
        store = self._resources.enter_context(open_configured(self.config))
        verify(store, self.config.monitor.name)
        name = f"daemon:{self._policy}"
        self._lease = self._resources.enter_context(leases.hold(store, name, self._by, LEASE))
        self._store = store
        logs.event("active", token=self._lease.token, database=store.display_url)
        return store

    def _release(self) -> None:
        self._store = self._lease = None
        self._resources.close()
        self._resources = ExitStack()

    def _handle_storage_error(self, error: StorageError) -> Outcome:
        if isinstance(error, Busy) and not isinstance(error, Locked):
            self._release()
            logs.event("standby", WARNING, reason=str(error))
            return "standby"
        self._database_away(error)
        return "away"

    def _database_away(self, error: StorageError) -> None:
        self._failures += 1
        logs.event("database_away", ERROR, reason=str(error), failures=self._failures)
        self._release()

    def _should_stop(self) -> bool:
        return self.stopping.is_set() or (self._lease is not None and self._lease.lost)


def _log_feed(feed: FeedReport) -> None:
    if feed.error is not None:
        logs.event("feed_failed", WARNING, feed=feed.feed, reason=feed.error)
    elif feed.report is not None and not feed.report.nothing_new:
        counts = feed.report.counts
        logs.event("ingested", feed=feed.feed, batch_id=feed.report.batch_id, **asdict(counts))


def serve(daemon: Daemon) -> int:
    """
    Run ticks until a signal stops the daemon; returns the exit code.

    SIGTERM and SIGINT finish the current step and stop within `STOP_WITHIN_S`; SIGHUP reloads the configuration.
    APScheduler is configured so that a late tick is not dropped, several late ticks become one, and two never overlap.

    Raises
    ------
    UnsupportedSchema
        The schema is too old to be upgraded, or newer than this program.
    """
    daemon.check_schema()
    with serve_health(daemon.config, daemon.health) as port:
        if port is not None:
            logs.event("listening", host=daemon.config.health.host, port=port)
        return _serve(daemon)


def _serve(daemon: Daemon) -> int:
    from apscheduler.executors.pool import ThreadPoolExecutor
    from apscheduler.schedulers.background import BackgroundScheduler

    wake, reload = threading.Event(), threading.Event()
    _install_signal_handlers(daemon, wake, reload)
    scheduler = BackgroundScheduler(
        executors={"default": ThreadPoolExecutor(1)},
        job_defaults={"coalesce": True, "misfire_grace_time": None, "max_instances": 1},
        timezone=daemon.config.schedule.timezone,
    )
    scheduler.add_job(lambda: _tick(daemon, scheduler), _trigger(daemon.config), id=TICK_JOB)
    scheduler.start()
    scheduler.modify_job(TICK_JOB, next_run_time=_seconds_from_now(0.0))
    logs.event("started", pid=os.getpid(), config=daemon.config.origin, every=_tick_interval(daemon.config))
    while not daemon.stopping.is_set():
        wake.wait()
        wake.clear()
        if reload.is_set():
            reload.clear()
            if daemon.reload():
                scheduler.reschedule_job(TICK_JOB, trigger=_trigger(daemon.config))
                scheduler.modify_job(TICK_JOB, next_run_time=_seconds_from_now(0.0))
    return _shut_down(daemon, scheduler)


def _tick(daemon: Daemon, scheduler: Any) -> None:
    daemon.tick()
    if daemon.stopping.is_set():
        return
    pause = daemon.pause() if daemon.pause() else (0.0 if daemon.active else float(STANDBY_S))
    if pause:
        scheduler.modify_job(TICK_JOB, next_run_time=_seconds_from_now(pause))
    planned = scheduler.get_job(TICK_JOB).next_run_time
    daemon.health.next_tick(None if planned is None else int(planned.timestamp()) * SECOND)


def _shut_down(daemon: Daemon, scheduler: Any) -> int:
    logs.event("stopping", within_s=STOP_WITHIN_S)
    waiting = threading.Thread(target=lambda: scheduler.shutdown(wait=True), daemon=True)
    waiting.start()
    waiting.join(STOP_WITHIN_S)
    if waiting.is_alive():
        logs.event("stopped_hard", WARNING, reason="the current step took longer and is rolled back")
        os._exit(1)
    daemon.close()
    logs.event("stopped")
    return 0


def _install_signal_handlers(daemon: Daemon, wake: threading.Event, reload: threading.Event) -> None:
    def stop(_number: int, _frame: Any) -> None:
        daemon.stopping.set()
        wake.set()

    def reload_config(_number: int, _frame: Any) -> None:
        reload.set()
        wake.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, reload_config)


def _trigger(config: Config) -> Any:
    from apscheduler.triggers.cron import CronTrigger
    from apscheduler.triggers.interval import IntervalTrigger

    clock = config.schedule
    if clock.cron:
        return CronTrigger.from_crontab(clock.cron, timezone=clock.timezone)
    return IntervalTrigger(seconds=clock.tick / SECOND, timezone=clock.timezone)


def _tick_interval(config: Config) -> str:
    return config.schedule.cron or f"{config.schedule.tick / SECOND:g} s"


def _seconds_from_now(seconds: float) -> Any:
    from datetime import UTC, datetime, timedelta

    return datetime.now(UTC) + timedelta(seconds=seconds)
