"""
Run every benchmark that this machine has the means for: `make bench`, or `make bench DATA=handbook.parquet`.

Each can be run alone, with more options: `python -m benchmarks.NAME --help`. `worlds` reads two more files, from the folder that the
Handbook's is in.
"""

import argparse
import importlib
import sys
from pathlib import Path

from benchmarks import worlds
from benchmarks.worlds import FILES

ALWAYS = ("detectors", "features", "ingest", "stability", "drift", "drift_alarms", "daemon", "faults")
WITH_DATA = ("handbook", "novelty", "hygiene", "choice")


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
            failed |= bool(importlib.import_module(f"benchmarks.{name}").main([str(data)]))
    print("\n── worlds", flush=True)
    missing = (
        list(FILES.values())
        if data is None
        else [one for one in FILES.values() if not (data.parent / one).is_file()]
    )
    if missing:
        print(
            f"left out: it needs {', '.join(missing)} in one folder; run make bench DATA=FOLDER/{FILES['handbook']}"
        )
    else:
        failed |= bool(worlds.main([str(data.parent)]))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
