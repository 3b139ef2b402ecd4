"""Runs: kind, settings, status and counts of every execution."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import insert, update

from storage.database.database import Store
from storage.database.tables import runs
from storage.review.audit_trail import write_audit
from storage.runs import workers


def begin_run(
    store: Store,
    policy: str,
    kind: str,
    now: int,
    config_text: str,
    newest_batch: int,
    worker: str | None = None,
) -> int:
    """Add a run with status `running`; returns its id. Runs whose worker is gone are interrupted ones from now on."""
    row = {
        "policy": policy,
        "kind": kind,
        "started_at": now,
        "status": "running",
        "newest_batch": newest_batch,
        "config": config_text,
        "worker": worker,
    }
    with store.write_exclusive() as connection:
        workers.interrupt_abandoned(connection)
        inserted = connection.execute(insert(runs), row)
    assert inserted.inserted_primary_key is not None
    return int(inserted.inserted_primary_key[0])


def end_run(
    store: Store, run_id: int, now: int, status: str, counts: Mapping[str, Any], error: str | None = None
) -> None:
    """Write the status, counts and error of a run that has ended."""
    values = {"finished_at": now, "status": status, "counts": dict(counts), "error": error}
    with store.write() as connection:
        connection.execute(update(runs).where(runs.c.run_id == run_id).values(values))


def write_start(store: Store, kind: str, settings: Mapping[str, Any], by: str, now: int) -> None:
    """Write into the audit trail that somebody starts a run, a backfill, a training or a comparison."""
    with store.write_exclusive() as connection:
        write_audit(connection, by, f"start {kind}", kind, None, dict(settings), now)
