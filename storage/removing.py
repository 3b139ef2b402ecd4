"""Take back a batch that never became visible."""

from sqlalchemy import Select, column, delete, exists, select, table

from storage.schema import batches, unscored
from storage.store import Store

ROWS_AT_ONCE = 20_000  # on SQLite, whose writers wait for each other: well under a second
TABLES = ("transactions", "revisions", "labels", "rejected_rows")


def remove_interrupted(store: Store) -> None:
    """Remove what an ingest that was killed left behind; the caller holds the lease on ingests."""
    with store.read() as connection:
        left = connection.scalars(select(batches.c.batch_id).where(batches.c.status == "loading")).all()
    for batch_id in left:
        remove(store, batch_id)


def remove(store: Store, batch_id: int) -> None:
    """Remove a batch's rows, then the batch: interrupted, this too is finished by the next ingest."""
    t = store.transactions.c
    mine = exists().where(t.transaction_id == unscored.c.transaction_id, t.batch_id == batch_id)
    with store.write() as connection:
        connection.execute(delete(unscored).where(mine))
    for name in TABLES:
        _remove_rows(store, name, batch_id)
    with store.write() as connection:
        connection.execute(delete(batches).where(batches.c.batch_id == batch_id))


def _remove_rows(store: Store, name: str, batch_id: int) -> None:
    rows = table(name, column("batch_id"), column("rowid"))
    mine = rows.c.batch_id == batch_id
    if store.dialect == "postgresql":
        with store.write() as connection:
            connection.execute(delete(rows).where(mine))
        return
    # Newest first, where they are; they are looked for outside of the write, which holds up other writers.
    some = select(rows.c.rowid).where(mine).order_by(rows.c.rowid.desc()).limit(ROWS_AT_ONCE)
    while places := _places(store, some):
        with store.write() as connection:
            connection.execute(delete(rows).where(mine, rows.c.rowid.between(places[-1], places[0])))


def _places(store: Store, some: Select[int]) -> list[int]:
    with store.read() as connection:
        return list(connection.scalars(some))
