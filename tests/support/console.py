"""The console over a database: a real server, its users, and clients with a session."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2

from pipeline.config.config import Config
from pipeline.services.users.users import NewUser, add_user
from pipeline.web.console import CONSOLE
from storage.database.database import Store
from tests.support.api import ApiServer, serving
from tests.support.users import PASSWORD
from tests.support.worlds import NOW, SMALL

ROLES = ("viewer", "reviewer", "rule_author", "administrator", "auditor")


@dataclass
class Visitor:
    """A browser of a user, without scripts: it keeps the cookie, and sends the token of its pages with writes."""

    http: httpx2.Client
    token: str = field(default="")

    def get(self, path: str, **more: Any) -> httpx2.Response:
        """A page."""
        answer = self.http.get(path, headers={"Accept": "text/html"}, **more)
        found = re.search(r'<meta name="csrf" content="([^"]+)"', answer.text)
        self.token = found.group(1) if found else self.token
        return answer

    def post(self, path: str, **form: Any) -> httpx2.Response:
        """A form that htmx sends."""
        headers = {"HX-Request": "true", "X-CSRF-Token": self.token, "Accept": "text/html"}
        return self.http.post(path, data=form, headers=headers)


@dataclass
class ConsoleServer:
    """A server that answers with pages; each role has a user of its name."""

    api: ApiServer
    visitors: dict[str, Visitor] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where it answers."""
        return self.api.url

    def visitor(self, name: str) -> Visitor:
        """A user who is logged in and has seen the queue."""
        if name not in self.visitors:
            client = httpx2.Client(base_url=self.url, timeout=30, trust_env=False)
            self.visitors[name] = Visitor(client)
            client.post("/log-in", data={"name": name, "password": PASSWORD})
            self.visitors[name].get("/queue")
        return self.visitors[name]


@contextmanager
def console(store: Store, config: Config = SMALL, now: int = NOW) -> Iterator[ConsoleServer]:
    """The console over a store, at a fixed time."""
    with serving(store, config, now, pages=CONSOLE) as api:
        for role in ROLES:
            add_user(api.session, NewUser(role, role, PASSWORD))
        running = ConsoleServer(api)
        try:
            yield running
        finally:
            for visitor in running.visitors.values():
                visitor.http.close()
