"""What is shipped installs and starts."""

import os
import subprocess
import sys
import time
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = [
    "numpy",
    "pandas",
    "pyarrow",
    "sqlalchemy",
    "sklearn",
    "lightgbm",
    "numba",
    "pyod",
    "rich",
    "pydantic",
]


ENV = {
    name: value for name, value in os.environ.items() if name != "PYTHONPATH"
}  # nothing but what was installed


def run(*command: str | Path, **options: object) -> str:
    options.setdefault("env", ENV)
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, **options
    )  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom pipeline.cli import main\n"
        "try: main.cli(['--help'])\nexcept SystemExit: pass\n"
        f"print('heavy:', [name for name in {HEAVY} if name in sys.modules])"
    )
    assert "heavy: []" in run(sys.executable, "-c", code)


def test_help_answers_in_half_a_second() -> None:
    took = []
    for _ in range(5):  # the fastest of five: the machine may be busy with other things
        started = time.perf_counter()
        run(sys.executable, "-m", "pipeline", "--help")
        took.append(time.perf_counter() - started)
    assert min(took) < 0.5


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new virtual environment with nothing but the built wheel and its dependencies."""
    home = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--outdir", home / "dist", ROOT)
    venv.create(home / "venv", with_pip=True)
    python = home / "venv" / "bin" / "python"
    wheel = next((home / "dist").glob("fraudwatch-*.whl"))
    run(python, "-m", "pip", "install", "-q", "--constraint", ROOT / "constraints.txt", wheel)
    return home


def test_the_built_wheel_runs_in_a_fresh_environment(fresh: Path, tmp_path: Path) -> None:
    command = fresh / "venv" / "bin" / "fraudwatch"
    env = {"PATH": ENV["PATH"], "HOME": str(tmp_path)}

    def fraudwatch(*arguments: str) -> str:
        return run(command, *arguments, cwd=tmp_path, env=env)

    assert "0.1.0" in fraudwatch("--version")
    fraudwatch("simulate", "--days", "40", "--per-day", "100", "--output", "data")
    fraudwatch("init")
    fraudwatch("ingest", "transactions", "data/transactions.parquet")
    fraudwatch("ingest", "labels", "data/labels.parquet")
    assert "scored" in fraudwatch("run")
    assert "database" in fraudwatch("doctor")
    assert "precision-recall" in fraudwatch("report", "--list")
    asked = [command, "report", "-o", "report.html"]  # the extra is not installed here
    done = subprocess.run(asked, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'fraudwatch[reports]'" in done.stderr
    shipped = "from importlib.resources import files; print(files('pipeline.rendering').joinpath('page.js').is_file())"
    assert run(command.with_name("python"), "-c", shipped, cwd=tmp_path, env=env) == "True\n"
