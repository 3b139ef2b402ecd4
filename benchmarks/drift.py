"""
Drift of a million rows of 30 columns: speed, memory and equal statistics, against evidently and scipy written naively.

    python -m benchmarks.drift [--rows N] [--peer PYTHON]

evidently brings 79 packages and is no part of this project. `--peer` names the Python of an environment that has it:

    python -m venv peer && peer/bin/pip install evidently 'pandas<3' && python -m benchmarks.drift --peer peer/bin/python

Without it that column is left out, and said so. Each contender runs in a process of its own on the same seeded arrays, on
one thread, and processor seconds are told, so that other work on the machine matters little; reading them is not counted. Ours is timed with its reference sketched in the same run, and against a stored one,
which is what a window costs.
"""

import argparse
import json
import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"))

import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import peak_mib

Floats = NDArray[np.float64]

ROWS = 1_000_000
NUMBERS, CATEGORIES = 27, 3
NAMES = [f"number_{place}" for place in range(NUMBERS)] + [f"category_{place}" for place in range(CATEGORIES)]
FASTER_MIN = 10.0  # times as fast as evidently
KS_TOLERANCE = 1 / 200  # a bin of the reference
DISTANCE_TOLERANCE = 0.002  # standard deviations
JS_TOLERANCE = 1e-9  # bits, of categories, where the bins are the same

PEER = """
import json, resource, sys, time, warnings
warnings.filterwarnings("ignore")
import numpy as np, pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset
folder, names = sys.argv[1], json.loads(sys.argv[2])
frames = [pd.DataFrame(np.load(f"{folder}/{name}.npy"), columns=names) for name in ("before", "after")]
categories = [name for name in names if name.startswith("category")]
for frame in frames:
    for name in categories:
        frame[name] = frame[name].astype(int).astype(str)
definition = DataDefinition(numerical_columns=[n for n in names if n not in categories], categorical_columns=categories)
held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.process_time()
before, after = (Dataset.from_pandas(frame, data_definition=definition) for frame in frames)
found = Report([DataDriftPreset()]).run(after, before).dict()
seconds = time.process_time() - start
values = {}
for one in found["metrics"]:
    column = one.get("config", {}).get("column")
    if column:
        values[column] = float(one["value"])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"seconds": seconds, "peak_mib": peak / 1024, "held_mib": held / 1024, "values": values}))
"""


def columns(rows: int, seed: int, moved: bool) -> Floats:
    """Normal, heavy-tailed and counted numbers, and categories of 4, 30 and 300 values; every third column moved."""
    rng = np.random.default_rng(seed)
    found = np.empty((rows, len(NAMES)))
    for place in range(NUMBERS):
        shift = 0.1 if moved and place % 3 == 0 else 0.0
        z = rng.normal(shift, 1 + shift / 2, rows)
        found[:, place] = (z, np.exp(z), np.floor(np.exp(z)))[place % 9 // 3]
    for place, values in enumerate((4, 30, 300), start=NUMBERS):
        shares = np.arange(values, 0, -1) ** (1.5 if moved else 1.0)
        found[:, place] = rng.choice(values, rows, p=shares / shares.sum())
    return found


def ours(before: Floats, after: Floats) -> dict[str, Any]:
    """Sketch, then every metric of every column."""
    from detectors.drift.histograms import ReferenceHistograms
    from detectors.drift.metrics import COLUMN_METRICS, compare

    start = process_time()
    reference = ReferenceHistograms.fit(before, NAMES, NAMES[NUMBERS:])
    sketched = process_time()
    found = compare(reference, after, tuple(COLUMN_METRICS))
    end = process_time()
    values = {f"{one.feature}/{one.metric}": one.value for one in found}
    return {"seconds": end - start, "stored": end - sketched, "values": values}


def naive(before: Floats, after: Floats) -> dict[str, Any]:
    """The same metrics as anybody would write them with scipy, column by column."""
    from scipy import stats
    from scipy.spatial.distance import jensenshannon

    values: dict[str, float] = {}
    start = process_time()
    for place, name in enumerate(NAMES):
        x, y = before[:, place], after[:, place]
        if place < NUMBERS:
            values[f"{name}/ks"] = stats.ks_2samp(x, y, method="asymp").statistic
            values[f"{name}/wasserstein"] = stats.wasserstein_distance(x, y) / np.std(x)
            edges = np.unique(np.quantile(x, np.linspace(0, 1, 11)))
            edges[0], edges[-1] = -np.inf, np.inf
            p, q = (np.histogram(one, edges)[0] / len(one) + 1e-6 for one in (x, y))
            values[f"{name}/psi"] = float(np.sum((q - p) * np.log(q / p)))
        else:
            known = np.unique(np.concatenate((x, y)))
            p, q = (np.array([np.count_nonzero(one == value) for value in known]) for one in (x, y))
            total = stats.chi2_contingency([p, q], correction=False).statistic
            values[f"{name}/cramers_v"] = float(np.sqrt(total / (len(x) + len(y))))
        values[f"{name}/jensen_shannon"] = float(jensenshannon(p, q, base=2) ** 2)
    return {"seconds": process_time() - start, "values": values}


CONTENDERS: dict[str, Callable[[Floats, Floats], dict[str, Any]]] = {"ours": ours, "scipy": naive}


def run_alone(name: str, folder: Path) -> None:
    """In a process of its own: read, time, print JSON."""
    before, after = np.load(folder / "before.npy"), np.load(folder / "after.npy")
    if name == "ours":
        ours(before[:1000], after[:1000])  # imports
    held = peak_mib(resource.getrusage(resource.RUSAGE_SELF))
    found = CONTENDERS[name](before, after)
    found |= {"held_mib": held, "peak_mib": peak_mib(resource.getrusage(resource.RUSAGE_SELF))}
    print(json.dumps(found))


def in_process(name: str, folder: Path, peer: Path | None) -> dict[str, Any]:
    """Run a contender and return what it printed."""
    command = [sys.executable, "-m", "benchmarks.drift", "--alone", name, "--folder", str(folder)]
    if name == "evidently":
        command = [str(peer), "-c", PEER, str(folder), json.dumps(NAMES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def differences(found: dict[str, dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """Largest difference of what is defined alike, and how large it may be."""
    mine, plain = found["ours"]["values"], found["scipy"]["values"]

    def apart(metric: str, names: Sequence[str]) -> float:
        return max(abs(mine[f"{name}/{metric}"] - plain[f"{name}/{metric}"]) for name in names)

    numbers, categories = NAMES[:NUMBERS], NAMES[NUMBERS:]
    told = {
        "KS against scipy": (apart("ks", numbers), KS_TOLERANCE),
        "Wasserstein against scipy, standard deviations": (apart("wasserstein", numbers), DISTANCE_TOLERANCE),
        "Jensen–Shannon of categories with every value a bin, bits": (
            apart("jensen_shannon", categories[:1]),
            JS_TOLERANCE,
        ),
        "Cramér's V": (apart("cramers_v", categories), JS_TOLERANCE),
    }
    if "evidently" in found:
        theirs = found["evidently"]["values"]
        told["Wasserstein against evidently, standard deviations"] = (
            max(abs(mine[f"{name}/wasserstein"] - theirs[name]) for name in numbers),
            DISTANCE_TOLERANCE,
        )
        told["Jensen–Shannon of the first category against evidently, bits"] = (
            abs(mine[f"{categories[0]}/jensen_shannon"] - theirs[categories[0]] ** 2 / np.log(2)),
            JS_TOLERANCE,
        )
    return told


def report(found: dict[str, dict[str, Any]]) -> bool:
    """Print the tables; whether a bound was missed."""
    print("                       seconds   memory above the data, MiB")
    for name, one in found.items():
        print(f"{name:20}{one['seconds']:>10.2f}{one['peak_mib'] - one['held_mib']:>20,.0f}")
    print(f"{'ours, stored sketch':20}{found['ours']['stored']:>10.2f}\n")
    failed = False
    for said, (difference, tolerance) in differences(found).items():
        print(f"{said:62}{difference:.1e} (at most {tolerance:.0e})")
        failed |= not difference <= tolerance
    for name in ("evidently", "scipy"):
        if name in found:
            print(f"ours is {found[name]['seconds'] / found['ours']['seconds']:.1f} × as fast as {name}")
    if "evidently" in found:
        failed |= found["evidently"]["seconds"] < FASTER_MIN * found["ours"]["seconds"]
    return failed


def main(arguments: Sequence[str] | None = None) -> int:
    """Print both tables; 1 if a bound is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--peer", type=Path, help="the Python of an environment with evidently")
    parser.add_argument("--alone", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.alone:
        run_alone(given.alone, given.folder)
        return 0
    contenders = [*CONTENDERS, "evidently"]
    if given.peer is None or not given.peer.exists():
        print(f"evidently: left out, {given.peer or 'no --peer'} is no Python that has it; see --help")
        contenders.remove("evidently")
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "before.npy", columns(given.rows, 1, moved=False))
        np.save(Path(folder) / "after.npy", columns(given.rows, 2, moved=True))
        print(f"{given.rows:,} rows × {len(NAMES)} columns, before and after", flush=True)
        found = {name: in_process(name, Path(folder), given.peer) for name in contenders}
    return int(report(found))


if __name__ == "__main__":
    sys.exit(main())
