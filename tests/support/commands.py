"""The command `fraudwatch` as it is typed in a folder: what it prints, and with which exit code it ends."""

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

CONFIG = """
[schema]
entities = ["customer_id", "terminal_id"]
categorical = []
kind = ""
[labels]
maturity = "5d"
[features]
windows = ["1d", "7d"]
[training]
min_rows = 200
holdout = "2d"
[alerts]
per_day = 5
"""


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str


def fraudwatch(home: Path, *arguments: str, code: int = 0, encoding: str = "utf-8", **environ: str) -> str:
    """
    Run a command in this process, which spares it the start of Python and its libraries; its standard input is empty.

    Returns what it prints to standard output, or to standard error where it is expected to fail; both have an encoding.
    """
    outcome = invoke(home, *arguments, encoding=encoding, **environ)
    assert outcome.code == code, outcome.out + outcome.err
    return outcome.out if code == 0 else outcome.err


def fraudwatch_process(home: Path, *arguments: str, code: int = 0, **environ: str) -> str:
    """The same in a process of its own, which sees nothing of this one's environment but these variables."""
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "OMP_NUM_THREADS": "1", "COLUMNS": "200"} | environ
    command = [sys.executable, "-m", "pipeline", *arguments]
    done = subprocess.run(command, cwd=home, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if code == 0 else done.stderr


def invoke(home: Path, *arguments: str, encoding: str = "utf-8", stdin: str = "", **environ: str) -> Outcome:
    """Run a command in this process and a folder; an exception that is no one-line error goes through."""
    from pipeline.cli.main import main

    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
    code = 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(home)
        patch.setattr(sys, "argv", ["fraudwatch", *arguments])
        typed = io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8")  # no terminal: nobody answers
        patch.setattr(sys, "stdin", typed)
        for name in [name for name in os.environ if name.startswith("FRAUDWATCH_")]:
            patch.delenv(name)
        for name, value in ({"HOME": str(home), "COLUMNS": "200"} | environ).items():
            patch.setenv(name, value)
        try:
            main()
        except SystemExit as exit_:
            code = int(exit_.code or 0)
    return Outcome(code, _text(out), _text(err))


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    binary = stream.buffer
    assert isinstance(binary, io.BytesIO)
    return binary.getvalue().decode(stream.encoding)
