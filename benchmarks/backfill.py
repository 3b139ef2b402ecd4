"""
A whole backfill beside the plain notebook that it replaces, on the same payments in one run: processor seconds of each stage.

    python -m benchmarks.backfill PATH/TO/handbook.parquet                       # four weeks of daily windows, weekly trainings
    python -m benchmarks.backfill PATH/TO/handbook.parquet --runs 3 --apply 100

`benchmarks.notebook` is one process, fraudwatch as many as a user would start: `init`, two `ingest` and `backfill`, with the shipped
config but for the file's columns and a maturity of 7 days. Told are medians of processor time, user and system. A stage's time
does not hold that of stages within it; functions that belong to none count as the rest. The exit code is 1 when the whole is dearer
than the notebook.
"""

import argparse
import contextlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.handbook import COLUMNS, _write_inputs
from benchmarks.machine import peak_mib, require

# Where each stage of a backfill begins: its functions, by module. A name that a module imported is another place of the function.
STAGES = {
    "load": ("storage.ingest.history:load_transactions load_entities load_labels load_frauds", "storage.ingest.payment_changes:load_payment_changes"),
    "features": ("pipeline.features.compute:raw_features",),
    "evidence": ("pipeline.training.strategy_choice:evaluate",),
    "samples and checks": ("pipeline.training.train:prepare",),
    "fits": ("pipeline.training.train:fit_alone",),
    "drift reference": ("pipeline.training.train:_watch",),
    "gate": ("pipeline.training.promotion_gate:PromotionGate.check",),
    "scoring": ("pipeline.scoring.score_rows:score_batch",),
    "reasons": ("pipeline.scoring.flags:flags_of",),
    "drift": ("pipeline.monitoring.drift:window_drift",),
    "quality": ("pipeline.monitoring.quality:run_step",),
    "writes": ("storage.runs.scores:write_scores", "storage.monitoring.drift_metrics:write_drift", "storage.models.models:install"),
}  # fmt: skip
REST = "the rest"
SPAN = ("2018-07-18", "2018-08-15")
Seconds = dict[str, float]


class Clock:
    """Processor time of the innermost stage at work, summed by stage."""

    def __init__(self) -> None:
        self.seconds: Seconds = {REST: 0.0}
        self._stack = [REST]
        self._since = time.process_time()

    def _turn(self) -> None:
        now = time.process_time()
        name = self._stack[-1]
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
        self._since = now

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """The body belongs to this stage, but for stages within it."""
        self._turn()
        self._stack.append(name)
        try:
            yield
        finally:
            self._turn()
            self._stack.pop()

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function as a part of a stage."""

        def inside(*args: Any, **kwargs: Any) -> Any:
            with self.stage(name):
                return function(*args, **kwargs)

        return inside

    def done(self) -> Seconds:
        """What was counted."""
        self._turn()
        return self.seconds


def staged(arguments: list[str], told: Path) -> None:
    """Run a command of fraudwatch in this process and write the seconds of its stages as JSON."""
    from pipeline.cli.main import main as command

    clock = Clock()
    for stage, places in STAGES.items():
        for place in places:
            module, _, names = place.partition(":")
            for name in names.split():
                _replace(importlib.import_module(module), name, stage, clock)
    sys.argv = ["fraudwatch", *arguments]
    try:
        command()
    finally:
        told.write_text(json.dumps(clock.done()), encoding="utf-8")


def _replace(module: Any, name: str, stage: str, clock: Clock) -> None:
    """Put the timed function in the place of a function or method, wherever it was imported to."""
    owner, _, attribute = name.rpartition(".")
    if owner:
        holder = getattr(module, owner)
        setattr(holder, attribute, clock.timed(stage, getattr(holder, attribute)))
        return
    function = getattr(module, attribute)
    timed = clock.timed(stage, function)
    for other in list(sys.modules.values()):
        if getattr(other, attribute, None) is function:
            setattr(other, attribute, timed)


def main(argv: list[str] | None = None) -> int:
    """Run both and print their stages side by side; 1 if the backfill is dearer."""
    args = _arguments(argv)
    source = require(args.data, "the Handbook's transactions as Parquet").resolve()
    notebook, backfill, mib = measure(source, args.begin, args.to, args.runs, args.apply)
    other = {name: notebook.pop(name) for name in list(notebook) if name.startswith("apply")}
    _print("notebook", notebook, sum(notebook.values()))
    _print("fraudwatch", backfill, sum(notebook.values()))
    for name, seconds in other.items():
        print(f"the Handbook's features by {name}: {seconds:.0f} s")
    ratio = sum(backfill.values()) / sum(notebook.values())
    print(f"\nfraudwatch takes {ratio:.2f} of the notebook's processor time, at most {mib:,.0f} MiB")
    return int(ratio > 1)


def measure(
    source: Path, begin: str, to: str, runs: int = 1, apply: int = 0
) -> tuple[Seconds, Seconds, float]:
    """Median processor seconds of the notebook's stages and of the backfill's, and the peak memory of the latter in MiB."""
    notebooks, backfills, mib = [], [], 0.0
    for _ in range(runs):
        by_apply = ["--apply", str(apply)] if apply else []
        notebooks.append(_notebook([str(source), "--from", begin, "--to", to, *by_apply]))
        with tempfile.TemporaryDirectory(prefix="fraudwatch-backfill-") as folder:
            seconds, peak = _backfill(source, Path(folder), begin, to)
        backfills.append(seconds)
        mib = max(mib, peak)
    return _medians(notebooks), _medians(backfills), mib


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="the Handbook's transactions, a Parquet file")
    parser.add_argument("--from", dest="begin", default=SPAN[0])
    parser.add_argument("--to", default=SPAN[1])
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--apply", type=int, default=0, metavar="CUSTOMERS", help="as in benchmarks.notebook")
    return parser.parse_args(argv)


def _notebook(arguments: list[str]) -> Seconds:
    command = [sys.executable, "-m", "benchmarks.notebook", *arguments]
    process = subprocess.Popen(command, env=_one_thread(), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    text = process.stdout.read()
    seconds, _ = _ended(process, command)
    stages: Seconds = json.loads(text.splitlines()[-1])
    others = sum(value for name, value in stages.items() if not name.endswith("all customers"))
    return stages | {"start and end": seconds - others}


def _backfill(source: Path, home: Path, begin: str, to: str) -> tuple[Seconds, float]:
    _write_inputs(source, home)
    env = _one_thread() | COLUMNS | {"FRAUDWATCH_LABELS__MATURITY": "7d"}
    env["FRAUDWATCH_STORAGE__URL"] = f"sqlite:///{home / 'bench.db'}"
    env["PYTHONPATH"] = str(Path(__file__).parents[1])
    told = home / "stages.json"
    seconds, peak = {"ingest": 0.0}, 0.0
    for arguments in (
        ["init"],
        ["ingest", "transactions", str(home / "transactions.parquet")],
        ["ingest", "labels", str(home / "labels.parquet")],
    ):
        took, mib = _command([sys.executable, "-m", "pipeline", *arguments], env, home)
        seconds["ingest"] += took
        peak = max(peak, mib)
    backfill = ["backfill", "--from", begin, "--to", to]
    code = f"from pathlib import Path; from benchmarks.backfill import staged; staged({backfill!r}, Path({str(told)!r}))"
    took, mib = _command([sys.executable, "-c", code], env, home)
    stages: Seconds = json.loads(told.read_text(encoding="utf-8"))
    return seconds | stages | {"start and end": took - sum(stages.values())}, max(peak, mib)


def _command(command: list[str], env: dict[str, str], home: Path) -> tuple[float, float]:
    return _ended(subprocess.Popen(command, env=env, cwd=home, stdout=subprocess.DEVNULL), command)


def _ended(process: "subprocess.Popen[Any]", command: list[str]) -> tuple[float, float]:
    """Processor seconds and peak memory in MiB of a process that must end well."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime, peak_mib(usage)


def _one_thread() -> dict[str, str]:
    names = ("OMP", "OPENBLAS", "MKL", "NUMBA")
    return dict(os.environ) | {f"{name}_NUM_THREADS": "1" for name in names}


def _medians(runs: list[Seconds]) -> Seconds:
    return {name: median(run.get(name, 0.0) for run in runs) for name in {**runs[0]}}


def _print(title: str, stages: Seconds, whole: float) -> None:
    print(f"\n{title:20} processor s   of the notebook's")
    for name, seconds in [*stages.items(), ("all", sum(stages.values()))]:
        print(f"  {name:18} {seconds:11.1f}   {seconds / whole:6.2f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
