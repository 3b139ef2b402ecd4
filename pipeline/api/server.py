"""The process that answers: uvicorn with the app, on one address."""

import gc
import logging
import os
import secrets
import signal
import socket
from contextlib import closing
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from pipeline import logs
from pipeline.api.app import Pages, open_app
from pipeline.api.middleware import HEADERS
from pipeline.api.problems import problem_response
from pipeline.config.config import Config
from pipeline.errors import ConfigError

HEAD_S = 10.0  # for the head of a request to arrive; uvicorn itself waits forever
IDLE_S = 30  # between two requests of a connection
CONNECTIONS_MAX = 200  # that are served; twice as many are answered
STOP_WITHIN_S = 10


class _Protocol(H11Protocol):
    """HTTP/1.1 that closes a connection on which the head of a request takes too long, and answers one too many with a problem."""

    def connection_made(self, transport: Any) -> None:
        """Wait for the first request, but not forever."""
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(HEAD_S, self._close_without_request)
        if len(self.connections) > 2 * CONNECTIONS_MAX:
            transport.abort()
        elif len(self.connections) > CONNECTIONS_MAX:
            self.app = _answer_overloaded

    def data_received(self, data: bytes) -> None:
        """Wait for the rest of the head of any later request, but not forever."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._head_timer.cancel()
        elif self._head_timer.cancelled():
            self._head_timer = self.loop.call_later(HEAD_S, self._close_without_request)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._head_timer.cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP with a problem; nothing of it has reached the app."""
        answer = problem_response(
            "bad_request", msg, secrets.token_hex(8), headers={**HEADERS, "Connection": "close"}
        )
        head = h11.Response(status_code=answer.status_code, headers=answer.raw_headers)
        for event in (head, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _close_without_request(self) -> None:
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()


async def _answer_overloaded(scope: Any, receive: Any, send: Any) -> None:
    """Answer a request on a connection that is one too many."""
    headers = {**HEADERS, "Connection": "close"}
    await problem_response("overloaded", "", secrets.token_hex(8), headers=headers)(scope, receive, send)


def serve(config: Config, pages: Pages) -> None:
    """
    Answer requests until a signal ends the process.

    Raises
    ------
    Unreachable, SchemaOutOfDate, WrongMonitor
        The database cannot be used.
    ConfigError
        The port is in use, or the host is not an address of this machine.
    """
    section = config.web
    # The app logs what fails; what uvicorn says of broken requests is noise beside that.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    # uvicorn ends in an orderly way, and then sends itself the signal again, for whoever had a handler before.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    with open_app(config, pages) as app, closing(_listen(section.host, section.port)) as listener:
        logs.event(
            "listening",
            host=section.host,
            port=section.port,
            database=app.state.shared.session.store.display_url,
        )
        spare_collector()
        uvicorn.Server(server_settings(app, section.host, section.port)).run([listener])
    logs.event("stopped")


def spare_collector() -> None:
    """Keep the garbage collector from what lives as long as the process: a pass over it would hold answers up for 0.2 s."""
    gc.collect()
    gc.freeze()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError(
            f"web.port is {port} on {host}, which cannot be listened on ({os.strerror(error.errno or 0)})",
            remedy="choose another",
        ) from error


def server_settings(app: FastAPI, host: str, port: int) -> uvicorn.Config:
    """How uvicorn answers with the app."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=_Protocol,
        ws="none",
        lifespan="off",
        proxy_headers=False,  # the app has them checked against web.trusted_proxies
        server_header=False,
        access_log=False,  # the app writes its own, without the query
        log_config=None,
        timeout_keep_alive=IDLE_S,
        timeout_graceful_shutdown=STOP_WITHIN_S,
    )
