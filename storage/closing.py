"""Close flags by labels: the same rule whether the label or the flag came first."""

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, Row, Select, bindparam, case, exists, func, or_, select, update

from storage import bulk
from storage.schema import BY, batches, flags, label_precedence, labels

UNLISTED = 1_000_000  # rank of a source that labels.precedence does not name: after all that it does


def close_flags(connection: Connection, ids: Iterable[str]) -> None:
    """
    Give the flags of these transactions, of every policy, the status of their current label.

    An older answer gives way: a chargeback that follows a reviewer's "genuine" only wins if its source ranks
    higher. Flags without a label stay as they are.
    """
    listed = list(ids)
    if not listed:
        return
    found = connection.execute(_ranked(connection, listed)).all()
    current = {row.transaction_id: row for row in reversed(found)}  # the first of each wins
    if current:
        statement = update(flags).where(flags.c.transaction_id == bindparam("of_id"))
        connection.execute(statement, [_closing(row) for _, row in sorted(current.items())])


def close_flags_of_batch(connection: Connection, batch_id: int) -> None:
    """Close what a batch of labels speaks of."""
    spoken_of = exists().where(
        labels.c.transaction_id == flags.c.transaction_id, labels.c.batch_id == batch_id
    )
    close_flags(connection, connection.scalars(select(flags.c.transaction_id).where(spoken_of).distinct()))


def rank_sources(connection: Connection, precedence: Sequence[str]) -> None:
    """Store which source wins, for the views and for everything else that asks: there is one rule only."""
    c = label_precedence.c
    stored = connection.scalars(select(c.source).order_by(c.place)).all()
    if list(stored) != list(precedence):
        connection.execute(label_precedence.delete())
        rows = [{"source": source, "place": place} for place, source in enumerate(precedence)]
        if rows:
            connection.execute(label_precedence.insert(), rows)


def _closing(row: Row[tuple[object, ...]]) -> dict[str, object]:
    return {
        "of_id": row.transaction_id,
        "status": "fraud" if row.is_fraud else "genuine",
        "reviewer": row.reviewer,
        "reviewed_at": max(row.known_at, row.recorded_at),
    }


def _ranked(connection: Connection, ids: list[str]) -> Select[tuple[object, ...]]:
    """Visible labels of these transactions, the current one of each first; the view's order."""
    recorded_at = case(
        (labels.c.batch_id.is_(None), labels.c.recorded_at),
        (batches.c.history, labels.c.known_at),
        else_=batches.c.visible_at,
    )
    # A person answers by name; of a file it matters which source spoke.
    reviewer = case((labels.c.batch_id.is_(None), labels.c[BY]), else_=labels.c.source)
    rank = func.coalesce(label_precedence.c.place, UNLISTED)
    return (
        select(
            labels.c.transaction_id,
            labels.c.is_fraud,
            labels.c.known_at,
            recorded_at.label("recorded_at"),
            reviewer.label("reviewer"),
        )
        .outerjoin(batches, batches.c.batch_id == labels.c.batch_id)
        .outerjoin(label_precedence, label_precedence.c.source == labels.c.source)
        .where(bulk.among(connection, labels.c.transaction_id, ids))
        .where(or_(labels.c.batch_id.is_(None), batches.c.status == "done"))
        .order_by(labels.c.transaction_id, rank, labels.c.known_at.desc(), labels.c.label_id.desc())
    )
