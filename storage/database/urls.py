"""
Database URLs: read them, show where they point without any secret, and take secrets out of what drivers say.

A password may stand before the @, in a parameter of any name, or, if it was not escaped, in what looks like the host or
the database. So only known parts are shown, and a URL that can be read in two ways is refused.
"""

import re
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

from sqlalchemy import URL
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from storage.errors import Unreachable

DRIVERS = {"sqlite": ("sqlite", "sqlite+pysqlite"), "postgresql": ("postgresql", "postgresql+psycopg")}
PORT_MAX = 65_535
EXAMPLE = "write sqlite:///file.db or postgresql://user@host:5432/name"
ESCAPES = "write : / @ # and % in a user or password as %3A %2F %40 %23 and %25"
VISIBLE = ("host", "hostaddr", "port", "user", "dbname")  # parameters that say where and who
ELLIPSIS = "…"
SHORT = 4  # a secret of fewer characters is replaced as a whole word only, since it may be a part of many
_NAME = re.compile(r"[\w.+~-]+")
_HOST = re.compile(r"[\w.:,%/\\-]+")
_DATABASE = re.compile(r"[^@:/?&=]*")


def parse_url(url: str, name: str = "storage.url") -> URL:
    """
    Read a URL.

    Parameters
    ----------
    name
        The key or source that holds it, for messages, which contain no part of it but a port or driver.

    Raises
    ------
    Unreachable
        It is none, its port is none, its driver is not the one that is installed here, or its password is not escaped, so that its
        host may be a part of the password.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise Unreachable(f"{name} is not a database URL", remedy=f"{EXAMPLE}; {ESCAPES}") from None
    except ValueError:
        raise Unreachable(f"{name} has a port that is no number", remedy=f"{EXAMPLE}; {ESCAPES}") from None
    backend = parsed.get_backend_name()
    if backend != "sqlite" and (url.count("@") > 1 or "@" in f"{parsed.host or ''}{parsed.database or ''}"):
        raise Unreachable(
            f"{name} has an @ that is not escaped, so it can be read in two ways",
            remedy="write each @ but the one before the host as %40",
        )
    if backend == "sqlite" and (parsed.host or parsed.username or parsed.password):
        raise Unreachable(
            f"{name} names a host or user, but SQLite is a file", remedy="write sqlite:///file.db"
        )
    ports = (parsed.port, *parsed.normalized_query.get("port", ()))
    for port in ",".join(str(one) for one in ports if one is not None).split(","):
        if port and not (port.isascii() and port.isdecimal() and 0 < int(port) <= PORT_MAX):
            raise Unreachable(f"{name} has port {port!r:.20}", remedy=f"use a port from 1 to {PORT_MAX}")
    if parsed.drivername not in DRIVERS.get(backend, (parsed.drivername,)):
        raise Unreachable(
            f"{name} names the driver {parsed.drivername.partition('+')[2]!r:.30}, which is not used here",
            remedy=f"begin it with {backend}://",
        )
    return parsed


def display_url(url: URL) -> str:
    """Engine, user, host, port and database of a URL, never more."""
    engine = url.get_backend_name()
    if engine == "sqlite":
        return f"sqlite:///{url.database or ''}"
    user = f"{_if_plain(url.username, _NAME)}@" if url.username else ""
    host = _if_plain(url.host, _HOST) if url.host else ""
    port = f":{url.port}" if url.port else ""
    database = f"/{_if_plain(url.database, _DATABASE)}" if url.database else ""
    shown = [f"{name}={_if_plain(value, _HOST)}" for name, value in _parameters(url) if name in VISIBLE]
    return f"{engine}://{user}{host}{port}{database}" + (f"?{'&'.join(shown)}" if shown else "")


def without_secrets(text: str, url: URL) -> str:
    """A driver's message without the password and the parameters of the URL, however they are written."""
    secrets = [str(url.password or ""), *(value for name, value in _parameters(url) if name not in VISIBLE)]
    forms = {form for secret in secrets if secret for form in (secret, quote(secret, ""), quote_plus(secret))}
    for form in sorted(forms, key=len, reverse=True):
        pattern = re.escape(form) if len(form) >= SHORT else rf"(?<!\w){re.escape(form)}(?!\w)"
        text = re.sub(pattern, ELLIPSIS, text)
    return text


def _parameters(url: URL) -> Iterator[tuple[str, str]]:
    for name, value in url.query.items():
        for each in (value,) if isinstance(value, str) else value:
            yield name, each


def _if_plain(text: str | None, pattern: re.Pattern[str]) -> str:
    return text if text is not None and pattern.fullmatch(text) else ELLIPSIS
