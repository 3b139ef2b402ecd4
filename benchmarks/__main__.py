"""
Run every benchmark that this machine has the means for: `make bench`, or `make bench DATA=handbook.parquet`.

Each can be run alone, with more options: `python -m benchmarks.NAME --help`. `worlds` reads two more files, from the folder that the
Handbook's is in.
"""

import argparse
import importlib
import sys
from pathlib import Path

ALWAYS = (
    "detectors",
    "arrays",
    "features",
    "ingest",
    "stability",
    "drift",
    "drift_alarms",
    "score",
    "api",
    "api_load",
    "api_race",
    "daemon",
    "faults",
    "distributed",
    "scale",
    "console",
)
WITH_DATA = ("performance", "handbook", "novelty", "hygiene", "choice", "worlds", "gate")
OF_FOLDER = ("novelty", "worlds", "gate")  # these take the folder of that file, which may hold other worlds


def main() -> int:
    """Run the benchmarks one after the other; say which were left out and why."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", type=Path, help="the Handbook's transactions, a Parquet file")
    data = parser.parse_args().data
    failed = False
    for name in ALWAYS:
        print(f"\n── {name}", flush=True)
        failed |= bool(importlib.import_module(f"benchmarks.{name}").main([]))
    for name in WITH_DATA:
        print(f"\n── {name}", flush=True)
        if data is None:
            print("left out: it needs the Handbook's transactions; run make bench DATA=PATH.parquet")
        else:
            own = data.parent if name in OF_FOLDER else data
            failed |= bool(importlib.import_module(f"benchmarks.{name}").main([str(own)]))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
