"""
Kill everything, again and again, and see whether anything is lost, doubled or different.

    python -m benchmarks.faults [--kills 100] [--engine sqlite --engine postgresql]

On each engine the same payments are lived through twice. Once undisturbed: ingest of the past, then a daemon with
what arrives late and a backfill. Once under SIGKILL: ingest alone, then two daemons, an ingest of late rows and
labels and a backfill at the same time on one database, all of them killed at random, most of them inside a write, and started
again; Postgres is restarted under them as well. To land inside a write the killer names the steps that were not hit
often enough yet, and a process that comes to one of them waits there, its transaction open, until it is shot.

At the end both databases must agree: no transaction lost, none without a score, none doubled; scores, flags, labels,
choices and promotions equal but for clocks and ids of runs and batches. The exit code is 1 when they do not.
"""

import argparse
import contextlib
import json
import mmap
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Connection, text

import storage
from benchmarks.servers import Server, sealed
from pipeline.config.config import Config
from pipeline.config.database import open_configured
from pipeline.daemon.daemon import Daemon
from pipeline.ingest import ingest
from pipeline.ingest.ingest_report import Options
from pipeline.ingest.sources import sources
from pipeline.runs.backfill import backfill
from storage.database import leases
from storage.database.database import Store
from storage.database.setup import upgrade
from storage.errors import StorageError
from storage.frames import DAY, HOUR, SECOND
from storage.ingest import batches, history
from storage.models import models
from storage.monitoring import drift_metrics
from storage.runs import ledger, runs, scores, scoring_queue

START = 1_735_689_600 * SECOND  # 2025-01-01
DAYS, PER_DAY, BATCH = 32, 60, 200
FROM, TO = START + 19 * DAY, START + DAYS * DAY  # a Monday
NOW = TO + 2 * HOUR
BACKFILLED = FROM - 4 * DAY
HEADERS = {
    "transactions": "transaction_id,event_time,customer_id,terminal_id,amount",
    "labels": "transaction_id,is_fraud,known_at,source",
}
SETTINGS = {
    "schema": {"entities": ["customer_id", "terminal_id"], "categorical": [], "kind": "", "original_id": ""},
    "labels": {"maturity": "5d"},
    "features": {"windows": ["1d", "7d"]},
    "training": {"min_rows": 200, "holdout": "2d"},
    "strategy": {"min_positives_blend": 6, "min_positives_classifier": 40},
    "alerts": {
        "per_day": 5,
        "expire": "3650d",
    },  # when a flag expires depends on when it was raised, which kills delay
    "schedule": {"catch_up": 3, "backoff": "1s", "attempts": 20},
}
STORAGE = Path(storage.__file__).parent
MARK_BYTES, HALF = 4096, 2048
BETWEEN = "between writes"
ANYWHERE = 0.1  # of the kills land wherever a process happens to be
WAIT_IN_STEP_S = 3.0  # that a process waits to be shot inside the step that was named
PATIENCE_S = 2.5  # that the killer waits for a process to come to the step
WRITES = (  # every kind of write that a kill has to land in
    leases.acquire, batches.begin, batches.BatchLoader.add_transactions, batches.BatchLoader.add_labels,
    batches.BatchLoader.finish, batches.remove, history.horizon, runs.begin_run, ledger.record_plan, ledger.claim,
    ledger.finish, ledger.ensure, models.save_choice, models.install, scoring_queue.add_backfilled_span, scores.write_scores,
    drift_metrics.write_drift, runs.end_run,
)  # fmt: skip
STEPS = tuple(f"{write.__module__.rpartition('.')[2]}.{write.__name__}" for write in WRITES)
COMPARED = {
    "transactions": "SELECT transaction_id, event_time, amount, customer_id, terminal_id FROM visible_transactions ORDER BY 1",
    "labels": "SELECT transaction_id, is_fraud, source, known_at FROM labels ORDER BY 1, 3, 4, 2",
    "scores": "SELECT transaction_id, score, outlier_score, fraud_probability, decision_value, threshold, channel, flagged, strategy, expected_loss FROM scores ORDER BY 1",
    "flags": "SELECT transaction_id, channel, status, reviewer, CAST(reasons AS TEXT) FROM flags ORDER BY 1",
    "choices": "SELECT training_date, strategy, rule, sentence FROM choices ORDER BY 1",
    "promotions": "SELECT p.effective_from, m.strategy, m.n_mature, m.n_fraud FROM promotions p JOIN models m USING (model_id) ORDER BY 1",
}
LEFT_OVER = {
    "transactions without a score": (
        "SELECT COUNT(*) FROM visible_transactions t LEFT JOIN scores s ON s.transaction_id = t.transaction_id "
        f"WHERE s.transaction_id IS NULL AND t.event_time >= '{np.datetime64(BACKFILLED, 'us')}+00:00'"
    ),
    "queue": "SELECT COUNT(*) FROM scoring_queue",
    "open gaps": "SELECT COUNT(*) FROM open_gaps",
    "batches that are half loaded": "SELECT COUNT(*) FROM batches WHERE status = 'loading'",
}


@dataclass
class Place:
    """A database, the folder of its files, and the moment its clock began."""

    url: str
    folder: Path
    begun: float = field(default_factory=time.time)

    def config(self) -> Config:
        """The settings of the scenario for this database."""
        return sealed(Config.model_validate(SETTINGS | {"storage": {"url": self.url}}))

    def now(self) -> int:
        """The scenario's clock: real seconds after `NOW`."""
        return NOW + int((time.time() - self.begun) * SECOND)


def main(argv: list[str] | None = None) -> int:
    """Run the scenario on each engine and compare; or be one of its processes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100, help="per engine")
    parser.add_argument("--engine", action="append", choices=["sqlite", "postgresql"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--be", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.be:
        return be(json.loads(args.be))
    with tempfile.TemporaryDirectory(prefix="fw") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        write_files(folder)
        engines = args.engine or ["sqlite", "postgresql"]
        good = [scenario(engine, folder, stack, args.kills, args.seed) for engine in engines]
    return 0 if all(good) else 1


def scenario(engine: str, folder: Path, stack: ExitStack, kills: int, seed: int) -> bool:
    """One engine: undisturbed, disturbed, compared."""
    server = Server(folder, stack) if engine == "postgresql" else None
    calm = Place(database(server, folder, "calm"), folder)
    undisturbed(calm)
    shot = Place(database(server, folder, "shot"), folder)
    begun = time.time()
    hits, restarts = Killer(shot, kills, seed, server).run()
    print(
        f"\n{engine}: {sum(hits.values())} kills in {time.time() - begun:.0f} s, {restarts} restarts of the server"
    )
    for step, number in sorted(hits.items(), key=lambda item: -item[1]):
        print(f"  {number:4}  {step}")
    missed = [step for step in STEPS if step not in hits]
    print(f"  steps never hit: {', '.join(missed) or 'none'}")
    return compare(calm, shot)


def undisturbed(place: Place) -> None:
    """The whole story with nobody interfering."""
    prepare(place)
    for role in ("past", "backfill", "arrivals", "daemon"):
        work(role, place)


def compare(calm: Place, shot: Place) -> bool:
    """Print what differs or is left over; True when nothing is."""
    good = True
    with open_configured(calm.config()) as one, open_configured(shot.config()) as other:
        for name, sql in COMPARED.items():
            left, right = rows(one, sql), rows(other, sql)
            same = left == right and len(left) > 0
            good &= same
            print(
                f"  {name:14} {len(left):6,} rows undisturbed, {len(right):6,} shot at: {'equal' if same else 'DIFFERENT'}"
            )
        for name, sql in LEFT_OVER.items():
            found = rows(other, sql)[0][0]
            good &= not found
            print(f"  {name}: {found}")
    return good


def rows(store: Store, sql: str) -> list[tuple[Any, ...]]:
    """What a query gives."""
    with store.read() as connection:
        return [tuple(row) for row in connection.execute(text(sql))]


def prepare(place: Place) -> None:
    """An empty database whose work begins at FROM."""
    config = place.config()
    with open_configured(config) as store:
        upgrade(store, config.monitor.name, NOW, config.labels.precedence)
        scoring_queue.set_starts_at(store, "live", FROM)


# ── the processes ────────────────────────────────────────────────────────────────────────────────────────────────


def be(given: dict[str, Any]) -> int:
    """Be one of the processes that are shot at."""
    place = Place(given["url"], Path(given["folder"]), given["begun"])
    with traced(Path(given["mark"])):
        try:
            work(given["role"], place)
        except StorageError as error:
            print(f"{given['role']}: {error}", file=sys.stderr)
            return 3
    return 0


def work(role: str, place: Place) -> None:
    """Do one part of the story to its end."""
    config = place.config()
    if role in ("daemon", "second daemon"):
        return tick_until_done(place)
    with open_configured(config) as store:
        if role == "backfill":
            backfill(store, config, start=BACKFILLED, end=FROM, as_of=place.now(), policy="live", by=role)
        else:
            read_in(store, config, place, history=role == "past")
    return None


def read_in(store: Store, config: Config, place: Place, *, history: bool) -> None:
    """Ingest the files of one part, in small batches; those that are there already are recognised."""
    part = "past" if history else "late"
    for kind, of in (("transactions", ingest.ingest_transactions), ("labels", ingest.ingest_labels)):
        paths = sorted(str(path) for path in place.folder.glob(f"{part}-{kind}-*.csv"))
        given = sources(config, kind, paths, None, None)
        list(of(store, config, given, clock=place.now, options=Options(history=history)))


def tick_until_done(place: Place) -> None:
    """A daemon whose ticks follow each other at once, until there is nothing left to do."""
    daemon = Daemon(place.config, by=f"daemon {os.getpid()}", clock=place.now)
    try:
        while not (daemon.tick() is not None and finished(place)):
            time.sleep(0.05 if daemon.active else 0.5)
    finally:
        daemon.close()


def finished(place: Place) -> bool:
    """Whether every window is done, everything has arrived, and the queue is empty."""
    late = len(list(place.folder.glob("late-*.csv")))
    with open_configured(place.config()) as store:
        arrived = rows(store, "SELECT COUNT(*) FROM batches WHERE status = 'done' AND NOT history")[0][0]
        queue = rows(store, "SELECT COUNT(*) FROM scoring_queue")[0][0]
        return arrived == late and not queue and not ledger.unfinished(store, "live")


@contextmanager
def traced(path: Path) -> Iterator[None]:
    """Write into a shared page which write step this process is in; wait in the one that was named."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), MARK_BYTES) as page:
        original = Store._writing

        @contextmanager
        def writing(store: Store) -> Iterator[Connection]:
            step = step_of(sys._getframe())
            with original(store) as connection:
                yield connection
                named = bytes(page[HALF:]).rstrip(b"\0").decode().split()
                put(page, 0, step)
                if step in named:
                    time.sleep(WAIT_IN_STEP_S)
            put(page, 0, BETWEEN)

        put(page, 0, BETWEEN)
        Store._writing = writing  # type: ignore[method-assign]
        try:
            yield
        finally:
            Store._writing = original  # type: ignore[method-assign]


def step_of(frame: Any) -> str:
    """The function of storage that asked for the write."""
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(STORAGE) and path.stem != "database":
            name: str = frame.f_code.co_name.lstrip("_")
            if name not in ("write", "remove_some"):
                return f"{path.stem}.{name}"
        frame = frame.f_back
    return "elsewhere"


def put(page: mmap.mmap, place: int, words: str) -> None:
    """Write a short text into half of the page."""
    page[place : place + HALF] = words.encode().ljust(HALF, b"\0")


# ── the killer ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Child:
    """A running process, and the page it marks its steps in."""

    role: str
    process: subprocess.Popen[bytes]
    page: mmap.mmap

    @property
    def step(self) -> str:
        """The write step it is in, empty while it starts."""
        return bytes(self.page[:HALF]).rstrip(b"\0").decode()


class Killer:
    """Starts the processes of the story, shoots them, and starts them again."""

    def __init__(self, place: Place, kills: int, seed: int, server: Server | None) -> None:
        self.place = place
        self.kills = kills
        self.server = server
        self.random = random.Random(seed)
        self.hits: Counter[str] = Counter()
        self.restarts = 0
        self.children: dict[str, Child] = {}

    def run(self) -> tuple[Counter[str], int]:
        """Shoot a third of the kills at the past's ingest, the rest at everything at once; then let it finish."""
        prepare(self.place)
        self.story(["past"], self.kills // 3)
        self.story(["daemon", "second daemon", "backfill", "arrivals"], self.kills)
        return self.hits, self.restarts

    def story(self, roles: list[str], until: int) -> None:
        """Run these roles to their end, shooting until so many kills have been made in all."""
        done: set[str] = set()
        while len(done) < len(roles):
            for role in roles:
                if role not in done and role not in self.children:
                    self.children[role] = self.start(role)
            if sum(self.hits.values()) < until:
                if self.shoot():
                    self.restart_now_and_then(until)
            else:
                time.sleep(0.1)
            for role, child in list(self.children.items()):
                if (code := child.process.poll()) is not None:
                    del self.children[role]
                    if code == 0 and sum(self.hits.values()) >= until:
                        done.add(role)
                    elif code not in (0, 3, -signal.SIGKILL):
                        sys.exit(f"{role} ended with {code}: a fault of its own")

    def shoot(self) -> bool:
        """Wait for a process to come to a step that was named, and kill it there; else kill one where it is; whether it was alive."""
        awake = [child for child in self.children.values() if child.step]
        if not awake:
            time.sleep(0.01)
            return False
        wanted = {step for step in STEPS if self.hits[step] <= self.kills // (2 * len(STEPS))}
        if "daemon" in self.children:  # every step can be come by now: those that never were hit come first
            wanted = {step for step in STEPS if not self.hits[step]} or wanted
        if self.random.random() < ANYWHERE:
            wanted = set()
        child = self.wait_for(wanted) or self.random.choice(awake)
        where = child.step
        alive = child.process.poll() is None
        if alive:
            child.process.kill()
            child.process.wait()
            self.hits[where] += 1
            if sum(self.hits.values()) % 10 == 0:
                print(f"{sum(self.hits.values())} kills", file=sys.stderr, flush=True)
        self.name(set())
        return alive

    def wait_for(self, wanted: set[str]) -> Child | None:
        """The first process to come to one of these steps, None if none does in time."""
        self.name(wanted)
        deadline = time.monotonic() + self.random.uniform(0.2, PATIENCE_S if wanted else 0.2)
        while time.monotonic() < deadline:
            for child in self.children.values():
                if child.step in wanted:
                    return child
            time.sleep(0.0005)
        return None

    def name(self, wanted: set[str]) -> None:
        """Tell every process where to wait."""
        for child in self.children.values():
            put(child.page, HALF, " ".join(sorted(wanted)))

    def restart_now_and_then(self, until: int) -> None:
        """Restart Postgres about every twentieth kill."""
        if self.server is not None and self.random.random() < 1 / 20 and sum(self.hits.values()) < until:
            self.server.restart()
            self.restarts += 1

    def start(self, role: str) -> Child:
        """A new process in this role."""
        mark = self.place.folder / f"{role.replace(' ', '-')}.mark"
        mark.write_bytes(b"\0" * MARK_BYTES)
        given = {
            "role": role,
            "url": self.place.url,
            "folder": str(self.place.folder),
            "begun": self.place.begun,
            "mark": str(mark),
        }
        command = [sys.executable, "-m", "benchmarks.faults", "--be", json.dumps(given)]
        log = (self.place.folder / f"{role.replace(' ', '-')}.log").open("ab")
        process = subprocess.Popen(command, stdout=log, stderr=log)
        log.close()
        with mark.open("r+b") as file:
            return Child(role, process, mmap.mmap(file.fileno(), MARK_BYTES))


def database(server: Server | None, folder: Path, name: str) -> str:
    """URL of a new database."""
    if server is None:
        return f"sqlite:///{folder}/{name}.db"
    return server.create(name)


# ── the payments ─────────────────────────────────────────────────────────────────────────────────────────────────


def write_files(folder: Path) -> None:
    """Payments whose frauds are large amounts at two terminals; a tenth of the last days' arrive late."""
    rng = np.random.default_rng(1)
    n = DAYS * PER_DAY
    times = np.sort(rng.integers(0, DAYS * DAY // SECOND, n)) * SECOND + START
    customer, terminal = rng.integers(0, 40, n), rng.integers(0, 20, n)
    amount = np.round(np.exp(rng.normal(3.0, 0.6, n)), 2)
    fraud = (terminal < 2) & (rng.random(n) < 0.25)
    amount[fraud] *= 12
    late = (times >= BACKFILLED) & (rng.random(n) < 0.1)
    said, known = iso(times), iso(times + 2 * DAY)
    lines = np.array(
        [f"t{k:06d},{said[k]},c{customer[k]},m{terminal[k]},{amount[k]:.2f}" for k in range(n)], dtype=object
    )
    answers = np.array([f"t{k:06d},1,{known[k]},chargeback" for k in range(n)], dtype=object)
    split(folder, "past-transactions", "transactions", lines[~late])
    split(folder, "late-transactions", "transactions", lines[late])
    split(folder, "past-labels", "labels", answers[fraud & ~late])
    split(folder, "late-labels", "labels", answers[fraud & late])


def iso(instants: Any) -> Any:
    """Instants as text."""
    return np.char.add(np.datetime_as_string(instants.astype("datetime64[us]"), unit="s"), "Z")


def split(folder: Path, name: str, kind: str, lines: Any) -> None:
    """Files of a few rows each, so that there are many batches to interrupt."""
    for number, place in enumerate(range(0, len(lines), BATCH)):
        part = "\n".join([HEADERS[kind], *lines[place : place + BATCH]]) + "\n"
        (folder / f"{name}-{number:03d}.csv").write_text(part, encoding="utf-8")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
