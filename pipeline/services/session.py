"""What every service works with: the database, the configuration, who is acting, and the clock."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pipeline.config.config import Config
from pipeline.config.database import open_configured
from pipeline.config.loader import load_config
from pipeline.errors import ConfigError, InputError
from pipeline.hashing import key_check
from storage.database.column_types import as_micros
from storage.database.database import BUSY_TIMEOUT_MS, Store
from storage.database.setup import require_file, verify


def current_time() -> int:
    """The current time in µs since 1970-01-01 UTC."""
    return time.time_ns() // 1000


@dataclass(frozen=True)
class Session:
    """An open database of one monitor, for one acting person or program."""

    store: Store
    config: Config
    actor: str  # stored in the audit trail
    clock: Callable[[], int] = current_time  # µs since 1970-01-01 UTC

    @property
    def now(self) -> int:
        """The current time in µs."""
        return self.clock()


def past_instant(session: Session, moment: datetime | None) -> int:
    """
    A time that has passed in µs; None for now.

    Raises
    ------
    InputError
        The time is in the future.
    """
    now = session.now
    instant = now if moment is None else as_micros(moment)
    if instant > now:
        raise InputError(
            f"{moment} is in the future", remedy="give a time that has passed", code="future_time"
        )
    return instant


@contextmanager
def open_session(
    config: Config,
    actor: str,
    *,
    clock: Callable[[], int] = current_time,
    verified: bool = True,
    lock_wait_ms: int = BUSY_TIMEOUT_MS,
) -> Iterator[Session]:
    """
    Open the configured database.

    Parameters
    ----------
    verified
        Whether the database must belong to this monitor and have the current schema; only its setup does without.
    lock_wait_ms
        How long a write waits for the lock of an SQLite file.

    Raises
    ------
    Unreachable, SchemaOutOfDate, WrongMonitor
        The database cannot be used.
    """
    if verified:
        require_file(config.storage_url)
    with open_configured(config, lock_wait_ms) as store:
        if verified:
            verify(store, config.monitor.name, hash_key_check(config))
        yield Session(store, config, actor, clock)


def hash_key_check(config: Config) -> str | None:
    """The check value of the key of `schema.hash`; None without hashed fields or a key, which whoever needs one asks for."""
    try:
        return key_check(config.hash_key()) if config.schema_.hash else None
    except ConfigError:
        return None


def read_config(path: Path | None, environment: Mapping[str, str] = os.environ) -> Config:
    """
    Read the configuration from a file and the environment.

    Raises
    ------
    ConfigError
        A key is unknown, missing, of the wrong type or impossible.
    """
    return load_config(path, environment)
