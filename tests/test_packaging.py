"""The built wheel installs in a fresh environment, and its commands score transactions."""

import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import venv
import zipfile
from contextlib import closing
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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


# Without PYTHONPATH only the installed packages can be imported.
ENV = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


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
    durations = []
    for _ in range(3):  # of processor time, the fastest of three, because the machine may be busy
        started = processor_time_of_children()
        run(sys.executable, "-m", "pipeline", "--help")
        durations.append(processor_time_of_children() - started)
    assert min(durations) < 0.5


def processor_time_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def dependencies(wheel: Path) -> list[Distribution]:
    """What the wheel says it needs, and what that needs, in the versions that are installed here; no extras."""
    with zipfile.ZipFile(wheel) as archive:
        metadata = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = archive.read(metadata).decode().splitlines()
    needed = [line.partition(": ")[2] for line in lines if line.startswith("Requires-Dist: ")]
    pending = [(Requirement(line), "") for line in needed]
    installed: dict[str, Distribution] = {}
    followed: set[tuple[str, str]] = set()  # of each distribution: the extras that are followed already
    while pending:
        requirement, extra = pending.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        installed[name] = distribution(name)
        assert requirement.specifier.contains(installed[name].version), (
            str(requirement),
            installed[name].version,
        )
        for pair in {(name, option) for option in ("", *requirement.extras)} - followed:
            followed.add(pair)
            pending += [(Requirement(line), pair[1]) for line in installed[name].requires or ()]
    return list(installed.values())


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    A new virtual environment with nothing but the built wheel and its dependencies.

    The dependencies are links to what is installed here: hundreds of MB need not be installed once more.
    """
    home = tmp_path_factory.mktemp("wheel")
    source = home / "source"  # a copy, so that no file of an earlier build gets into the wheel
    shutil.copytree(
        ROOT, source, ignore=shutil.ignore_patterns(".*", "build", "demo", "*.egg-info", "__pycache__")
    )
    run(sys.executable, "-m", "build", "--wheel", "--outdir", home / "dist", source)
    venv.create(home / "venv", with_pip=False)
    python = home / "venv" / "bin" / "python"
    wheel = next((home / "dist").glob("fraudwatch-*.whl"))
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    for one in dependencies(wheel):
        for top in {file.parts[0] for file in one.files or ()} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(one.locate_file(top))).resolve())
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel)
    return home


@pytest.mark.long
def test_the_built_wheel_scores_transactions_in_a_fresh_environment(fresh: Path, tmp_path: Path) -> None:
    command = fresh / "venv" / "bin" / "fraudwatch"
    env = {"PATH": ENV["PATH"], "HOME": str(tmp_path)}

    def fraudwatch(*arguments: str) -> str:
        return run(command, *arguments, cwd=tmp_path, env=env)

    assert "0.2.0" in fraudwatch("--version")
    fraudwatch("simulate", "--days", "26", "--per-day", "100", "--output", "data")
    fraudwatch("init")
    fraudwatch("ingest", "transactions", "data/transactions.parquet")
    fraudwatch("ingest", "labels", "data/labels.parquet")
    fraudwatch("run", "--as-of", "2025-01-27T02:00")
    with closing(sqlite3.connect(tmp_path / "fraudwatch.db")) as database:
        (scored,) = database.execute("SELECT COUNT(*) FROM scores WHERE score IS NOT NULL").fetchone()
    assert scored > 0
    assert "database" in fraudwatch("doctor")
    assert "Strategy choices" in fraudwatch("summary")
    assert "precision-recall" in fraudwatch("report", "--list")
    report = [command, "report", "-o", "report.html"]  # the extra is not installed here
    done = subprocess.run(report, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'fraudwatch[reports]'" in done.stderr
    read_data = (
        "from importlib.resources import files\n"
        "print(*(len(files('pipeline.rendering').joinpath(name).read_text('utf-8')) > 500 "
        "for name in ('page.html', 'elements.html', 'page.css', 'page.js', 'glossary.md')))"
    )
    assert (
        run(command.with_name("python"), "-c", read_data, cwd=tmp_path, env=env)
        == "True True True True True\n"
    )
