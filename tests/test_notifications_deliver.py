"""Notifications are queued once, sent once and never lost; by Apprise to a real server on this machine."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, text
from sqlalchemy.exc import IntegrityError

from pipeline.config.config import Config
from pipeline.config.database import open_configured
from pipeline.config.loader import load_config
from pipeline.daemon.daemon import Daemon
from pipeline.errors import ConfigError
from pipeline.notifications import apprise_transport
from pipeline.notifications import deliver as notify
from pipeline.notifications.deliver import deliver, is_quiet, queue_messages, send_notifications
from pipeline.notifications.messages import notification_kinds
from pipeline.notifications.receivers import receivers
from pipeline.runs.scoring_run import run
from pipeline.services.monitoring import notifications
from pipeline.services.monitoring.notifications import ReceiverTest
from pipeline.services.session import Session
from storage.database import tables
from storage.database.database import Store
from storage.errors import Unknown
from storage.frames import DAY, HOUR, MINUTE, SECOND
from storage.notifications import events, outbox
from storage.notifications.events import EVENTS
from storage.runs import ledger, runs, scoring_queue
from storage.runs.ledger import Entry
from tests.support.commands import CONFIG, invoke
from tests.support.databases import Opener, with_url
from tests.support.inbox import SECRET, Inbox, serving
from tests.support.sql import query
from tests.support.worlds import FROM, NOW, SMALL, TO

AT = FROM + 10 * HOUR  # a Monday, ten o'clock


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    with serving() as one:
        yield one


def with_receivers(*urls: str, **keys: Any) -> Config:
    section = type(SMALL.notify).model_validate({"urls": list(urls), **keys})
    return SMALL.model_copy(update={"notify": section})


def at(moment: int) -> Callable[[], int]:
    """A clock that stands still."""
    return lambda: moment


def run_of(store: Store, kind: str = "schedule", at: int = AT) -> int:
    run_id = runs.begin_run(store, "live", kind, at, "", 0)
    runs.end_run(store, run_id, at, "done", {})
    return run_id


def fail_step(
    store: Store, run_id: int, kind: str = "score", error: str = "disk on fire", again: int | None = None
) -> None:
    entry = Entry("live", kind, AT - DAY + run_id, AT + run_id, AT)
    ledger.ensure(store, [entry])
    claimed = ledger.claim(store, entry, run_id, "worker")
    assert claimed is not None
    ledger.fail(store, claimed, error, AT, again)


def add_waiting_messages(store: Store, n: int, event: str = "drift") -> None:
    """Messages in the outbox."""
    outbox.add_messages(
        store, [outbox.Message(f"{event}:{k}", 1, event, f"{event} {k}", "body") for k in range(n)], AT
    )


def states(store: Store) -> list[tuple[object, ...]]:
    return query(store, "SELECT key, status, attempts FROM outbox ORDER BY message_id")


def test_what_a_scheduled_run_flags_arrives_once_without_card_data(
    first_week: Store, url: str, inbox: Inbox
) -> None:
    store, config = first_week, with_receivers(inbox.url)
    assert (
        send_notifications(store, config, clock=at(NOW), by="test").sent == 0
    )  # nobody is told of a backfill
    scoring_queue.set_starts_at(store, "live", FROM + 7 * DAY)
    here = with_url(config, url)
    tally = run(store, here, as_of=NOW, policy="live", by="test", kind="schedule")
    assert send_notifications(store, config, clock=at(NOW), by="test").sent == len(inbox.got)
    digest = next(one for one in inbox.got if "to review" in one["title"])
    waiting_flags = query(
        store, f"SELECT COUNT(*) FROM flags WHERE run_id = {tally.run_id} AND status = 'open'"
    )
    assert digest["title"].startswith(f"[fraudwatch] {waiting_flags[0][0]} transactions to review, worth ")
    assert "key flags:live:" in digest["message"]
    assert "customer_id" not in digest["message"]
    assert " EUR  " in digest["message"]
    assert any("model" in title for title in inbox.titles)
    assert query(store, "SELECT COUNT(*) FROM flag_notifications_pending") == [(0,)]
    before = len(inbox.got)
    assert send_notifications(store, config, clock=at(NOW + DAY), by="test") == notify.Delivery()
    assert len(inbox.got) == before
    assert {row[1] for row in states(store)} == {"sent"}


def test_without_receivers_nothing_is_kept(opener: Opener, tmp_path: Path) -> None:
    store = opener(SMALL)
    fail_step(store, run_of(store))
    assert send_notifications(store, SMALL, clock=at(AT), by="test") == notify.Delivery()
    assert states(store) == []
    assert query(store, "SELECT notify_since FROM monitor") == [(None,)]


def test_an_event_is_sent_once_and_only_for_runs_that_notify(opener: Opener, inbox: Inbox) -> None:
    store, config = opener(SMALL), with_receivers(inbox.url)
    fail_step(store, run_of(store), error="<!channel> see http://evil.com")
    fail_step(store, run_of(store), error="tried again", again=AT + HOUR)  # no news yet
    fail_step(store, run_of(store, "backfill"), error="of the past")
    fail_step(store, run_of(store, at=AT - 2 * DAY), error="before anybody was to be told")
    fail_step(store, run_of(store), kind="train", error="a training needs 200 transactions")
    broken = runs.begin_run(store, "live", "schedule", AT, "", 0)
    runs.end_run(store, broken, AT, "failed", {}, "ValueError: a bug\n[parameters: 4111]")
    assert queue_messages(store, config, AT) == 3
    assert queue_messages(store, config, AT + HOUR) == 0
    assert deliver(store, config, clock=at(AT), by="test").sent == 3
    assert sorted(inbox.titles) == [
        "[fraudwatch] a schedule run failed",
        "[fraudwatch] no new model of 2025-01-20",
        "[fraudwatch] score of 2025-01-20 failed, no retries left",
    ]
    assert "4111" not in str(inbox.got)
    body = next(message["message"] for message in inbox.got if "no retries left" in message["title"])
    assert "‹!channel› see http[:]//evil[.]com" in body
    assert queue_messages(store, config, AT + 30 * DAY) == 0


def measure_drift(store: Store, day: int, *alarming: str) -> None:
    """A window's drift as a run writes it."""
    end, run_id = AT + day * DAY, run_of(store)
    rows = [
        {
            "policy": "live", "window_start": end - DAY, "window_end": end, "feature": name, "metric": "psi", "value": 0.5,
            "threshold": 0.25, "alarm": name in alarming, "n_reference": 900, "n_current": 300, "run_id": run_id,
        }
        for name in ("amount", "night", "count")
    ]  # fmt: skip
    with store.write() as connection:
        connection.execute(insert(tables.drift_metrics), rows)


def test_a_drift_message_is_sent_when_a_new_feature_alarms(opener: Opener, inbox: Inbox) -> None:
    store, config = opener(SMALL), with_receivers(inbox.url)
    for day, features in enumerate([("amount",), ("amount",), ("amount", "night"), (), ("amount",)]):
        measure_drift(store, day, *features)
        send_notifications(store, config, clock=at(AT + day * DAY), by="test")
    assert inbox.titles == [
        "[fraudwatch] drift: amount",
        "[fraudwatch] drift: night",
        "[fraudwatch] drift: amount",
    ]
    assert "night: " in inbox.got[1]["message"]
    assert "0.5" in inbox.got[1]["message"]
    assert "As in the previous window" in inbox.got[1]["message"]


def test_rejected_candidates_changed_choices_and_quality_alarms_are_sent(
    opener: Opener, inbox: Inbox
) -> None:
    store, config = opener(SMALL), with_receivers(inbox.url)
    run_id = run_of(store)
    with store.write() as connection:
        for week, strategy in enumerate(["outlier", "outlier", "blend"]):
            row = {
                "policy": "live", "training_date": AT - (3 - week) * 7 * DAY, "run_id": run_id, "mature": 1, "positives": 1,
                "effective_positives": 1.0, "strategy": strategy, "rule": "few", "sentence": "Fraud is rare.",
            }  # fmt: skip
            connection.execute(insert(tables.choices), row)
        measured = {
            "policy": "live", "window_start": AT - 7 * DAY, "window_end": AT, "model_id": 1, "channel": "all",
            "metric": "precision", "kind": "realised", "value": 0.1, "n": 50, "alarm": True,
            "message": "precision is below what was expected", "as_of": AT, "run_id": run_id,
        }  # fmt: skip
        model = {
            "model_id": 7,
            "run_id": run_id,
            "trained_at": AT,
            "strategy": "blend",
            "feature_names": [],
            "thresholds": {},
        }
        for model_id, weeks in ((5, 3), (6, 1), (7, 0)):
            stored = {"model_id": model_id, "trained_at": AT - weeks * 7 * DAY, "sha256": "", "artifact": b""}
            connection.execute(insert(tables.models), model | stored)
        check = {
            "policy": "live", "model_id": 7, "training_date": AT, "champion_id": 5, "verdict": "rejected", "rule": "WORSE_COST",
            "sentence": "Model 7 costs more than model 5. Model 5 stays in force.", "run_id": run_id,
        }  # fmt: skip
        before = check | {"model_id": 6, "training_date": AT - 7 * DAY, "run_id": run_id - 1}
        for one in (before, check):
            connection.execute(insert(tables.promotion_checks), one)
        connection.execute(insert(tables.quality_metrics), measured)
    assert send_notifications(store, config, clock=at(AT), by="test").sent == 3
    assert inbox.titles == [
        "[fraudwatch] candidate 7 of 2025-01-20 was rejected",
        "[fraudwatch] blend instead of outlier",
        "[fraudwatch] quality: precision",
    ]
    assert inbox.got[0]["message"].startswith(
        "Model 7 costs more than model 5. Model 5 stays in force.\n\n"
        "That is 2 candidates in a row: model 5, in force, was trained 21 days before.\n\n"
        "If settings or data were changed on purpose: fraudwatch models promote 7. Otherwise the next training brings another candidate."
    )
    assert "precision is below what was expected" in inbox.got[2]["message"]


def test_a_receiver_that_fails_is_retried_until_no_attempts_are_left(opener: Opener, inbox: Inbox) -> None:
    store, config = opener(SMALL), with_receivers(inbox.url, attempts=3, backoff="1m")
    add_waiting_messages(store, 2)
    inbox.status = 500
    now = AT
    for attempt, pause in enumerate([MINUTE, 2 * MINUTE, 4 * MINUTE], start=1):
        done = deliver(store, config, clock=at(now), by="test")
        assert (done.sent, len(done.errors)) == (0, 1)
        assert SECRET not in done.errors[0]
        assert "500" in done.errors[0]
        assert states(store)[0] == ("drift:0", "failed" if attempt == 3 else "pending", attempt)
        assert states(store)[1][2] == 0  # what comes after is not tried at a receiver that does not answer
        with store.write() as connection:  # the second one is due when the first one is
            connection.execute(
                text(
                    "UPDATE outbox SET due_at = (SELECT due_at FROM outbox WHERE key = 'drift:0') WHERE key = 'drift:1'"
                )
            )
        if attempt < 3:
            assert deliver(store, config, clock=at(now + pause - SECOND), by="test") == notify.Delivery()
        now += pause
    inbox.status = 200
    assert deliver(store, config, clock=at(now), by="test").sent == 1
    assert outbox.retry(store, now) == 1
    assert deliver(store, config, clock=at(now), by="test").sent == 1
    assert inbox.titles == ["drift 1", "drift 0"]


def test_messages_above_the_hourly_limit_are_merged_into_one_and_none_is_lost(
    opener: Opener, inbox: Inbox
) -> None:
    store, config = opener(SMALL), with_receivers(inbox.url, per_hour=3)
    add_waiting_messages(store, 6)
    add_waiting_messages(store, 1, "failure")
    assert deliver(store, config, clock=at(AT), by="test").sent == 3
    assert inbox.titles == [
        "failure 0",
        "drift 0",
        "[fraudwatch] 5 messages in one",
    ]  # what is urgent goes first
    assert [f"- drift {k}" in inbox.got[2]["message"] for k in range(1, 6)] == [True] * 5
    assert sorted(str(row[1]) for row in states(store)) == ["merged"] * 5 + ["sent"] * 3
    outbox.add_messages(store, [outbox.Message("late", 1, "drift", "late", "body")], AT)
    delivery = deliver(store, config, clock=at(AT + 59 * MINUTE), by="test")
    assert (delivery.sent, delivery.deferred) == (0, 1)
    assert deliver(store, config, clock=at(AT + HOUR), by="test").sent == 1


QUIET = [
    # quiet hours, zone, hour of UTC, whether it is quiet
    ((), "UTC", 3, False),
    (("22:00", "07:00"), "UTC", 3, True),
    (("22:00", "07:00"), "UTC", 22, True),
    (("22:00", "07:00"), "UTC", 7, False),
    (("22:00", "07:00"), "UTC", 12, False),
    (("12:00", "13:30"), "UTC", 13, True),
    (("12:00", "13:30"), "UTC", 14, False),
    (("22:00", "07:00"), "America/New_York", 3, True),  # 22:00 there
    (("22:00", "07:00"), "Asia/Tokyo", 3, False),  # noon there
]


@pytest.mark.parametrize(("hours", "zone", "hour", "expected"), QUIET)
def test_quiet_hours_are_those_of_the_zone(
    hours: tuple[str, ...], zone: str, hour: int, expected: bool
) -> None:
    config = with_receivers(quiet_hours=list(hours))
    config = config.model_copy(update={"schedule": config.schedule.model_copy(update={"timezone": zone})})
    assert is_quiet(config, FROM + hour * HOUR) is expected


def test_in_quiet_hours_only_urgent_messages_are_sent_and_the_rest_afterwards(
    opener: Opener, inbox: Inbox
) -> None:
    store, config = opener(SMALL), with_receivers(inbox.url, quiet_hours=["22:00", "07:00"])
    add_waiting_messages(store, 2)
    add_waiting_messages(store, 1, "failure")
    done = deliver(store, config, clock=at(FROM + 3 * HOUR + 7 * DAY), by="test")
    assert (done.sent, done.deferred, inbox.titles) == (1, 2, ["failure 0"])
    assert deliver(store, config, clock=at(FROM + 7 * HOUR + 7 * DAY), by="test").sent == 2


def test_each_receiver_gets_its_events_and_one_that_fails_delays_no_other(
    opener: Opener, inbox: Inbox
) -> None:
    store = opener(SMALL)
    with serving() as second:
        config = with_receivers(inbox.url, f"failure,choice={second.url}")
        assert [one.events for one in receivers(config)] == [EVENTS, ("failure", "choice")]
        measure_drift(store, 0, "amount")
        fail_step(store, run_of(store))
        inbox.status = 503
        done = send_notifications(store, config, clock=at(AT), by="test")
        assert (done.sent, len(done.errors)) == (1, 1)
        assert second.titles == ["[fraudwatch] score of 2025-01-20 failed, no retries left"]
        inbox.status = 200
        assert send_notifications(store, config, clock=at(AT + HOUR), by="test").sent == 2
        assert len(second.got) == 1
    only = with_receivers(inbox.url)
    outbox.add_messages(store, [outbox.Message("gone", 2, "drift", "for the second", "body")], AT)
    deliver(store, only, clock=at(AT + HOUR), by="test")
    assert states(store)[-1] == ("gone", "dropped", 0)


def queued(store: Store, *ids: str) -> None:
    with store.write() as connection:
        rows = [{"policy": "live", "transaction_id": one} for one in ids]
        connection.execute(insert(tables.flag_notifications_pending), rows)


def test_a_flag_is_in_one_digest_even_with_two_writers(opener: Opener) -> None:
    store = opener(SMALL)
    queued(store, "a", "b")
    seen = events.pending_flags(store, "live")
    queued(store, "c")  # flagged while the digest is being written
    digest = [
        outbox.Message("flags:ab", 1, "flags", "two", "body"),
        outbox.Message("flags:ab", 2, "flags", "two", "body"),
    ]
    assert outbox.add_digest(store, "live", seen, digest, AT) == 2
    assert events.pending_flags(store, "live") == ["c"]
    late = [outbox.Message("flags:abc", 1, "flags", "three", "body")]
    assert outbox.add_digest(store, "live", ["a", "b", "c"], late, AT) == 0  # by one who looked before
    assert events.pending_flags(store, "live") == ["c"]
    assert len(states(store)) == 2


def test_a_digest_that_cannot_be_written_leaves_its_flags_to_the_next(opener: Opener) -> None:
    store = opener(SMALL)
    queued(store, "a")
    broken = [outbox.Message("flags:a", 1, "flags", "one", None)]  # type: ignore[arg-type]
    with pytest.raises(IntegrityError):
        outbox.add_digest(store, "live", ["a"], broken, AT)
    assert events.pending_flags(store, "live") == ["a"]
    assert states(store) == []


SEND = """
import sys
from pathlib import Path
from pipeline.config.loader import load_config
from pipeline.notifications.deliver import deliver
from pipeline.config.database import open_configured
config = load_config(Path(sys.argv[1]), {})
with open_configured(config) as store:
    print(deliver(store, config, clock=lambda: int(sys.argv[2]), by="doomed").sent)
"""


def sender(tmp_path: Path, url: str, inbox: Inbox) -> "subprocess.Popen[str]":
    """A process of its own that delivers."""
    path = tmp_path / "config.toml"
    path.write_text(f'[storage]\nurl = "{url}"\n[notify]\nurls = ["{inbox.url}"]\n')
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    command = [sys.executable, "-c", SEND, str(path), str(AT)]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)


def test_a_sender_that_is_killed_loses_nothing_and_marks_a_possible_duplicate(
    opener: Opener, url: str, tmp_path: Path, inbox: Inbox
) -> None:
    store, config = opener(SMALL), with_receivers(inbox.url)
    add_waiting_messages(store, 3)
    doomed: list[subprocess.Popen[str]] = []
    started = threading.Event()

    def kill_at_the_second() -> None:
        if len(inbox.got) == 2:
            started.wait(30)
            doomed[0].send_signal(signal.SIGKILL)
            doomed[0].wait(30)

    inbox.before_answer = kill_at_the_second
    doomed.append(sender(tmp_path, url, inbox))
    started.set()
    assert doomed[0].wait(60) == -signal.SIGKILL
    doomed[0].communicate()
    assert [row[1] for row in states(store)] == ["sent", "sending", "pending"]
    inbox.before_answer = lambda: None
    assert (
        deliver(store, config, clock=at(AT), by="test").sent == 2
    )  # its lease is free: it died on this machine
    assert inbox.titles == ["drift 0", "drift 1", "drift 1", "drift 2"]
    assert [notify.DUPLICATE_NOTICE.strip() in one["message"] for one in inbox.got] == [
        False,
        False,
        True,
        False,
    ]
    assert {row[1] for row in states(store)} == {"sent"}


def test_two_senders_do_not_send_twice(opener: Opener, url: str, tmp_path: Path, inbox: Inbox) -> None:
    store, config = opener(SMALL), with_receivers(inbox.url)
    add_waiting_messages(store, 3)
    during: list[notify.Delivery] = []
    inbox.before_answer = lambda: during.append(deliver(store, config, clock=at(AT), by="other"))
    other = sender(tmp_path, url, inbox)
    assert other.communicate(timeout=60)[0].strip() == "3"
    assert during == [notify.Delivery()] * 3
    assert inbox.titles == ["drift 0", "drift 1", "drift 2"]


def test_every_kind_has_an_event_and_every_event_a_kind() -> None:
    kinds = [kind.event for kind in notification_kinds(SMALL)]
    assert {*kinds, "flags"} == set(EVENTS)


def test_a_url_never_shows(inbox: Inbox, opener: Opener) -> None:
    config = with_receivers(inbox.url, f"nosuchservice://{SECRET}", f"json://127.0.0.1:9/{SECRET}")
    assert SECRET not in repr(config) + config.public_text() + config.hash("notify")
    assert "urls" not in config.public_text("notify")
    assert config.hash() == with_receivers().hash()
    assert SECRET not in repr(receivers(config))
    session = Session(opener(SMALL), config, "test", at(AT))
    results = list(notifications.test_receivers(session))
    assert results[0] == ReceiverTest(1, "URL 1 (json)", None)
    assert "is not understood by Apprise" in str(results[1].error)
    assert results[2].error is not None
    assert SECRET not in str(results)
    assert inbox.titles == ["[fraudwatch] a test"]


def test_without_apprise_the_daemon_does_not_start(monkeypatch: pytest.MonkeyPatch, inbox: Inbox) -> None:
    monkeypatch.setattr(apprise_transport, "find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match=r"pip install 'fraudwatch\[notify\]'"):
        Daemon(lambda: with_receivers(inbox.url), by="test", clock=lambda: AT)
    apprise_transport.require_apprise(SMALL)  # nobody is to be told: nothing is missing


@pytest.mark.one_engine
def test_a_daemon_sends_the_flags_of_its_tick(loaded: Store, url: str, inbox: Inbox) -> None:
    scoring_queue.set_starts_at(loaded, "live", TO - DAY)
    daemon = Daemon(
        lambda: with_url(with_receivers(inbox.url, per_hour=50), url), by="test", clock=lambda: NOW
    )
    tally = daemon.once()
    daemon.close()
    assert tally.flagged > 0
    assert any("to review" in title for title in inbox.titles)


# What a bug would have it, a table that is not what the code takes it for; whether live's run ends by it; what is told once.
BUGS = [
    ("ALTER TABLE scores RENAME COLUMN score TO mark", False, ["run fails"]),
    ("ALTER TABLE rules RENAME COLUMN fields TO gone", True, ["a schedule run failed", "run fails"]),
]


@pytest.mark.one_engine
@pytest.mark.parametrize(("sql", "ends", "told"), BUGS)
def test_a_daemon_notifies_of_a_run_with_a_bug(
    loaded: Store, url: str, inbox: Inbox, sql: str, ends: bool, told: list[str]
) -> None:
    scoring_queue.set_starts_at(loaded, "live", TO - DAY)
    with loaded.write() as connection:
        connection.execute(text("DROP VIEW flagged_transactions"))
        connection.execute(text(sql))
    clock = [NOW]
    daemon = Daemon(lambda: with_url(with_receivers(inbox.url), url), by="test", clock=lambda: clock[0])
    for _ in range(2):
        tally = daemon.tick()
        assert (tally is None) == ends
        assert ends or (tally and tally.failures)
        clock[0] += 10 * MINUTE  # it is tried again by then
    daemon.close()
    failures = [title for title in inbox.titles if "fail" in title]
    assert sorted(failures) == [f"[fraudwatch] {title}" for title in told]


def test_the_command_tests_lists_shows_and_sends(tmp_path: Path, inbox: Inbox) -> None:
    (tmp_path / "config.toml").write_text(CONFIG)
    urls = tmp_path / "urls.txt"
    urls.write_text(f"# the team\n\n{inbox.url}\n")

    def fraudwatch(*arguments: str, code: int = 0, **environ: str) -> str:
        outcome = invoke(tmp_path, *arguments, **environ)
        assert outcome.code == code, outcome.out + outcome.err
        assert SECRET not in outcome.out + outcome.err
        return outcome.out + outcome.err

    here = {"FRAUDWATCH_NOTIFY__URLS_FILE": str(urls)}
    fraudwatch("init")
    assert "notify.urls is empty" in fraudwatch("notify", "test", code=2)
    assert "URL 1 (json): sent" in fraudwatch("notify", "test", **here)
    assert "there are no messages" in fraudwatch("notify", "list", **here)
    assert "no message is waiting" in fraudwatch("notify", "list", "--waiting", **here)
    inbox.status = 500
    assert "failed: URL 1 (json): " in fraudwatch(
        "notify", "test", code=1, FRAUDWATCH_NOTIFY__URLS=json.dumps([inbox.url])
    )
    both = here | {"FRAUDWATCH_NOTIFY__URLS": json.dumps([inbox.url])}
    assert "must not be set together with notify.urls" in fraudwatch("notify", "list", code=2, **both)
    assert "0 messages sent" in fraudwatch("notify", "send", **here)
    assert "there is no message 7" in fraudwatch("notify", "show", "7", code=1)
    config = with_url(load_config(tmp_path / "config.toml", {}), f"sqlite:///{tmp_path / 'fraudwatch.db'}")
    with open_configured(config) as store:
        add_waiting_messages(store, 1)
        outbox.failed(store, outbox.due(store, 1, AT)[0], "no answer", None)
    assert "no answer" in fraudwatch("notify", "list", "--waiting", **here)
    assert "1 could not be sent: URL 1 (json): " in fraudwatch("notify", "retry", code=1, **here)
    inbox.status = 200
    assert fraudwatch("notify", "retry", **here) == "0 messages sent\n"  # its pause is not over
    assert "subject: drift 0\n\nbody\n" in fraudwatch("notify", "show", "1", **here)


def test_messages_are_listed_in_pages_with_aware_times(opener: Opener) -> None:
    store = opener(SMALL)
    session = Session(store, SMALL, "test", at(AT))
    add_waiting_messages(store, 3)
    outbox.sent(store, outbox.due(store, 1, AT)[0], AT + SECOND)
    first = notifications.list_messages(session, limit=2)
    second = notifications.list_messages(session, limit=2, cursor=first.next_cursor)
    assert [one.subject for one in (*first.items, *second.items)] == ["drift 2", "drift 1", "drift 0"]
    assert second.next_cursor is None
    assert second.items[0].sent_at == datetime(2025, 1, 20, 10, 0, 1, tzinfo=UTC)
    waiting = notifications.list_messages(session, waiting=True)
    assert [one.subject for one in waiting.items] == ["drift 2", "drift 1"]
    shown = notifications.show_message(session, second.items[0].message_id)
    assert (shown.status, shown.key, shown.body) == ("sent", "drift:0", "body")
    with pytest.raises(Unknown) as error:
        notifications.show_message(session, 9)
    assert error.value.code == "unknown_message"
