"""Webhooks: programs are told once of each event, signed as the reference library verifies, and at no private address."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import update
from standardwebhooks import Webhook as Reference

from pipeline.config.config import Config
from pipeline.config.outward_reasons import OUTWARD_REASONS
from pipeline.errors import ConfigError
from pipeline.notifications import webhooks
from pipeline.notifications.deliver import send_notifications, send_to_programs
from pipeline.runs.arrivals import arrival_scorer
from pipeline.scoring.reason_text import TEXTS
from pipeline.services.monitoring.doctor import MessageFacts, check
from pipeline.services.monitoring.notifications import ReceiverTest, list_messages, test_receivers
from pipeline.services.runs.scoring import ScoreRequest, score
from pipeline.services.session import Session, current_time
from storage.database import tables
from storage.database.column_types import as_datetime
from storage.database.database import Store
from storage.frames import HOUR, MINUTE
from tests.support.reviews import answer
from tests.support.sql import query
from tests.support.worlds import NOW, SMALL

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
LOOPBACK = ("127.0.0.0/8", "::1/128")


@dataclass
class Program:
    """A server that keeps what it is sent."""

    port: int = 0
    status: int = 204
    got: list[tuple[dict[str, str], str]] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)  # requests to another path

    def of(self, event: str) -> list[dict[str, Any]]:
        """The bodies of an event, verified by the reference library."""
        found = [Reference(SECRET).verify(body, headers) for headers, body in self.got]
        return [body for body in found if body["type"] == event]


@pytest.fixture
def program() -> Iterator[Program]:
    with running() as one:
        yield one


@contextmanager
def running() -> Iterator[Program]:
    one = Program()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            if self.path == "/hook":
                one.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
            else:
                one.elsewhere.append(self.path)
            self.send_response(one.status)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    one.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield one
    server.shutdown()
    server.server_close()


def with_webhook(program: Program, host: str = "127.0.0.1", **keys: Any) -> Config:
    given = {"url": f"http://{host}:{program.port}/hook", "secret": SECRET, "networks": LOOPBACK} | keys
    section = {"shop": webhooks.WebhookSection.model_validate(given)}
    return SMALL.model_copy(update={"webhook": section})


def raise_flag(store: Store, config: Config, name: str = "new-1") -> None:
    payment = {
        "transaction_id": name, "event_time": as_datetime(NOW - HOUR).isoformat(), "customer_id": "c2", "terminal_id": "m1",
        "amount": 9_000,
    }  # fmt: skip
    session = Session(store, config, "program", lambda: NOW)
    with arrival_scorer(store, config, NOW, "program") as scorer:
        assert score(session, ScoreRequest((payment,), store=True), scorer).payments[0].flagged


def send(store: Store, config: Config, later: int = 0) -> Any:
    """As `fraudwatch serve` does, at the real time, since a receiver refuses a signature that is five minutes old."""
    return send_to_programs(store, config, clock=lambda: current_time() + later, by="test")


def test_a_flag_and_its_answer_are_told_once_without_values_of_entities(
    backfilled: Store, program: Program
) -> None:
    config = with_webhook(program)
    raise_flag(backfilled, config)
    for _ in range(3):
        send(backfilled, config)
    (flag,) = program.of("flag.raised")
    assert flag["data"]["transaction_id"] == "new-1"
    assert flag["data"]["expected_loss"]["currency"] == "EUR"
    assert flag["data"]["reasons"]
    assert all(reason["text"] in OUTWARD_REASONS.values() for reason in flag["data"]["reasons"])
    assert not {"c2", "m1"} & set(json.dumps(flag).replace('"', " ").split())
    answer(backfilled, "new-1", "fraud", current_time(), action="blocked")
    send_notifications(backfilled, config, clock=lambda: current_time() + MINUTE, by="test")  # as a tick does
    send(backfilled, config, 2 * MINUTE)
    (answered,) = program.of("flag.answered")
    assert answered["data"]["action"] == "blocked"
    assert len(program.of("flag.raised")) == 1
    assert len({headers["webhook-id"] for headers, _ in program.got}) == len(program.got) >= 2


def test_a_failed_request_is_repeated_with_the_same_id(backfilled: Store, program: Program) -> None:
    config = with_webhook(program, events=["flag.raised"])
    raise_flag(backfilled, config)
    program.status = 500
    assert "500" in send(backfilled, config).errors[0]
    assert send(backfilled, config).sent == 0  # not before its time
    program.status = 204
    assert send(backfilled, config, 2 * MINUTE).sent == 1
    first, second = (headers["webhook-id"] for headers, _ in program.got)
    assert first == second
    assert query(backfilled, "SELECT key FROM outbox WHERE target < 0") == [(first,)]
    listed = list_messages(Session(backfilled, config, "test", lambda: NOW)).items
    assert [(one.event, one.receiver, one.status) for one in listed] == [
        ("flag.raised", "webhook shop", "sent")
    ]


def test_a_webhook_that_comes_later_takes_nothing_of_another_and_new_flags_go_first(
    backfilled: Store, program: Program
) -> None:
    config = with_webhook(program)
    program.status = 500
    answer(
        backfilled, query(backfilled, "SELECT MIN(transaction_id) FROM flags")[0][0], "fraud", current_time()
    )
    send(backfilled, config)
    raise_flag(backfilled, config)
    program.status, program.got = 204, []
    other = config.model_copy(update={"webhook": {"a": config.webhook["shop"]} | config.webhook})
    send(backfilled, other, 2 * MINUTE)
    kinds = [json.loads(body)["type"] for _, body in program.got]
    assert kinds == ["flag.raised", "flag.answered"] * 2
    assert {one.receiver for one in list_messages(Session(backfilled, other, "test", lambda: NOW)).items} == {
        "webhook a",
        "webhook shop",
    }


def test_redirects_are_not_followed(backfilled: Store, program: Program) -> None:
    config = with_webhook(program, events=["flag.raised"])
    raise_flag(backfilled, config)
    program.status = 302
    assert "302" in send(backfilled, config).errors[0]
    assert not program.elsewhere


@pytest.mark.one_engine
@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254", "10.0.0.7", "0.0.0.0"],
)
def test_no_request_goes_to_a_private_address_that_is_not_listed(host: str, program: Program) -> None:
    config = with_webhook(program, host, networks=())
    (webhook,) = webhooks.webhooks(config)
    error = webhooks.send_test(webhook, NOW)
    assert error is not None
    assert "private address" in error
    assert "hook" not in error.removeprefix("webhook shop")[:-20].replace("webhook.shop", "")
    assert not program.got


@pytest.mark.one_engine
def test_an_ipv4_address_in_the_form_of_ipv6_is_let_through_like_itself(program: Program) -> None:
    cases = [
        ("::ffff:10.1.2.3", [], False), ("::ffff:10.1.2.3", ["10.0.0.0/8"], True), ("::ffff:10.1.2.3", ["192.168.0.0/16"], False),
        ("::ffff:1.1.1.1", [], True), ("::ffff:169.254.169.254", [], False), ("fd00::1", ["10.0.0.0/8"], False),
    ]  # fmt: skip
    for address, networks, allowed in cases:
        (webhook,) = webhooks.webhooks(with_webhook(program, networks=networks))
        try:
            found = webhooks._allowed_address(webhook, address, 80) == address
        except webhooks._PrivateAddressError:
            found = False
        assert found is allowed, (address, networks)


def test_a_model_that_is_promoted_and_a_choice_that_changes_are_told(
    backfilled: Store, program: Program
) -> None:
    config = with_webhook(program)
    with backfilled.write() as connection:  # as if the schedule had trained today
        connection.execute(update(tables.runs).values(kind="schedule", started_at=current_time()))
    send(backfilled, config)
    promoted = program.of("model.promoted")
    assert promoted
    assert {"policy", "model_id", "strategy", "effective_from"} == promoted[0]["data"].keys()
    for event in program.of("strategy.changed"):
        assert event["data"]["before"] != event["data"]["strategy"]


@pytest.mark.one_engine
def test_a_test_event_is_signed_too(backfilled: Store, program: Program) -> None:
    session = Session(backfilled, with_webhook(program), "test", lambda: NOW)
    assert list(test_receivers(session)) == [ReceiverTest(None, "webhook shop", None)]
    ((headers, body),) = program.got
    assert body
    assert headers["content-type"] == "application/json"


test_receivers.__test__ = False  # type: ignore[attr-defined]  # the service, not a test


def test_every_reason_has_a_wording_for_outside_which_can_be_replaced() -> None:
    assert OUTWARD_REASONS.keys() == {*TEXTS, "RULE", "AUDIT_SAMPLE"}
    assert webhooks.outward_reason(SMALL, "VELOCITY") == OUTWARD_REASONS["VELOCITY"]
    web = type(SMALL.web).model_validate({"outward_reasons": {"VELOCITY": "Too many orders."}})
    assert webhooks.outward_reason(SMALL.model_copy(update={"web": web}), "VELOCITY") == "Too many orders."
    with pytest.raises(ValidationError, match="codes of reasons"):
        type(SMALL.web).model_validate({"outward_reasons": {"VELOCTIY": "x"}})


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "whsec_c2hvcnQ=", "0123456789abcdef0123456789abcdef", "whsec_***"]
)
def test_a_secret_that_is_none_is_refused(secret: str, program: Program) -> None:
    with pytest.raises(ConfigError, match="whsec_"):
        webhooks.webhooks(with_webhook(program, secret=secret))


def test_a_webhook_needs_one_secret_and_a_plain_url() -> None:
    for section in (
        {"url": "https://shop.example.com/hook"},
        {"url": "https://shop.example.com/hook", "secret": SECRET, "secret_env": "X"},
        {"url": "https://user:pw@shop.example.com/hook", "secret": SECRET},
        {"url": "ftp://shop.example.com", "secret": SECRET},
    ):
        with pytest.raises((ValidationError, ConfigError)):
            Config.model_validate({"webhook": {"shop": section}})
    text = Config.model_validate(
        {"webhook": {"shop": {"url": "https://shop.example.com/hook", "secret": SECRET}}}
    ).public_text()
    assert "shop.example.com" not in text
    assert SECRET not in text


def test_doctor_reports_an_event_that_did_not_arrive(backfilled: Store, program: Program) -> None:
    config = with_webhook(program, events=["flag.raised"])
    config = config.model_copy(update={"notify": config.notify.model_copy(update={"attempts": 1})})
    raise_flag(backfilled, config)
    program.status = 500
    send(backfilled, config)
    found = check(Session(backfilled, config, "test", current_time), "live")
    (messages,) = [one for one in found if one.subject == "messages"]
    assert messages.failed
    assert isinstance(messages.facts, MessageFacts)
    assert (messages.facts.receivers, messages.facts.failed) == (1, 1)
