"""
Webhooks: programs that are told of events by signed requests, as Standard Webhooks (https://www.standardwebhooks.com) has them.

    webhook-id         the key of the event in the outbox: the same at every attempt, so that a receiver can drop repetitions
    webhook-timestamp  seconds since 1970-01-01 UTC
    webhook-signature  v1, and base64 of HMAC-SHA256 of "id.timestamp.body" by the secret

The body is JSON: `type`, `timestamp` and `data`. It holds ids of payments and what was decided, never values of entities; reasons are
worded for outside (`pipeline.config.outward_reasons`). A request goes to the address that its host name has now, unless that is
private and not in `networks`; redirects are not followed. A URL never appears in a message.
"""

import base64
import hashlib
import hmac
import http.client
import ipaddress
import json
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from pipeline.config.config import Config
from pipeline.config.outward_reasons import OUTWARD_REASONS
from pipeline.config.sections import WebhookEvent, WebhookSection
from storage.database.column_types import as_datetime
from storage.database.database import Store
from storage.frames import SECOND
from storage.notifications import events
from storage.notifications.events import EventWindow
from storage.notifications.outbox import Message

WITHIN_S = 10  # for each part of a request


@dataclass(frozen=True)
class Webhook:
    """One configured webhook; messages and lists show its name only."""

    name: str
    target: int  # in the outbox: below 0, where people's receivers are above
    settings: WebhookSection
    secret: bytes


def webhooks(config: Config) -> list[Webhook]:
    """
    The configured webhooks, by name.

    Raises
    ------
    ConfigError
        A secret is missing or none.
    """
    return [
        Webhook(name, _target(name), config.webhook[name], config.webhook_secret(name))
        for name in sorted(config.webhook)
    ]


def display_names(config: Config) -> dict[int, str]:
    """The names that lists and messages use, by target; no secret is needed."""
    return {_target(name): f"webhook {name}" for name in config.webhook}


def _target(name: str) -> int:
    """A number below 0 that stays the same when other webhooks come and go, so that no event goes to another."""
    return -1 - int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) // 2


def event_messages(store: Store, config: Config, window: EventWindow) -> Iterator[Message]:
    """Messages of all events but new flags, one for each webhook that wants it."""
    for answer in events.answers(store, window):
        at = answer["at"]
        data = {name: answer[name] for name in ("transaction_id", "verdict", "type", "action")}
        yield from _messages(config, "flag.answered", f"{answer['verdict_id']}", at, data)
    for choice in events.changed_choices(store, window):
        data = {
            "policy": choice["policy"],
            "training_date": _time(choice["training_date"]),
            "before": choice["before"],
            "strategy": choice["strategy"],
        }
        yield from _messages(
            config, "strategy.changed", f"{choice['choice_id']}", choice["training_date"], data
        )
    for promotion in events.new_promotions(store, window):
        data = {
            "policy": promotion["policy"],
            "model_id": promotion["model_id"],
            "strategy": promotion["strategy"],
            "effective_from": _time(promotion["effective_from"]),
        }
        subject = f"{promotion['policy']} {promotion['seq']}"
        yield from _messages(config, "model.promoted", subject, promotion["effective_from"], data)
    for step in events.failed_steps(store, window):
        if step["kind"] != "score":
            continue
        data = {
            "policy": step["policy"],
            "window_start": _time(step["window_start"]),
            "window_end": _time(step["window_end"]),
            "attempts": step["attempts"],
        }
        subject = f"{step['policy']} {step['window_start']} {step['window_end']} {step['run_id']}"
        yield from _messages(config, "window.failed", subject, window.now, data)


def flag_messages(config: Config, rows: Sequence[Mapping[str, Any]], now: int) -> Iterator[Message]:
    """Messages of new flags, as `flagged_transactions` has them."""
    for row in rows:
        loss = row["expected_loss"]
        codes = list(dict.fromkeys(reason["code"] for reason in row["reasons"]))
        data = {
            "policy": row["policy"],
            "transaction_id": row["transaction_id"],
            "event_time": _text(row["event_time"]),
            "channel": row["channel"],
            "score": row["score"],
            "fraud_probability": row["fraud_probability"],
            "expected_loss": None
            if loss is None
            else {"value": f"{loss:.2f}", "currency": config.schema_.base_currency},
            "reasons": [{"code": code, "text": outward_reason(config, code)} for code in codes],
        }
        yield from _messages(config, "flag.raised", f"{row['policy']} {row['transaction_id']}", now, data)


def outward_reason(config: Config, code: str) -> str:
    """What programs outside are told of a reason."""
    return config.web.outward_reasons.get(code, OUTWARD_REASONS[code])


def _messages(
    config: Config, event: WebhookEvent, subject: str, at: int, data: Mapping[str, Any]
) -> Iterator[Message]:
    key = f"msg_{hashlib.sha256(f'{config.monitor.name} {event} {subject}'.encode()).hexdigest()[:32]}"
    body = json.dumps({"type": event, "timestamp": _time(at), "data": data}, ensure_ascii=False)
    for name in sorted(config.webhook):
        if event in config.webhook[name].events:
            yield Message(key, _target(name), event, event, body)


def _time(instant: int) -> str:
    return _text(as_datetime(instant))


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def send(webhook: Webhook, key: str, body: str, now: int) -> str | None:
    """Send a request; returns None if the answer was 2xx, otherwise why not, without the URL."""
    try:
        status = _post(webhook, key, body.encode(), now // SECOND)
    except _PrivateAddressError as error:
        return f"webhook {webhook.name}: {error}"
    except TimeoutError:
        return f"webhook {webhook.name}: there was no answer within {WITHIN_S} s"
    except ssl.SSLCertVerificationError as error:
        return f"webhook {webhook.name}: its certificate is not trusted: {error.verify_message}"
    except (OSError, http.client.HTTPException) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        return f"webhook {webhook.name}: it was not reached: {why}"
    if 200 <= status < 300:
        return None
    return f"webhook {webhook.name}: the answer was {status}"


def send_test(webhook: Webhook, now: int) -> str | None:
    """Send an event of type `test`; returns None if the answer was 2xx, otherwise why not."""
    body = json.dumps({"type": "test", "timestamp": _time(now), "data": {}})
    return send(webhook, f"msg_test_{now}", body, now)


def signature(secret: bytes, key: str, timestamp: int, body: bytes) -> str:
    """The header webhook-signature (Standard Webhooks 1.0)."""
    signed = f"{key}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()


class _PrivateAddressError(Exception):
    """A host name has an address that no request may go to."""


def _post(webhook: Webhook, key: str, body: bytes, timestamp: int) -> int:
    url = urlsplit(webhook.settings.url.get_secret_value())
    host, secure = url.hostname or "", url.scheme == "https"
    port = url.port or (443 if secure else 80)
    connection = _Connection(_allowed_address(webhook, host, port), host, port, secure=secure)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "fraudwatch",
        "webhook-id": key,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature(webhook.secret, key, timestamp, body),
    }
    with closing(connection):
        connection.request("POST", (url.path or "/") + (f"?{url.query}" if url.query else ""), body, headers)
        return connection.getresponse().status  # what else is answered is not read


def _allowed_address(webhook: Webhook, host: str, port: int) -> str:
    """The first address of a host; all of them must be public, or in the webhook's networks."""
    networks = [ipaddress.ip_network(network) for network in webhook.settings.networks]
    found = [str(each[4][0]) for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    for text in found:
        address = ipaddress.ip_address(text.partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None) or address
        if not mapped.is_global and not any(
            mapped in network for network in networks if network.version == mapped.version
        ):
            raise _PrivateAddressError(
                f"its host has the private address {mapped}: allow it in webhook.{webhook.name}.networks"
            )
    return found[0]


class _Connection(http.client.HTTPConnection):
    """A connection to an address that was checked; the name is for the certificate and the header Host."""

    def __init__(self, address: str, host: str, port: int, *, secure: bool) -> None:
        super().__init__(host, port, timeout=WITHIN_S)
        self._address = address
        self._secure = secure
        self.default_port = 443 if secure else 80

    def connect(self) -> None:
        """Connect to the address."""
        self.sock = socket.create_connection((self._address, self.port), self.timeout)
        if self._secure:
            context = ssl.create_default_context()
            self.sock = context.wrap_socket(self.sock, server_hostname=self.host)
