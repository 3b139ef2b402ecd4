"""
A backfill on a Dask scheduler whose workers are killed again and again, and itself once: nothing is lost, doubled or different.

    python -m benchmarks.distributed [--kills 30] [--days 60] [--workers 2]

Simulated payments are backfilled twice on Postgres, in windows of six hours: by one process, undisturbed, and on a real scheduler with
worker processes of one thread. These are killed (SIGKILL) at random while they work, and started again; the scheduler is killed once, the
command ends with one sentence, and the same command again does the rest. Printed are the processor time of the undisturbed run, how often steps
were executed (claims of the ledger) against steps and kills, and whether scores, reasons and choices are equal to the bit. The exit code
is 1 if more was executed than steps and kills, or a row differs.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import text

from benchmarks import equal
from benchmarks.servers import Server, server_if_installed
from pipeline.simulation.simulate import simulate

KEY = "a key of a benchmark"
WINDOW = "6h"
CALM_S = (0.5, 3.0)  # between two kills
STEPS = (
    "SELECT COUNT(*), SUM(token) FROM fraudwatch.ledger WHERE kind IN ('score', 'drift') AND policy = 'live'"
)


@dataclass
class Cluster:
    """A scheduler and worker processes, each with a nanny that starts it again."""

    folder: Path
    environ: dict[str, str]
    n_workers: int
    address: str = ""
    scheduler: Any = None
    nannies: list[Any] = field(default_factory=list)

    def start(self) -> None:
        """Start the scheduler and its workers."""
        file = self.folder / "scheduler.json"
        file.unlink(missing_ok=True)
        of_scheduler = (
            "scheduler",
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--no-dashboard",
            "--scheduler-file",
            str(file),
        )
        self.scheduler = self._dask(*of_scheduler)
        while not file.exists():
            time.sleep(0.1)
        self.address = json.loads(file.read_text())["address"]
        worker = ("worker", self.address, "--nthreads", "1", "--no-dashboard")
        self.nannies = [self._dask(*worker) for _ in range(self.n_workers)]

    def _dask(self, *arguments: str) -> Any:
        quiet = subprocess.DEVNULL
        command = [sys.executable, "-m", "dask", *arguments]
        return subprocess.Popen(command, cwd=self.folder, env=self.environ, stdout=quiet, stderr=quiet)

    def workers(self) -> list[psutil.Process]:
        """The processes that do the work."""
        found = []
        for nanny in self.nannies:
            with suppress(psutil.Error):
                children = psutil.Process(nanny.pid).children(recursive=True)
                found += [child for child in children if "spawn_main" in " ".join(child.cmdline())]
        return found

    def stop(self) -> None:
        """Kill everything."""
        for process in (*self.nannies, self.scheduler):
            with suppress(psutil.Error):
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
            process.kill()
            process.wait()


class Killer(threading.Thread):
    """Kills a worker at random while windows are at work, and the scheduler once, half-way."""

    def __init__(self, cluster: Cluster, url: str, kills: int) -> None:
        super().__init__(daemon=True)
        self.cluster, self.kills, self.killed, self.ended = cluster, kills, 0, threading.Event()
        self.scheduler_killed = False
        self._engine = equal.engine(url)

    def run(self) -> None:
        """Kill until there were enough."""
        chance = random.Random(7)
        while self.killed < self.kills and not self.ended.wait(chance.uniform(*CALM_S)):
            if self.killed == self.kills // 2 and not self.scheduler_killed:
                self.cluster.scheduler.kill()
                self.scheduler_killed = True
                continue
            workers = self.cluster.workers()
            if workers and self._at_work():
                with suppress(psutil.Error):
                    chance.choice(workers).kill()
                    self.killed += 1

    def _at_work(self) -> bool:
        running = (
            "SELECT COUNT(*) FROM fraudwatch.ledger WHERE status = 'running' AND kind IN ('score', 'drift')"
        )
        with self._engine.connect() as connection:
            return bool(connection.scalar(text(running)))


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; 1 if something was executed too often or differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--days", type=int, default=60, help="simulated days; the second half is scored")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args(argv)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fraudwatch-distributed-")))
        server = server_if_installed(stack, folder)
        return 0 if server is None else _compared(args, folder, server, stack)


def _compared(args: argparse.Namespace, folder: Path, server: Server, stack: ExitStack) -> int:
    paths = simulate(args.days, 7, folder, per_day=400).paths
    urls = [server.create("alone"), server.create("killed")]
    alone, killed = (_environment(url) for url in urls)
    for environ in (alone, killed):
        _fraudwatch(folder, environ, "init")
        _fraudwatch(folder, environ, "ingest", "transactions", str(paths["transactions"]))
        _fraudwatch(folder, environ, "ingest", "labels", str(paths["labels"]))
    first, last = _span(urls[0])
    span = ("--from", first, "--to", last)
    before = os.times()
    _fraudwatch(folder, alone, "backfill", *span)
    spent = os.times()
    print(f"one process: {spent.children_user - before.children_user:.0f} s of processor time", flush=True)
    cluster = Cluster(folder, killed, args.workers)
    cluster.start()
    stack.callback(cluster.stop)
    killer = Killer(cluster, urls[1], args.kills)
    killer.start()
    calls = 1
    while _fraudwatch(folder, killed, "backfill", *span, "--scheduler", cluster.address, check=False):
        calls += 1
        cluster.stop()
        cluster.start()
    killer.ended.set()
    with equal.engine(urls[1]).connect() as connection:
        steps, claims = connection.execute(text(STEPS)).one()
    kills = killer.killed + (
        2 * args.workers if killer.scheduler_killed else 0
    )  # its workers were stopped, too
    print(
        f"{args.workers} workers: {killer.killed} of them killed, the scheduler {int(killer.scheduler_killed)} times, {calls} calls; "
        f"{claims} executions of {steps} steps"
    )
    differs = equal.main(urls)
    return int(differs or not steps <= claims <= steps + kills)


def _environment(url: str) -> dict[str, str]:
    own = {"FRAUDWATCH_STORAGE__URL": url, "FRAUDWATCH_MODEL_KEY": KEY, "FRAUDWATCH_SCHEDULE__WINDOW": WINDOW}
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    return {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **threads, **own}


def _fraudwatch(folder: Path, environ: dict[str, str], *arguments: str, check: bool = True) -> int:
    command = [sys.executable, "-m", "pipeline", *arguments]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr.strip().splitlines()[-1], flush=True)
        if check:
            raise SystemExit(1)
    return done.returncode


def _span(url: str) -> tuple[str, str]:
    """The second half of the days that are stored."""
    with equal.engine(url).connect() as connection:
        first, last = connection.execute(
            text("SELECT MIN(event_time), MAX(event_time) FROM fraudwatch.transactions")
        ).one()
    middle = first + (last - first) / 2
    return f"{middle:%Y-%m-%d}", f"{last:%Y-%m-%d}"


if __name__ == "__main__":
    sys.exit(main())
