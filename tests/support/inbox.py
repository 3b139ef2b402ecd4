"""A server on this machine that receives messages and pings."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "t0psecrettoken"


@dataclass
class Inbox:
    """A server that keeps the messages it receives, or answers with an error status."""

    port: int = 0
    status: int = 200
    got: list[dict[str, Any]] = field(default_factory=list)
    pings: list[str] = field(default_factory=list)  # paths that were requested by GET
    before_answer: Callable[[], None] = lambda: None

    @property
    def url(self) -> str:
        return f"json://user:{SECRET}@127.0.0.1:{self.port}/hook"

    @property
    def titles(self) -> list[str]:
        return [one["title"] for one in self.got]


@contextmanager
def serving() -> Iterator[Inbox]:
    inbox = Inbox()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if inbox.status == 200:
                inbox.got.append(json.loads(body))
            inbox.before_answer()
            self.send_response(inbox.status)
            self.end_headers()

        def do_GET(self) -> None:
            inbox.pings.append(self.path)
            inbox.before_answer()
            self.send_response(inbox.status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    inbox.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield inbox
    server.shutdown()
    server.server_close()
