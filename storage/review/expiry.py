"""Open flags that nobody answers expire: they get no label, and leave the queue of reviewers."""

from sqlalchemy import func, select, tuple_, update

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
    some = old.limit(ROWS_A_WRITE)
    change = update(flags).where(tuple_(f.policy, f.transaction_id).in_(some))
    expired = 0
    while True:
        with store.write() as connection:
            n = connection.execute(change.values(status="expired", reviewed_at=as_of, reviewer=None)).rowcount
        expired += n
        if n < ROWS_A_WRITE:
            return expired
