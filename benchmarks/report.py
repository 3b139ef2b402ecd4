"""
A report of a scored SQLite database, and of the same database with every scored payment copied: time, memory, size.

    python -m benchmarks.report demo/fraudwatch.db [--copies 9]

The database is copied first and stays as it is. Each report is made by the command in a process of its own, on the shipped
config. Memory and the page must not grow with the payments: the database counts, the report reads counts.
"""

import argparse
import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from benchmarks.machine import peak_mib, require

MEMORY_MAX = 1.15  # times that of the smaller one
SIZE_MAX = 1.15
SPAN = "SELECT MIN(window_start), MAX(window_end) FROM ledger WHERE kind = 'score' AND status = 'done'"


@dataclass(frozen=True)
class Made:
    """What one report took."""

    scores: int
    seconds: float
    mib: float
    megabytes: float


def made(database: Path) -> Made:
    """Make a report of all windows scored."""
    with sqlite3.connect(database) as connection:
        start, end = (text[:10] for text in connection.execute(SPAN).fetchone())
        scores = connection.execute("SELECT COUNT(*) FROM scores WHERE policy = 'live'").fetchone()[0]
    page = database.with_suffix(".html")
    command = [sys.executable, "-m", "pipeline", "report", "--from", start, "--to", end, "-o", str(page)]
    env = os.environ | {"FRAUDWATCH_STORAGE__URL": f"sqlite:///{database}"}
    began = perf_counter()
    _, status, usage = os.wait4(os.spawnve(os.P_NOWAIT, sys.executable, command, env), 0)
    seconds = perf_counter() - began
    if status:
        sys.exit(f"the report of {database} failed")
    return Made(scores, seconds, peak_mib(usage), page.stat().st_size / 1e6)


def multiply(database: Path, copies: int) -> None:
    """Add so many copies of every scored payment and its score, under ids of their own; labels stay single."""
    with sqlite3.connect(database) as connection:
        for table in ("transactions", "scores"):
            names = [f'"{row[1]}"' for row in connection.execute(f"PRAGMA table_info({table})")]
            others = ", ".join(f"o.{name}" for name in names if name != '"transaction_id"')
            rest = ", ".join(name for name in names if name != '"transaction_id"')
            scored = "JOIN scores s ON s.transaction_id = o.transaction_id AND s.policy = 'live'"
            only = scored if table == "transactions" else ""
            for copy in range(copies):
                connection.execute(
                    f"INSERT INTO {table} (transaction_id, {rest}) SELECT o.transaction_id || '-{copy}', {others} "
                    f"FROM {table} o {only} WHERE o.transaction_id NOT LIKE '%-%'"
                )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure both and print a table; 1 when memory or size grew."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("database", nargs="?", type=Path)
    parser.add_argument("--copies", type=int, default=9)
    given = parser.parse_args(arguments)
    source = require(
        given.database, "a scored SQLite database, such as make demo leaves in demo/fraudwatch.db"
    )
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "report.db"
        shutil.copy(source, database)
        small = made(database)
        multiply(database, given.copies)
        large = made(database)
    for one in (small, large):
        print(
            f"{one.scores:>12,} scores  {one.seconds:6.1f} s  {one.mib:6.0f} MiB  {one.megabytes:5.2f} MB of page"
        )
    grew = large.mib / small.mib, large.megabytes / small.megabytes
    print(f"memory × {grew[0]:.2f} (at most {MEMORY_MAX}), page × {grew[1]:.2f} (at most {SIZE_MAX})")
    return int(grew[0] > MEMORY_MAX or grew[1] > SIZE_MAX)


if __name__ == "__main__":
    sys.exit(main())
