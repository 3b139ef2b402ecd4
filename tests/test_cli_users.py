"""`fraudwatch users` and `fraudwatch tokens`: no secret is an argument, and a token is printed once."""

import fcntl
import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tests.support.commands import CONFIG, Outcome, invoke
from tests.support.users import PASSWORD, hash_fast

ADD = ("users", "add", "ann", "--role", "reviewer")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a config and a database."""
    hash_fast(monkeypatch)
    (tmp_path / "config.toml").write_text(CONFIG)
    assert invoke(tmp_path, "init").code == 0
    return tmp_path


def done(home: Path, *command: str, stdin: str = "") -> str:
    outcome = invoke(home, *command, stdin=stdin)
    assert outcome.code == 0, outcome.err
    return outcome.out


def test_a_user_is_added_changed_and_disabled(home: Path) -> None:
    assert done(home, *ADD, stdin=f"{PASSWORD}\n") == "user ann may log in as reviewer\n"
    done(home, "users", "role", "Ann", "auditor")
    done(home, "users", "password", "ann", stdin="sixteen tons of coal\r\n")
    done(home, "users", "disable", "ann")
    listed = done(home, "users", "list", "--format", "csv").splitlines()
    assert listed[0].startswith("name,role,has_password,created_at")
    assert listed[1].startswith("ann,auditor,")
    assert not listed[1].endswith(",")  # since when it is disabled
    done(home, "users", "enable", "ann")
    assert done(home, "users", "list", "--format", "csv").splitlines()[1].endswith(",")
    assert invoke(home, "audit", "verify").code == 0


def test_a_token_is_printed_once_and_alone(home: Path) -> None:
    issued = invoke(home, "tokens", "issue", "shop", "--role", "scorer", "--for", "90d")
    assert issued.out.startswith("fw_")
    assert issued.out.count("\n") == 1
    assert "token 1 of shop: scorer until" in issued.err
    listed = done(home, "tokens", "list", "--format", "json")
    assert '"shop"' in listed
    assert issued.out.strip() not in listed
    assert done(home, "tokens", "revoke", "1") == "token 1 is revoked\n"


@pytest.mark.parametrize(
    ("command", "stdin", "error"),
    [
        (ADD, "", "nobody can type a password here: write it to standard input"),
        (ADD, "short\n", "a password has 15 to 1,000 characters, got 5: use several words"),
        (("users", "role", "bob", "viewer"), "", "there is no user bob (fraudwatch users list)"),
        (("tokens", "revoke", "9"), "", "there is no token 9 (fraudwatch tokens list)"),
        (
            ("tokens", "issue", "a", "--role", "scorer", "--for", "400d"),
            "",
            "a token expires within 366 days",
        ),
        (("users", "add", "a", "--role", "scorer"), f"{PASSWORD}\n", "'scorer' is not one of"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    home: Path, command: tuple[str, ...], stdin: str, error: str
) -> None:
    outcome: Outcome = invoke(home, *command, stdin=stdin)
    assert outcome.code in (1, 2)
    assert error in outcome.err
    assert PASSWORD not in outcome.err


def test_a_password_that_is_typed_is_asked_for_twice_and_not_shown(home: Path) -> None:
    controller, terminal = pty.openpty()
    env = {"PATH": os.environ["PATH"], "HOME": str(home)}
    command = [sys.executable, "-m", "pipeline", *ADD]
    with subprocess.Popen(
        command, cwd=home, env=env, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 (the terminal must be its own)
    ) as process:  # fmt: skip
        os.close(terminal)
        shown = ""
        for question in ("New password of ann: ", "Repeat for confirmation: "):
            while question not in shown:
                shown += os.read(controller, 1024).decode()
            os.write(controller, f"{PASSWORD}\n".encode())
        try:
            while part := os.read(controller, 1024):
                shown += part.decode()
        except OSError:  # the terminal is closed
            pass
    os.close(controller)
    assert process.returncode == 0, shown
    assert "user ann may log in as reviewer" in shown
    assert PASSWORD not in shown
