"""
Queue notification messages and deliver them.

    queue_messages   new events → the outbox; a key makes each idempotent
    deliver          the outbox → the services, under a lease, with retries, quiet hours and an hourly limit

The two share only the outbox, so a crash loses nothing: events are checked again for a week, and a receiver gets each
key once. A message arrives twice only if the process dies after sending it and before recording that; the second one
says so. Recording first could lose a message instead.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from pipeline.config.config import Config
from pipeline.notifications import apprise_transport, messages, webhooks
from pipeline.notifications.messages import Notification
from pipeline.notifications.receivers import Receiver, receivers
from pipeline.notifications.webhooks import Webhook
from pipeline.schedule.run_context import LIVE, NOTIFYING_KINDS, never_stop
from pipeline.schedule.ticks import ticks_after
from storage.database import leases
from storage.database.database import Store
from storage.errors import Busy
from storage.frames import DAY, HOUR, SECOND
from storage.notifications import events as event_queries
from storage.notifications import outbox
from storage.notifications.events import EVENT_AGE_MAX, Event, EventWindow
from storage.notifications.outbox import DueMessage, Message
from storage.runs import tick_steps

SILENCE_MAX = HOUR  # that a tick may be late before people learn of it
FIRST_LOOKBACK = DAY  # how far back the first run looks for events
LEASE = 120 * SECOND  # renewed while messages are sent; a killed sender blocks others this long
RETRY_PAUSE_MAX = HOUR
DUPLICATE_NOTICE = (
    "This message may have arrived before: the process that sent it ended before it could record that.\n\n"
)


@dataclass(frozen=True)
class Delivery:
    """The result for the messages that were due."""

    sent: int = 0
    deferred: int = 0  # by quiet hours or the hourly limit
    errors: tuple[
        str, ...
    ] = ()  # one a message that did not arrive: retried later, unless no attempts are left


def send_notifications(
    store: Store,
    config: Config,
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
    if not config.notifies:
        return Delivery()
    apprise_transport.require_apprise(config)
    queue_messages(store, config, clock())
    return deliver(store, config, clock=clock, by=by, stopping=stopping)


def queue_messages(store: Store, config: Config, now: int) -> int:
    """Write a message per new event and receiver to the outbox, which drops those queued before; returns how many."""
    window = _window(store, now)
    queued = [
        message
        for kind in messages.notification_kinds(config)
        for event in kind.query(store, window)
        for message in _messages_for_receivers(kind.event, kind.text(event), config)
    ]
    queued += webhooks.event_messages(store, config, window)
    return outbox.add_messages(store, queued, now) + _queue_flag_messages(store, config, now)


def send_to_programs(
    store: Store,
    config: Config,
    *,
    clock: Callable[[], int],
    by: str,
    stopping: Callable[[], bool] = never_stop,
) -> Delivery:
    """
    Queue events for webhooks and send those that are due; people's messages wait for the next tick.

    Flags stay pending for the digest; when that is made, their events are known already.
    """
    if not config.webhook:
        return Delivery()
    now = clock()
    rows = event_queries.flags(store, LIVE, event_queries.pending_flags(store, LIVE))
    queued = [
        *webhooks.event_messages(store, config, _window(store, now)),
        *webhooks.flag_messages(config, rows, now),
    ]
    outbox.add_messages(store, queued, now)
    parts: list[Delivery] = []
    with suppress(Busy), leases.hold(store, "notify", by, LEASE):
        outbox.recover(store)
        parts = [
            _deliver_to_program(webhook, store, config, clock, stopping)
            for webhook in webhooks.webhooks(config)
        ]
    return _sum(parts)


def _window(store: Store, now: int) -> EventWindow:
    since = max(outbox.notify_since(store, now - FIRST_LOOKBACK), now - EVENT_AGE_MAX)
    return EventWindow(LIVE, NOTIFYING_KINDS, since, now)


def _sum(parts: Sequence[Delivery]) -> Delivery:
    return Delivery(
        sum(part.sent for part in parts),
        sum(part.deferred for part in parts),
        tuple(error for part in parts for error in part.errors),
    )


def queue_silence(store: Store, config: Config, now: int, longest: int = SILENCE_MAX) -> bool:
    """
    Queue a message if no tick of the schedule has ended for long; returns whether there is such a silence.

    Parameters
    ----------
    longest
        How long after the tick that was due next (µs).
    """
    last = tick_steps.last_tick(store)
    if last is None or now - next(ticks_after(config.schedule, last)) <= longest:
        return False
    silence = _messages_for_receivers("failure", messages.no_tick_since(last, now), config)
    outbox.add_messages(store, silence, now)
    return True


def _queue_flag_messages(store: Store, config: Config, now: int) -> int:
    """Queue one digest of all pending flags, however many; another process that queues them, too, makes this one write none."""
    ids = event_queries.pending_flags(store, LIVE)
    if not ids:
        return 0
    rows = event_queries.flags(store, LIVE, ids)
    first = [row["transaction_id"] for row in rows[: messages.FLAGS_MAX]]
    largest = event_queries.whole_flags(store, LIVE, first)
    digest = messages.flags_digest(LIVE, ids, rows, largest, config) if rows else None
    digests = _messages_for_receivers("flags", digest, config) if digest else []
    to_programs = webhooks.flag_messages(config, rows, now)
    return outbox.add_digest(store, LIVE, ids, [*digests, *to_programs], now)


def _messages_for_receivers(event: Event, notification: Notification, config: Config) -> list[Message]:
    key, body = notification.key, f"{notification.body}\n\nkey {notification.key}"
    subject = _subject(notification.subject, config)
    return [
        Message(key, receiver.position, event, subject, body)
        for receiver in receivers(config)
        if event in receiver.events
    ]


def _subject(text: str, config: Config) -> str:
    return f"[{config.monitor.name}] {text}"


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
    parts: list[Delivery] = []
    with suppress(Busy), leases.hold(store, "notify", by, LEASE):  # busy: another process sends everything
        outbox.recover(store)
        programs = webhooks.webhooks(config)
        people = receivers(config)
        outbox.drop_others(store, [*(one.position for one in people), *(one.target for one in programs)])
        parts.extend(_deliver_to(receiver, store, config, clock, stopping) for receiver in people)
        parts.extend(_deliver_to_program(webhook, store, config, clock, stopping) for webhook in programs)
    return _sum(parts)


def _deliver_to(
    receiver: Receiver, store: Store, config: Config, clock: Callable[[], int], stopping: Callable[[], bool]
) -> Delivery:
    """Send the messages of one receiver; after a failure its remaining messages wait for the next delivery."""
    waiting = outbox.due(store, receiver.position, clock())
    sendable = _sendable(store, config, receiver, waiting, clock())
    deferred = len(waiting) - sum(len(members) for members in sendable)
    sent, error = 0, None
    for members in sendable:
        if stopping() or error:
            break
        message = members[0] if len(members) == 1 else _merge(store, config, receiver, members, clock())
        error = _send(store, config, receiver, message, clock)
        sent += error is None
    return Delivery(sent, deferred, (error,) if error else ())


def _deliver_to_program(
    webhook: Webhook, store: Store, config: Config, clock: Callable[[], int], stopping: Callable[[], bool]
) -> Delivery:
    """Send what is due to a webhook, each event by itself, new flags first; after a failure the others wait for the next delivery."""
    sent = 0
    waiting = outbox.due(store, webhook.target, clock())
    for message in sorted(waiting, key=lambda one: one.event != "flag.raised"):
        if stopping():
            break
        outbox.claim(store, message)
        error = webhooks.send(webhook, message.key, message.body, clock())
        if error is not None:
            _record_failure(store, config, message, error, clock)
            return Delivery(sent, 0, (error,))
        outbox.sent(store, message, clock())
        sent += 1
    return Delivery(sent)


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
    merged = messages.merged([(message.key, message.subject, message.body) for message in members])
    body = (
        f"{merged.body}\n\nMore than {config.notify.per_hour} messages an hour (notify.per_hour): "
        "fraudwatch notify show ID prints each in full."
    )
    message = Message(merged.key, receiver.position, members[0].event, _subject(merged.subject, config), body)
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
    reason = f"{outbox.MAY_HAVE_ARRIVED}; {error}" if may_repeat else error
    _record_failure(store, config, message, reason, clock)
    return error


def _record_failure(
    store: Store, config: Config, message: DueMessage, reason: str, clock: Callable[[], int]
) -> None:
    attempts = message.attempts + 1
    pause = min(config.notify.backoff * 2 ** (attempts - 1), RETRY_PAUSE_MAX)
    outbox.failed(store, message, reason, clock() + pause if attempts < config.notify.attempts else None)


def send_test_message(receiver: Receiver, config: Config) -> str | None:
    """
    Send a test message; returns None if it arrived, otherwise the reason.

    Raises
    ------
    ConfigError
        Apprise is not installed.
    """
    apprise_transport.require_apprise(config)
    body = f"Messages of {config.monitor.name} arrive here. Events: {', '.join(receiver.events)}."
    return apprise_transport.send(receiver, _subject("a test", config), body)
