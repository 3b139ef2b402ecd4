"""What the tests of ingest share: a config, files, and the rows that were rejected."""

import io
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from sqlalchemy import text

from pipeline.config.config import HASH_KEY, Config
from pipeline.ingest.ingest import ingest_transactions
from pipeline.ingest.ingest_report import IngestReport, Options
from pipeline.ingest.sources import Source
from pipeline.progress import Progress
from storage.database.database import Store

NOW = int(datetime(2026, 4, 1, tzinfo=UTC).timestamp()) * 1_000_000
HEADER = "transaction_id,event_time,amount,card"
ROWS = ["a,2026-03-01T06:00:00Z,12.5,k1", "b,2026-03-02T06:00:00Z,-3,k1", "c,2026-03-03T06:00:00Z,0,"]


def micros(moment: str) -> int:
    """An ISO time as µs since 1970-01-01 UTC."""
    return round(datetime.fromisoformat(moment).timestamp() * 1_000_000)


def configured(
    key: str = "", labels: dict[str, Any] | None = None, form: dict[str, Any] | None = None, **schema: Any
) -> Config:
    """A config with this schema, [format] and hash key."""
    fields = {"entities": (), "categorical": (), "numeric": (), "kind": "", "original_id": ""} | schema
    config = Config.model_validate({"schema": fields, "labels": labels or {}, "format": form or {}})
    if key:
        config._secrets[HASH_KEY] = SecretStr(key)
    return config


CONFIG = configured(entities=("card",))


def rejected(store: Store, batch_id: int | None) -> dict[int, tuple[str, str]]:
    """Rejected rows of a batch: number → row, reason."""
    sql = text(
        "SELECT row_number, row, reason FROM rejected_rows WHERE batch_id = :batch ORDER BY row_number"
    )
    with store.read() as connection:
        rows = connection.execute(sql, {"batch": batch_id})
        return {row.row_number: (row.row, row.reason) for row in rows}


def run(
    store: Store,
    config: Config,
    sources: Source | list[Source],
    ingest: Callable[..., Iterator[IngestReport]] = ingest_transactions,
    now: int = NOW,
    progress: Progress | None = None,
    **options: Any,
) -> list[IngestReport]:
    """Ingest sources at a given moment."""
    listed = [sources] if isinstance(sources, Source) else sources
    return list(
        ingest(store, config, listed, clock=lambda: now, options=Options(**options), progress=progress)
    )


def file(tmp_path: Path, rows: list[str], header: str = HEADER, name: str = "t.csv") -> Source:
    """A CSV file of these rows."""
    path = tmp_path / name
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return Source(name, path)


def stream(text: str) -> Source:
    """The same from standard input."""
    return Source("standard input", stream=io.BytesIO(text.encode()))
