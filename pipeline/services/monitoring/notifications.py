"""Messages to people: what is in the outbox, sending what is due, and testing the receivers."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pipeline.config.config import Config
from pipeline.errors import ConfigError
from pipeline.notifications import deliver, webhooks
from pipeline.notifications.deliver import Delivery
from pipeline.notifications.receivers import receivers
from pipeline.schedule.run_context import never_stop
from pipeline.services.pages import PAGE_ROWS, Page, decode_cursor, encode_cursor
from pipeline.services.records import as_record
from pipeline.services.session import Session
from storage.notifications import outbox
from storage.notifications.events import Event


@dataclass(frozen=True)
class QueuedMessage:
    """A message to one receiver, without its body."""

    message_id: int
    created_at: datetime
    event: Event
    subject: str
    receiver: (
        str  # its position in notify.urls and the service, or the name of a webhook; holds no part of the URL
    )
    status: Literal["pending", "sending", "sent", "failed", "merged", "dropped"]
    attempts: int
    due_at: datetime
    sent_at: datetime | None
    error: str | None  # why the last attempt failed


@dataclass(frozen=True)
class FullMessage(QueuedMessage):
    """A message with its body."""

    key: str  # identifies the event: a receiver gets each once
    body: str
    merged_into: int | None  # the message that was sent instead


@dataclass(frozen=True)
class ReceiverTest:
    """Whether a test message reached a receiver."""

    position: int | None  # in notify.urls, from 1; None for a webhook
    name: str  # holds no part of the URL
    error: str | None  # why it did not arrive


def list_messages(
    session: Session, waiting: bool = False, *, limit: int = PAGE_ROWS, cursor: str | None = None
) -> Page[QueuedMessage]:
    """Messages, newest first; with `waiting` only those that are waiting or failed."""
    page = outbox.page(session.store, limit, decode_cursor(cursor, 1), waiting=waiting)
    names = _receiver_names(session.config)
    rows = tuple(as_record(QueuedMessage, row, receiver=names.get(row["target"])) for row in page.rows)
    return Page(rows, encode_cursor(page.next_position))


def show_message(session: Session, message_id: int) -> FullMessage:
    """
    One message in full.

    Raises
    ------
    Unknown
        There is no message of that number.
    """
    row = outbox.message(session.store, message_id)
    return as_record(FullMessage, row, receiver=_receiver_names(session.config).get(row["target"]))


def _receiver_names(config: Config) -> Mapping[int, str]:
    """Names of the configured receivers by their number in the outbox."""
    people = {receiver.position: receiver.display_name for receiver in receivers(config)}
    return people | webhooks.display_names(config)


def send_messages(
    session: Session, *, retry: bool = False, stopping: Callable[[], bool] = never_stop
) -> Delivery:
    """
    Queue messages for new events and send those that are due; with `retry` also those that have no attempts left.

    Raises
    ------
    ConfigError
        Apprise is not installed.
    """
    if retry:
        outbox.retry(session.store, session.now)
    return deliver.send_notifications(
        session.store, session.config, clock=session.clock, by=session.actor, stopping=stopping
    )


def send_events(session: Session, *, stopping: Callable[[], bool] = never_stop) -> Delivery:
    """
    Queue events for webhooks and send those that are due; nothing without webhooks.

    Raises
    ------
    ConfigError
        A secret of a webhook is missing or none.
    """
    return deliver.send_to_programs(
        session.store, session.config, clock=session.clock, by=session.actor, stopping=stopping
    )


def test_receivers(session: Session) -> Iterator[ReceiverTest]:
    """
    Send a test message to each receiver and each webhook, one after the other.

    Raises
    ------
    ConfigError
        There is no receiver, or Apprise is not installed.
    """
    if not session.config.notifies:
        raise ConfigError(
            "notify.urls is empty, and there is no [webhook.NAME]",
            remedy="set FRAUDWATCH_NOTIFY__URLS='[\"mailtos://…\"]' or notify.urls_file",
            code="no_receiver",
        )
    for receiver in receivers(session.config):
        error = deliver.send_test_message(receiver, session.config)
        yield ReceiverTest(receiver.position, receiver.display_name, error)
    for webhook in webhooks.webhooks(session.config):
        yield ReceiverTest(None, f"webhook {webhook.name}", webhooks.send_test(webhook, session.now))
