"""Open flags that nobody answers expire: they get no label, and leave the queue of reviewers."""

from sqlalchemy import bindparam, func, select, update

from storage.database.cases import lock_cases, refresh_cases
from storage.database.database import Store
from storage.database.tables import flags

ROWS_A_WRITE = 5_000


def expire_flags(store: Store, before: int, as_of: int, *, dry: bool = False) -> int:
    """
    Let open flags, muted or not, on payments that happened before an instant (µs) expire; returns their number.

    A label that arrives later gives an expired flag its status all the same.

    Parameters
    ----------
    as_of
        µs; the instant from which on they are expired.
    dry
        Count only.
    """
    f, t = flags.c, store.transactions.c
    old = (
        select(f.policy, f.transaction_id)
        .join(store.transactions, t.transaction_id == f.transaction_id)
        .where(f.status == "open", t.event_time < before)
    )
    if dry:
        with store.read() as connection:
            return int(connection.scalar(select(func.count()).select_from(old.subquery())) or 0)
    change = update(flags).values(status="expired", reviewed_at=as_of, reviewer=None)
    expired = 0
    while True:
        with store.write() as connection:
            lock_cases(connection)
            some = [tuple(row) for row in connection.execute(old.limit(ROWS_A_WRITE))]
            if some:
                mine = (f.policy == bindparam("of")) & (f.transaction_id == bindparam("id"))
                connection.execute(change.where(mine), [{"of": policy, "id": name} for policy, name in some])
                refresh_cases(connection, {name for _, name in some})
        expired += len(some)
        if len(some) < ROWS_A_WRITE:
            return expired
