"""A real identity provider on this machine: npm oidc-provider, where node and the package are installed."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx2
import pytest
from pydantic import SecretStr

from pipeline.config.config import Config
from pipeline.config.sections import OidcSection, WebSection
from tests.support.worlds import SMALL

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("oidc_provider.mjs")
PUBLIC_URL = "http://localhost:8321"
SECRET = "a secret of the client"
ROLES = {"analysts": "reviewer", "owners": "model_owner", "chiefs": "administrator"}


@dataclass(frozen=True)
class LocalProvider:
    """A running provider, and what a browser does there."""

    issuer: str

    def set(self, **users: dict[str, Any] | None) -> None:
        """Set the claims of users, or `settings`."""
        httpx2.put(f"{self.issuer}/test", json=users).raise_for_status()

    def log_in(self, address: str, user: str) -> dict[str, str]:
        """Follow the provider's pages as a browser that logs in; returns the parameters it comes back with."""
        with httpx2.Client() as browser:
            address += f"&login_hint={user}"
            while not address.startswith(PUBLIC_URL):
                response = browser.get(address)
                assert response.is_redirect, response.text
                address = str(httpx2.URL(address).join(response.headers["location"]))
        return dict(parse_qsl(urlsplit(address).query))


@contextmanager
def running_provider() -> Iterator[LocalProvider]:
    """A provider that runs until the end; without node or its package the test is skipped."""
    node, entry = shutil.which("node"), ROOT / "node_modules/oidc-provider/lib/index.js"
    if node is None or not entry.exists():
        pytest.skip("needs node, and npm install --no-save oidc-provider@9 in the root of the repository")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [node, str(SCRIPT), str(entry.resolve()), str(port), f"{PUBLIC_URL}/oidc/callback"]
    env = {"PATH": os.environ["PATH"]}
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env
    ) as process:
        try:
            assert process.stdout is not None
            while "ready" not in (line := process.stdout.readline()):
                assert line, "the provider has ended"
            yield LocalProvider(f"http://localhost:{port}")
        finally:
            process.kill()


def config_of(issuer: str, **keys: Any) -> Config:
    """The small config with a provider; `keys` are of [oidc]."""
    section = {"issuer": issuer, "client_id": "fraudwatch", "client_secret_env": "S", "roles": ROLES} | keys
    update = {
        "web": WebSection.model_validate({"public_url": PUBLIC_URL}),
        "oidc": OidcSection.model_validate(section),
    }
    config = SMALL.model_copy(update=update, deep=True)
    config._secrets["S"] = SecretStr(SECRET)
    return config
