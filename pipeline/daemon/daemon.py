"""
When to run: ticks, signals, the lease, and what happens when the database is away.

A tick does nothing that feeds, ledger and queue do not ask for, so one that is missed costs nothing: the next one
finds the same work. Of all daemons on a database the one that holds the lease works; the others stand by and look at
it every `STANDBY_S`, so one of them takes over within `LEASE` of the first one's death, at once if it died on
the same machine.

This is one of the doors that read the clock.
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
from pipeline.daemon.health import Health, Outcome, listening
from pipeline.errors import ConfigError, FraudwatchError, NotReady
from pipeline.ingest import feeds
from pipeline.ingest.feeds import FeedReport
from pipeline.notifications import apprise_transport, deliver
from pipeline.runs import challengers, scoring_run
from pipeline.schedule.run_context import LIVE, Tally
from storage.database import leases
from storage.database.database import Store
from storage.database.leases import Held
from storage.database.setup import verify
from storage.errors import Busy, Locked, StorageError
from storage.frames import SECOND
from storage.monitoring import health

LEASE = 30 * SECOND
STANDBY_S = 10  # between two looks of a daemon that stands by
STOP_WITHIN_S = 30  # after SIGTERM; what has not finished by then is rolled back
AWAY_S_MIN, AWAY_S_MAX = 1.0, 60.0  # pauses while the database is away double from the first to the second
WARNING, ERROR = 30, 40
TICK = "tick"


class Daemon:
    """Ticks over one policy of one database."""

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
        self._lease: Held | None = None
        self._holding = ExitStack()
        self._lock = threading.Lock()
        self.config = load()
        self.config.model_key()  # asked for now, not at the first training
        apprise_transport.insist(self.config)
        self.health = Health(clock)
        self.stopping = stopping or threading.Event()

    @property
    def active(self) -> bool:
        """Whether this daemon holds the lease, rather than standing by."""
        return self._lease is not None and not self._lease.lost

    def tick(self) -> Tally | None:
        """
        Do one tick, come what may; None when it stood by or could not.

        A failure is logged and left to the next tick: ledger and queue still hold the work.
        """
        with self._lock:
            self.health.tick_began()
            tally, outcome, reason = self._tried()
            self.health.tick_ended(outcome, reason)
            return tally

    def _tried(self) -> tuple[Tally | None, Outcome, str]:
        try:
            tally = self._tick()
        except StorageError as error:
            return None, self._refused(error), str(error)
        except NotReady as error:
            logs.event("not_ready", reason=str(error))
            return None, "not_ready", str(error)
        except FraudwatchError as error:
            logs.event("tick_failed", WARNING, reason=str(error))
            return None, "failed", str(error)
        except Exception:  # noqa: BLE001 (the door: a bug must not end a daemon that has other work)
            logs.bug("tick_failed")
            return None, "failed", "a bug: see the log"
        self._failures = 0
        return tally, "done", ""

    def once(self) -> Tally:
        """
        One tick that raises what goes wrong.

        Raises
        ------
        Busy
            Another daemon holds the lease.
        """
        with self._lock:
            return self._tick()

    def reload(self) -> bool:
        """Read the configuration again; a bad one is refused and the old one stays."""
        try:
            config = self._load()
            config.model_key()
            apprise_transport.insist(config)
            with open_configured(config) as store:
                verify(store, config.monitor.name)
        except (ConfigError, StorageError) as error:
            logs.event("config_refused", ERROR, reason=str(error), kept=self.config.origin)
            return False
        with self._lock:
            self._let_go()
            self.config = config
        logs.event("config_reloaded", origin=config.origin)
        return True

    def close(self) -> None:
        """Give the lease back and close the database."""
        with self._lock:
            self._let_go()

    def pause(self) -> float:
        """Seconds until the next try after failures in a row: doubling, with jitter; 0 after a success."""
        if not self._failures:
            return 0.0
        longest: float = min(AWAY_S_MIN * 2.0 ** (self._failures - 1), AWAY_S_MAX)
        return longest * float(random.uniform(0.5, 1.0))  # spreads retries

    def _tick(self) -> Tally:
        self._now()
        store = self._hold()
        begun = time.monotonic()
        for told in feeds.poll(store, self.config, self._now):
            _tell_feed(told)
            self.health.fed(told)
        as_of = self._now()
        with self._telling(store):
            tally = self._run(store, self.config, self._policy, as_of)
        if tally.run_id:
            seconds = time.monotonic() - begun
            self._tell(tally, seconds)
            self.health.ran(tally, seconds)
        self._shadows(store, as_of)
        if self.config.health.port:
            self.health.saw(health.read(store, self._policy), tally.left)
        return tally

    @contextmanager
    def _telling(self, store: Store) -> Iterator[None]:
        """Tell people what came of the block, also of a run that failed; not while the database is away."""
        try:
            yield
        except StorageError:
            raise
        except Exception:
            self._notify(store)
            raise
        self._notify(store)

    def _notify(self, store: Store) -> None:
        done = deliver.tell(
            store, self.config, self._policy, clock=self._now, by=self._by, stopping=self._told_to_stop
        )
        if done.sent:
            logs.event("notified", messages=done.sent, held=done.held)
        for error in done.errors:
            logs.event("notify_failed", WARNING, reason=error)

    def _shadows(self, store: Store, as_of: int) -> None:
        """The turns of challengers, after live's; what goes wrong there is logged and left to the next tick."""
        if self._policy != LIVE:
            return
        for turn in challengers.in_turn(
            self.config, lambda config, name: self._shadow(store, config, name, as_of)
        ):
            if turn.error is not None:
                logs.event("shadow_failed", WARNING, shadow=turn.name, reason=str(turn.error))
        for name in challengers.retire(store, self.config):
            logs.event("shadow_ended", shadow=name)

    def _shadow(self, store: Store, config: Config, name: str, as_of: int) -> Tally:
        begun = time.monotonic()
        try:
            tally = self._run(store, config, name, as_of)
        except challengers.KNOWN:
            raise
        except Exception:  # noqa: BLE001 (a bug of a challenger's must not end live's tick)
            logs.bug("shadow_failed", shadow=name)
            return Tally()
        if tally.run_id:
            self._tell(tally, time.monotonic() - begun, shadow=name)
        return tally

    def _run(self, store: Store, config: Config, policy: str, as_of: int) -> Tally:
        return scoring_run.run(
            store,
            config,
            as_of=as_of,
            policy=policy,
            by=self._by,
            kind="schedule",
            catch_up=config.schedule.catch_up,
            stopping=self._told_to_stop,
        )

    def _tell(self, tally: Tally, seconds: float, **whose: str) -> None:
        for sentence in tally.trainings:
            logs.event("trained", **whose, said=sentence)
        for sentence in tally.failures:
            logs.event("step_failed", WARNING, **whose, reason=sentence)
        if tally.left:
            logs.event("catching_up", WARNING, **whose, windows_left=tally.left)
        logs.event("run", **whose, run_id=tally.run_id, **tally.counts(), seconds=round(seconds, 3))

    def _now(self) -> int:
        """The clock, which may step back but is not believed when it does."""
        now = self._clock()
        if now < self._newest - SECOND:
            logs.event("clock_back", WARNING, seconds=(self._newest - now) // SECOND)
        self._newest = max(self._newest, now)
        return self._newest

    def _hold(self) -> Store:
        """The database, open and under the lease."""
        if self._store is not None and self.active:
            return self._store
        self._let_go()
        store = self._holding.enter_context(open_configured(self.config))
        verify(store, self.config.monitor.name)
        name = f"daemon:{self._policy}"
        self._lease = self._holding.enter_context(leases.held(store, name, self._by, LEASE))
        self._store = store
        logs.event("active", token=self._lease.token, database=store.url_shown)
        return store

    def _let_go(self) -> None:
        self._store = self._lease = None
        self._holding.close()
        self._holding = ExitStack()

    def _refused(self, error: StorageError) -> Outcome:
        if isinstance(error, Busy) and not isinstance(error, Locked):
            self._let_go()
            logs.event("standby", WARNING, reason=str(error))
            return "standby"
        self._away(error)
        return "away"

    def _away(self, error: StorageError) -> None:
        self._failures += 1
        logs.event("database_away", ERROR, reason=str(error), failures=self._failures)
        self._let_go()

    def _told_to_stop(self) -> bool:
        return self.stopping.is_set() or (self._lease is not None and self._lease.lost)


def _tell_feed(told: FeedReport) -> None:
    if told.error is not None:
        logs.event("feed_failed", WARNING, feed=told.feed, reason=told.error)
    elif told.report is not None and not told.report.nothing_new:
        counts = told.report.counts
        logs.event("ingested", feed=told.feed, batch_id=told.report.batch_id, **asdict(counts))


def serve(daemon: Daemon) -> int:
    """
    Tick until told to stop; returns the exit code.

    SIGTERM and SIGINT finish the step at hand and leave within `STOP_WITHIN_S`, SIGHUP reloads the configuration.
    APScheduler's traps are closed: a late tick is not dropped, late ones are one, and never two run at once.
    """
    with listening(daemon.config, daemon.health) as port:
        if port is not None:
            logs.event("listening", host=daemon.config.health.host, port=port)
        return _serve(daemon)


def _serve(daemon: Daemon) -> int:
    from apscheduler.executors.pool import ThreadPoolExecutor
    from apscheduler.schedulers.background import BackgroundScheduler

    wake, reload = threading.Event(), threading.Event()
    _listen(daemon, wake, reload)
    scheduler = BackgroundScheduler(
        executors={"default": ThreadPoolExecutor(1)},
        job_defaults={"coalesce": True, "misfire_grace_time": None, "max_instances": 1},
        timezone=daemon.config.schedule.timezone,
    )
    scheduler.add_job(lambda: _tick(daemon, scheduler), _trigger(daemon.config), id=TICK)
    scheduler.start()
    scheduler.modify_job(TICK, next_run_time=_soon(0.0))
    logs.event("started", pid=os.getpid(), config=daemon.config.origin, every=_every(daemon.config))
    while not daemon.stopping.is_set():
        wake.wait()
        wake.clear()
        if reload.is_set():
            reload.clear()
            if daemon.reload():
                scheduler.reschedule_job(TICK, trigger=_trigger(daemon.config))
                scheduler.modify_job(TICK, next_run_time=_soon(0.0))
    return _leave(daemon, scheduler)


def _tick(daemon: Daemon, scheduler: Any) -> None:
    daemon.tick()
    if daemon.stopping.is_set():
        return
    pause = daemon.pause() if daemon.pause() else (0.0 if daemon.active else float(STANDBY_S))
    if pause:
        scheduler.modify_job(TICK, next_run_time=_soon(pause))
    planned = scheduler.get_job(TICK).next_run_time
    daemon.health.next_tick(None if planned is None else int(planned.timestamp()) * SECOND)


def _leave(daemon: Daemon, scheduler: Any) -> int:
    logs.event("stopping", within_s=STOP_WITHIN_S)
    waiting = threading.Thread(target=lambda: scheduler.shutdown(wait=True), daemon=True)
    waiting.start()
    waiting.join(STOP_WITHIN_S)
    if waiting.is_alive():
        logs.event("stopped_hard", WARNING, reason="the step at hand took longer: it is rolled back")
        os._exit(1)
    daemon.close()
    logs.event("stopped")
    return 0


def _listen(daemon: Daemon, wake: threading.Event, reload: threading.Event) -> None:
    def stop(_number: int, _frame: Any) -> None:
        daemon.stopping.set()
        wake.set()

    def again(_number: int, _frame: Any) -> None:
        reload.set()
        wake.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, again)


def _trigger(config: Config) -> Any:
    from apscheduler.triggers.cron import CronTrigger
    from apscheduler.triggers.interval import IntervalTrigger

    clock = config.schedule
    if clock.cron:
        return CronTrigger.from_crontab(clock.cron, timezone=clock.timezone)
    return IntervalTrigger(seconds=clock.tick / SECOND, timezone=clock.timezone)


def _every(config: Config) -> str:
    return config.schedule.cron or f"{config.schedule.tick / SECOND:g} s"


def _soon(seconds: float) -> Any:
    from datetime import UTC, datetime, timedelta

    return datetime.now(UTC) + timedelta(seconds=seconds)
