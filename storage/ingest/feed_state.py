"""How far polled queries have been read, and which files of watched folders have been ingested."""

from dataclasses import asdict, dataclass

from sqlalchemy import func, insert, select

from storage.database.database import Store
from storage.database.tables import batches, source_cursors, watched_files


@dataclass(frozen=True)
class WatchedFile:
    """A file of a watched folder, as it was when it was ingested (done) or refused (failed)."""

    path: str
    size: int
    modified_ns: int
    status: str  # done or failed
    processed_at: int
    batch_id: int | None = None
    error: str | None = None
    config_hash: str | None = None  # of the settings that it was read by


def cursor(store: Store, source: str) -> int | None:
    """The newest cursor value read from a source, in µs."""
    with store.read() as connection:
        result = connection.scalar(select(source_cursors.c.cursor).where(source_cursors.c.source == source))
    return None if result is None else int(result)


def save_cursor(store: Store, source: str, newest: int, now: int, batch_id: int | None) -> None:
    """Store how far a source has been read; the cursor never goes back."""
    with store.write() as connection:
        mine = source_cursors.c.source == source
        before = connection.scalar(select(source_cursors.c.cursor).where(mine))
        newest = newest if before is None else max(newest, int(before))
        connection.execute(source_cursors.delete().where(mine))
        row = {"source": source, "cursor": str(newest), "read_at": now, "batch_id": batch_id}
        connection.execute(insert(source_cursors), row)


def files(store: Store, source: str) -> dict[str, WatchedFile]:
    """The files of a watched folder that have been ingested or refused, by path."""
    f = watched_files.c
    rows = select(f.path, f.size, f.modified_ns, f.status, f.processed_at, f.batch_id, f.error, f.config_hash)
    with store.read() as connection:
        result = connection.execute(rows.where(f.source == source)).mappings()
        return {row["path"]: WatchedFile(**row) for row in result}


def save_file(store: Store, source: str, file: WatchedFile) -> None:
    """Store the state of a file; it replaces the earlier one."""
    with store.write() as connection:
        same = (watched_files.c.source == source) & (watched_files.c.path == file.path)
        connection.execute(watched_files.delete().where(same))
        connection.execute(insert(watched_files), asdict(file) | {"source": source})


def newest_labels(store: Store) -> int | None:
    """The instant at which the newest batch of labels became visible."""
    done = (batches.c.kind == "labels") & (batches.c.status == "done")
    with store.read() as connection:
        result: int | None = connection.scalar(select(func.max(batches.c.visible_at)).where(done))
    return result
