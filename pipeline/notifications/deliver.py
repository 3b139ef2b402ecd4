"""
From stored facts to messages that have arrived.

    collect   facts that nobody was told of → the outbox, once each by their key
    deliver   the outbox → the services, under a lease, with retries, quiet hours and a limit an hour

The outbox is all there is between the two, so a crash loses nothing: facts are looked at again for a week, and a key
is told once to a receiver. A process that dies between a message's arrival and saying so is the one case in which it comes
twice, marked as such; the other order would lose it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from zoneinfo import ZoneInfo

from pipeline.config.config import Config
from pipeline.notifications import apprise_transport, messages
from pipeline.notifications.messages import Story
from pipeline.notifications.receivers import Receiver, receivers
from pipeline.schedule.run_context import TOLD, never
from storage.database import leases
from storage.database.database import Store
from storage.errors import Busy
from storage.frames import DAY, HOUR, SECOND
from storage.notifications import events as news
from storage.notifications import outbox
from storage.notifications.events import Seen
from storage.notifications.outbox import Message, Waiting

FIRST = DAY  # how far back the first look goes
NEWS = 7 * DAY  # what runs brought that began longer ago is no news any more
LEASE = 120 * SECOND  # renewed while messages are sent; what a killed sender holds others up
PAUSE_MAX = HOUR
AGAIN = "This may have arrived before: the process that was sending it ended before it could say so.\n\n"


@dataclass(frozen=True)
class Delivery:
    """What became of the messages that were due."""

    sent: int = 0
    failed: int = 0  # tried again later, unless it was the last time
    held: int = 0  # until quiet hours are over, or the hour allows more
    errors: tuple[str, ...] = ()

    def plus(self, other: "Delivery") -> "Delivery":
        """Both together."""
        return Delivery(
            self.sent + other.sent,
            self.failed + other.failed,
            self.held + other.held,
            self.errors + other.errors,
        )

    def sentence(self) -> str:
        """For the one who asked."""
        said = [f"{self.sent:,} message{'' if self.sent == 1 else 's'} sent"]
        if self.held:
            said.append(f"{self.held:,} held back for now")
        if self.failed:
            said.append(f"{self.failed:,} could not be sent: {'; '.join(self.errors)}")
        return ", ".join(said)


def tell(
    store: Store,
    config: Config,
    policy: str,
    *,
    clock: Callable[[], int],
    by: str,
    stopping: Callable[[], bool] = never,
) -> Delivery:
    """
    Tell people what is new, and try again what did not arrive; does nothing without receivers.

    Raises
    ------
    ConfigError
        Apprise is not installed.
    """
    if not config.notify.wanted:
        return Delivery()
    apprise_transport.insist(config)
    collect(store, config, policy, clock())
    return deliver(store, config, clock=clock, by=by, stopping=stopping)


def collect(store: Store, config: Config, policy: str, now: int) -> int:
    """Write what is new to the outbox, a message a receiver; returns how many."""
    since = max(outbox.told_since(store, now - FIRST), now - NEWS)
    seen = Seen(policy, TOLD, since)
    listed = [message for story in _stories(store, config, seen) for message in _for_each(story, config)]
    return outbox.put(store, listed, now) + _collect_flags(store, config, policy, now)


def _stories(store: Store, config: Config, seen: Seen) -> Iterator[Story]:
    """All there is to tell but flags; most was told before."""
    for row in news.promotions_made(store, seen):
        yield messages.promoted(seen.policy, row)
    if not news.any_run(store, seen):
        return
    for row in news.failed_steps(store, seen):
        yield messages.failed_step(row)
    for row in news.broken_runs(store, seen):
        yield messages.broken_run(seen.policy, row)
    for row in news.refusals(store, seen):
        yield messages.refused(row)
    for row in news.choices_made(store, seen):
        if row["before"] not in (None, row["strategy"]):
            yield messages.choice_changed(row)
    yield from _alarms(store, config, seen)


def _alarms(store: Store, config: Config, seen: Seen) -> Iterator[Story]:
    def window(row: news.Row) -> tuple[int, int]:
        return row["window_start"], row["window_end"]

    for (start, _), found in groupby(sorted(news.drift(store, seen), key=window), window):
        story = messages.drift_alarm(list(found), news.drift_before(store, seen.policy, start))
        if story is not None:
            yield story
    for _, found in groupby(sorted(news.quality(store, seen), key=window), window):
        yield messages.quality_alarm(list(found), config.schema_.base_currency)


def _collect_flags(store: Store, config: Config, policy: str, now: int) -> int:
    """Digests until the queue is empty: one, unless a first run flagged thousands."""
    written = 0
    while ids := news.untold(store, policy):
        rows = news.flags(store, policy, ids)
        told = _for_each(messages.digest(policy, ids, rows, config), config) if rows else []
        done = outbox.put_flags(store, policy, ids, told, now)
        written += done
        if done < len(told):
            break  # somebody else is at it
    return written


def _for_each(story: Story, config: Config) -> list[Message]:
    told = messages.told(story, config)
    return [
        Message(told.key, one.place, told.event, told.subject, told.body)
        for one in receivers(config)
        if told.event in one.events
    ]


def deliver(
    store: Store,
    config: Config,
    *,
    clock: Callable[[], int],
    by: str,
    stopping: Callable[[], bool] = never,
) -> Delivery:
    """Send what is due; nothing where somebody else is sending."""
    if not outbox.anything_due(store, clock()):
        return Delivery()
    done = Delivery()
    try:
        with leases.held(store, "notify", by, LEASE):
            outbox.recover(store)
            outbox.drop_others(store, [one.place for one in receivers(config)])
            for receiver in receivers(config):
                done = done.plus(_deliver_to(receiver, store, config, clock, stopping))
    except Busy:
        return done  # the other sends what is written, and everything is in the outbox
    return done


def _deliver_to(
    receiver: Receiver, store: Store, config: Config, clock: Callable[[], int], stopping: Callable[[], bool]
) -> Delivery:
    """A receiver that does not answer is not asked again for what comes after."""
    waiting = outbox.due(store, receiver.place, clock())
    chosen = _chosen(store, config, receiver, waiting, clock())
    done = Delivery(held=len(waiting) - sum(len(one) for one in chosen))
    for members in chosen:
        if stopping():
            break
        message = members[0] if len(members) == 1 else _merged(store, config, receiver, members, clock())
        error = _send(store, config, receiver, message, clock)
        if error is not None:
            return done.plus(Delivery(failed=1, errors=(error,)))
        done = done.plus(Delivery(sent=1))
    return done


def _chosen(
    store: Store, config: Config, receiver: Receiver, waiting: Sequence[Waiting], now: int
) -> list[list[Waiting]]:
    """What may go now, urgent messages first; of more than the hour allows the last ones go together in one."""
    allowed = [one for one in waiting if one.event in config.notify.urgent or not quiet(config, now)]
    allowed.sort(key=lambda one: one.event not in config.notify.urgent)
    free = config.notify.per_hour - outbox.sent_since(store, receiver.place, now - HOUR)
    if len(allowed) <= free:
        return [[one] for one in allowed]
    if free <= 0:
        return []
    return [*([one] for one in allowed[: free - 1]), allowed[free - 1 :]]


def quiet(config: Config, now: int) -> bool:
    """Whether it is a time of day at which only what is urgent is told."""
    if not config.notify.quiet_hours:
        return False
    first, last = config.notify.quiet_hours
    time = datetime.fromtimestamp(now / SECOND, ZoneInfo(config.schedule.timezone)).strftime("%H:%M")
    return first <= time < last if first < last else time >= first or time < last


def _merged(
    store: Store, config: Config, receiver: Receiver, members: Sequence[Waiting], now: int
) -> Waiting:
    story = messages.several([(one.key, one.subject, one.body) for one in members], members[0].event)
    body = f"{story.body}\n\nMore than {config.notify.per_hour} an hour (notify.per_hour): fraudwatch notify --show ID has each in full."
    into = Message(story.key, receiver.place, story.event, f"[{config.monitor.name}] {story.subject}", body)
    return outbox.merge(store, into, members, now)


def _send(
    store: Store, config: Config, receiver: Receiver, message: Waiting, clock: Callable[[], int]
) -> str | None:
    """Claim, send, say what came of it; returns why it has not arrived."""
    outbox.claim(store, message)
    doubtful = (message.error or "").startswith(outbox.PERHAPS)
    body = AGAIN + message.body if doubtful else message.body
    error = apprise_transport.send(
        receiver, message.subject, body, urgent=message.event in config.notify.urgent
    )
    if error is None:
        outbox.sent(store, message, clock())
        return None
    tries = message.attempts + 1
    pause = min(config.notify.backoff * 2 ** (tries - 1), PAUSE_MAX)
    kept = f"{outbox.PERHAPS}; {error}" if doubtful else error
    outbox.failed(store, message, kept, clock() + pause if tries < config.notify.attempts else None)
    return error


def try_out(config: Config) -> Iterator[tuple[str, str | None]]:
    """
    Send one message to each receiver; yields who, and why it has not arrived.

    Raises
    ------
    ConfigError
        Apprise is not installed.
    """
    apprise_transport.insist(config)
    for receiver in receivers(config):
        events = ", ".join(receiver.events) or "nothing, since notify.events has none of its events"
        body = f"Messages of {config.monitor.name} arrive here. It is told of: {events}."
        story = messages.told(Story(f"test:{receiver.place}", "test", "a test", body), config)
        yield receiver.shown, apprise_transport.send(receiver, story.subject, story.body)
