"""
Ingest, from file to visible with validation on, against the bare database.

    python -m benchmarks.ingest [--rows 300000] [--data handbook.parquet]

Bare means: rows that are in memory already, as the driver takes them, into the same tables with the same indexes,
without reading, checking or counting anything; `executemany` of the sqlite3 module for SQLite, COPY of ready-made CSV
by psycopg for Postgres. The rows are those that ingest has stored, so both write the same. Bare SQLite is tried in one
transaction and in transactions as long as those of ingest, bare Postgres likewise, and the faster of the two is what
counts. All take turns, each on a database of its own, and medians are compared.

Peak memory is that of `fraudwatch ingest transactions` in a process of its own, for the file and for its first two
batches: it must not grow with the file.
"""

import argparse
import io
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psycopg

from benchmarks.machine import require
from benchmarks.servers import server_if_installed
from pipeline.config.config import Config, as_toml
from pipeline.config.database import open_configured
from pipeline.ingest.formats.row_batch import BATCH_ROWS
from pipeline.ingest.ingest import ingest_transactions
from pipeline.ingest.ingest_report import Options
from pipeline.ingest.sources import Source
from storage.database.database import Store
from storage.database.setup import upgrade

TURNS = 3
TARGET = 0.5  # of the bare database's rows a second
NOW = 1_790_000_000_000_000  # µs, after every row
PART = 1 << 16  # bytes handed to COPY at once
FLAT = 1.1  # of the peak memory of the first rows
FIRST_ROWS = 2 * BATCH_ROWS  # the second batch is read while the first one is still there
# A process of its own, because Linux counts the memory of the process that starts another one for that one, too.
COMMANDS = """
import resource, subprocess, sys
from benchmarks.machine import peak_mib
for arguments in (["init"], ["ingest", "transactions", sys.argv[1]]):
    subprocess.run([sys.executable, "-m", "pipeline", *arguments], stdout=sys.stderr, check=True)
print(peak_mib(resource.getrusage(resource.RUSAGE_CHILDREN)))
"""
HANDBOOK = {"entities": ["customer_id", "terminal_id"], "categorical": [], "kind": "", "original_id": ""}

Place = dict[str, str]  # url, schema
Bare = Callable[[Place, Sequence[Any]], None]  # writes parts, a transaction each


def main(argv: Sequence[str] | None = None) -> int:
    """Print rows a second of each way, and peak memory; 1 if a ratio is beyond its target."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--data", type=Path, help="the Handbook's transactions, instead of made-up payments")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="fw") as name, ExitStack() as stack:
        folder = Path(name)
        frame, schema = handbook(args.data, args.rows) if args.data else payments(args.rows)
        files = _write(frame, folder)
        config = Config.model_validate({"schema": schema, "labels": {"never_by_silence": {}}})
        print(f"{len(frame):,} transactions, {len(frame.columns)} columns, {_sizes(files)}; {TURNS} turns")
        good = [_compare("SQLite, executemany", config, files, _sqlite(folder), _stored_sqlite, _executemany)]
        server = server_if_installed(stack, folder)
        if server is not None:
            good.append(
                _compare("Postgres, COPY", config, files, _postgres(server.url), _stored_postgres, _copy)
            )
        print(f"target: {TARGET} of the faster bare way")
        good += [_flat(kind, frame, schema, folder) for kind in files]
    print(f"target: {FLAT} of the peak of the first rows")
    return 0 if all(good) else 1


def payments(rows: int) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Made-up payments with the columns of the shipped config, in the order of their times."""
    rng = np.random.default_rng(7)
    customer = rng.integers(0, rows // 40 + 1, rows)
    moments = np.sort(rng.integers(0, 90 * 86_400_000, rows)) * 1000 + 1_767_225_600_000_000
    texts = np.datetime_as_string(moments.astype("datetime64[us]"), unit="ms")
    frame = pd.DataFrame(
        {
            "transaction_id": [f"T{n:09d}" for n in range(rows)],
            "event_time": np.char.add(texts, "Z"),
            "amount": np.round(rng.lognormal(3.3, 1.0, rows), 2),
            "kind": np.where(rng.random(rows) < 0.015, "refund", "payment"),
            "original_id": pd.Series(None, index=range(rows), dtype="object"),
            "customer_id": [f"C{n:06d}" for n in customer],
            "card_id": [f"K{n:06d}" for n in customer * 2 + rng.integers(0, 2, rows)],
            "merchant_id": [f"M{n:05d}" for n in rng.zipf(1.3, rows) % 2000],
            "device_id": [f"D{n:06d}" for n in customer + rng.integers(0, 3, rows)],
            "channel": rng.choice(["web", "app", "pos"], rows),
            "country": rng.choice(["DE", "FR", "ES", "IT", "NL"], rows),
            "status": rng.choice(["approved", "declined"], rows, p=[0.97, 0.03]),
        }
    )
    return frame, {}


def handbook(path: Path, rows: int) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The first rows of the Handbook's file."""
    columns = ["transaction_id", "event_time", "customer_id", "terminal_id", "amount"]
    frame = pd.read_parquet(require(path, "the Handbook's transactions as Parquet"), columns=columns)
    return frame.head(rows), HANDBOOK


def _write(frame: pd.DataFrame, folder: Path) -> dict[str, Path]:
    files = {"CSV": folder / "payments.csv", "Parquet": folder / "payments.parquet"}
    frame.to_csv(files["CSV"], index=False)
    frame.to_parquet(files["Parquet"], index=False)
    return files


def _flat(kind: str, frame: pd.DataFrame, schema: dict[str, Any], folder: Path) -> bool:
    """Print the peak memory of an ingest of all rows, and of the first ones."""
    first = frame.head(FIRST_ROWS)
    few, whole = (
        _peak(kind, part, schema, folder / f"{kind}{place}") for place, part in enumerate((first, frame))
    )
    print(
        f"{'peak memory':20} {f'ingest of {kind}':28} {whole:9,.0f} MiB     {whole / few:5.2f}  "
        f"({few:,.0f} MiB for {len(first):,} rows)"
    )
    return whole <= FLAT * few


def _peak(kind: str, frame: pd.DataFrame, schema: dict[str, Any], home: Path) -> float:
    """Peak memory of the command in MiB."""
    home.mkdir()
    path = _write(frame, home)[kind]
    lines = ["[schema]", *(f"{key} = {as_toml(value)}" for key, value in schema.items())]
    (home / "config.toml").write_text("\n".join([*lines, "[labels]", "never_by_silence = {}", ""]))
    environ = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", COMMANDS, path.name]
    done = subprocess.run(command, cwd=home, env=environ, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def _sizes(files: dict[str, Path]) -> str:
    return ", ".join(f"{name} {path.stat().st_size / 2**20:.0f} MiB" for name, path in files.items())


def _compare(
    title: str,
    config: Config,
    files: dict[str, Path],
    places: Iterator[Place],
    stored: Callable[[Store], list[Any]],
    bare: Bare,
) -> bool:
    """Take turns; print rows a second of each way and its share of the faster bare one."""
    with _database(config, next(places)) as (store, _):
        _ingest(store, config, files["Parquet"])
        parts, size = stored(store), _number(store)
    whole = [b"".join(parts) if isinstance(parts[0], bytes) else list(chain.from_iterable(parts))]
    ways: dict[str, Callable[[Store, Place], None]] = {
        "bare, one transaction": lambda _, place: bare(place, whole),
        f"bare, {BATCH_ROWS:,} a transaction": lambda _, place: bare(place, parts),
    }
    for name, path in files.items():
        ways[f"ingest of {name}"] = lambda store, _, path=path: _ingest(store, config, path)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(TURNS):
        for name, way in ways.items():
            with _database(config, next(places)) as (store, place):
                seconds[name].append(_timed(lambda way=way, store=store, place=place: way(store, place)))
                assert _number(store) == size
    return _report(title, {name: [size / second for second in taken] for name, taken in seconds.items()})


def _report(title: str, speeds: dict[str, list[float]]) -> bool:
    median = {name: statistics.median(speed) for name, speed in speeds.items()}
    fastest = max(speed for name, speed in median.items() if name.startswith("bare"))
    for name, speed in median.items():
        between = f"{min(speeds[name]):,.0f} to {max(speeds[name]):,.0f}"
        print(f"{title:20} {name:28} {speed:9,.0f} rows/s  {speed / fastest:5.2f}  ({between})")
    return all(speed >= TARGET * fastest for name, speed in median.items())


def _timed(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _ingest(store: Store, config: Config, path: Path) -> None:
    given = [Source(path.name, path)]
    (report,) = ingest_transactions(store, config, given, clock=lambda: NOW, options=Options())
    assert not report.counts.rejected


@contextmanager
def _database(config: Config, place: Place) -> Iterator[tuple[Store, Place]]:
    """A new database with tables and indexes; gone afterwards."""
    storage = type(config.storage).model_validate(place)
    with open_configured(config.model_copy(update={"storage": storage})) as store:
        upgrade(store, config.monitor.name, NOW)
        yield store, place
    if place["url"].startswith("sqlite:///"):
        for end in ("", "-wal", "-shm"):
            Path(place["url"].removeprefix("sqlite:///") + end).unlink(missing_ok=True)
    else:
        with psycopg.connect(place["url"], autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA {place['schema']} CASCADE")
            connection.execute("CHECKPOINT")  # so that the next turn does not pay for this one


def _number(store: Store) -> int:
    with store.read() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM transactions").scalar() or 0)


def _sqlite(folder: Path) -> Iterator[Place]:
    for number in count():
        yield {"url": f"sqlite:///{folder}/{number}.db", "schema": "fraudwatch"}


def _postgres(url: str) -> Iterator[Place]:
    for number in count():
        yield {"url": url, "schema": f"bench{number}"}


def _stored_sqlite(store: Store) -> list[Any]:
    """What ingest stored, in its order, in parts."""
    with store.read() as connection:
        cursor: Any = connection.connection.cursor()
        cursor.execute("SELECT * FROM transactions ORDER BY rowid")
        parts = list(iter(lambda: cursor.fetchmany(BATCH_ROWS), []))
        cursor.close()
    return parts


def _executemany(place: Place, parts: Sequence[Any]) -> None:
    path = place["url"].removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = NORMAL")  # as ingest has it; the file is in WAL mode already
        connection.execute("PRAGMA foreign_keys = ON")
        marks = ", ".join("?" * len(parts[0][0]))
        for part in parts:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(f"INSERT INTO transactions VALUES ({marks})", part)
            connection.execute("COMMIT")


def _stored_postgres(store: Store) -> list[Any]:
    """What ingest stored, in its order, in parts of CSV."""
    rows = "SELECT * FROM transactions ORDER BY event_time, transaction_id"
    with store.read() as connection, connection.connection.cursor() as cursor:  # type: ignore[attr-defined]
        out = io.BytesIO()
        with cursor.copy(f"COPY ({rows}) TO STDOUT (FORMAT csv)") as copy:
            for part in copy:
                out.write(part)
    lines = out.getvalue().splitlines(keepends=True)
    return [b"".join(lines[start : start + BATCH_ROWS]) for start in range(0, len(lines), BATCH_ROWS)]


def _copy(place: Place, parts: Sequence[Any]) -> None:
    with psycopg.connect(place["url"]) as connection, connection.cursor() as cursor:
        cursor.execute(f"SET search_path TO {place['schema']}")
        for part in parts:
            with cursor.copy("COPY transactions FROM STDIN (FORMAT csv)") as copy:
                for start in range(0, len(part), PART):
                    copy.write(part[start : start + PART])
            connection.commit()


if __name__ == "__main__":
    sys.exit(main())
