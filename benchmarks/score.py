"""
What a score costs while the caller waits: `POST /api/v1/score`, one payment a request, as a dry run and stored, on both engines.

`python -m benchmarks.score [--transactions 1000000] [--engine sqlite]` trains on a few weeks of simulated payments, fills the
database with more by SQL, and measures the processor time that the server takes for a request over HTTP, without its client's, for
payments of entities with little and with much history in the lookback: of 20 customers who have paid just before, or of another one each
time; and for payments that are flagged, which need reasons, and stored a case in the queue.
"""

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.api import IDS, NUMBERS, engines, opened
from pipeline.api.server import spare_collector
from pipeline.config.config import Config
from pipeline.runs.backfill import backfill
from storage.database.column_types import as_datetime
from storage.database.database import Store
from storage.frames import HOUR, SECOND
from tests.support.api import ApiServer, serving
from tests.support.payments import payments
from tests.support.worlds import DAYS, FROM, TO, load_both

ROUNDS = 200
GOAL_MS = 5.0
NOW = TO + 12 * HOUR
# Of 12 days of lookback: customers s… have 15 payments and h… 300, merchants m… 300 and "big" 18,000 (with a million in 40 days).
PAYMENTS = """
    INSERT INTO transactions (transaction_id, event_time, amount, amount_base, batch_id, customer_id, terminal_id)
    SELECT {id}, {time}, 5 + (i * 7919) % 997 / 10.0, 5 + (i * 7919) % 997 / 10.0, 1,
           CASE i % 2 WHEN 0 THEN 's' || (i / 2 % {small}) ELSE 'h' || (i / 2 % {few}) END,
           CASE i % 17 WHEN 0 THEN 'big' ELSE 'm' || (i % {merchants}) END FROM {numbers} n"""
TIMES = {
    "sqlite": "strftime('%Y-%m-%d %H:%M:%f', {start} + i * {step:.6f}, 'unixepoch') || '000'",
    "postgresql": "to_timestamp({start} + i * {step:.6f}::numeric)",
}
CUSTOMERS = 20  # who pay in turn
CASES = {  # kind of customers and their number, and the merchant
    "little": ("s", CUSTOMERS, "m7"),
    "some hundred": ("h", CUSTOMERS, "m7"),
    "a large merchant": ("h", CUSTOMERS, "big"),
    "another customer each time": ("s", 10_000, "m7"),
    "new entities": ("nobody", CUSTOMERS, "nowhere"),
}
ORDINARY, LARGE = 40, 9_000  # amounts that are not flagged, and that are


def train(store: Store, config: Config, folder: Path) -> None:
    """Some weeks of simulated payments, scored, with the models that were trained for it."""
    load_both(store, config, folder, *payments(DAYS), now=TO)
    backfill(store, config, start=FROM, end=TO, as_of=TO + 2 * HOUR, policy="live", by="benchmark")


def fill(store: Store, transactions: int) -> None:
    """Payments up to `NOW`, evenly over as many days as the simulated ones have."""
    engine, span = store.dialect, DAYS * 24 * HOUR // SECOND
    step = span / transactions
    few = max(transactions * 12 // DAYS // 600, 1)
    statement = PAYMENTS.format(
        id=IDS[engine].format(i="i"),
        time=TIMES[engine].format(start=NOW // SECOND - span, step=step),
        numbers=NUMBERS[engine].format(last=transactions - 1),
        small=few * 20, few=few, merchants=few * 2,
    )  # fmt: skip
    with store.write() as connection:
        connection.exec_driver_sql(statement.replace("%", "%%") if engine == "postgresql" else statement)
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")


def requests(api: ApiServer, case: str, stored: bool, flagged: bool) -> Callable[[int], None]:
    """One request of a number, which becomes the id of its payment."""
    kind, customers, merchant = CASES[case]

    def send(number: int) -> None:
        payment = {
            "transaction_id": f"{case} {stored} {flagged} {number}",
            "event_time": as_datetime(NOW - 60 * SECOND + number).isoformat(),
            "customer_id": f"{kind}{number % customers}", "terminal_id": merchant,
            "amount": (LARGE if flagged else ORDINARY) + number % 20,
        }  # fmt: skip
        answer = api.post("/score", {"transactions": [payment], "store": stored})
        scored = answer.json()["payments"][0]
        assert scored["status"] == ("scored" if stored else "dry_run"), answer.text
        assert scored["flagged"] is flagged, answer.text

    return send


def measured(send: Callable[[int], None], rounds: int) -> tuple[float, float, float, float]:
    """The first request's processor time, and the median, 99th percentile and median wall time of those after 20, in ms."""
    processor, wall = [], []
    for number in range(CUSTOMERS + rounds):
        began, spent, own = time.perf_counter(), time.process_time(), time.thread_time()
        send(number)
        processor.append(1e3 * (time.process_time() - spent - (time.thread_time() - own)))
        wall.append(1e3 * (time.perf_counter() - began))
    later = processor[CUSTOMERS:]
    return processor[0], *np.percentile(later, [50, 99]).tolist(), float(np.median(wall[CUSTOMERS:]))  # type: ignore[return-value]


def measure(engine: str, folder: Path, transactions: int, rounds: int) -> None:
    """Print a line for each kind of request."""
    with opened(engine, folder) as (store, small):
        alerts = small.alerts.model_copy(
            update={"per_day": 1}
        )  # of 60, so that ordinary payments are not flagged
        config = small.model_copy(update={"alerts": alerts})
        train(store, config, folder)
        fill(store, transactions)
        print(f"{engine}: {transactions:,} transactions; processor time in ms, wall in brackets")
        print(f"{'':44}{'first':>8}{'p50':>8}{'p99':>8}")
        with serving(store, config, NOW) as api:
            spare_collector()
            for flagged, stored, case in itertools.product((False, True), (False, True), CASES):
                first, middle, high, wall = measured(requests(api, case, stored, flagged), rounds)
                name = f"{case}, {'stored' if stored else 'dry'}{', flagged' * flagged}"
                late = f" above {GOAL_MS:g}" if middle > GOAL_MS else ""
                print(f"{name:44}{first:8.1f}{middle:8.1f}{high:8.1f} ({wall:.1f}){late}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure each engine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transactions", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--engine", choices=["sqlite", "postgresql"], action="append")
    options = parser.parse_args(arguments)
    for engine in engines(options.engine):
        with tempfile.TemporaryDirectory() as folder:
            measure(engine, Path(folder), options.transactions, options.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
