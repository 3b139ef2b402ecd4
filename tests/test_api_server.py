"""`fraudwatch serve` as a process: it listens, answers, refuses a port that is in use, and ends with 0 when it is told to."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import httpx2
import pytest

from tests.support.databases import Opener
from tests.support.worlds import SMALL

END_S = 30


@pytest.fixture
def environment(sqlite_opener: Opener, sqlite_url: str, tmp_path: Path) -> dict[str, str]:
    """Of a process whose database has its tables."""
    sqlite_opener(SMALL)
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    config = tmp_path / "config.toml"
    config.write_text(
        f'[storage]\nurl = "{sqlite_url}"\n[web]\nport = {port}\n'
        '[schema]\nentities = ["customer_id", "terminal_id"]\ncategorical = []\nkind = ""\noriginal_id = ""\n'
    )
    return os.environ | {"FRAUDWATCH_CONFIG": str(config), "PORT": str(port)}


def serve(environment: dict[str, str]) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "pipeline", "serve", "--log", "json"]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def test_a_server_answers_keeps_its_port_and_ends_with_0(environment: dict[str, str]) -> None:
    process = serve(environment)
    try:
        assert process.stderr is not None
        assert '"action": "listening"' in process.stderr.readline()
        url = f"http://127.0.0.1:{environment['PORT']}"
        assert httpx2.get(f"{url}/readyz", trust_env=False).json() == {"ok": True, "state": "active"}
        second = serve(environment)
        try:
            _, error = second.communicate(timeout=END_S)
        finally:
            second.kill()  # it would wait for the port to become free, and keep it
        assert (second.returncode, error.count("\n")) == (2, 1), error
        assert "cannot be listened on (Address already in use): choose another" in error
        process.send_signal(signal.SIGTERM)
        assert process.wait(END_S) == 0
        assert '"action": "stopped"' in process.stderr.read()
    finally:
        process.kill()
        process.communicate()
