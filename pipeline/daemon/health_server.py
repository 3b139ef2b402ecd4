"""
The daemon's health port: `/healthz`, `/readyz` and Prometheus `/metrics`, answered from memory.

The number of connections and the seconds of each are bounded, so that slow or hostile clients cost little and probes are
answered all the same.
"""

import hmac
import json
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pipeline import logs
from pipeline.config.config import Config
from pipeline.daemon.health import Health
from pipeline.errors import ConfigError
from pipeline.rendering.health_metrics import metrics_encoder

PLAIN_TEXT = "text/plain; charset=utf-8"
CONNECTIONS_MAX = 16  # at once; a Prometheus, two probes and a person need four
REQUEST_S = 10.0  # for a whole request and its answer


@contextmanager
def serve_health(config: Config, health: Health) -> Iterator[int | None]:
    """
    Serve the health port while the block lasts; yields the port, None if `health.port` is 0.

    Raises
    ------
    ConfigError
        The port is in use, or the host is not an address of this machine.
    """
    section = config.health
    if not section.port:
        yield None
        return
    handler = type("Handler", (_Handler,), {"health": health, "token": config.health_token()})
    try:
        server = _Server((section.host, section.port), handler)
    except OSError as error:
        raise ConfigError(
            f"health.port is {section.port} on {section.host}, which cannot be listened on "
            f"({error.strerror}): choose another, or 0 for none"
        ) from error
    thread = threading.Thread(target=server.serve_forever, name="health", daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    """A server of at most `CONNECTIONS_MAX` requests at once, each of `REQUEST_S` at most; the oldest makes room for a new one."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type["_Handler"]) -> None:
        self._open: dict[socket.socket, float] = {}  # connection → when it is closed
        self._lock = threading.Lock()
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection, and close the oldest one if there are too many."""
        with self._lock:
            for oldest in list(self._open)[: len(self._open) + 1 - CONNECTIONS_MAX]:
                self._end(oldest)
            self._open[request] = time.monotonic() + REQUEST_S
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        """Close connections whose time is over; called twice a second."""
        with self._lock:
            for request in [one for one, until in self._open.items() if until < time.monotonic()]:
                self._end(request)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection that was served."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 (of the standard library)
        """Take no notice of a client that left; log any other error."""
        error = sys.exc_info()[1]
        if isinstance(error, Exception) and not isinstance(error, OSError):
            logs.bug("health_failed", error)

    def _end(self, request: socket.socket) -> None:
        """Wake the thread that reads from or writes to a connection: it sees that the connection is closed."""
        del self._open[request]
        with suppress(OSError):
            request.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD requests in one line; all paths but /healthz need the token, if one is configured."""

    health: Health
    token: str
    server_version = "fraudwatch"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer one request."""
        path = self.path.partition("?")[0]
        if path == "/healthz":
            self._send_state(*self.health.alive())
        elif path not in {"/readyz", "/metrics"}:
            self._send(404, PLAIN_TEXT, b"see /healthz, /readyz, /metrics\n")
        elif not self._is_authorized():
            self._send(401, PLAIN_TEXT, b"send Authorization: Bearer TOKEN\n")
        elif path == "/readyz":
            self._send_state(*self.health.ready(), self.health.failing())
        else:
            encode, content_type = metrics_encoder(self.headers.get("Accept", ""))
            self._send(200, content_type, encode(self.health.registry))

    def do_HEAD(self) -> None:
        """Answer one request without its body."""
        self.do_GET()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """Answer a request that cannot be read, or has another method."""
        status = 405 if code == 501 else code
        self.request_version = self.protocol_version  # one that is unknown would be answered without a status
        self._send(status, PLAIN_TEXT, f"{HTTPStatus(status).phrase}\n".encode())

    def log_message(self, *_: Any) -> None:
        """Do not log requests."""

    def _is_authorized(self) -> bool:
        header = self.headers.get("Authorization", "").encode()
        return not self.token or hmac.compare_digest(header, f"Bearer {self.token}".encode())

    def _send_state(self, ok: bool, state: str, failing: Sequence[str] = ()) -> None:
        degraded = {"failing": list(failing)} if failing else {}
        body = json.dumps({"ok": ok, "state": state, **degraded}).encode() + b"\n"
        self._send(200 if ok else 503, "application/json", body)

    def _send(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        if status == 401:
            self.send_header("WWW-Authenticate", "Bearer")
        if status == 405:
            self.send_header("Allow", "GET, HEAD")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
