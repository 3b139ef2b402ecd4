"""
What surrounds every request, as plain ASGI: its id, the host, size and time limits, headers of the answer, and the access log.

It answers with problems, too, so that no client ever gets another kind of error. A body is read whole before anything else is done:
the limit is small, and a slow sender holds no thread and no connection to the database.
"""

import asyncio
import re
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from urllib.parse import quote, unquote, unquote_to_bytes

from anyio.to_thread import current_default_thread_limiter
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline import logs
from pipeline.api.problems import ApiError, problem_of_error
from pipeline.api.types import SLASH

BODY_MAX = 4 * 1024 * 1024  # bytes: a thousand transactions have a few hundred thousand
BODY_S = 20.0  # for the whole body to arrive
ANSWER_S = 60.0  # until an answer begins
REQUESTS_MAX = 64  # at once, of which `THREADS` work; more would wait for longer than people do
THREADS = 12  # fewer than the pool of a database has connections
HEADERS = {
    # The answers of the API load nothing; a page sets a policy of its own.
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
HSTS = "max-age=31536000"


class RequestGuard:
    """
    The outermost layer of the app.

    Parameters
    ----------
    hosts
        The names that this server may be called by.
    """

    def __init__(self, app: ASGIApp, *, hosts: Sequence[str]) -> None:
        self._app = app
        self._at_work = 0
        self._hosts = frozenset(host.lower() for host in hosts) or frozenset(
            {"localhost", "127.0.0.1", "[::1]"}
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        answer = _GuardedAnswer(scope, send, request_id)
        began = time.monotonic()
        self._at_work += 1
        current_default_thread_limiter().total_tokens = THREADS
        try:
            if self._at_work > REQUESTS_MAX:
                raise ApiError("overloaded")  # noqa: TRY301 (it is answered like all others)
            _check_host(scope, self._hosts)
            _check_address(scope)
            scope["path"] = _with_slashes_marked(scope)
            body = await _read_body(scope, receive)
            await _answer_in_time(self._app, scope, _replay(body, receive), answer)
        except Exception as error:  # noqa: BLE001 (top level: whatever happens, the client gets a problem)
            if not answer.begun:
                await problem_of_error(error, request_id)(scope, receive, answer.send)
            else:
                logs.bug("answer_failed", error, request_id=request_id)
        finally:
            self._at_work -= 1
            _log(scope, answer, time.monotonic() - began)


class _GuardedAnswer:
    """Sends an answer with the headers that all have; after `closed` nothing more of it."""

    def __init__(self, scope: Scope, send: Send, request_id: str) -> None:
        self._is_secure = scope["scheme"] == "https"
        self._send = send
        self._request_id = request_id
        self.begun = False
        self.status = 0
        self.size = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun, self.status = True, message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = self._request_id
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            if self._is_secure:
                headers.setdefault("Strict-Transport-Security", HSTS)
        else:
            self.size += len(message.get("body", b""))
        await self._send(message)


async def _answer_in_time(app: ASGIApp, scope: Scope, receive: Receive, answer: _GuardedAnswer) -> None:
    """Run the app; if no answer has begun in time, it goes on alone and nobody hears of it."""
    is_late = False

    async def send(message: Message) -> None:
        if not is_late:
            await answer.send(message)

    task = asyncio.ensure_future(app(scope, receive, send))
    try:
        await asyncio.wait({task}, timeout=ANSWER_S)
        if not task.done() and not answer.begun:
            is_late = True
            task.add_done_callback(_ignore_result)
            raise ApiError("timeout")
        await task
    except asyncio.CancelledError:
        task.cancel()
        raise


def _ignore_result(task: "asyncio.Future[None]") -> None:
    with suppress(asyncio.CancelledError, Exception):
        task.result()


def _check_host(scope: Scope, hosts: frozenset[str]) -> None:
    host = Headers(scope=scope).get("host", "").lower()
    name = host if host.endswith("]") else host.rpartition(":")[0] if ":" in host else host
    if name not in hosts:
        raise ApiError("unknown_host")


def _check_address(scope: Scope) -> None:
    """Refuse an address that no database can hold: one with null characters, or not in UTF-8."""
    for part in (scope.get("raw_path") or scope["path"].encode(), scope["query_string"].replace(b"+", b" ")):
        plain = unquote_to_bytes(part)
        try:
            plain.decode()
        except UnicodeDecodeError:
            raise ApiError("bad_request", "the address is not UTF-8") from None
        if b"\0" in plain:
            raise ApiError("bad_request", "the address holds a null character")


def _with_slashes_marked(scope: Scope) -> str:
    """The path with each encoded slash as `SLASH`: it is a part of an id, and separates nothing."""
    raw: bytes = scope.get("raw_path") or b""
    if b"%2f" not in raw.lower():
        return str(scope["path"])
    marked = re.sub(rb"(?i)%2f", quote(SLASH).encode(), raw.partition(b"?")[0])
    return unquote(marked.decode("ascii"))


async def _read_body(scope: Scope, receive: Receive) -> bytes:
    declared = Headers(scope=scope).get("content-length", "0")
    if not declared.isdigit() or int(declared) > BODY_MAX:
        raise ApiError(
            "body_too_large", f"a request has at most {BODY_MAX:,} bytes", headers={"Connection": "close"}
        )
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ApiError("body_too_slow")
                body += message.get("body", b"")
                if len(body) > BODY_MAX:
                    raise ApiError(
                        "body_too_large",
                        f"a request has at most {BODY_MAX:,} bytes",
                        headers={"Connection": "close"},
                    )
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise ApiError("body_too_slow", headers={"Connection": "close"}) from None


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body, then what comes after it."""
    parts: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return parts.pop() if parts else await receive()

    return replay


def _log(scope: Scope, answer: _GuardedAnswer, seconds: float) -> None:
    """One line a request, without the query, which may hold what people search for."""
    client, caller = scope.get("client"), scope["state"].get("caller")
    logs.event(
        "request",
        id=scope["state"]["request_id"],
        method=scope["method"],
        path=scope["path"],
        status=answer.status,
        bytes=answer.size,
        ms=round(1e3 * seconds, 1),
        client=client[0] if client else "",
        by="" if caller is None else caller.name,
    )
