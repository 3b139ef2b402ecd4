"""The API over a database, in this process: an app, and a client for each role."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from fastapi import FastAPI
from starlette.testclient import TestClient

from pipeline.api.app import create_app
from pipeline.config.config import Config
from pipeline.services.session import Session
from pipeline.services.users.tokens import NewToken, issue_token
from storage.database.database import Store
from tests.support.worlds import NOW

HOST = "http://localhost"


def session_of(store: Store, config: Config, now: int = NOW) -> Session:
    return Session(store, config, "serve", clock=lambda: now)


def app_of(store: Store, config: Config, now: int = NOW) -> FastAPI:
    """The app over a store, at a fixed time."""
    session = session_of(store, config, now)
    return create_app(config, session, session)


def token_of(store: Store, config: Config, role: str, now: int = NOW, per_minute: int = 1_000_000) -> str:
    """The secret of a new token with a role."""
    new = NewToken(f"test {role}", role, timedelta(days=30), per_minute)
    return issue_token(session_of(store, config, now), new).secret


@contextmanager
def client_of(app: FastAPI, token: str | None = None) -> Iterator[TestClient]:
    """An HTTP client of an app; with a token or as nobody."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    with TestClient(app, base_url=HOST, headers=headers, raise_server_exceptions=False) as client:
        yield client
