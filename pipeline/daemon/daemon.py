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
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from pipeline import logs
from pipeline.config.config import Config
from pipeline.daemon.health import TICK_MAX, Health, Outcome
from pipeline.daemon.health_server import serve_health
from pipeline.daemon.tick_log import TickLog
from pipeline.durations import SECOND
from pipeline.errors import ConfigError, FraudwatchError, NotReady
from pipeline.services.runs.tick import (
    LIVE,
    RunSummary,
    TickRequest,
    check_config,
    health_figures,
    report_silence,
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
            logs.event("tick_failed", logs.WARNING, code=error.code, reason=str(error))
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
            self.health.config_read(refused=True)
            logs.event(
                "config_refused", logs.ERROR, code=error.code, reason=str(error), kept=self.config.origin
            )
            return False
        except Exception as error:  # noqa: BLE001 (top level: a bug must not end a daemon whose old config works)
            self.health.config_read(refused=True)
            logs.bug("config_refused", error, kept=self.config.origin)
            return False
        self.health.config_read(refused=False)
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
        left = 0
        try:
            log, request = TickLog(self.health), TickRequest(scheduled=True)
            summary = run_tick(session, request, log, stopping=self._should_stop)
            left = summary.windows_left
        except StorageError:
            raise
        except Exception:
            self._update_health(session, left)
            raise
        self._update_health(session, left)
        return summary

    def _update_health(self, session: Session, windows_left: int) -> None:
        if self.config.health.port:
            self.health.update_snapshot(health_figures(session, LIVE), windows_left)

    def _now(self) -> int:
        """The newest reading of the clock; a clock that steps back is logged and ignored."""
        now = self._clock()
        if now < self._newest - SECOND:
            logs.event("clock_back", logs.WARNING, seconds=(self._newest - now) // SECOND)
        self._newest = max(self._newest, now)
        return self._newest

    def _acquire(self) -> Session:
        """Open the database and take the lease, unless this daemon already holds it."""
        if self._session is not None and self.active:
            return self._session
        self._release()
        session = self._resources.enter_context(open_session(self.config, self._by, clock=self._now))
        try:
            self._lease = self._resources.enter_context(
                leases.hold(session.store, LEASE_NAME, self._by, LEASE)
            )
        except Busy:
            if report_silence(session, TICK_MAX):
                logs.event("no_tick", logs.WARNING, reason="the daemon at work has ended no tick for hours")
            raise
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
            logs.event("standby", logs.WARNING, code=error.code, reason=str(error))
            return "standby"
        self._database_away(error)
        return "away"

    def _database_away(self, error: StorageError) -> None:
        self._failures += 1
        logs.event("database_away", logs.ERROR, code=error.code, reason=str(error), failures=self._failures)
        self._release()

    def _should_stop(self) -> bool:
        return self.stopping.is_set() or (self._lease is not None and self._lease.lost)


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
        logs.event("stopped_hard", logs.WARNING, reason="the current step took longer and is rolled back")
        os._exit(1)
    daemon.close()
    # While Python ends there is no handler, and another signal would kill it.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
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
    from apscheduler.triggers.interval import IntervalTrigger

    from pipeline.daemon.crontab_trigger import CrontabTrigger

    clock = config.schedule
    if clock.cron:
        return CrontabTrigger(clock.cron, clock.timezone)
    return IntervalTrigger(seconds=clock.tick / SECOND, timezone=clock.timezone)


def _tick_interval(config: Config) -> str:
    return config.schedule.cron or f"{config.schedule.tick / SECOND:g} s"


def _seconds_from_now(seconds: float) -> Any:
    from datetime import UTC, datetime, timedelta

    return datetime.now(UTC) + timedelta(seconds=seconds)
