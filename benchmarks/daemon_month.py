"""
A month of two daemons in which something fails every day, for `benchmarks.daemon`.

The clock is simulated, an hour a tick, over windows of six hours and weekly trainings. Each day a file that cannot be read
comes between two good ones. Each week the database fails over: Postgres is read-only for some ticks and restarted; the
file of SQLite is locked by another program, then gone. And each week the daemon that is at work is killed (SIGKILL) in the
middle of a tick. At the end every window is scored, everything equals a month in which nothing failed, every bad file is
recorded, and the memory of the daemon that lived through all of it is that of its first week.
"""

import ctypes
import gzip
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import text

from benchmarks.machine import resident_mib
from benchmarks.servers import Server, sealed
from pipeline.config.config import Config
from pipeline.config.database import open_configured
from pipeline.daemon.daemon import Daemon
from pipeline.ingest.ingest import ingest_labels, ingest_transactions
from pipeline.ingest.ingest_report import Options
from pipeline.ingest.sources import Source
from pipeline.simulation.simulate import simulate
from storage.database import database
from storage.database.setup import upgrade
from storage.frames import DAY, HOUR, SECOND
from storage.runs import scoring_queue

START = 1_735_689_600 * SECOND  # 2025-01-01
WARM = 19 * DAY  # of history before the first tick, to a Monday
WEEKS, PER_DAY = 4, 200
FLAT = 1.05  # memory after the last week over that after the first
FILES_AT, AWAY_AT, KILLED_AT = 3, 13, 19  # hours of the day; windows are due at 1, 7, 13 and 19
AWAY_TICKS = 3
LOCKED_MS = 300  # how long a daemon waits for a locked file here
TRIES = 6  # ticks at the same instant until one of the daemons has done it
FOLDER = "incoming"
CAPABILITY_VERSION_3 = 0x20080522  # of the Linux call capset
COMPARED = {
    "scores": "SELECT transaction_id, score, decision_value, threshold, channel, flagged, strategy FROM scores",
    "flags": "SELECT transaction_id, channel, status, CAST(reasons AS TEXT) FROM flags",
    "labels": "SELECT transaction_id, is_fraud, source, known_at FROM labels",
    "choices": "SELECT training_date, strategy, rule, sentence FROM choices",
    "steps": "SELECT kind, window_start, window_end, status FROM ledger",
    "drift": "SELECT window_start, window_end, feature, metric, value FROM drift_metrics",
}
UNSCORED = "SELECT COUNT(*) FROM ledger WHERE status <> 'done' OR (kind = 'score' AND finished_at IS NULL)"
BAD = "SELECT COUNT(*) FROM watched_files WHERE status = 'failed'"


@dataclass
class Month:
    """A database, the folder that its daemons watch, and how both are made to fail."""

    url: str
    folder: Path
    server: Server | None
    faulty: bool
    memory: list[float] = field(default_factory=list)  # MiB of the first daemon after each week
    bad: int = 0
    kills: int = 0
    failovers: int = 0

    def config(self) -> Config:
        """The settings of the month."""
        watched = {"folder": str(self.folder / FOLDER), "settle_time": "0s"}
        settings: dict[str, Any] = {
            "storage": {"url": self.url}, "schedule": {"window": "6h", "attempts": 20, "backoff": "1s"},
            "training": {"min_rows": 200, "every": "7d"}, "labels": {"maturity": "5d"},
            "watch": {
                "payments": watched | {"pattern": "payments*"},
                "disputes": watched | {"pattern": "labels*", "kind": "labels"},
            },
        }  # fmt: skip
        return sealed(Config.model_validate(settings))


def month(engine: str, folder: Path, server: Server | None, weeks: int = WEEKS) -> bool:
    """Live through the month twice and print what came of it; whether every bound holds."""
    days = (WARM + weeks * 7 * DAY) // DAY
    simulate(days=days, seed=7, output=folder, format="parquet", per_day=PER_DAY)
    if server is not None:
        server.admit_group()
    months = []
    begun = time.time()
    for faulty in (False, True):
        name = "faulty" if faulty else "calm"
        url = f"sqlite:///{folder / f'{name}.db'}" if server is None else server.create(name)
        place = folder / name
        (place / FOLDER).mkdir(parents=True)
        months.append(Month(url, place, server, faulty))
        _prepare(months[-1], folder, days)
        _live(months[-1], weeks)
    calm, shot = months
    good = _equal(calm, shot)
    growth = shot.memory[-1] / shot.memory[0]
    unscored, recorded = _count(shot, UNSCORED), _count(shot, BAD)
    print(
        f"{engine}: two months of {weeks} weeks in {time.time() - begun:.0f} s; {shot.bad} bad files ({recorded} recorded), "
        f"{shot.failovers} failovers, {shot.kills} kills"
    )
    print(f"  steps that are not done: {unscored}")
    shown = " ".join(f"{mib:.0f}" for mib in shot.memory)
    print(f"  resident MiB after each week: {shown}; the last is {growth:.3f} of the first (at most {FLAT})")
    return good and not unscored and recorded == shot.bad and growth <= FLAT


def _prepare(month: Month, folder: Path, days: int) -> None:
    config = month.config()
    with open_configured(config) as store:
        upgrade(store, config.monitor.name, 1, config.labels.precedence)
        for work, kind in ((ingest_transactions, "transactions"), (ingest_labels, "labels")):
            source = Source(str(folder / f"{kind}.parquet"), path=folder / f"{kind}.parquet")
            options = Options(history=True)
            list(work(store, config, [source], clock=lambda: START + days * DAY, options=options))
        scoring_queue.set_starts_at(store, "live", START + WARM)
        with store.write() as connection:  # else the first good files would count as history
            connection.execute(text("UPDATE monitor SET horizon = NULL, visible_at = NULL"))


def _count(month: Month, sql: str) -> int:
    with open_configured(month.config()) as store, store.read() as connection:
        return int(connection.scalar(text(sql)) or 0)


def _equal(calm: Month, shot: Month) -> bool:
    good = True
    for name, sql in COMPARED.items():
        rows = []
        for month in (calm, shot):
            with open_configured(month.config()) as store, store.read() as connection:
                rows.append(sorted(map(tuple, connection.execute(text(sql))), key=repr))
        same = rows[0] == rows[1] and bool(rows[0])
        good &= same
        print(
            f"  {name:8} {len(rows[0]):6,} rows, {len(rows[1]):6,} under fire: {'equal' if same else 'DIFFERENT'}"
        )
    return good


# ── the daemons ──────────────────────────────────────────────────────────────────────────────────────────────────


class Twin:
    """A daemon in a process of its own that ticks when it is told to, at an instant it is told."""

    def __init__(self, month: Month, name: str) -> None:
        context = get_context("forkserver")
        self._pipe, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(
            target=_be, args=(replace(month, server=None), name, theirs)
        )
        self.process.start()
        theirs.close()

    def begin(self, now: int) -> None:
        """Let it tick; `outcome` waits for the end."""
        self._pipe.send(now)

    def outcome(self) -> tuple[bool, float]:
        """Whether the tick was done, and its resident memory in MiB."""
        done, memory = self._pipe.recv()
        return done, memory

    def tick(self, now: int) -> tuple[bool, float]:
        """One tick, to its end."""
        self.begin(now)
        return self.outcome()

    def kill(self) -> None:
        """Shoot it."""
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.join()

    def close(self) -> None:
        """Let it end."""
        with suppress(OSError):
            self._pipe.send(None)
        self.process.join()


def _be(month: Month, name: str, pipe: Connection) -> None:
    database.BUSY_TIMEOUT_MS = LOCKED_MS
    _obey_permissions()
    log = os.open(month.folder / f"{name}.log", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.dup2(log, 1)
    os.dup2(log, 2)
    clock = [START + WARM]
    daemon = Daemon(month.config, by=name, clock=lambda: clock[0])
    while (now := pipe.recv()) is not None:
        clock[0] = abs(now)
        if now < 0:  # stands aside for the other one
            daemon.close()
        done = now > 0 and daemon.tick() is not None
        pipe.send((done, resident_mib()))
    daemon.close()


def _obey_permissions() -> None:
    """Root reads every file; give this process's right to do so up (CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH)."""
    if os.geteuid() == 0:
        libc, header = ctypes.CDLL(None, use_errno=True), (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
        sets = (ctypes.c_uint32 * 6)()
        libc.capget(header, sets)
        sets[0] &= ~(1 << 1 | 1 << 2)
        if libc.capset(header, sets):
            raise OSError(ctypes.get_errno(), "capset")


def _live(month: Month, weeks: int) -> None:
    first, second = Twin(month, "first"), Twin(month, "second")
    for hour in range(weeks * 7 * 24 + 2):
        now = START + WARM + hour * HOUR
        day, of_day = divmod(hour, 24)
        if of_day == FILES_AT:
            _drop_files(month, day, now)
        if month.faulty and day % 7 == 4 and of_day == KILLED_AT:
            first.tick(-now)  # so that the second one is at work
            second.begin(now)
            time.sleep(0.05)
            second.kill()
            month.kills += 1
            second = Twin(month, "second")
        if month.faulty and day % 7 == 2 and of_day == AWAY_AT:
            with _away(month):
                for _ in range(AWAY_TICKS):
                    if _tick(first, second, now, 1)[0]:
                        raise SystemExit(f"day {day}: a tick was done although the database was away")
        done, memory = _tick(first, second, now, TRIES)
        if not done:
            raise SystemExit(f"day {day}, {of_day}:00: no daemon could do its tick; see {month.folder}")
        if hour % (7 * 24) == 7 * 24 - 1:
            month.memory.append(memory)
    first.close()
    second.close()


def _tick(first: Twin, second: Twin, now: int, tries: int) -> tuple[bool, float]:
    """Both tick, one after the other, until one of them has done it."""
    for _ in range(tries):
        (one, memory), (other, _second) = first.tick(now), second.tick(now)
        if one or other:
            return True, memory
        time.sleep(0.2)
    return False, memory


@contextmanager
def _away(month: Month) -> Iterator[None]:
    """The database takes no writes; afterwards it does again."""
    month.failovers += 1
    if month.server is not None:
        with _settings(month.server, "default_transaction_read_only = on"):
            yield
        month.server.restart()
        month.server.admit_group()  # a start takes it back
        return
    path = Path(month.url.removeprefix("sqlite:///"))
    if month.failovers % 2:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
        return
    files = [
        file
        for file in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm"))
        if file.exists()
    ]
    for file in files:
        file.rename(file.with_name("away-" + file.name))
    yield
    for file in path.parent.glob(path.name + "*"):
        file.unlink()
    for file in files:
        file.with_name("away-" + file.name).rename(file)


@contextmanager
def _settings(server: Server, setting: str) -> Iterator[None]:
    name = setting.split(" = ", maxsplit=1)[0]
    for statement, then in ((f"ALTER SYSTEM SET {setting}", False), (f"ALTER SYSTEM RESET {name}", True)):
        if then:
            yield
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute(statement)  # type: ignore[call-overload]
            connection.execute("SELECT pg_reload_conf()")
        time.sleep(0.2)


# ── the files ────────────────────────────────────────────────────────────────────────────────────────────────────

HEADER = (
    b"transaction_id,event_time,amount,customer_id,card_id,merchant_id,device_id,channel,country,status\n"
)


def _drop_files(month: Month, day: int, now: int) -> None:
    """Good files of the day before, and between them, in a month that fails, one that cannot be read."""
    folder, days = month.folder / FOLDER, np.datetime64(now, "us")
    label = f"transaction_id,is_fraud,known_at,source\nT{day:09d},1,{days}Z,customer\n".encode()
    (folder / f"labels-{day:02d}.csv").write_bytes(label)
    if month.faulty:
        name, write = KINDS[day % len(KINDS)]
        write(folder / name.replace("DAY", f"{day:02d}"))
        month.bad += 1
    for path in folder.iterdir():
        if path.stat().st_mtime > now / SECOND:  # the clock of this machine is ahead of the simulated one
            os.utime(path, (now / SECOND - 60, now / SECOND - 60))


def _bytes(content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(content)

    return write


def _denied(path: Path) -> None:
    _bytes(HEADER)(path)
    path.chmod(0)


def _uuids(path: Path) -> None:
    ids = pa.array([os.urandom(16) for _ in range(3)], pa.uuid().storage_type)
    uuids = pa.ExtensionArray.from_storage(pa.uuid(), ids)
    pq.write_table(pa.table({"event_time": uuids, "amount": uuids}), path)


def _bomb(path: Path) -> None:
    """A gigabyte of one letter, packed to a megabyte: one line that never ends."""
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(HEADER)
        for _ in range(64):
            file.write(b"x" * (1 << 24))


KINDS: tuple[tuple[str, Callable[[Path], None]], ...] = (
    ("payments-DAY.csv", _bytes(b"\x00\x01no table at all,\n,,,\n")),
    ("payments-DAY.parquet", _uuids),
    ("payments-DAY-\udcff\udcfe.csv", _bytes(b"what,is,this\n1,2,3\n")),
    ("payments-DAY.csv.gz", _bomb),
    ("payments-DAY.csv", _denied),
    ("payments-DAY.parquet", _bytes(b"PAR1 half written")),
    ("payments-DAY.csv", _bytes(HEADER + b'T1,2025-01-01T00:00:00Z,"half a li')),
)
