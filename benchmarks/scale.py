"""
What a billion payments a year take: costs measured here on two sizes of the same world, and the steps of a year on many workers.

    python -m benchmarks.scale [--small 2000] [--large 10000] [--windows 10000] [--workers 1 20 200]

Simulated payments (so many a day, 48 days) are ingested, one training runs, and a week of daily windows is scored and watched for drift, on
SQLite and on a genuine Postgres server whose processor time counts, too. Of two sizes a cost has two parts: what each step takes, and what each
payment adds. The steps of a backfill are then played through without doing them: trainings are a chain, a window waits for the training
before it and for a free worker, and its writes for a free core of the database. Printed are the costs, bytes by table, and how
long the steps take by number of workers.
"""

import argparse
import heapq
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from pydantic import SecretStr
from sqlalchemy import text

from benchmarks.machine import resident_mib
from benchmarks.servers import sealed, server_if_installed
from pipeline.config.config import Config
from pipeline.config.database import open_configured
from pipeline.ingest.ingest import ingest_labels, ingest_transactions
from pipeline.ingest.ingest_report import Options
from pipeline.ingest.sources import sources
from pipeline.runs.backfill import backfill
from pipeline.runs.steps import LedgerRunner
from pipeline.simulation.simulate import simulate
from storage.database.column_types import as_micros
from storage.database.database import Store
from storage.database.setup import upgrade

DAYS = 48
FROM, TO = (
    as_micros(datetime(2025, 2, day, tzinfo=UTC)) for day in (10, 17)
)  # a Monday: one training, seven windows
NOW = as_micros(datetime(2025, 2, 18, tzinfo=UTC))
YEAR = 1_000_000_000 / (365 * 24)  # payments an hour
SIZES = (
    "SELECT relname, pg_table_size(oid), pg_indexes_size(oid) FROM pg_class "
    "WHERE relkind = 'r' AND relnamespace = 'fraudwatch'::regnamespace ORDER BY pg_total_relation_size(oid) DESC LIMIT 6"
)


@dataclass
class Costs:
    """Processor seconds of a world: of the client, and of the database where that is a server."""

    per_day: int
    rows: int = 0
    client: dict[str, float] = None  # type: ignore[assignment]  # by kind of step
    server: dict[str, float] = None  # type: ignore[assignment]
    mib: float = 0.0
    bytes_of: Sequence[tuple[str, int, int]] = ()


class Meter:
    """Processor time by kind of step, of this process and of a Postgres server whose folder is named in its command."""

    def __init__(self, folder: Path) -> None:
        self.client: defaultdict[str, float] = defaultdict(float)
        self.server: defaultdict[str, float] = defaultdict(float)
        self._folder = str(folder)

    def timed(self, kind: str, work: Callable[[], Any]) -> Any:
        """Do some work and add its time."""
        client, server = time.process_time(), self._server_seconds()
        result = work()
        self.client[kind] += time.process_time() - client
        self.server[kind] += self._server_seconds() - server
        return result

    def _server_seconds(self) -> float:
        """Of the server and of all that it started."""
        processes = psutil.process_iter(["name", "cmdline"])
        mine = (
            each
            for each in processes
            if each.info["name"] == "postgres" and self._folder in " ".join(each.info["cmdline"] or ())
        )
        root = next(mine, None)
        if root is None:
            return 0.0
        times = [each.cpu_times() for each in (root, *root.children(recursive=True))]
        ended = times[0].children_user + times[0].children_system
        return sum(each.user + each.system for each in times) + ended


def measured(folder: Path, url: str, per_day: int) -> Costs:
    """The costs of one world, in a database that is empty."""
    simulate(DAYS, 7, folder, per_day=per_day, customers=per_day, fraud_rate=0.005)
    config = sealed(Config())
    config = config.model_copy(update={"storage": config.storage.model_copy(update={"url": SecretStr(url)})})
    meter = Meter(folder)
    process = LedgerRunner.process
    LedgerRunner.process = lambda self, entry, ids_of: meter.timed(  # type: ignore[method-assign]
        entry.kind, lambda: process(self, entry, ids_of)
    )
    try:
        with open_configured(config) as store:
            upgrade(store, config.monitor.name, 1, config.labels.precedence, config.labels.never_by_silence)
            rows = meter.timed("ingest", lambda: _ingest(store, config, folder))
            backfill(store, config, start=FROM, end=TO, as_of=NOW, policy="live", by="benchmark")
            sizes = _sizes(store)
    finally:
        LedgerRunner.process = process  # type: ignore[method-assign]
    return Costs(per_day, rows, dict(meter.client), dict(meter.server), resident_mib(), sizes)


def _ingest(store: Store, config: Config, folder: Path) -> int:
    for kind, ingest in (("labels", ingest_labels), ("transactions", ingest_transactions)):
        inputs = sources(config, kind, [str(folder / f"{kind}.parquet")], None, None)
        (report,) = ingest(store, config, inputs, clock=lambda: TO, options=Options())
    return int(report.counts.accepted)


def _sizes(store: Store) -> list[tuple[str, int, int]]:
    with store.read() as connection:
        if store.dialect == "postgresql":
            return [
                (str(name), int(table), int(index)) for name, table, index in connection.execute(text(SIZES))
            ]
        pages, size = (
            connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in ("page_count", "page_size")
        )
        return [("the file", int(pages) * int(size), 0)]


@dataclass(frozen=True)
class Line:
    """A cost of each step, and of each payment in it, in seconds."""

    step: float
    payment: float

    def at(self, payments: float) -> float:
        """The cost of a step with so many payments."""
        return self.step + self.payment * payments


def line(small: tuple[float, float], large: tuple[float, float]) -> Line:
    """Through two points (payments, seconds)."""
    slope = max((large[1] - small[1]) / (large[0] - small[0]), 0.0)
    return Line(max(small[1] - slope * small[0], 0.0), slope)


@dataclass(frozen=True)
class Steps:
    """What the steps of a backfill take, in seconds."""

    windows: int
    window: float  # of a worker
    write: float  # of a core of the database, after that
    trainings: int
    training: float
    after_all_trainings: bool = True  # windows begin only then, as `fraudwatch backfill` has it


def play(steps: Steps, workers: int, cores: int) -> tuple[float, float]:
    """How long the steps take on so many workers, and the share of that time in which they were busy."""
    free, database = [0.0] * workers, [0.0] * cores
    span = -(-steps.windows // max(steps.trainings, 1))
    last = 0.0
    for number in range(steps.windows):
        chain = steps.trainings if steps.after_all_trainings else number // span + 1
        begin = max(heapq.heappop(free), chain * steps.training)
        worked = begin + steps.window
        end = max(worked, heapq.heappop(database)) + steps.write
        heapq.heappush(database, end)
        heapq.heappush(free, end)
        last = max(last, end)
    return last, steps.windows * steps.window / (workers * last)


def report(engine: str, small: Costs, large: Costs, options: argparse.Namespace) -> None:
    """Print what was measured on an engine, and what it means for a billion."""
    print(
        f"\n{engine}: {small.rows:,} and {large.rows:,} transactions; processor time of the client + of the server"
    )
    print("step       each step, s        each 1,000 payments, s")
    lines = {}
    for kind in ("ingest", "train", "score", "drift"):
        n = 7 if kind in ("score", "drift") else 1  # steps that were counted together
        of_kind = [
            line(
                *(
                    (each.rows / (DAYS if n > 1 else 1), getattr(each, side).get(kind, 0.0) / n)
                    for each in (small, large)
                )
            )
            for side in ("client", "server")
        ]
        lines[kind] = of_kind
        client, server = of_kind
        print(
            f"{kind:9}  {client.step:6.2f} + {server.step:5.2f}      {1000 * client.payment:7.4f} + {1000 * server.payment:7.4f}"
        )
    print(f"resident memory after all: {small.mib:,.0f} and {large.mib:,.0f} MiB")
    for name, table, index in large.bytes_of:
        scored = name in ("scores", "flags")  # of one week only
        n = large.rows * (7 / DAYS if scored else 1)
        what = "scored payment" if scored else "payment"
        print(f"{name:22} {table / n:7.0f} bytes a {what}, indexes {index / n:5.0f}")
    window = [lines["score"][side].at(YEAR) + lines["drift"][side].at(YEAR) for side in (0, 1)]
    weeks = -(-options.windows // 168)
    training = lines["train"][0].at(180 * 24 * YEAR)
    print(
        f"an hour of a billion a year is {YEAR:,.0f} payments: {window[0]:.1f} s of a worker, {window[1]:.2f} s of the database; a training reads"
    )
    print(f"{180 * 24 * YEAR:,.0f} payments, were it to take {training / 3600:.1f} h")
    for length, capped in (
        ("that long", training),
        ("as long as the larger one here", large.client["train"]),
    ):
        steps = Steps(options.windows, window[0], window[1], weeks, capped)
        print(
            f"{options.windows:,} hourly windows, {weeks} trainings, each {length}; 8 cores of the database:"
        )
        for workers in options.workers:
            for after in (True, False):
                hours, busy = play(replace(steps, after_all_trainings=after), workers, 8)
                what = "after all trainings" if after else "as soon as their model is there"
                print(f"  {workers:4} workers, windows {what:32} {hours / 3600:8.1f} h, busy {busy:4.0%}")


def main(argv: Sequence[str] | None = None) -> int:
    """Print the costs and the simulation for both engines."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--small", type=int, default=2000)
    parser.add_argument("--large", type=int, default=10_000)
    parser.add_argument("--windows", type=int, default=10_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 20, 200])
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="fw") as name, ExitStack() as stack:
        folder = Path(name)
        server = server_if_installed(stack, folder)
        for engine, urls in _engines(folder, server):
            small, large = (
                measured(folder, url, per_day)
                for url, per_day in zip(urls, (options.small, options.large), strict=True)
            )
            report(engine, small, large, options)
    return 0


def _engines(folder: Path, server: Any) -> Iterator[tuple[str, list[str]]]:
    yield "SQLite", [f"sqlite:///{folder / name}.db" for name in ("small", "large")]
    if server is not None:
        yield "Postgres", [server.create(name) for name in ("small", "large")]


if __name__ == "__main__":
    raise SystemExit(main())
