"""
Estimated precision, recall and cost against what turned out, on the Handbook's simulated card data.

    python -m benchmarks.quality PATH/TO/handbook.parquet                       # ten minutes or so
    python -m benchmarks.quality PATH/TO/handbook.parquet --keep scored.db      # scores once, measures again from there

What it does is what a user would do: write transactions and a list of frauds known 7 days after the event, `fraudwatch init`,
`ingest`, `backfill` over fourteen weeks with weekly trainings, `quality --refresh`, and read `fraudwatch quality`. The config
is the shipped one, but for the file's columns and a maturity of 7 days. An estimate was made at the end of its window with
what was known by then; the truth is what the labels say once they are mature. The same scores are then measured by the day.

Ends with 1 if intervals cover the truth less often than they say by more than chance explains.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from scipy.stats import binom

from benchmarks.handbook import Bench, _write_inputs, fraudwatch
from benchmarks.machine import require

SPAN = ("2018-05-07", "2018-08-15")
MEASURES = ("precision", "recall", "cost")
STATED = 0.9
WINDOWS = ("7d", "1d")
LEARNING = 4  # windows at the beginning that are also left out for a second figure
Pair = tuple[dict[str, Any], dict[str, Any]]  # estimated, realised


def main(argv: list[str] | None = None) -> int:
    """Print a table by week and the coverage of every measure; 1 if an interval promises too much."""
    args = _arguments(argv)
    source = require(args.data, "the Handbook's transactions as Parquet")
    with tempfile.TemporaryDirectory(prefix="fraudwatch-quality-") as folder:
        bench = Bench(Path(folder), "7d", args.show)
        scored = args.keep or bench.home / "scored.db"
        if not scored.exists():
            _score(bench, source, scored)
        found = {window: _measured(bench, scored, window) for window in args.window or WINDOWS}
    for window, pairs in found.items():
        if window == "7d":
            _by_week(pairs)
        _coverage(window, pairs)
    return int(any(_too_few_inside(pairs) for pairs in found.values()))


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="the Handbook's transactions, a Parquet file")
    parser.add_argument("--window", action="append", choices=WINDOWS, help="only this; repeat for more")
    parser.add_argument("--keep", type=Path, help="keep the scored database here, or start from it")
    parser.add_argument("--show", action="store_true", help="show the commands' own output")
    return parser.parse_args(argv)


def _score(bench: Bench, source: Path, scored: Path) -> None:
    """Ingest and score all weeks, once; quality is measured along the way, by the week."""
    _write_inputs(source, bench.home)
    bench.ingest()
    fraudwatch(
        ["backfill", "--from", SPAN[0], "--to", SPAN[1]], bench._environment("ingested"), show=bench._show
    )
    shutil.copyfile(bench.home / "ingested.db", scored)


def _measured(bench: Bench, scored: Path, window: str) -> list[Pair]:
    """The estimate and the truth of every window and measure, the oldest first."""
    shutil.copyfile(scored, bench.home / "measured.db")
    env = bench._environment("measured") | {"FRAUDWATCH_QUALITY__WINDOW": window}
    fraudwatch(["init"], env, show=bench._show)
    fraudwatch(["backfill", "--from", SPAN[0], "--to", SPAN[1]], env, show=bench._show)  # scores are there
    listing = ["quality", "--refresh", "--format", "json", *(f"--metric={name}" for name in MEASURES)]
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", *listing],
        env=os.environ | env, cwd=bench.home, check=True, capture_output=True,
    )  # fmt: skip
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in json.loads(done.stdout):
        rows[row["window_start"], row["window_end"], row["metric"], row["kind"]] = row
    said = [
        row for key, row in sorted(rows.items()) if key[3] == "estimated" and _days(row) == int(window[:-1])
    ]
    came = [rows.get((one["window_start"], one["window_end"], one["metric"], "realised")) for one in said]
    pairs = [(one, true) for one, true in zip(said, came, strict=True) if true is not None]
    return [pair for pair in pairs if None not in (pair[0]["value"], pair[1]["value"])]


def _days(row: dict[str, Any]) -> int:
    import pandas as pd

    return int((pd.Timestamp(row["window_end"]) - pd.Timestamp(row["window_start"])).days)


def _inside(pair: Pair) -> bool:
    return bool(pair[0]["lower"] <= pair[1]["value"] <= pair[0]["upper"])


def _by_week(pairs: list[Pair]) -> None:
    print(
        "\nestimated at the end of the week (90 % interval) → turned out; * outside the interval, ! an alarm"
    )
    print(f"{'week of':12}" + "".join(f"{name:>36}" for name in MEASURES))
    for week in sorted({said["window_start"] for said, _ in pairs}):
        cells = {said["metric"]: _cell(said, came) for said, came in pairs if said["window_start"] == week}
        print(f"{week[:10]:12}" + "".join(f"{cells.get(name, ''):>36}" for name in MEASURES))


def _cell(said: dict[str, Any], came: dict[str, Any]) -> str:
    form = "{:,.0f}" if said["metric"] == "cost" else "{:.2f}"
    value, low, high, true = (
        form.format(x) for x in (said["value"], said["lower"], said["upper"], came["value"])
    )
    mark = "!" if came["alarm"] else " " if _inside((said, came)) else "*"
    return f"{value} ({low} to {high}) → {true}{mark}"


def _coverage(window: str, pairs: list[Pair]) -> None:
    windows = sorted({said["window_start"] for said, _ in pairs})
    print(f"\nwindows of {window}: {len(windows)}; share of truths inside the {STATED:.0%} interval")
    print(f"{'':12}{'all':>10}{f'from {LEARNING + 1}th':>12}{'width / value':>16}{'error':>10}{'alarms':>10}")
    for name in (*MEASURES, "together"):
        mine = [pair for pair in pairs if name in (pair[0]["metric"], "together")]
        later = [pair for pair in mine if pair[0]["window_start"] in windows[LEARNING:]]
        widths = [(said["upper"] - said["lower"]) / said["value"] for said, _ in later]
        errors = [abs(said["value"] / came["value"] - 1) for said, came in later if came["value"]]
        alarms = sum(came["alarm"] for _, came in mine)
        print(
            f"{name:12}{_share(mine):>10.2f}{_share(later):>12.2f}{sum(widths) / len(widths):>16.2f}"
            f"{sum(errors) / len(errors):>10.3f}{alarms:>10}"
        )


def _share(pairs: list[Pair]) -> float:
    return sum(_inside(pair) for pair in pairs) / len(pairs)


def _too_few_inside(pairs: list[Pair]) -> bool:
    """Whether a measure's truths lie outside more often than chance leaves in 1 of 100 runs at the stated rate."""
    for name in MEASURES:
        mine = [pair for pair in pairs if pair[0]["metric"] == name]
        if sum(_inside(pair) for pair in mine) < binom.ppf(0.01, len(mine), STATED):
            return True
    return False


if __name__ == "__main__":
    sys.exit(main())
