"""What a daemon says of itself over HTTP, from a real port."""

import json
import socket
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.config.config import Config
from pipeline.config.loader import load_config
from pipeline.config.sections import HealthSection
from pipeline.daemon import health_server
from pipeline.daemon.daemon import Daemon
from pipeline.daemon.health import TICK_GRACE, TICK_MAX, Health
from pipeline.daemon.health_server import serve_health
from pipeline.errors import ConfigError
from storage.frames import DAY, HOUR, MINUTE
from tests.support.daemon import Clock
from tests.support.databases import Copier, with_url
from tests.support.worlds import FOUR_WEEKS, FROM, SMALL


def on_a_port(config: Config = SMALL, **more: object) -> Config:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return config.model_copy(update={"health": HealthSection.model_validate({"port": port, **more})})


def get(port: int | None, path: str, token: str = "") -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()


def metrics(port: int | None) -> dict[str, float]:
    families = text_string_to_metric_families(get(port, "/metrics")[1])
    return {
        sample.name + "".join(f"|{value}" for value in sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_a_daemon_at_work_is_alive_ready_and_measured(copier: Copier, url: str) -> None:
    copier(FOUR_WEEKS)
    clock = Clock(FROM + 2 * DAY + HOUR)
    config = on_a_port(with_url(SMALL, url))
    daemon = Daemon(lambda: config, by="daemon", clock=clock)
    with serve_health(config, daemon.health) as port:
        assert get(port, "/healthz")[0] == 200
        assert get(port, "/readyz")[0] == 503
        tally = daemon.tick()
        assert tally is not None
        assert json.loads(get(port, "/readyz")[1]) == {"ok": True, "state": "active"}
        seen = metrics(port)
        assert seen["fraudwatch_window_lag_seconds"] == 3600
        assert seen["fraudwatch_scored_transactions_total"] == tally.scored > 0
        assert seen["fraudwatch_windows_total"] == 2
        assert seen["fraudwatch_ticks_total|done"] == 1
        assert seen["fraudwatch_gaps|score|pending"] == 0
        assert seen["fraudwatch_strategy|outlier"] == 1
        assert seen["fraudwatch_prevalence_upper"] > 0
        flags = [value for name, value in seen.items() if name.startswith("fraudwatch_flags|")]
        assert sum(flags) == tally.flagged
        second = Daemon(lambda: with_url(SMALL, url), by="second", clock=clock)
        second.tick()
        assert second.health.ready() == (True, "standby")
        assert {one.name: one.samples[0].value for one in second.health.collect()}["fraudwatch_active"] == 0
        assert get(port, "/elsewhere")[0] == 404
        everything = get(port, "/metrics")[1]
    daemon.close()
    assert "c1" not in everything


def test_a_database_that_is_away_is_not_ready_and_stays_alive(tmp_path: Path) -> None:
    away = on_a_port(with_url(SMALL, f"sqlite:///{tmp_path / 'nowhere' / 'x.db'}"))
    daemon = Daemon(lambda: away, by="daemon", clock=Clock(FROM))
    with serve_health(away, daemon.health) as port:
        daemon.tick()
        status, body = get(port, "/readyz")
        assert status == 503
        assert "does not answer" in body
        assert get(port, "/healthz")[0] == 200
        assert metrics(port)["fraudwatch_ticks_total|away"] == 1


def test_ticks_that_do_not_come_or_do_not_end_are_not_alive() -> None:
    clock = Clock(FROM)
    health = Health(clock)
    health.tick_ended("done")
    health.next_tick(FROM + MINUTE)
    clock.now = FROM + MINUTE + TICK_GRACE
    assert health.alive() == (True, "ok")
    clock.now += MINUTE
    assert health.alive() == (False, "a tick was expected 360 s ago")
    health.tick_started()
    assert health.alive()[0]
    clock.now += TICK_MAX + MINUTE
    assert not health.alive()[0]


def test_a_token_is_asked_for_where_it_is_configured(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    wanted = on_a_port().health.port
    file.write_text(f'[health]\nport = {wanted}\nhost = "0.0.0.0"\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"health\.token_env"):
        load_config(file, {})
    file.write_text(f'[health]\nport = {wanted}\nhost = "0.0.0.0"\ntoken_env = "PULSE"\n', encoding="utf-8")
    health = Health(Clock(FROM))
    with pytest.raises(ConfigError, match="PULSE"), serve_health(load_config(file, {}), health):
        pass
    config = load_config(file, {"PULSE": "s3cret-token"})
    with serve_health(config, health) as port:
        assert get(port, "/metrics")[0] == 401
        assert get(port, "/metrics", "wrong")[0] == 401
        assert get(port, "/metrics", "s3cret-token")[0] == 200
        assert get(port, "/healthz")[0] == 200
    assert "s3cret" not in config.public_text() + repr(config)


def test_a_port_that_is_taken_is_one_sentence() -> None:
    config, health = on_a_port(), Health(Clock(FROM))
    with (
        serve_health(config, health),
        pytest.raises(ConfigError, match="cannot be listened on"),
        serve_health(config, health),
    ):
        pass


def test_without_a_port_nothing_listens() -> None:
    with serve_health(SMALL, Health(Clock(FROM))) as port:
        assert port is None


def talk(port: int | None, *parts: bytes) -> bytes:
    """Send bytes as they are; returns all that is answered until the connection is closed."""
    with socket.create_connection(("127.0.0.1", int(port or 0)), timeout=10) as client:
        for part in parts:
            client.sendall(part)
        answer = b""
        while some := client.recv(1 << 16):
            answer += some
        return answer


GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
# What is sent, and how the first line of the answer goes on.
REQUESTS = [
    (b"GET /healthz HTTP/1.1\r\n\r\n", b"200 OK"),
    (b"HEAD /healthz HTTP/1.1\r\n\r\n", b"200 OK"),
    (b"HEAD /metrics HTTP/1.0\r\n\r\n", b"200 OK"),
    (b"HEAD /elsewhere HTTP/1.0\r\n\r\n", b"404 Not Found"),
    (b"POST /healthz HTTP/1.1\r\nContent-Length: 0\r\n\r\n", b"405 Method Not Allowed"),
    (b"BREW /healthz HTTP/1.1\r\n\r\n", b"405 Method Not Allowed"),
    (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", b"414 "),
    (GET + b"".join(b"H%d: x\r\n" % number for number in range(200)) + b"\r\n", b"431 "),
    (GET + b"Long: " + b"a" * 70_000 + b"\r\n\r\n", b"431 "),
    (b"GET /healthz HTTP/9.9\r\n\r\n", b"505 "),
    (b"\xff\xfe nonsense\r\n\r\n", b"400 Bad Request"),
    (b"GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text; version=abc\r\n\r\n", b"200 OK"),
    (b"GET /metrics HTTP/1.1\r\nAccept: \xff;;;q=,\r\nAuthorization: \xff\r\n\r\n", b"200 OK"),
]  # fmt: skip


def test_every_request_is_answered_shortly(capfd: pytest.CaptureFixture[str]) -> None:
    config, health = on_a_port(), Health(Clock(FROM))
    with serve_health(config, health) as port:
        for sent, status in REQUESTS:
            answer = talk(port, sent)
            head, _, body = answer.partition(b"\r\n\r\n")
            assert head.split(b" ", 1)[1].startswith(status), (sent[:40], head)
            assert not sent.startswith(b"HEAD") or (b"Content-Length: " in head and not body)
            assert b"<" not in body
            assert not status.startswith(b"4") or body.count(b"\n") <= 1
        assert b"Allow: GET, HEAD" in talk(port, b"PUT / HTTP/1.1\r\n\r\n")
    assert capfd.readouterr().err == ""


def cut_off(client: socket.socket) -> bool:
    """Whether somebody who sends a byte now and then is cut off within ten seconds."""
    try:
        for _ in range(100):
            client.sendall(b"G")
            time.sleep(0.1)
    except OSError:
        return True
    return False


def test_slow_clients_and_many_of_them_keep_nobody_out(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(health_server, "REQUEST_S", 1.0)
    config, health = on_a_port(), Health(Clock(FROM))
    for number in range(40_000):  # an answer that no buffer holds
        health._rows.labels(f"watch.folder_{number}", "accepted")
    with serve_health(config, health) as port:
        address = ("127.0.0.1", int(port or 0))
        before = threading.active_count()
        silent = [socket.create_connection(address) for _ in range(60)]
        assert get(port, "/healthz")[0] == 200
        assert threading.active_count() - before <= health_server.CONNECTIONS_MAX + 1
        reader = socket.create_connection(address)
        reader.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        drip = socket.create_connection(address)
        assert cut_off(drip)
        left = socket.create_connection(address)
        left.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        left.close()
        deadline = time.monotonic() + 10
        while threading.active_count() > before and time.monotonic() < deadline:
            time.sleep(0.1)
        assert threading.active_count() <= before
        assert get(port, "/healthz")[0] == 200
        for client in (*silent, reader, drip):
            client.close()
    assert capfd.readouterr().err == ""
