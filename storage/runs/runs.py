"""Executions: who ran what, with which settings, and how it ended."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import insert, update

from storage.database.database import Store
from storage.database.tables import runs


def begin_run(store: Store, policy: str, kind: str, now: int, config_text: str, newest_batch: int) -> int:
    """Record that a run has begun; returns its id."""
    row = {
        "policy": policy,
        "kind": kind,
        "started_at": now,
        "status": "running",
        "newest_batch": newest_batch,
        "config": config_text,
    }
    with store.write() as connection:
        made = connection.execute(insert(runs), row)
    assert made.inserted_primary_key is not None
    return int(made.inserted_primary_key[0])


def end_run(
    store: Store, run_id: int, now: int, status: str, counts: Mapping[str, Any], error: str | None = None
) -> None:
    """Record how it ended."""
    values = {"finished_at": now, "status": status, "counts": dict(counts), "error": error}
    with store.write() as connection:
        connection.execute(update(runs).where(runs.c.run_id == run_id).values(values))
