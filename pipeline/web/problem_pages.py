"""Problems as pages: what a browser gets in place of `application/problem+json`, in the same words."""

import json
from urllib.parse import quote

from fastapi import Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.api.problems import MEDIA_TYPE
from pipeline.api.routes import API
from pipeline.web.rendering import render

HTML = "text/html"
LOG_IN = "/log-in"
OF_CONTENT = ("content-type", "content-length", "www-authenticate")


class ProblemPages:
    """Answers browsers with pages where the app answers with problems; who is not logged in is sent to the log-in."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or not _is_browser(scope):
            await self._app(scope, receive, send)
            return
        sender = _Sender(scope, receive, send)
        await self._app(scope, receive, sender.send)


class _Sender:
    """Passes an answer on, and keeps one with a problem until it is whole."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._problem: Message | None = None
        self._body = bytearray()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if Headers(raw=message["headers"]).get("content-type", "").startswith(MEDIA_TYPE):
                self._problem = message
                return
        elif self._problem is not None:
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                await _answer(self._scope, json.loads(self._body), self._problem)(
                    self._scope, self._receive, self._send
                )
            return
        await self._send(message)


def _is_browser(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    is_page = not scope["path"].startswith((API, "/healthz", "/readyz", "/metrics", "/docs/"))
    return is_page and (HTML in headers.get("accept", "") or "hx-request" in headers)


def _answer(scope: Scope, problem: dict[str, object], began: Message) -> Response:
    headers = Headers(scope=scope)
    is_part, status = "hx-request" in headers, began["status"]
    if status == 401 and scope["path"] != LOG_IN:
        return _with_headers(_to_log_in(scope, is_part), began)
    caller = scope.get("state", {}).get("caller")
    name = "problem_part.html" if is_part else "problem.html"
    answer = render(name, caller, status, problem=problem, place="", csrf="", monitor="")
    return _with_headers(answer, began)


def _with_headers(answer: Response, began: Message) -> Response:
    """The answer with the headers of the problem, but for those of its content."""
    mine = MutableHeaders(raw=answer.raw_headers)
    for name, value in Headers(raw=began["headers"]).items():
        if name not in OF_CONTENT:
            mine.setdefault(name, value)
    return answer


def _to_log_in(scope: Scope, is_part: bool) -> Response:
    """To the log-in, and from there back to the page that was asked for."""
    query = scope["query_string"].decode("latin-1")
    asked = scope["path"] + (f"?{query}" if query else "")
    if scope["method"] != "GET" or is_part:
        asked = "/"
    address = LOG_IN if asked == "/" else f"{LOG_IN}?next={quote(asked, safe='')}"
    if is_part:
        return Response(status_code=204, headers={"HX-Redirect": address})
    return Response(status_code=303, headers={"Location": address})
