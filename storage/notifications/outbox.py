"""
The outbox: notifications to send, and the state of each.

A message is written once per receiver, since its key is unique there; looking for events again writes nothing twice. It is
`pending` until it is sent, `sending` while a process sends it, then `sent`, or `pending` again for the next attempt, or
`failed` after the last one. A `merged` message was replaced by one that lists several subjects; a `dropped` message had a
receiver that is no longer configured.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from storage.database import bulk
from storage.database.database import Store
from storage.database.tables import flag_notifications_pending, monitor, outbox
from storage.errors import Unknown
from storage.queries.rows import Position, Row, RowPage, SortKey, fetch_page, read_rows

KEYS_AT_ONCE = 1_000  # that one query looks up
MAY_HAVE_ARRIVED = (
    "the process that was sending it ended before it recorded the result: it may have arrived already"
)


@dataclass(frozen=True)
class Message:
    """A message to one receiver."""

    key: str
    target: int  # position in notify.urls, from 1; of a webhook a number below 0, made from its name
    event: str
    subject: str
    body: str


@dataclass(frozen=True)
class DueMessage:
    """A message in the outbox that is due."""

    message_id: int
    key: str
    event: str
    subject: str
    body: str
    attempts: int
    error: str | None


def notify_since(store: Store, first: int) -> int:
    """The instant from which runs are notified; `first` is stored at the first call and returned from then on."""
    with store.read() as connection:
        since: int | None = connection.scalar(select(monitor.c.notify_since))
    if since is None:
        with store.write() as connection:
            connection.execute(update(monitor).values(notify_since=first))
        return first
    return since


def add_messages(store: Store, messages: Sequence[Message], now: int) -> int:
    """Add the messages whose keys are new to their receivers; returns their number."""
    existing = _existing_keys(store, messages)
    fresh = [message for message in messages if (message.key, message.target) not in existing]
    if not fresh:
        return 0
    with store.write() as connection:
        return _add(connection, fresh, now)


def add_digest(store: Store, policy: str, ids: Sequence[str], messages: Sequence[Message], now: int) -> int:
    """
    Add a digest and remove its flags from `flag_notifications_pending`, in one transaction.

    Nothing is written if another process has taken some of the flags meanwhile; the next call finds the rest.
    """
    with store.write() as connection:
        with bulk.staged_ids(connection, ids) as stage:
            mine = flag_notifications_pending.c.transaction_id.in_(
                text(f"SELECT transaction_id FROM {stage}")
            )
            here = mine & (flag_notifications_pending.c.policy == policy)
            waiting = select(func.count()).select_from(flag_notifications_pending).where(here)
            if connection.scalar(waiting) != len(ids):
                return 0
            connection.execute(delete(flag_notifications_pending).where(here))
        return _add(connection, messages, now)


def _existing_keys(store: Store, messages: Sequence[Message]) -> set[tuple[str, int]]:
    keys = sorted({message.key for message in messages})
    found = set[tuple[str, int]]()
    with store.read() as connection:
        for start in range(0, len(keys), KEYS_AT_ONCE):
            some = outbox.c.key.in_(keys[start : start + KEYS_AT_ONCE])
            found |= {
                (row.key, row.target)
                for row in connection.execute(select(outbox.c.key, outbox.c.target).where(some))
            }
    return found


def _add(connection: Connection, messages: Sequence[Message], now: int) -> int:
    make = postgres_insert if connection.dialect.name == "postgresql" else sqlite_insert
    rows = [
        asdict(message) | {"created_at": now, "due_at": now, "attempts": 0, "status": "pending"}
        for message in messages
    ]
    add = make(outbox).on_conflict_do_nothing().returning(outbox.c.message_id)
    return sum(connection.execute(add, row).scalar_one_or_none() is not None for row in rows)


def anything_due(store: Store, now: int) -> bool:
    """Whether a message is due, or was left in `sending`; cheap when there is none."""
    o = outbox.c
    rows = select(o.message_id).where(_open(), (o.status == "sending") | (o.due_at <= now))
    with store.read() as connection:
        return connection.scalar(rows.limit(1)) is not None


def _open() -> Any:
    return outbox.c.status.in_(("pending", "sending"))


def recover(store: Store) -> int:
    """Set messages of a dead process from `sending` to `pending`; call it only while holding the lease."""
    left = outbox.c.status == "sending"
    with store.write() as connection:
        return connection.execute(
            update(outbox).where(left).values(status="pending", error=MAY_HAVE_ARRIVED)
        ).rowcount


def drop_others(store: Store, targets: Sequence[int]) -> int:
    """Drop messages to receivers that are no longer configured."""
    gone = _open() & outbox.c.target.not_in(list(targets))
    error = "this receiver is no longer configured"
    with store.write() as connection:
        return connection.execute(update(outbox).where(gone).values(status="dropped", error=error)).rowcount


def due(store: Store, target: int, now: int) -> list[DueMessage]:
    """The messages to a receiver that are due, oldest first."""
    o = outbox.c
    rows = select(o.message_id, o.key, o.event, o.subject, o.body, o.attempts, o.error)
    mine = rows.where(o.status == "pending", o.target == target, o.due_at <= now)
    with store.read() as connection:
        return [DueMessage(**row) for row in connection.execute(mine.order_by(o.message_id)).mappings()]


def sent_since(store: Store, target: int, since: int) -> int:
    """Number of messages that were sent to a receiver after an instant."""
    o = outbox.c
    mine = (o.status == "sent") & (o.target == target) & (o.sent_at > since)
    with store.read() as connection:
        return int(connection.scalar(select(func.count()).select_from(outbox).where(mine)) or 0)


def merge(store: Store, into: Message, members: Sequence[DueMessage], now: int) -> DueMessage:
    """Replace several messages by one, in one transaction."""
    row = asdict(into) | {"created_at": now, "due_at": now, "attempts": 0, "status": "pending"}
    with store.write() as connection:
        inserted = connection.execute(insert(outbox), row)
        assert inserted.inserted_primary_key is not None
        number = int(inserted.inserted_primary_key[0])
        theirs = outbox.c.message_id.in_([member.message_id for member in members])
        connection.execute(update(outbox).where(theirs).values(status="merged", merged_into=number))
    return DueMessage(number, into.key, into.event, into.subject, into.body, 0, None)


def claim(store: Store, message: DueMessage) -> None:
    """Set a message to `sending` before it is sent; one that stays so may have arrived."""
    _set(store, message, status="sending", attempts=message.attempts + 1)


def sent(store: Store, message: DueMessage, now: int) -> None:
    """Set a message to `sent`."""
    _set(store, message, status="sent", sent_at=now, error=None)


def failed(store: Store, message: DueMessage, error: str, again: int | None) -> None:
    """Store the error of a message, and when it is sent again; with `again` None it has failed for good."""
    after = {"status": "failed"} if again is None else {"status": "pending", "due_at": again}
    _set(store, message, error=error, **after)


def _set(store: Store, message: DueMessage, **values: Any) -> None:
    matching = outbox.c.message_id == message.message_id
    with store.write() as connection:
        connection.execute(update(outbox).where(matching).values(values))


def retry(store: Store, now: int) -> int:
    """Set all failed messages to `pending`, with no attempts; returns their number."""
    again = {"status": "pending", "attempts": 0, "due_at": now}
    with store.write() as connection:
        return connection.execute(update(outbox).where(outbox.c.status == "failed").values(again)).rowcount


def counts(store: Store) -> Mapping[str, int]:
    """Number of messages by status."""
    rows = select(outbox.c.status, func.count()).group_by(outbox.c.status)
    with store.read() as connection:
        return {str(row[0]): int(row[1]) for row in connection.execute(rows)}


def page(store: Store, limit: int, after: Position | None = None, *, waiting: bool = False) -> RowPage:
    """Messages without their bodies, newest first; with `waiting` only those that are waiting or failed."""
    rows = select(*(column for column in outbox.c if column.name != "body"))
    if waiting:
        rows = rows.where(outbox.c.status.in_(("pending", "sending", "failed")))
    return fetch_page(store, rows, [SortKey(outbox.c.message_id, descending=True)], limit, after)


def message(store: Store, message_id: int) -> Row:
    """
    One message with its body.

    Raises
    ------
    Unknown
        There is no message of that number.
    """
    rows = read_rows(store, select(outbox).where(outbox.c.message_id == message_id))
    if not rows:
        raise Unknown(f"there is no message {message_id}", code="unknown_message")
    return rows[0]
