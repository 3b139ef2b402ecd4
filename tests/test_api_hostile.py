"""Hostile and unlucky requests: large, slow and broken bodies, a locked and a stopped database, more requests than threads."""

import json
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from pipeline.api import middleware, server
from pipeline.api.app import LOCK_WAIT_MS
from pipeline.config.database import open_configured
from pipeline.runs.backfill import backfill
from storage.frames import DAY
from storage.runs import tick_steps
from tests.support.api import ApiServer, serving
from tests.support.databases import Copier, Opener, with_url
from tests.support.sql import query
from tests.support.worlds import FIRST_WEEK, FROM, NOW, SMALL


@pytest.fixture
def api(sqlite_opener: Opener) -> Iterator[ApiServer]:
    """A server over an empty database."""
    with serving(sqlite_opener(SMALL), SMALL) as running:
        yield running


def raw(api: ApiServer, *parts: bytes, pause: float = 0.0, wait: float = 10.0) -> bytes:
    """What comes back for bytes that are sent one after the other."""
    host, _, port = api.url.removeprefix("http://").partition(":")
    with closing(socket.create_connection((host, int(port)), timeout=wait)) as connection:
        for part in parts:
            try:
                connection.sendall(part)
            except OSError:
                break
            time.sleep(pause)
        answer = b""
        try:
            while part := connection.recv(65536):
                answer += part
        except OSError:
            pass
        return answer


def head(api: ApiServer, *lines: str, method: str = "POST", path: str = "/api/v1/transactions") -> bytes:
    token = api.client("administrator").headers["authorization"]
    first = [
        f"{method} {path} HTTP/1.1",
        "Host: localhost",
        f"Authorization: {token}",
        "Connection: close",
        *lines,
    ]
    return ("\r\n".join(first) + "\r\n\r\n").encode()


def problem(answer: bytes) -> tuple[int, str]:
    """Status and code of an answer."""
    start, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in start, answer[:500]
    return int(start.split()[1]), json.loads(body)["code"]


def test_a_large_body_is_refused_before_it_is_read_whole(api: ApiServer) -> None:
    kind = "Content-Type: application/json"
    declared = raw(api, head(api, kind, "Content-Length: 10000000"), b"{")
    assert problem(declared) == (413, "body_too_large")
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    chunked = raw(api, head(api, kind, "Transfer-Encoding: chunked"), *[chunk] * 160)
    assert problem(chunked) == (413, "body_too_large")
    assert api.get("/session").status_code == 200


def test_a_slow_body_and_a_slow_head_are_given_up(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "BODY_S", 0.3)
    monkeypatch.setattr(server, "HEAD_S", 0.3)
    parts = [head(api, "Content-Type: application/json", "Content-Length: 100"), *[b"x"] * 5]
    assert problem(raw(api, *parts, pause=0.1)) == (408, "body_too_slow")
    began = time.monotonic()
    assert raw(api, b"GET /healthz HTTP/1.1\r\nHost: loc", *[b"a"] * 3, pause=0.05) == b""
    assert time.monotonic() - began < 5


def test_a_slow_head_of_a_later_request_is_given_up(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_S", 0.3)
    good = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    began = time.monotonic()
    for parts in (
        (good, b"GET /healthz HTTP/1.1\r\nHost: loc"),
        (good + b"GET /healthz HTTP/1.1\r\nHost: loc",),
    ):
        answer = raw(api, *parts, *[b"a"] * 6, pause=0.1)
        assert (answer.count(b"HTTP/1.1 200"), answer.count(b"HTTP/1.1")) == (1, 1)
    assert time.monotonic() - began < 5
    assert (
        raw(api, good, good, head(api, method="GET", path="/healthz"), pause=0.4).count(b"HTTP/1.1 200") == 3
    )


def test_one_connection_too_many_is_told_to_repeat_and_the_others_go_on(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "CONNECTIONS_MAX", 1)
    asked = head(api, method="GET", path="/healthz")
    host, _, port = api.url.removeprefix("http://").partition(":")
    with closing(socket.create_connection((host, int(port)), timeout=10)) as first:
        time.sleep(0.1)
        answer = raw(api, asked)
        assert problem(answer) == (503, "overloaded")
        assert b"retry-after: 2" in answer.lower()
        first.sendall(asked)
        assert first.recv(65536).startswith(b"HTTP/1.1 200")


def test_bodies_that_are_no_json_in_utf_8_are_refused_without_a_bug(api: ApiServer) -> None:
    bodies = (
        b"", b"{", b"\xff\xfe", b'{"transactions": "\xff"}', b'"\\ud800"', b'{"transactions": [{"transaction_id": "\\ud800"}]}', b"[" * 50_000,
        b'{"transactions": [' + b'{"a":' * 2_000, b"NaN", b'{"transactions": [{"a": NaN}]}', b'{"transactions": [{"a": 1e999}]}', b"null", b"\x00",
        b'{"transactions": [{"a": ' + b"9" * 5_000 + b"}]}",
    )  # fmt: skip
    for body in bodies:
        headers = {"Content-Type": "application/json"}
        response = api.client().post("/api/v1/transactions", content=body, headers=headers)
        assert response.status_code in (400, 422), (body[:60], response.status_code, response.text[:300])
        assert response.headers["content-type"] == "application/problem+json"
    for kind in (
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonp",
    ):
        response = api.client().post("/api/v1/transactions", content=b"{}", headers={"Content-Type": kind})
        assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type"), kind


@pytest.mark.parametrize("name", ["\0", "a\0b", "\ud800"])
def test_text_that_no_database_holds_is_refused(api: ApiServer, name: str) -> None:
    encoded = json.dumps(name).encode()
    headers = {"Content-Type": "application/json"}
    for path, body in (
        ("/claims", b'{"transaction_ids": [%b]}'), ("/verdicts", b'{"verdicts": [{"transaction_id": %b, "verdict": "fraud"}]}'),
        ("/transactions/a/notes", b'{"text": %b}'), ("/entities", b'{"column": "customer_id", "value": %b}'),
        ("/rules/preview", b'{"text": %b}'), ("/session", b'{"name": %b, "password": "x"}'),
        ("/mutes", b'{"target": {"kind": "channel", "channel": %b}, "reason": "x", "span": "P1D"}'),
    ):  # fmt: skip
        response = api.client().post(f"/api/v1{path}", content=body.replace(b"%b", encoded), headers=headers)
        assert response.status_code in (401, 422), (path, response.text)


def test_numbers_and_ids_beyond_every_column_are_refused(api: ApiServer) -> None:
    for path in (
        "/models/0",
        "/models/-1",
        f"/models/{2**31}",
        f"/models/{10**30}",
        "/models/x",
        "/choices/1.5",
    ):
        assert api.get(path).status_code == 422, path
    assert api.get("/flags/" + "x" * 1_001).status_code == 422
    assert api.get("/flags", params={"min_score": "1e400"}).status_code == 422


def test_a_broken_request_line_is_answered_without_a_bug(api: ApiServer) -> None:
    for line in (
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /?" + b"x" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ):
        answer = raw(api, line, wait=1.0)
        assert problem(answer) == (400, "bad_request"), line[:50]
    assert api.get("/session").status_code == 200


def test_a_write_waits_two_seconds_for_another_program_and_then_asks_to_repeat(
    sqlite_copier: Copier, sqlite_url: str
) -> None:
    sqlite_copier(FIRST_WEEK)
    config = with_url(SMALL, sqlite_url)
    file = sqlite_url.removeprefix("sqlite:///")
    with open_configured(config, LOCK_WAIT_MS) as store, serving(store, config) as api:
        name = api.get("/flags?limit=1").json()["items"][0]["transaction_id"]
        api.flush()
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            began = time.monotonic()
            response = api.post(f"/transactions/{name}/verdict", {"verdict": "fraud"})
            assert 1.5 < time.monotonic() - began < 6  # two, and what a busy machine adds
            assert (response.status_code, response.json()["code"], response.headers["retry-after"]) == (
                503,
                "busy",
                "2",
            )
            assert "locked" not in response.text
            assert api.get(f"/flags/{name}").json()["verdict"] is None  # reads go on
            other.execute("ROLLBACK")
        assert api.post(f"/transactions/{name}/verdict", {"verdict": "fraud"}).status_code == 200


def test_during_a_backfill_every_verdict_is_written_within_two_seconds(
    sqlite_copier: Copier, sqlite_url: str
) -> None:
    sqlite_copier(FIRST_WEEK)
    config, slowest, answers = with_url(SMALL, sqlite_url), 0.0, 0
    config._secrets.clear()  # as the models of the world were stored

    def run() -> None:
        with open_configured(config) as other:
            backfill(
                other, config, start=FROM + 7 * DAY, end=FROM + 10 * DAY, as_of=NOW, policy="live", by="test"
            )

    with open_configured(config, LOCK_WAIT_MS) as store, serving(store, config) as api:
        name = api.get("/flags?limit=1").json()["items"][0]["transaction_id"]
        thread = threading.Thread(target=run)
        thread.start()
        while thread.is_alive() or not answers:
            began = time.monotonic()
            response = api.post(f"/transactions/{name}/verdict", {"verdict": "fraud"})
            assert response.status_code == 200, response.text
            slowest, answers = max(slowest, time.monotonic() - began), answers + 1
        thread.join()
        scored = query(store, "SELECT COUNT(*) FROM ledger WHERE kind = 'score' AND status = 'done'")
    assert scored == [(10,)]
    assert slowest < 2.5


def test_a_database_that_is_gone_is_said_to_be_away_and_comes_back(sqlite_copier: Copier) -> None:
    store = sqlite_copier(FIRST_WEEK)
    with serving(store, SMALL) as api:
        name = api.get("/flags?limit=1").json()["items"][0]["transaction_id"]
        api.flush()
        connect = store.engine.connect

        def away() -> None:
            raise sqlite3.OperationalError("unable to open database file")

        store.engine.connect = away  # type: ignore[method-assign, assignment]
        try:
            for path in ("/api/v1/flags", f"/api/v1/flags/{name}", "/metrics"):
                response = api.client().get(path)
                assert (response.status_code, response.json()["code"]) == (503, "unreachable"), path
                assert response.headers["retry-after"] == "2"
            assert api.client().get("/readyz").status_code == 503
            assert api.client().get("/healthz").status_code == 200
        finally:
            store.engine.connect = connect  # type: ignore[method-assign]
        assert api.get(f"/flags/{name}").status_code == 200


def test_more_requests_than_the_server_takes_are_told_to_repeat(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(middleware, "REQUESTS_MAX", 0)
    response = api.get("/flags")
    assert (response.status_code, response.json()["code"], response.headers["retry-after"]) == (
        503,
        "overloaded",
        "2",
    )


def test_an_answer_that_takes_too_long_is_given_up(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "ANSWER_S", 0.2)
    monkeypatch.setattr("pipeline.api.review.flags.count_flags", lambda *_: time.sleep(0.6) or 0)
    response = api.get("/flags/count")
    assert (response.status_code, response.json()["code"]) == (503, "timeout")


def test_metrics_name_the_parts_of_a_tick(api: ApiServer) -> None:
    tick_steps.record(api.session.store, "notify", NOW, "no answer", "unreachable")
    tick_steps.record(api.session.store, "run", NOW)
    lines = api.client().get("/metrics").text.splitlines()
    failing = [line for line in lines if line.startswith("fraudwatch_step_failing{")]
    assert failing == [
        'fraudwatch_step_failing{step="notify"} 1.0',
        'fraudwatch_step_failing{step="run"} 0.0',
    ]


def test_a_bug_says_nothing_but_where_to_look(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> int:
        raise ValueError("card 4111111111111111")

    monkeypatch.setattr("pipeline.api.review.flags.count_flags", broken)
    with caplog.at_level("ERROR", "fraudwatch"):
        response = api.get("/flags/count")
    assert (response.status_code, response.json()["code"]) == (500, "bug")
    assert "4111" not in response.text
    fields = [record.fields for record in caplog.records if record.getMessage() == "request_failed"]  # type: ignore[attr-defined]
    assert fields == [{"request_id": response.json()["request_id"]}]


def test_requests_of_one_connection_do_not_mix(api: ApiServer) -> None:
    both = head(api, method="GET", path="/api/v1/session").replace(b"Connection: close\r\n", b"") + head(
        api, method="GET", path="/nothing"
    )
    answer = raw(api, both)
    assert (answer.count(b"HTTP/1.1 200"), answer.count(b"HTTP/1.1 404")) == (1, 1)
