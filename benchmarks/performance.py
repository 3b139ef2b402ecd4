"""
What fraudwatch costs beside its peers, recorded in docs/performance.md, and a guard that names what became dearer since.

    python -m benchmarks.performance PATH/TO/handbook.parquet             # measure, compare with the record, write the new one
    python -m benchmarks.performance PATH/TO/handbook.parquet --guard     # measure and compare only
    python -m benchmarks.performance                                      # without the stages of a backfill

Each figure is a ratio to a peer that does the same in the same run, because seconds differ from machine to machine and from hour to hour. The exit
code is 1 if a ratio is more than a fifth above its record, and the stage is named. `make bench` writes the record.
"""

import argparse
import os
import platform
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.machine import require

RECORD = Path(__file__).parents[1] / "docs" / "performance.md"
LIBRARIES = ("numpy", "pandas", "scikit-learn", "lightgbm", "pyod", "numba", "sqlalchemy")
SLOWER = 1.2  # times its recorded ratio
SMALL = 0.03  # of the peer: stages below it are told, and their changes are noise
ROW = re.compile(r"\| (?P<stage>[^|]+) \| [^|]+ \| [^|]+ \| (?P<ratio>[\d.]+) \| `[^|]+` \|")


@dataclass(frozen=True)
class Cost:
    """Seconds of a stage, and of the peer that it is compared with."""

    stage: str
    ours: float
    peer: str
    theirs: float
    command: str

    @property
    def ratio(self) -> float:
        """Of the peer's seconds; less is better."""
        return self.ours / self.theirs


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, name what became dearer than its record, and write the new one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="?", type=Path, help="the Handbook's transactions, a Parquet file")
    parser.add_argument("--guard", action="store_true", help="compare only; the record stays")
    options = parser.parse_args(arguments)
    before = recorded(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    costs = []
    for cost in measured(options.data):
        print(f"{cost.stage:44}{cost.ours:10.3f} s{cost.ratio:8.2f} of {cost.peer}", flush=True)
        costs.append(cost)
    worse = dearer(before, costs)
    print("\n".join(worse) or "nothing is dearer than its record")
    if not options.guard:
        missing = set(before) - {cost.stage for cost in costs}
        if missing:
            sys.exit(f"the record stays: not measured were {', '.join(sorted(missing))}")
        RECORD.write_text(page(costs), encoding="utf-8")
    return int(bool(worse))


def measured(data: Path | None) -> Iterator[Cost]:
    """Each stage with its peer, as they are measured."""
    yield from _kernel()
    yield from _features()
    if data is None:
        print("the stages of a backfill are left out: they need the Handbook's transactions")
        return
    yield from _stages_of_a_backfill(require(data, "the Handbook's transactions as Parquet").resolve())


def recorded(text: str) -> dict[str, float]:
    """Ratio of each stage that a record holds."""
    return {found["stage"].strip(): float(found["ratio"]) for found in ROW.finditer(text)}


def dearer(before: dict[str, float], costs: Sequence[Cost]) -> list[str]:
    """A sentence for each stage that costs more than its record allows."""
    return [
        f"{cost.stage} costs {cost.ratio:.2f} of {cost.peer}, {before[cost.stage]:.2f} when it was recorded"
        for cost in costs
        if cost.ratio > max(before.get(cost.stage, float("inf")), SMALL) * SLOWER
    ]


def page(costs: Sequence[Cost]) -> str:
    """The record as a page of the documentation."""
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    lines = [
        "# What fraudwatch costs",
        "",
        "Written by `make bench DATA=handbook.parquet`; `python -m benchmarks.performance handbook.parquet --guard` measures again and names each stage that costs a fifth",
        "more than here. Compare the last but one column: seconds are of a machine and an hour, a ratio has both sides in one run. Of a backfill, processor time, user",
        "and system, and the peer of each stage is the whole notebook that it replaces (`benchmarks/notebook.py`).",
        "",
        f"Measured on {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {platform.machine()}, one thread. Python {platform.python_version()}, {libraries}.",
        "",
        "| stage | seconds | the peer's | ratio | command |",
        "|---|---|---|---|---|",
        *(
            f"| {cost.stage} | {_seconds(cost.ours)} | {_seconds(cost.theirs)}, {cost.peer} | {cost.ratio:.2f} | `{cost.command}` |"
            for cost in costs
        ),
    ]
    return "\n".join(lines) + "\n"


def _seconds(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _kernel() -> Iterator[Cost]:
    from benchmarks.detectors import ROWS, against_pyod

    _, many, one = against_pyod()
    command = "python -m benchmarks.detectors"
    yield Cost(f"scores of {ROWS:,} rows by an isolation forest", many[0], "PyOD", many[1], command)
    yield Cost("a score of one row by an isolation forest", one[0], "PyOD", one[1], command)


def _features() -> Iterator[Cost]:
    from benchmarks.features import against_pandas

    ours, theirs = against_pandas()
    peer, command = "pandas groupby().rolling()", "python -m benchmarks.features"
    yield Cost("rolling features of 300,000 rows", ours, peer, theirs, command)


def _stages_of_a_backfill(source: Path) -> Iterator[Cost]:
    from benchmarks.backfill import SPAN, measure

    notebook, backfill, _ = measure(source, *SPAN)
    whole, command = sum(notebook.values()), "python -m benchmarks.backfill handbook.parquet"
    for stage, seconds in backfill.items():
        yield Cost(f"backfill: {stage}", seconds, "the whole notebook", whole, command)
    yield Cost("backfill: all of it", sum(backfill.values()), "the whole notebook", whole, command)


if __name__ == "__main__":
    sys.exit(main())
