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
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from pipeline.config.config import Config
from pipeline.daemon import logs
from pipeline.daemon.health import Health, Outcome, serve_health
from pipeline.durations import SECOND
from pipeline.errors import ConfigError, FraudwatchError, NotReady
from pipeline.services.runs.tick import (
    LIVE,
    ChallengerRetired,
    ChallengerRun,
    Delivery,
    FeedReport,
    RunFinished,
    RunSummary,
    TickEvent,
    TickRequest,
    check_config,
    health_figures,
    run_tick,
)
from pipeline.services.session import Session, open_session
from storage.database import leases
from storage.database.leases import Lease
from storage.errors import Busy, Locked, NewerSchema, StorageError, UnsupportedSchema

LEASE = 30 * SECOND
STANDBY_S = 10  # how often a daemon that stands by checks the lease
STOP_WITHIN_S = 30  # after SIGTERM; a step that has not finished by then is rolled back
RETRY_S_MIN, RETRY_S_MAX = (
    1.0,
    60.0,
)  # pauses while the database is unreachable double from the first to the second
WARNING, ERROR = 30, 40
TICK_JOB = "tick"
LEASE_NAME = "daemon:live"


class Daemon:
    """Runs the ticks of one database."""

    def __init__(
        self,
        load: Callable[[], Config],
        *,
        by: str,
        clock: Callable[[], int],
        stopping: threading.Event | None = None,
    ) -> None:
        self._load = load
        self._by = by
        self._clock = clock
        self._newest = 0
        self._failures = 0
        self._session: Session | None = None
        self._lease: Lease | None = None
        self._resources = ExitStack()
        self._lock = threading.Lock()
        self.config = load()
        check_config(self.config)
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
            with open_session(self.config, self._by):
                pass
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
            logs.event("not_ready", code=error.code, reason=str(error))
            return None, "not_ready", str(error)
        except FraudwatchError as error:
            logs.event("tick_failed", WARNING, code=error.code, reason=str(error))
            return None, "failed", str(error)
        except Exception as error:  # noqa: BLE001 (top level: a bug must not end a daemon that has other work)
            logs.bug("tick_failed", error)
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
            check_config(config)
            with open_session(config, self._by):
                pass
        except (ConfigError, StorageError) as error:
            logs.event("config_refused", ERROR, code=error.code, reason=str(error), kept=self.config.origin)
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
        session = self._acquire()
        log = _TickLog(self.health)
        request = TickRequest(scheduled=True)
        summary = run_tick(session, request, log, stopping=self._should_stop)
        if self.config.health.port:
            self.health.update_snapshot(health_figures(session, LIVE), summary.windows_left)
        return summary

    def _now(self) -> int:
        """The newest reading of the clock; a clock that steps back is logged and ignored."""
        now = self._clock()
        if now < self._newest - SECOND:
            logs.event("clock_back", WARNING, seconds=(self._newest - now) // SECOND)
        self._newest = max(self._newest, now)
        return self._newest

    def _acquire(self) -> Session:
        """Open the database and take the lease, unless this daemon already holds it."""
        if self._session is not None and self.active:
            return self._session
        self._release()
        session = self._resources.enter_context(open_session(self.config, self._by, clock=self._now))
        self._lease = self._resources.enter_context(leases.hold(session.store, LEASE_NAME, self._by, LEASE))
        self._session = session
        logs.event("active", token=self._lease.token, database=session.store.display_url)
        return session

    def _release(self) -> None:
        self._session = self._lease = None
        self._resources.close()
        self._resources = ExitStack()

    def _handle_storage_error(self, error: StorageError) -> Outcome:
        if isinstance(error, Busy | NewerSchema) and not isinstance(error, Locked):
            self._release()
            logs.event("standby", WARNING, code=error.code, reason=str(error))
            return "standby"
        self._database_away(error)
        return "away"

    def _database_away(self, error: StorageError) -> None:
        self._failures += 1
        logs.event("database_away", ERROR, code=error.code, reason=str(error), failures=self._failures)
        self._release()

    def _should_stop(self) -> bool:
        return self.stopping.is_set() or (self._lease is not None and self._lease.lost)


class _TickLog:
    """Logs the results of one tick, and counts them for the health port."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self._since = time.monotonic()

    def __call__(self, event: TickEvent) -> None:
        """Log one result."""
        if isinstance(event, FeedReport):
            self._feed(event)
        elif isinstance(event, Delivery):
            self._delivery(event)
        elif isinstance(event, RunFinished):
            self._run(event.summary)
        elif isinstance(event, ChallengerRun):
            self._challenger(event)
        elif isinstance(event, ChallengerRetired):
            logs.event("challenger_ended", challenger=event.name)

    def _feed(self, feed: FeedReport) -> None:
        self._health.feed_read(feed)
        if feed.error is not None:
            logs.event("feed_failed", WARNING, feed=feed.feed, reason=feed.error)
        elif feed.report is not None and not feed.report.nothing_new:
            counts = feed.report.counts
            logs.event("ingested", feed=feed.feed, batch_id=feed.report.batch_id, **asdict(counts))
            for currency, payments in feed.report.waiting.items():
                logs.event("waiting_for_rate", WARNING, feed=feed.feed, currency=currency, payments=payments)
            for stale in feed.report.stale_rates:
                logs.event(
                    "old_rate",
                    WARNING,
                    feed=feed.feed,
                    currency=stale.currency,
                    payments=stale.payments,
                    rate_of=str(stale.day),
                    age_days=stale.age_days,
                )
        elif feed.rates is not None and (feed.rates.added or feed.rates.corrected):
            rates = feed.rates
            logs.event("rates_ingested", feed=feed.feed, added=rates.added, corrected=rates.corrected)

    def _delivery(self, delivery: Delivery) -> None:
        if delivery.sent:
            logs.event("notified", messages=delivery.sent, deferred=delivery.deferred)
        for error in delivery.errors:
            logs.event("notify_failed", WARNING, reason=error)

    def _run(self, summary: RunSummary) -> None:
        seconds = self._seconds()
        if summary.run_id:
            _log_run(summary, seconds)
            self._health.run_finished(summary, seconds)

    def _challenger(self, run: ChallengerRun) -> None:
        seconds = self._seconds()
        if run.bug is not None:
            logs.bug("challenger_failed", run.bug, challenger=run.name)
        elif run.summary is None:
            logs.event("challenger_failed", WARNING, challenger=run.name, reason=str(run.error))
        elif run.summary.run_id:
            _log_run(run.summary, seconds, challenger=run.name)

    def _seconds(self) -> float:
        """Seconds since the run before this one ended."""
        since, self._since = self._since, time.monotonic()
        return self._since - since


def _log_run(summary: RunSummary, seconds: float, **labels: str) -> None:
    for sentence in summary.trainings:
        logs.event("trained", **labels, message=sentence)
    for sentence in summary.failures:
        logs.event("step_failed", WARNING, **labels, reason=sentence)
    if summary.windows_left:
        logs.event("catching_up", WARNING, **labels, windows_left=summary.windows_left)
    logs.event("run", **labels, run_id=summary.run_id, **summary.counts(), seconds=round(seconds, 3))


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
