"""
Messages that wait to be sent, and what became of each.

A message is written once for each receiver: its key is unique there, so facts may be looked at again and again. It is
`pending` until it is due, `sending` while somebody is at it, then `sent`, or `pending` again for the next try, or `failed`
after the last. `merged` ones were told by the subject in another, `dropped` ones had a receiver that is configured no more.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from storage.database import bulk
from storage.database.database import Store
from storage.database.tables import monitor, outbox, untold_flags
from storage.errors import Unknown

PERHAPS = "the process that was sending it ended before it could say so: it may have arrived already"


@dataclass(frozen=True)
class Message:
    """What one receiver is to be told."""

    key: str
    target: int  # place in notify.urls, from 1
    event: str
    subject: str
    body: str


@dataclass(frozen=True)
class Waiting:
    """A message in the outbox that is due."""

    message_id: int
    key: str
    event: str
    subject: str
    body: str
    attempts: int
    error: str | None


def told_since(store: Store, first: int) -> int:
    """From when on facts are told; `first` the first time that anybody is to be told of any."""
    with store.read() as connection:
        since: int | None = connection.scalar(select(monitor.c.notify_since))
    if since is None:
        with store.write() as connection:
            connection.execute(update(monitor).values(notify_since=first))
        return first
    return since


def put(store: Store, messages: Sequence[Message], now: int) -> int:
    """Add the messages whose keys are new to their receivers; returns how many were."""
    known = _known(store, messages)
    fresh = [one for one in messages if (one.key, one.target) not in known]
    if not fresh:
        return 0
    with store.write() as connection:
        return _add(connection, fresh, now)


def put_flags(store: Store, policy: str, ids: Sequence[str], messages: Sequence[Message], now: int) -> int:
    """
    Add a digest and take its flags off the queue, in one transaction: whoever takes them tells of them.

    Nothing is done when somebody else took some meanwhile; the next look finds the rest.
    """
    with store.write() as connection:
        with bulk.wanted(connection, ids) as stage:
            mine = untold_flags.c.transaction_id.in_(text(f"SELECT transaction_id FROM {stage}"))
            here = mine & (untold_flags.c.policy == policy)
            found = connection.scalar(select(func.count()).select_from(untold_flags).where(here))
            if found != len(ids):
                return 0
            connection.execute(delete(untold_flags).where(here))
        return _add(connection, messages, now)


def _known(store: Store, messages: Sequence[Message]) -> set[tuple[str, int]]:
    keys = sorted({one.key for one in messages})
    rows = select(outbox.c.key, outbox.c.target).where(outbox.c.key.in_(keys))
    with store.read() as connection:
        return {(row.key, row.target) for row in connection.execute(rows)}


def _add(connection: Connection, messages: Sequence[Message], now: int) -> int:
    make = postgres_insert if connection.dialect.name == "postgresql" else sqlite_insert
    rows = [
        asdict(one) | {"created_at": now, "due_at": now, "attempts": 0, "status": "pending"}
        for one in messages
    ]
    add = make(outbox).on_conflict_do_nothing().returning(outbox.c.message_id)
    return sum(connection.execute(add, row).scalar_one_or_none() is not None for row in rows)


def anything_due(store: Store, now: int) -> bool:
    """Whether a message may be sent now, or was being sent; costs nothing when none waits."""
    o = outbox.c
    rows = select(o.message_id).where(_open(), (o.status == "sending") | (o.due_at <= now))
    with store.read() as connection:
        return connection.scalar(rows.limit(1)) is not None


def _open() -> Any:
    return outbox.c.status.in_(("pending", "sending"))


def recover(store: Store) -> int:
    """Give back what somebody was sending who is no more: only the holder of the lease may say so."""
    left = outbox.c.status == "sending"
    with store.write() as connection:
        return connection.execute(update(outbox).where(left).values(status="pending", error=PERHAPS)).rowcount


def drop_others(store: Store, targets: Sequence[int]) -> int:
    """Give up what waits for receivers that are configured no more."""
    gone = _open() & outbox.c.target.not_in(list(targets))
    said = "notify.urls has no URL in this place any more"
    with store.write() as connection:
        return connection.execute(update(outbox).where(gone).values(status="dropped", error=said)).rowcount


def due(store: Store, target: int, now: int) -> list[Waiting]:
    """What a receiver may be told now, in the order it was written."""
    o = outbox.c
    rows = select(o.message_id, o.key, o.event, o.subject, o.body, o.attempts, o.error)
    mine = rows.where(o.status == "pending", o.target == target, o.due_at <= now)
    with store.read() as connection:
        return [Waiting(**row) for row in connection.execute(mine.order_by(o.message_id)).mappings()]


def sent_since(store: Store, target: int, since: int) -> int:
    """How many messages a receiver was sent after an instant."""
    o = outbox.c
    mine = (o.status == "sent") & (o.target == target) & (o.sent_at > since)
    with store.read() as connection:
        return int(connection.scalar(select(func.count()).select_from(outbox).where(mine)) or 0)


def merge(store: Store, into: Message, members: Sequence[Waiting], now: int) -> Waiting:
    """Put one message in the place of several, in one transaction."""
    row = asdict(into) | {"created_at": now, "due_at": now, "attempts": 0, "status": "pending"}
    with store.write() as connection:
        made = connection.execute(insert(outbox), row)
        assert made.inserted_primary_key is not None
        number = int(made.inserted_primary_key[0])
        theirs = outbox.c.message_id.in_([one.message_id for one in members])
        connection.execute(update(outbox).where(theirs).values(status="merged", merged_into=number))
    return Waiting(number, into.key, into.event, into.subject, into.body, 0, None)


def claim(store: Store, message: Waiting) -> None:
    """Say that a message is being sent, before it is: whoever finds it so later knows that it may have arrived."""
    _set(store, message, status="sending", attempts=message.attempts + 1)


def sent(store: Store, message: Waiting, now: int) -> None:
    """Say that it has arrived."""
    _set(store, message, status="sent", sent_at=now, error=None)


def failed(store: Store, message: Waiting, error: str, again: int | None) -> None:
    """Say why it has not, and when it is tried again: never without an instant."""
    after = {"status": "failed"} if again is None else {"status": "pending", "due_at": again}
    _set(store, message, error=error, **after)


def _set(store: Store, message: Waiting, **values: Any) -> None:
    this = outbox.c.message_id == message.message_id
    with store.write() as connection:
        connection.execute(update(outbox).where(this).values(values))


def retry(store: Store, now: int) -> int:
    """Let everything that failed be tried again from the beginning; returns how many there were."""
    again = {"status": "pending", "attempts": 0, "due_at": now}
    with store.write() as connection:
        return connection.execute(update(outbox).where(outbox.c.status == "failed").values(again)).rowcount


def counts(store: Store) -> Mapping[str, int]:
    """How many messages there are in each state."""
    rows = select(outbox.c.status, func.count()).group_by(outbox.c.status)
    with store.read() as connection:
        return {str(row[0]): int(row[1]) for row in connection.execute(rows)}


def listing(store: Store, limit: int, *, only_open: bool = False) -> Iterator[dict[str, Any]]:
    """Messages, the newest first, without their bodies; with `only_open` those that wait or failed."""
    columns = [column for column in outbox.c if column.name != "body"]
    rows = select(*columns).order_by(outbox.c.message_id.desc()).limit(limit)
    if only_open:
        rows = rows.where(outbox.c.status.in_(("pending", "sending", "failed")))
    with store.read() as connection:
        found = connection.execute(rows).mappings().all()
    return (dict(row) for row in found)


def message(store: Store, message_id: int) -> dict[str, Any]:
    """
    One message, whole.

    Raises
    ------
    Unknown
        There is none of that number.
    """
    with store.read() as connection:
        row = (
            connection.execute(select(outbox).where(outbox.c.message_id == message_id))
            .mappings()
            .one_or_none()
        )
    if row is None:
        raise Unknown(f"there is no message {message_id}: fraudwatch notify lists them")
    return dict(row)
