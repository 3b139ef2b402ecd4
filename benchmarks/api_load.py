"""
Whether the API keeps its pace when many ask at once, on both engines.

`python -m benchmarks.api_load [--transactions 1000000] [--engine sqlite]` trains on a few weeks of simulated payments, adds more of them and
flags by SQL, and serves them by a process of its own. 20 clients ask without a pause, first alone and then beside a training, a backfill and
an ingest; printed are median and 99th percentile of the wall time by kind of request, in ms.
"""

import argparse
import http.client
import itertools
import json
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from benchmarks import api, score
from pipeline.api.app import LOCK_WAIT_MS
from pipeline.api.server import spare_collector
from pipeline.config.config import Config
from pipeline.config.database import open_configured
from pipeline.runs.backfill import backfill
from pipeline.runs.scoring_run import train_once
from pipeline.services.session import Session
from pipeline.services.users.handles import entity_handles
from pipeline.services.users.tokens import NewToken, issue_token
from storage.database.column_types import as_datetime
from storage.database.database import Store
from storage.frames import SECOND
from tests.support.api import serving
from tests.support.payments import PAYMENT_HEADER, time_text, write_csv
from tests.support.worlds import FROM, TO, load

CLIENTS = 20
TIMES_MAX = 5.0  # the 99th percentile may be so many times the median
INGESTED = 20_000  # payments of a file
CUSTOMERS, MERCHANTS = 400, 90  # who pay while it is measured
FORK = get_context("fork")  # its processes are there at once
NOW = score.NOW
Request = tuple[str, str, Any]  # method, path, and body or None


class Caller:
    """A program with a token and a connection that stays open; it repeats what is answered by 503."""

    def __init__(self, url: str, token: str) -> None:
        self._address = urlsplit(url).netloc
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._connection: http.client.HTTPConnection | None = None
        self.repeated = 0

    def ask(self, method: str, path: str, body: Any) -> tuple[int, dict[str, Any]]:
        """Status and content of an answer."""
        while True:
            self._connection = self._connection or http.client.HTTPConnection(self._address, timeout=120)
            content = None if body is None else json.dumps(body)
            try:
                self._connection.request(method, f"/api/v1{path}", content, self._headers)
                answer = self._connection.getresponse()
            except http.client.RemoteDisconnected:  # after a pause
                self._connection = None
                continue
            given: dict[str, Any] = json.loads(answer.read())
            if answer.status != 503:
                return answer.status, given
            self.repeated += 1
            time.sleep(float(answer.headers["Retry-After"]))


def _serve(config: Config, outbox: Connection) -> None:
    with open_configured(config, LOCK_WAIT_MS) as store, serving(store, config, NOW) as server:
        spare_collector()
        outbox.send(server.url)
        outbox.poll(None)  # until the other end is closed


@contextmanager
def servers(config: Config, number: int) -> Iterator[list[str]]:
    """The addresses of servers, each a process of its own."""
    with ExitStack() as stack:
        urls = []
        for _ in range(number):
            mine, theirs = FORK.Pipe()
            process = FORK.Process(target=_serve, args=(config, theirs))
            process.start()
            stack.callback(process.join)
            stack.callback(process.terminate)
            urls.append(mine.recv())
        yield urls


def filled(store: Store, config: Config, folder: Path, transactions: int) -> None:
    """Models of a few weeks, and more payments, a tenth of them flagged."""
    score.train(store, config, folder)
    score.fill(store, transactions)
    api.fill_flags(store, transactions)


def token(store: Store, config: Config, name: str) -> str:
    """The secret of a token that may do everything."""
    session = Session(store, config, "benchmark", clock=lambda: NOW)
    return issue_token(session, NewToken(name, "administrator", timedelta(days=30), 10_000_000)).secret


def payment(name: str, random: Random) -> dict[str, Any]:
    """A payment of the last minute."""
    return {
        "transaction_id": name,
        "event_time": as_datetime(NOW - random.randrange(60 * SECOND)).isoformat(),
        "customer_id": f"s{random.randrange(CUSTOMERS)}", "terminal_id": f"m{random.randrange(MERCHANTS)}",
        "amount": random.randrange(500, 10_000) / 100,
    }  # fmt: skip


def _requests(store: Store, config: Config, transactions: int, seed: int) -> Iterator[tuple[str, Request]]:
    """What a client asks for, one after the other, with its kind."""
    random, handles = Random(seed), entity_handles(Session(store, config, "benchmark"))
    for number in itertools.count():
        flag = f"t{random.randrange(transactions // 10) * 10:07d}"
        handle = handles.handle("customer_id", f"s{random.randrange(CUSTOMERS)}")
        asked = payment(f"{seed} {time.time_ns()} {number}", random)
        yield random.choice((
            ("list of flags", ("GET", "/flags?limit=50&status=open", None)),
            ("one flag", ("GET", f"/flags/{flag}", None)),
            ("timeline", ("GET", f"/entities/{handle}/transactions?limit=50", None)),
            ("score, dry", ("POST", "/score", {"transactions": [asked]})),
            ("score, stored", ("POST", "/score", {"transactions": [asked], "store": True})),
            ("verdict", ("POST", f"/transactions/{flag}/verdict", {"verdict": "fraud"})),
        ))  # fmt: skip


def _asked(
    callers: Sequence[Caller], asking: Sequence[Iterator[tuple[str, Request]]], seconds: float
) -> dict[str, list[float]]:
    """Wall times by kind, in ms."""
    until, times = time.monotonic() + seconds, defaultdict[str, list[float]](list)

    def ask(caller: Caller, requests: Iterator[tuple[str, Request]]) -> None:
        while time.monotonic() < until:
            kind, request = next(requests)
            began = time.perf_counter()
            status, answer = caller.ask(*request)
            times[kind].append(1e3 * (time.perf_counter() - began))
            assert status == 200, answer

    threads = [threading.Thread(target=ask, args=each) for each in zip(callers, asking, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times


def _train(store: Store, config: Config, _folder: Path) -> None:
    for number in itertools.count():
        train_once(store, config, date=TO + number, as_of=NOW, policy="live", by="benchmark")


def _backfill(store: Store, config: Config, _folder: Path) -> None:
    for number in itertools.count():
        backfill(store, config, start=FROM, end=TO, as_of=NOW, policy=f"again{number}", by="benchmark")


def _ingest(store: Store, config: Config, folder: Path) -> None:
    random = Random(7)
    for number in itertools.count():
        rows = [
            f"i{number}-{k},{time_text(random.randrange(FROM, TO))},s{k % CUSTOMERS},m{k % MERCHANTS},{random.randrange(1, 900)}"
            for k in range(INGESTED)
        ]
        file = write_csv(folder / f"{number}.csv", PAYMENT_HEADER, rows)
        load(store, config, "transactions", file, now=NOW + number * SECOND)


def _at_work(config: Config, work: Callable[[Store, Config, Path], None]) -> BaseProcess:
    def run() -> None:
        with tempfile.TemporaryDirectory() as folder, open_configured(config) as store:
            work(store, config, Path(folder))

    process = FORK.Process(target=run, name=work.__name__.strip("_"))
    process.start()
    return process


def _print(title: str, times: dict[str, list[float]]) -> None:
    print(f"{title:28}{'n':>7}{'p50':>8}{'p99':>8}{'ratio':>7}")
    for kind in sorted(times):
        middle, high = np.percentile(times[kind], [50, 99])
        late = f" above {TIMES_MAX:g}" if high > TIMES_MAX * middle else ""
        print(f"{kind:28}{len(times[kind]):7}{middle:8.0f}{high:8.0f}{high / middle:7.1f}{late}", flush=True)


def measure(engine: str, folder: Path, transactions: int, seconds: float) -> None:
    """Print a line for each kind of request, alone and beside other work."""
    with api.opened(engine, folder) as (store, config):
        filled(store, config, folder, transactions)
        secret = token(store, config, "load")
        store.engine.dispose()
        print(
            f"{engine}: {transactions:,} transactions, {transactions // 10:,} flags, {CLIENTS} clients; wall time in ms"
        )
        with servers(config, 1) as (url,):
            callers = [Caller(url, secret) for _ in range(CLIENTS)]
            asking = [_requests(store, config, transactions, seed) for seed in range(CLIENTS)]
            _asked(callers, asking, min(seconds, 10))  # everything is warm then
            _print("alone", _asked(callers, asking, seconds))
            processes = [_at_work(config, work) for work in (_train, _backfill, _ingest)]
            time.sleep(3)
            times = _asked(callers, asking, seconds)
            ended = Counter(process.name for process in processes if not process.is_alive())
            for process in processes:
                process.terminate()
                process.join()
            assert not ended, f"{', '.join(ended)} ended early"
            _print("beside other work", times)
            print(f"{sum(each.repeated for each in callers)} answers of 503 were repeated")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure each engine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transactions", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--engine", choices=["sqlite", "postgresql"], action="append")
    options = parser.parse_args(arguments)
    for engine in api.engines(options.engine):
        with tempfile.TemporaryDirectory() as folder:
            measure(engine, Path(folder), options.transactions, options.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
