"""
Rows whose id is known: the same content is a duplicate, another one a revision.

A row is compared with every stored version of its id, not with the newest alone: a file that is delivered
again, after a later one has been loaded, must not undo it.
"""

from sqlalchemy import ColumnElement, Connection, Select, Table, and_, exists, func, insert, not_, select

from storage import bulk
from storage.bulk import ORDER, Rows
from storage.store import Store

# Whether a row is the same is decided by what its source says; `amount_base` also depends on the rates.
CONTENT = ("event_time", "amount", "currency", "kind", "original_id")


def staged(connection: Connection, rows: Rows) -> Table:
    """The staging table of rows that were just inserted: on Postgres it is there already."""
    if connection.dialect.name == "postgresql":
        return bulk.stage_of(rows)
    return bulk.fill_stage(connection, rows)


def revise(connection: Connection, store: Store, stage: Table) -> int:
    """
    Keep those staged rows that differ from every version of their id as revisions, in their order.

    Returns
    -------
    How many there were. The other rows are new, and then equal to what was just stored, or duplicates.
    """
    told = [name for name in stage.c.keys() if name not in ("transaction_id", ORDER)]  # noqa: SIM118
    content = [name for name in told if name in CONTENT or name in store.fields.names]
    different = _first_of_each_content(store, stage, content).subquery()
    newest = (
        select(func.coalesce(func.max(store.revisions.c.revision), 0))
        .where(store.revisions.c.transaction_id == different.c.transaction_id)
        .scalar_subquery()
    )
    place = func.row_number().over(partition_by=different.c.transaction_id, order_by=different.c[ORDER])
    chosen = select(
        different.c.transaction_id, (newest + place).label("revision"), *(different.c[name] for name in told)
    ).where(different.c.copy == 1)
    made = insert(store.revisions).from_select(["transaction_id", "revision", *told], chosen)
    return connection.execute(made, execution_options={"preserve_rowcount": True}).rowcount


def _first_of_each_content(store: Store, stage: Table, content: list[str]) -> Select[tuple[object, ...]]:
    """Staged rows that are no stored version; `copy` counts those of one id and content among themselves."""
    first, later = store.transactions, store.revisions
    known = exists().where(later.c.transaction_id == stage.c.transaction_id, _same(later, stage, content))
    copy = func.row_number().over(
        partition_by=[stage.c[name] for name in ("transaction_id", *content)], order_by=stage.c[ORDER]
    )
    return (
        select(*stage.c, copy.label("copy"))
        .join(first, first.c.transaction_id == stage.c.transaction_id)
        .where(not_(_same(first, stage, content)), not_(known))
    )


def _same(stored: Table, stage: Table, content: list[str]) -> ColumnElement[bool]:
    return and_(*(stored.c[name].is_not_distinct_from(stage.c[name]) for name in content))
