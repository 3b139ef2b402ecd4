"""The API over a database: a real server in a thread of this process, and clients with tokens of each role."""

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import httpx2
import uvicorn
from fastapi import FastAPI

from pipeline.api.app import Pages, create_app
from pipeline.api.server import server_settings
from pipeline.config.config import Config
from pipeline.services.runs.jobs import Jobs
from pipeline.services.scorer import open_scorer
from pipeline.services.session import Session
from pipeline.services.users.activity import ActivityRecorder
from pipeline.services.users.tokens import NewToken, issue_token
from storage.database.database import Store
from tests.support.worlds import NOW

START_S = 10


@dataclass
class ApiServer:
    """A server that answers, and its database."""

    url: str
    app: FastAPI
    session: Session
    clients: dict[str | None, httpx2.Client] = field(default_factory=dict)

    def client(self, role: str | None = "administrator") -> httpx2.Client:
        """A client with a token of a role, None for nobody; one for each role."""
        if role not in self.clients:
            headers = {} if role is None else {"Authorization": f"Bearer {self.token(role)}"}
            self.clients[role] = httpx2.Client(
                base_url=self.url, headers=headers, timeout=30, trust_env=False
            )
        return self.clients[role]

    def token(self, role: str, per_minute: int = 1_000_000) -> str:
        """The secret of a new token with a role."""
        return issue_token(
            self.session, NewToken(f"test {role}", role, timedelta(days=30), per_minute)
        ).secret

    def get(self, path: str, role: str | None = "administrator", **more: Any) -> httpx2.Response:
        """The answer to a GET under /api/v1."""
        return self.client(role).get(f"/api/v1{path}", **more)

    def post(
        self, path: str, body: Any = None, role: str | None = "administrator", **more: Any
    ) -> httpx2.Response:
        """The answer to a POST of JSON under /api/v1."""
        return self.client(role).post(f"/api/v1{path}", json={} if body is None else body, **more)

    def flush(self) -> None:
        """Wait until views are written."""
        activity = self.app.state.shared.activity
        until = time.monotonic() + START_S
        while activity._waits() and time.monotonic() < until:
            time.sleep(0.01)


@contextmanager
def serving(
    store: Store,
    config: Config,
    now: int = NOW,
    loading: Store | None = None,
    pages: Pages | None = None,
) -> Iterator[ApiServer]:
    """A server over a store, by a clock that begins at a time (µs) and goes on by a microsecond with each look."""
    ticks = itertools.count(now)
    session = Session(store, config, "serve", clock=lambda: next(ticks))
    loads = session if loading is None else replace(session, store=loading)
    with (
        closing(ActivityRecorder(session)) as activity,
        open_scorer(session) as scorer,
        closing(Jobs(session)) as jobs,
    ):
        app = create_app(config, session, loads, activity, scorer, jobs, pages)
        server = uvicorn.Server(server_settings(app, "127.0.0.1", 0))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        until = time.monotonic() + START_S
        while not server.started and time.monotonic() < until:
            time.sleep(0.005)
        port = server.servers[0].sockets[0].getsockname()[1]
        running = ApiServer(f"http://127.0.0.1:{port}", app, session)
        try:
            yield running
        finally:
            for client in running.clients.values():
                client.close()
            server.should_exit = True
            thread.join(START_S)
