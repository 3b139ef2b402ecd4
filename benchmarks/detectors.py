"""
The tree kernel against PyOD: many rows on one thread, and one row; and what a flag's explanation takes.

    python -m benchmarks.detectors [--rows N]

Both score the same rows with the same forest in the same process, taking turns; the fastest of several turns
counts. Seeded rows of eight heavy-tailed columns, so that no data is needed; explanations are asked of every
detector one row at a time, over as many columns as the shipped config has features.
"""

import argparse
import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"))

import sys
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import numpy as np

from detectors.algorithms.isolation_forest import MAX_SAMPLES, IsolationForest
from detectors.algorithms.pyod_support import pyod_class
from detectors.registry import DETECTORS, detector_class

ROWS = 200_000
TRAINING = 50_000
TURNS = 5
SINGLE = 200  # different rows, so that no branch is learned by heart
BULK_MIN = 1.0  # times as fast as PyOD
SINGLE_MAX_MS = 0.1
DIFFERENCE_MAX = 1e-12
FEATURES = 108  # of the shipped config
EXPLAIN_MAX_MS = 3.0
EXPLAINED = 50


def against_pyod(rows: int = ROWS) -> tuple[float, list[float], list[float]]:
    """Largest difference of a score, and seconds of the kernel and of PyOD: for all rows, and for one."""
    X = np.random.default_rng(7).standard_t(3, (rows, 8))
    forest = pyod_class("iforest", "IForest")(n_estimators=200, max_samples=MAX_SAMPLES, random_state=7)
    theirs = forest.fit(X[:TRAINING])
    ours = IsolationForest(200, TRAINING, seed=7).fit(X[:TRAINING])
    difference = float(np.abs(ours.anomaly_score(X) - theirs.decision_function(X)).max())  # compiles, too
    bulk = fastest(lambda: ours.anomaly_score(X), lambda: theirs.decision_function(X))
    single = fastest(
        one_by_one(ours.anomaly_score, X, SINGLE), one_by_one(theirs.decision_function, X, SINGLE // 10)
    )
    return difference, bulk, [single[0] / SINGLE, single[1] / (SINGLE // 10)]


def fastest(*calls: Callable[[], Any]) -> list[float]:
    """Seconds of each call's fastest turn."""
    seconds = [[_timed(call) for call in calls] for _ in range(TURNS)]
    return [min(turns) for turns in zip(*seconds, strict=True)]


def _timed(call: Callable[[], Any]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


def one_by_one(score: Callable[[Any], Any], X: Any, rows: int) -> Callable[[], None]:
    """Score the first rows, a call each."""

    def run() -> None:
        for row in range(rows):
            score(X[row : row + 1])

    return run


def explanations() -> dict[str, float]:
    """Milliseconds a row of every detector's `explain`, the fastest of several turns."""
    rng = np.random.default_rng(7)
    X = rng.standard_t(3, (20_000, FEATURES))
    y = (rng.random(len(X)) < 0.02).astype(float)
    X[y == 1, :3] += 3.0
    found = {}
    for name in DETECTORS:
        detector = detector_class(name)().fit(X, y)
        (seconds,) = fastest(one_by_one(detector.explain, X, EXPLAINED))
        found[name] = seconds / EXPLAINED * 1e3
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Print both comparisons; 1 if a bound is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=ROWS, help="rows of the bulk comparison")
    rows = parser.parse_args(arguments).rows
    difference, bulk, single = against_pyod(rows)
    ours_ms, theirs_ms = single[0] * 1e3, single[1] * 1e3
    times = bulk[1] / bulk[0]
    print(f"largest difference of a score   {difference:.1e} (at most {DIFFERENCE_MAX:.0e})")
    many = f"{rows:,} rows, one thread".ljust(32)
    print(f"{many}kernel {bulk[0]:.3f} s, PyOD {bulk[1]:.3f} s: {times:.2f} × as fast")
    print("one row".ljust(32) + f"kernel {ours_ms:.3f} ms, PyOD {theirs_ms:.2f} ms")
    print(f"explaining one row of {FEATURES} features (at most {EXPLAIN_MAX_MS:.0f} ms)")
    explained = explanations()
    for name, ms in explained.items():
        print(f"  {name:30}{ms:.3f} ms")
    slow = max(explained.values()) > EXPLAIN_MAX_MS
    return int(difference > DIFFERENCE_MAX or times < BULK_MIN or ours_ms > SINGLE_MAX_MS or slow)


if __name__ == "__main__":
    sys.exit(main())
