"""
Months of a daemon: its memory over many ticks, what finding work costs as the database grows, and a month of faults.

    python -m benchmarks.daemon [--ticks 10000] [--rows 200000 2000000] [--weeks 4]

Ticks are simulated, five minutes apart, over made-up payments: hourly windows, weekly trainings, and nothing to do
most of the time. Resident memory is read after the first training cycles and at the end. For the second part
databases are filled with so many scored transactions and 500 queued ones, and the steps that look for work take turns
on all of them; medians are compared. For the third part, on each engine, two daemons live through a month in which a file
is bad each day, and the database fails over and a daemon is killed each week (`benchmarks.daemon_month`).
"""

import argparse
import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"))

import gc
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from sqlalchemy import insert

from benchmarks.daemon_month import WEEKS, month
from benchmarks.machine import resident_mib
from benchmarks.servers import server_if_installed
from pipeline.config.config import Config
from pipeline.config.database import open_configured
from pipeline.daemon.daemon import Daemon
from pipeline.ingest.ingest import ingest_labels, ingest_transactions
from pipeline.ingest.ingest_report import Options
from pipeline.ingest.sources import Source
from pipeline.schedule import planning
from pipeline.simulation.simulate import simulate
from storage.database import bulk, tables
from storage.database.database import Store
from storage.database.setup import upgrade
from storage.ingest import history
from storage.monitoring import health
from storage.runs import scoring_queue

SECOND = 1_000_000
DAY = 86_400 * SECOND
TICK = 300 * SECOND
START = 1_735_689_600 * SECOND  # 2025-01-01
WARM = 14 * DAY  # of history before the first tick
FLAT = 1.05  # memory at the end over memory once everything has run a few times
SAME = 1.5  # time on the large database over time on the small one; noise of a shared machine included
QUEUED = 500
TURNS = 30
PART = 50_000
LIMITS = {"training": {"min_rows": 200, "every": "7d"}, "labels": {"maturity": "5d"}}


def main(argv: Sequence[str] | None = None) -> int:
    """Print both parts; 1 if a bound is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ticks", type=int, default=10_000, help="of the first part; 0 leaves it out")
    parser.add_argument(
        "--rows",
        type=int,
        nargs=2,
        default=[200_000, 2_000_000],
        help="scored, of the second; 0 0 leaves it out",
    )
    parser.add_argument("--weeks", type=int, default=WEEKS, help="of the third part; 0 leaves it out")
    args = parser.parse_args(argv)
    good = True
    with tempfile.TemporaryDirectory(prefix="fw") as name, ExitStack() as stack:
        folder = Path(name)
        if args.ticks:
            good &= _ticks(folder, args.ticks)
        server = server_if_installed(stack, folder)
        if all(args.rows):
            good &= _finding(
                "SQLite", [f"sqlite:///{folder / f'{rows}.db'}" for rows in args.rows], args.rows
            )
        if all(args.rows) and server is not None:
            good &= _finding("Postgres", [server.url] * 2, args.rows)
        for engine, running in (("SQLite", None), ("Postgres", server)):
            if args.weeks and (running is not None or engine == "SQLite"):
                (folder / engine).mkdir()
                good &= month(engine, folder / engine, running, args.weeks)
    return 0 if good else 1


def _ticks(folder: Path, ticks: int) -> bool:
    days = (WARM + ticks * TICK) // DAY + 1
    simulate(days=days, seed=7, output=folder, format="parquet", per_day=200)
    url = f"sqlite:///{folder / 'daemon.db'}"
    config = Config.model_validate({"storage": {"url": url}, "schedule": {"window": "1h"}, **LIMITS})
    begin = START + WARM
    with open_configured(config) as store:
        upgrade(store, config.monitor.name, 1, config.labels.precedence)
        for work, kind in ((ingest_transactions, "transactions"), (ingest_labels, "labels")):
            source = Source(str(folder / f"{kind}.parquet"), path=folder / f"{kind}.parquet")
            list(
                work(store, config, [source], clock=lambda: START + days * DAY, options=Options(history=True))
            )
        scoring_queue.set_starts_at(store, "live", begin)
    clock = [begin]
    daemon = Daemon(lambda: config, by="benchmark", clock=lambda: clock[0])
    memory, spent, worked = list[float](), list[float](), 0
    for tick in range(ticks):
        clock[0] = begin + tick * TICK
        started = perf_counter()
        tally = daemon.tick()
        spent.append(perf_counter() - started)
        worked += tally is not None and bool(tally.run_id)
        if (tick + 1) % (ticks // 10) == 0:
            gc.collect()
            memory.append(resident_mib())
    daemon.close()
    growth = memory[-1] / memory[2]
    idle = statistics.median(spent)
    shown = " ".join(f"{mib:.0f}" for mib in memory)
    print(f"{ticks:,} ticks over {days} days, {worked:,} of them with work, {sum(spent):.0f} s in all")
    print(f"  resident MiB at every tenth: {shown}; the end is {growth:.3f} of the third (at most {FLAT})")
    print(f"  a tick without work: {idle * 1e3:.1f} ms")
    return growth <= FLAT


def _finding(engine: str, urls: Sequence[str], sizes: Sequence[int]) -> bool:
    steps: dict[str, Callable[[Store, Config], Any]] = {
        "queue": lambda store, config: scoring_queue.queued(
            store, "live", END, config.schedule.allowed_lateness
        ),
        "ledger": lambda store, _: planning.open_steps(store, "live", START, END, 24),
        "vitals": lambda store, _: health.read(store, "live"),
        "horizon": lambda store, _: history.horizon(store, END),
    }
    with ExitStack() as stack:
        stores = []
        for url, rows in zip(urls, sizes, strict=True):
            config = Config.model_validate({"storage": {"url": url, "schema": f"rows_{rows}"}, **LIMITS})
            stores.append((stack.enter_context(open_configured(config)), config))
            _fill(*stores[-1], rows)
        good = True
        for name, step in steps.items():
            seconds = [
                statistics.median(turns)
                for turns in zip(*([_timed(step, *one) for one in stores] for _ in range(TURNS)), strict=True)
            ]
            ratio = seconds[1] / seconds[0]
            good &= ratio <= SAME
            print(
                f"{engine}, {name}: {seconds[0] * 1e3:.2f} ms at {sizes[0]:,} scored rows, "
                f"{seconds[1] * 1e3:.2f} ms at {sizes[1]:,}: {ratio:.2f} times (at most {SAME})"
            )
    return good


END = START + 400 * DAY


def _timed(step: Callable[[Store, Config], Any], store: Store, config: Config) -> float:
    started = perf_counter()
    step(store, config)
    return perf_counter() - started


def _fill(store: Store, config: Config, rows: int) -> None:
    """So many scored transactions, flagged one in a hundred, a done window an hour, and a short queue."""
    upgrade(store, config.monitor.name, 1, config.labels.precedence)
    batch = {"kind": "transactions", "source": "made up", "status": "done", "history": True, "holder": "x"}
    counts = {"read": rows, "accepted": rows, "started_at": START, "visible_at": START, "content_hash": "x"}
    with store.write() as connection:
        connection.execute(insert(tables.batches), batch | counts)
        connection.execute(
            insert(tables.policies), {"policy": "live", "starts_at": START, "planned_until": END}
        )
        done = [
            {
                "policy": "live", "kind": kind, "window_start": at, "window_end": at + 3600 * SECOND,
                "due_at": at, "status": "done", "attempts": 1,
            }
            for at in range(START, END, 3600 * SECOND)
            for kind in ("score", "drift")
        ]  # fmt: skip
        connection.execute(insert(tables.ledger), done)
    for first in range(0, rows, PART):
        n = min(PART, rows - first)
        ids = [f"t{place:09d}" for place in range(first, first + n)]
        times = START + (np.arange(first, first + n) * (399 * DAY // rows)).astype(np.int64)
        money = [12.5] * n
        with store.write() as connection:
            bulk.insert_new(
                connection,
                store.transactions,
                {
                    "transaction_id": ids, "event_time": bulk.instants(times), "amount": money,
                    "amount_base": money, "batch_id": [1] * n, "customer_id": [f"c{k % 9973}" for k in range(n)],
                },
            )  # fmt: skip
            same = {
                "policy": "live", "run_id": 1, "model_id": 1, "score": 0.5, "channel": "outlier",
                "flagged": False, "strategy": "outlier",
            }  # fmt: skip
            scored = ids if first + n < rows else ids[:-QUEUED]
            columns = {key: [value] * len(scored) for key, value in same.items()}
            bulk.insert_new(connection, tables.scores, columns | {"transaction_id": scored})
            left = ids[len(scored) :]
            bulk.insert_new(
                connection, tables.queue, {"policy": ["live"] * len(left), "transaction_id": left}
            )
    with store.engine.connect() as connection:
        connection.exec_driver_sql("ANALYZE")
        connection.commit()


if __name__ == "__main__":
    sys.exit(main())
