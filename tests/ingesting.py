"""What the tests of ingest share: a config, and a look at what is stored."""

from datetime import UTC, datetime
from typing import Any

from pydantic import SecretStr
from sqlalchemy import text

from pipeline.config import HASH_KEY, Config
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


def rejected(store: Store, batch_id: int | None) -> dict[int, tuple[str, str]]:
    """Rejected rows of a batch: number → row, reason."""
    sql = text(
        "SELECT row_number, row, reason FROM rejected_rows WHERE batch_id = :batch ORDER BY row_number"
    )
    with store.read() as connection:
        found = connection.execute(sql, {"batch": batch_id})
        return {row.row_number: (row.row, row.reason) for row in found}


def table(store: Store, sql: str) -> list[tuple[Any, ...]]:
    """Rows of a query."""
    with store.read() as connection:
        return [tuple(row) for row in connection.execute(text(sql))]
