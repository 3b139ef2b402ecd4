"""
Databases for tests: SQLite files and a Postgres server, which all workers of a test session share.

What is expensive to make, a `World`, is built once a session and engine; each test gets a copy of it.
"""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psycopg
from pydantic import SecretStr

from pipeline.config.config import MODEL_KEY, Config
from pipeline.config.database import open_configured
from storage.database.database import Store
from storage.database.setup import upgrade

SESSION_FOLDER = "TEST_SESSION_FOLDER"  # the environment variable by which workers learn of it
UNSAFE = ("fsync", "synchronous_commit", "full_page_writes")  # what a server of tests need not be safe from


Opener = Callable[[Config], Store]
Copier = Callable[..., Store]


def fill_nothing(_store: Store, _folder: Path) -> None:
    """For a world of empty tables."""


@dataclass(frozen=True)
class World:
    """
    A database that many tests begin with.

    `fill` gets the store and a folder for files; it begins with a copy of `base`, or with empty tables.
    """

    name: str
    config: Config
    fill: Callable[[Store, Path], None] = fill_nothing
    base: "World | None" = None


def empty_tables(config: Config) -> World:
    """The world of a database right after `fraudwatch init`."""
    schema, labels = config.schema_, config.labels
    columns = (schema.entities, schema.categorical, schema.numeric, schema.refund_kinds, config.case_entity)
    setup = repr((columns, labels.precedence, labels.never_by_silence, config.monitor.name))
    return World(f"empty_{hashlib.md5(setup.encode()).hexdigest()}", config)


class Engine(Protocol):
    """What is done with whole databases, by their names."""

    name: str

    def url(self, database: str) -> str:
        """The address of a database, whether it exists or not."""

    def exists(self, database: str) -> bool:
        """Whether there is such a database."""

    def copy(self, source: str, database: str) -> None:
        """Copy a database that nobody has opened; one that has the name is replaced."""

    def rename(self, database: str, name: str) -> None:
        """Give a database that nobody has opened another name."""

    def drop(self, database: str) -> None:
        """Delete a database, if there is one."""


class SqliteFiles:
    """Files in a folder; a database's name is the path of its file, or of one in that folder, without its ending."""

    name = "sqlite"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def url(self, database: str) -> str:
        return f"sqlite:///{self._path(database)}"

    def exists(self, database: str) -> bool:
        return self._path(database).exists()

    def copy(self, source: str, database: str) -> None:
        assert not self._path(source).with_suffix(".db-wal").exists(), f"{source} is open"
        shutil.copyfile(self._path(source), self._path(database))

    def rename(self, database: str, name: str) -> None:
        assert not self._path(database).with_suffix(".db-wal").exists(), f"{database} is open"
        self._path(database).rename(self._path(name))

    def drop(self, database: str) -> None:
        for ending in (".db", ".db-wal", ".db-shm"):
            self._path(database).with_suffix(ending).unlink(missing_ok=True)

    def _path(self, database: str) -> Path:
        return self.folder / f"{database}.db"


class PostgresServer:
    """Databases of a server."""

    name = "postgresql"

    def __init__(self, address: str) -> None:
        self.address = address

    def url(self, database: str) -> str:
        return self.address.replace("/postgres?", f"/{database}?")

    def create(self, database: str) -> str:
        """An empty database; returns its URL."""
        self._execute(f"CREATE DATABASE {database}")
        return self.url(database)

    def exists(self, database: str) -> bool:
        return bool(self._execute("SELECT 1 FROM pg_database WHERE datname = %s", database))

    def copy(self, source: str, database: str) -> None:
        self.drop(database)
        self._execute(f"CREATE DATABASE {database} TEMPLATE {source} STRATEGY file_copy")

    def rename(self, database: str, name: str) -> None:
        self._execute(f"ALTER DATABASE {database} RENAME TO {name}")

    def drop(self, database: str) -> None:
        self._execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")

    def _execute(self, sql: str, *parameters: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.address, autocommit=True) as connection:
            cursor = connection.execute(sql, parameters)
            return cursor.fetchall() if cursor.description else []


def session_folder() -> Path:
    """The folder that all workers of this session share."""
    return Path(os.environ[SESSION_FOLDER])


@contextmanager
def locked(name: str) -> Iterator[None]:
    """One worker at a time."""
    with (session_folder() / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def running_postgres(pgserver: Any) -> Iterator[PostgresServer]:
    """
    The session's server: the first who asks starts it, the last one stops it.

    Its folder is not pytest's: as root the server runs as a user of its own, who may not enter that one.
    """
    with locked("postgres"):
        server = pgserver.get_server(session_folder() / "postgres")
        databases = PostgresServer(server.get_uri())
        for setting in UNSAFE:
            databases._execute(f"ALTER SYSTEM SET {setting} = off")
        databases._execute("SELECT pg_reload_conf()")
    yield databases
    server.cleanup()


def copy_world(engine: Engine, world: World, database: str) -> None:
    """Copy a world, which is built by the first test of the session that asks for it."""
    with locked(f"{engine.name}_{world.name}"):
        if not engine.exists(world.name):
            _build(engine, world)
    engine.copy(world.name, database)


def _build(engine: Engine, world: World) -> None:
    unfinished = f"{world.name}_unfinished"
    engine.drop(unfinished)
    if world.base is not None:
        copy_world(engine, world.base, unfinished)
    elif isinstance(engine, PostgresServer):
        engine.create(unfinished)
    with opened(world.config, engine.url(unfinished)) as store, tempfile.TemporaryDirectory() as folder:
        world.fill(store, Path(folder))
    engine.rename(unfinished, world.name)


def opened(config: Config, url: str = "") -> Store:
    """A database with its tables in place, at this URL or the config's; close it, or use it as a context manager."""
    store = open_configured(with_url(config, url) if url else config)
    upgrade(store, config.monitor.name, 1, config.labels.precedence, config.labels.never_by_silence)
    return store


def with_url(config: Config, url: str) -> Config:
    """The same settings for another database, with a key to seal models with."""
    moved = config.model_copy(
        update={"storage": type(config.storage).model_validate({"url": url})}, deep=True
    )
    moved._secrets[MODEL_KEY] = SecretStr("0123456789abcdef")
    return moved
