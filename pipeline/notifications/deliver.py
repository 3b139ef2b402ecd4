"""
Queue notification messages and deliver them.

    queue_messages   new events → the outbox; a key makes each idempotent
    deliver          the outbox → the services, under a lease, with retries, quiet hours and an hourly limit

The two share only the outbox, so a crash loses nothing: events are checked again for a week, and a receiver gets each
key once. A message arrives twice only if the process dies after sending it and before recording that; the second one
says so. Recording first could lose a message instead.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from zoneinfo import ZoneInfo

from pipeline.config.config import Config
from pipeline.notifications import apprise_transport, messages
from pipeline.notifications.messages import Notification
from pipeline.notifications.receivers import Receiver, receivers
from pipeline.schedule.run_context import NOTIFYING_KINDS, never_stop
from storage.database import leases
from storage.database.database import Store
from storage.errors import Busy
from storage.frames import DAY, HOUR, SECOND
from storage.notifications import events as event_queries
from storage.notifications import outbox
from storage.notifications.events import EventWindow
from storage.notifications.outbox import DueMessage, Message

FIRST_LOOKBACK = DAY  # how far back the first run looks for events
EVENT_AGE_MAX = 7 * DAY  # events of runs that started earlier are not sent any more
LEASE = 120 * SECOND  # renewed while messages are sent; a killed sender blocks others this long
RETRY_PAUSE_MAX = HOUR
DUPLICATE_NOTICE = (
    "This message may have arrived before: the process that sent it ended before it could record that.\n\n"
)


@dataclass(frozen=True)
class Delivery:
    """The result for the messages that were due."""

    sent: int = 0
    failed: int = 0  # retried later, unless no attempts are left
    deferred: int = 0  # by quiet hours or the hourly limit
    errors: tuple[str, ...] = ()

    def plus(self, other: "Delivery") -> "Delivery":
        """The sum of both."""
        return Delivery(
            self.sent + other.sent,
            self.failed + other.failed,
            self.deferred + other.deferred,
            self.errors + other.errors,
        )

    def sentence(self) -> str:
        """The result as one sentence."""
        parts = [f"{self.sent:,} message{'' if self.sent == 1 else 's'} sent"]
        if self.deferred:
            parts.append(f"{self.deferred:,} deferred")
        if self.failed:
            parts.append(f"{self.failed:,} could not be sent: {'; '.join(self.errors)}")
        return ", ".join(parts)


def send_notifications(
    store: Store,
    config: Config,
    policy: str,
    *,
    clock: Callable[[], int],
    by: str,
    stopping: Callable[[], bool] = never_stop,
) -> Delivery:
    """
    Queue messages for new events and send everything that is due, retries included; does nothing without receivers.

    Raises
    ------
    ConfigError
        Apprise is not installed.
    """
    if not config.notify.enabled:
        return Delivery()
    apprise_transport.require_apprise(config)
    queue_messages(store, config, policy, clock())
    return deliver(store, config, clock=clock, by=by, stopping=stopping)


def queue_messages(store: Store, config: Config, policy: str, now: int) -> int:
    """Write a message per new event and receiver to the outbox; returns how many."""
    since = max(outbox.notify_since(store, now - FIRST_LOOKBACK), now - EVENT_AGE_MAX)
    window = EventWindow(policy, NOTIFYING_KINDS, since)
    queued = [
        message
        for notification in _notifications(store, config, window)
        for message in _messages_for_receivers(notification, config)
    ]
    return outbox.add_messages(store, queued, now) + _queue_flag_messages(store, config, policy, now)


def _notifications(store: Store, config: Config, window: EventWindow) -> Iterator[Notification]:
    """Notifications of all events but flags; the outbox drops those that were queued before."""
    for row in event_queries.new_promotions(store, window):
        yield messages.model_promoted(window.policy, row)
    if not event_queries.any_run(store, window):
        return
    for row in event_queries.failed_steps(store, window):
        yield messages.step_failed(row)
    for row in event_queries.failed_runs(store, window):
        yield messages.run_failed(window.policy, row)
    for row in event_queries.rejected_candidates(store, window):
        yield messages.candidate_rejected(row)
    for row in event_queries.new_choices(store, window):
        if row["before"] not in (None, row["strategy"]):
            yield messages.choice_changed(row)
    yield from _alarms(store, config, window)


def _alarms(store: Store, config: Config, events: EventWindow) -> Iterator[Notification]:
    def window(row: event_queries.Row) -> tuple[int, int]:
        return row["window_start"], row["window_end"]

    for (start, _), rows in groupby(sorted(event_queries.drift(store, events), key=window), window):
        notification = messages.drift_alarm(
            list(rows), event_queries.drift_before(store, events.policy, start)
        )
        if notification is not None:
            yield notification
    for _, rows in groupby(sorted(event_queries.quality(store, events), key=window), window):
        yield messages.quality_alarm(list(rows), config.schema_.base_currency)


def _queue_flag_messages(store: Store, config: Config, policy: str, now: int) -> int:
    """Queue digests of flags until none is pending: one digest, unless a first run flagged thousands."""
    written = 0
    while ids := event_queries.pending_flags(store, policy):
        rows = event_queries.flags(store, policy, ids)
        digests = (
            _messages_for_receivers(messages.flags_digest(policy, ids, rows, config), config) if rows else []
        )
        added = outbox.add_digest(store, policy, ids, digests, now)
        written += added
        if added < len(digests):
            break  # another process is queueing them, too
    return written


def _messages_for_receivers(notification: Notification, config: Config) -> list[Message]:
    rendered = messages.render(notification, config)
    return [
        Message(rendered.key, receiver.position, rendered.event, rendered.subject, rendered.body)
        for receiver in receivers(config)
        if rendered.event in receiver.events
    ]


def deliver(
    store: Store,
    config: Config,
    *,
    clock: Callable[[], int],
    by: str,
    stopping: Callable[[], bool] = never_stop,
) -> Delivery:
    """Send the messages that are due, unless another process is sending them."""
    if not outbox.anything_due(store, clock()):
        return Delivery()
    delivery = Delivery()
    try:
        with leases.hold(store, "notify", by, LEASE):
            outbox.recover(store)
            outbox.drop_others(store, [receiver.position for receiver in receivers(config)])
            for receiver in receivers(config):
                delivery = delivery.plus(_deliver_to(receiver, store, config, clock, stopping))
    except Busy:
        return delivery  # the other process sends everything that is in the outbox
    return delivery


def _deliver_to(
    receiver: Receiver, store: Store, config: Config, clock: Callable[[], int], stopping: Callable[[], bool]
) -> Delivery:
    """Send the messages of one receiver; after a failure its remaining messages wait for the next delivery."""
    waiting = outbox.due(store, receiver.position, clock())
    sendable = _sendable(store, config, receiver, waiting, clock())
    delivery = Delivery(deferred=len(waiting) - sum(len(members) for members in sendable))
    for members in sendable:
        if stopping():
            break
        message = members[0] if len(members) == 1 else _merge(store, config, receiver, members, clock())
        error = _send(store, config, receiver, message, clock)
        if error is not None:
            return delivery.plus(Delivery(failed=1, errors=(error,)))
        delivery = delivery.plus(Delivery(sent=1))
    return delivery


def _sendable(
    store: Store, config: Config, receiver: Receiver, waiting: Sequence[DueMessage], now: int
) -> list[list[DueMessage]]:
    """Messages that may be sent now, urgent ones first; above the hourly limit the last ones are merged into one."""
    allowed = [
        message for message in waiting if message.event in config.notify.urgent or not is_quiet(config, now)
    ]
    allowed.sort(key=lambda message: message.event not in config.notify.urgent)
    free = config.notify.per_hour - outbox.sent_since(store, receiver.position, now - HOUR)
    if len(allowed) <= free:
        return [[message] for message in allowed]
    if free <= 0:
        return []
    return [*([message] for message in allowed[: free - 1]), allowed[free - 1 :]]


def is_quiet(config: Config, now: int) -> bool:
    """Whether `now` is within quiet hours, when only urgent messages are sent."""
    if not config.notify.quiet_hours:
        return False
    first, last = config.notify.quiet_hours
    time = datetime.fromtimestamp(now / SECOND, ZoneInfo(config.schedule.timezone)).strftime("%H:%M")
    return first <= time < last if first < last else time >= first or time < last


def _merge(
    store: Store, config: Config, receiver: Receiver, members: Sequence[DueMessage], now: int
) -> DueMessage:
    merged = messages.merged(
        [(message.key, message.subject, message.body) for message in members], members[0].event
    )
    body = f"{merged.body}\n\nMore than {config.notify.per_hour} messages an hour (notify.per_hour): fraudwatch notify --show ID prints each in full."
    message = Message(
        merged.key, receiver.position, merged.event, f"[{config.monitor.name}] {merged.subject}", body
    )
    return outbox.merge(store, message, members, now)


def _send(
    store: Store, config: Config, receiver: Receiver, message: DueMessage, clock: Callable[[], int]
) -> str | None:
    """Claim a message, send it and record the result; returns None if it arrived, otherwise the reason."""
    outbox.claim(store, message)
    may_repeat = (message.error or "").startswith(outbox.MAY_HAVE_ARRIVED)
    body = DUPLICATE_NOTICE + message.body if may_repeat else message.body
    error = apprise_transport.send(
        receiver, message.subject, body, urgent=message.event in config.notify.urgent
    )
    if error is None:
        outbox.sent(store, message, clock())
        return None
    attempts = message.attempts + 1
    pause = min(config.notify.backoff * 2 ** (attempts - 1), RETRY_PAUSE_MAX)
    reason = f"{outbox.MAY_HAVE_ARRIVED}; {error}" if may_repeat else error
    outbox.failed(store, message, reason, clock() + pause if attempts < config.notify.attempts else None)
    return error


def send_test_messages(config: Config) -> Iterator[tuple[str, str | None]]:
    """
    Send a test message to each receiver; yields the receiver and, if the message did not arrive, the reason.

    Raises
    ------
    ConfigError
        Apprise is not installed.
    """
    apprise_transport.require_apprise(config)
    for receiver in receivers(config):
        events = ", ".join(receiver.events) or "none, because notify.events has none of its events"
        body = f"Messages of {config.monitor.name} arrive here. Events: {events}."
        test = messages.render(Notification(f"test:{receiver.position}", "test", "a test", body), config)
        yield receiver.display_name, apprise_transport.send(receiver, test.subject, test.body)
