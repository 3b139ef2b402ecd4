"""What the tests of ingest share: a config, and a look at what is stored."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from pipeline.config import HASH_KEY, Config
from pipeline.opening import open_configured
from storage.setup import upgrade
from storage.store import Store

NOW = int(datetime(2026, 4, 1, tzinfo=UTC).timestamp()) * 1_000_000
DAY = 86_400_000_000


def micros(moment: str) -> int:
    """An ISO time as µs since 1970-01-01 UTC."""
    return round(datetime.fromisoformat(moment).timestamp() * 1_000_000)


def configured(key: str = "", labels: dict[str, Any] | None = None, **schema: Any) -> Config:
    """A config with this schema and hash key."""
    fields = {"entities": (), "categorical": (), "numeric": (), "kind": "", "original_id": ""} | schema
    config = Config.model_validate({"schema": fields, "labels": labels or {}})
    if key:
        config._secrets[HASH_KEY] = SecretStr(key)
    return config


@pytest.fixture
def opener(url: str) -> Iterator[Callable[[Config], Store]]:
    """Open the test's database for a config, tables in place; on Postgres in a schema of its own."""
    schema = f"test_{uuid.uuid4().hex[:12]}"
    with ExitStack() as stack:

        def opened(config: Config) -> Store:
            place = type(config.storage).model_validate({"url": url, "schema": schema})
            store = stack.enter_context(open_configured(config.model_copy(update={"storage": place})))
            upgrade(store, config.monitor.name, NOW, config.labels.precedence)
            return store

        yield opened


def rejected(store: Store, batch_id: int | None) -> dict[int, tuple[str, str]]:
    """Rejected rows of a batch: number → row, reason."""
    sql = text(
        "SELECT row_number, row, reason FROM rejected_rows WHERE batch_id = :batch ORDER BY row_number"
    )
    with store.read() as connection:
        found = connection.execute(sql, {"batch": batch_id})
        return {row.row_number: (row.row, row.reason) for row in found}


def table(store: Store, sql: str) -> list[tuple[Any, ...]]:
    """Rows of a query; decimals as floats, as SQLite has them."""
    with store.read() as connection:
        found = connection.execute(text(sql))
        return [tuple(float(v) if isinstance(v, Decimal) else v for v in row) for row in found]
