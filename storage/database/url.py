"""Database URLs that people write: one sentence for each that cannot be used, without the password that it may hold."""

from sqlalchemy import URL
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from storage.errors import Unreachable

DRIVERS = {"sqlite": ("sqlite", "sqlite+pysqlite"), "postgresql": ("postgresql", "postgresql+psycopg")}
PORT_MAX = 65_535
EXAMPLE = "write sqlite:///file.db or postgresql://user@host:5432/name"
ESCAPES = "write : / @ # and % in a user or password as %3A %2F %40 %23 and %25"


def parse_url(url: str, owner: str) -> URL:
    """
    Parse the URL of a database.

    Parameters
    ----------
    owner
        The key or source that holds it, for messages: `storage.url`.

    Raises
    ------
    Unreachable
        It is no URL, its port is none, or its driver is not the one that is installed here.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise Unreachable(f"{owner} is not a database URL", remedy=EXAMPLE) from None
    except ValueError:
        raise Unreachable(f"{owner} has a port that is no number", remedy=f"{EXAMPLE}; {ESCAPES}") from None
    backend = parsed.get_backend_name()
    written = (
        str(port) for port in (parsed.port, *parsed.normalized_query.get("port", ())) if port is not None
    )
    for port in (port for ports in written for port in ports.split(",") if port):
        if not (port.isascii() and port.isdecimal() and 0 < int(port) <= PORT_MAX):
            raise Unreachable(f"{owner} has port {port!r:.20}", remedy=f"use a port from 1 to {PORT_MAX}")
    if parsed.drivername not in DRIVERS.get(backend, (parsed.drivername,)):
        raise Unreachable(
            f"{owner} names the driver {parsed.drivername.partition('+')[2]!r:.30}, which is not used here",
            remedy=f"begin it with {backend}://",
        )
    return parsed
