"""No secret is printed, logged, served or stored: a canary in every place where one can stand, and everything that speaks."""

import io
import logging
import os
import re
from pathlib import Path

import pytest

from pipeline import logs
from pipeline.config.loader import load_config
from pipeline.daemon.daemon import Daemon
from pipeline.daemon.health_server import serve_health
from pipeline.services.session import current_time, open_session
from storage.queries import export as exporting
from tests.support.commands import CONFIG, invoke
from tests.support.databases import PostgresServer
from tests.support.payments import LABEL_HEADER, PAYMENT_HEADER, payments, write_csv
from tests.test_daemon_health import get, on_a_port

CANARY = "Kan4rie"
SOURCES = f"""
[source.away]
url = "postgresql://u:{CANARY}-a@127.0.0.1:1/x?sslpassword={CANARY}-b"
query = "SELECT 1"
poll = true
[source.option]
url = "postgresql://u@127.0.0.1:1/x?sslmode={CANARY}-c"
query = "SELECT 1"
poll = true
[source.unescaped]
url_env = "UNESCAPED"
query = "SELECT 1"
poll = true
[source.port]
url_file = "port.url"
query = "SELECT 1"
poll = true
[notify]
urls = ["json://user:{CANARY}-d@127.0.0.1:1/{CANARY}-e?x={CANARY}-f", "mailtos://u:{CANARY}-g@127.0.0.1:1?to=a@b.example", "nosuch://{CANARY}-h"]
[health]
token_env = "PULSE"
"""
ENVIRON = {
    "UNESCAPED": f"postgresql://u:p@{CANARY}-i@127.0.0.1:1/x",
    "PULSE": f"{CANARY}-j",
    "FRAUDWATCH_MODEL_KEY": f"{CANARY}-k-0123456789",
    "FRAUDWATCH_HASH_KEY": f"{CANARY}-l-0123456789",
}
COMMANDS: list[tuple[str, ...]] = [
    ("init",), ("init",), ("ingest", "transactions", "p.csv"), ("ingest", "labels", "l.csv"),
    ("ingest", "transactions", "--from-sql", "away"), ("ingest", "transactions", "--from-sql", "option"),
    ("ingest", "transactions", "--from-sql", "unescaped"), ("ingest", "transactions", "--from-sql", "port"),
    ("ingest", "transactions", "--from-sql", "nowhere"), ("doctor",), ("readiness",),
    ("backfill", "--from", "2025-01-20", "--to", "2025-01-21"), ("doctor",), ("run", "--as-of", "2025-01-22T02:00"), ("feeds",), ("runs",), ("notify", "test"),
    ("notify", "list"), ("notify", "send"), ("gaps",), ("export", "runs", "-o", "runs.csv"), ("audit", "verify"),
    ("report", "--from", "2025-01-20", "--to", "2025-01-21", "-o", "report.html"), ("summary",),
]  # fmt: skip
AWAY = [
    f"postgresql://u:{CANARY}-m@127.0.0.1:1/x?password={CANARY}-n&passfile=/{CANARY}-o",
    f"postgresql://u:{CANARY}-p@/x?host=/nowhere/at/all",
    f"postgresql://u:p@{CANARY}-q@127.0.0.1:1/x",
    f"postgresql://u:{CANARY}-r/x",
    f"{CANARY}-s",
    f"mysql://u:{CANARY}-t@h/x",
]
WRONG = [
    f'[storage]\nurl = ["postgresql://u:{CANARY}@h/x"]',
    f'storage = "host=h password={CANARY}"',
    f'[storage]\nurll = "{CANARY}"',
    f'[notify]\nurls = "{CANARY}"',
    f'[notify]\nurls = [["{CANARY}"]]',
    f'[health]\ntoken_env = "not a name {CANARY}"',
    f'[source.x]\nurl = 5\nurl_env = "a {CANARY}"\nquery = ""',
    f'[health]\nhost = 5\ntoken = "{CANARY}"',
]


def spoken(home: Path, *command: str, **environ: str) -> str:
    outcome = invoke(home, *command, **environ)
    assert "Traceback" not in outcome.err, command
    return outcome.out + outcome.err


def test_no_secret_is_printed_logged_served_or_stored(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.toml").write_text(CONFIG + SOURCES)
    (tmp_path / "port.url").write_text(f"postgresql://u@127.0.0.1:{CANARY}-u/x")
    rows, labels = payments(20, per_day=20)
    write_csv(tmp_path / "p.csv", PAYMENT_HEADER, rows)
    write_csv(tmp_path / "l.csv", LABEL_HEADER, labels)
    address = postgres.create(f"secrets_{os.getpid()}")
    url = f"{address}&password={CANARY}-v&sslpassword={CANARY}-w&passfile=/{CANARY}-x&application_name={CANARY}-y"
    environ = ENVIRON | {"FRAUDWATCH_STORAGE__URL": url}
    everything = "\n".join(spoken(tmp_path, *command, **environ) for command in COMMANDS)
    assert "report.html" in everything
    assert "gives no rows: connection failed" in everything
    everything += "".join(path.read_text() for path in (tmp_path / "report.html", tmp_path / "runs.csv"))

    monkeypatch.chdir(tmp_path)
    config = load_config(None, environ)
    stream = io.StringIO()
    logs.configure("json", stream)
    served = on_a_port(config, token_env="PULSE")
    daemon = Daemon(lambda: served, by="daemon", clock=current_time)
    with serve_health(served, daemon.health) as port:
        daemon.tick()
        everything += "".join(
            get(port, path, f"{CANARY}-j")[1] for path in ("/healthz", "/readyz", "/metrics")
        )
    daemon.close()
    logging.getLogger("fraudwatch").handlers.clear()
    assert '"action": "active"' in stream.getvalue()
    everything += stream.getvalue()

    with open_session(config, "ann") as session:
        for name in exporting.names(session.store):
            everything += "".join(str(row) for part in exporting.rows(session.store, name) for row in part)
        everything += session.store.display_url + repr(config)
    assert re.findall(rf".{{0,80}}{CANARY}.{{0,9}}", everything, re.IGNORECASE) == []
    postgres.drop(f"secrets_{os.getpid()}")


def test_a_database_away_and_a_wrong_setting_are_told_without_secrets(tmp_path: Path) -> None:
    for url in AWAY:
        for command in ("init", "doctor"):
            text = spoken(tmp_path, command, FRAUDWATCH_STORAGE__URL=url)
            assert text.count("\n") == 1, text
            assert CANARY not in text, text
    for wrong in WRONG:
        (tmp_path / "config.toml").write_text(wrong)
        text = spoken(tmp_path, "doctor")
        assert text.startswith("fraudwatch: ")
        assert CANARY not in text, text
