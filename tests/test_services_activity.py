"""Views in the audit trail, and when sessions and tokens were used: written soon, all of them, or nobody sees anything."""

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from pipeline.services.session import Session
from pipeline.services.users import activity
from pipeline.services.users.activity import ActivityRecorder, View
from pipeline.services.users.permissions import Caller
from pipeline.services.users.sessions import log_in, resolve_session
from pipeline.services.users.tokens import NewToken, issue_token, resolve_token
from storage.errors import Unreachable
from storage.frames import MINUTE
from storage.review.audit_chain import check_chain
from tests.support.databases import Opener
from tests.support.sql import query
from tests.support.users import PASSWORD, add_caller, audited, code, hash_fast
from tests.support.worlds import NOW, SMALL

ANN = Caller("ann", "reviewer", 1)
FLAG = View("flag", "t000001", 1)


@pytest.fixture
def session(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> Session:
    """An empty database at a fixed time, with a reviewer whose name is ann."""
    hash_fast(monkeypatch)
    session = Session(opener(SMALL), SMALL, "root", clock=lambda: NOW)
    add_caller(session, "ann", "reviewer")
    return session


@pytest.fixture
def recorder(session: Session) -> Iterator[ActivityRecorder]:
    """It is closed at the end."""
    recorder = ActivityRecorder(session)
    yield recorder
    recorder.close()


def test_views_of_many_are_in_the_chain_once_each_in_order_when_the_process_ends(
    session: Session, recorder: ActivityRecorder
) -> None:
    for number in range(300):
        recorder.viewed(replace(ANN, name=f"u{number % 3}"), View("flag", f"t{number}", 1))
    recorder.viewed(ANN, View("export", "flags", 1234, {"customer_id": "c7"}))
    recorder.close()
    expected = [(f"u{number % 3}", "view flag", f"t{number}") for number in range(300)]
    assert audited(session)[1:] == [*expected, ("ann", "export", "flags")]
    last = query(session.store, "SELECT CAST(after AS TEXT) FROM audit ORDER BY audit_id DESC LIMIT 1")
    assert '"rows": 1234' in str(last[0][0])
    assert check_chain(session.store).is_whole
    assert check_chain(session.store).rows == 302


def test_a_view_is_written_without_being_waited_for(session: Session, recorder: ActivityRecorder) -> None:
    recorder.viewed(ANN, FLAG)
    until = time.monotonic() + 10
    while len(audited(session)) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    assert audited(session)[1:] == [("ann", "view flag", "t000001")]


def test_a_view_does_not_wait_for_another_write_and_is_written_after_it(
    session: Session, recorder: ActivityRecorder
) -> None:
    with session.store.write_exclusive():
        began = time.perf_counter()
        for _ in range(50):
            recorder.viewed(ANN, FLAG)
        assert time.perf_counter() - began < 0.5
    recorder.close()
    assert len(audited(session)) == 51


def test_nobody_looks_while_views_cannot_be_written_and_all_are_written_once_they_can(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity, "BEHIND", 0.2)
    monkeypatch.setattr(activity, "RETRY", 0.02)
    failing = [True]

    def guard(_connection: object) -> None:
        if failing[0]:
            raise Unreachable("the database is away")

    session.store.write_guards.append(guard)
    recorder = ActivityRecorder(session)
    recorder.viewed(ANN, FLAG)
    time.sleep(0.4)
    assert code(recorder.viewed, ANN, FLAG) == "audit_behind"
    failing[0] = False
    until = time.monotonic() + 10
    while len(audited(session)) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    recorder.viewed(ANN, FLAG)
    recorder.close()
    assert len(audited(session)) == 3


def test_uses_are_written_once_a_minute_and_never_set_back(session: Session) -> None:
    begun = log_in(session, "ann", PASSWORD, "192.0.2.1")
    issued = issue_token(session, NewToken("shop", "scorer", timedelta(days=1)))

    def use(at: int) -> None:
        then = replace(session, clock=lambda: at)
        recorder = ActivityRecorder(then)
        recorder.used(resolve_session(then, begun.secret))
        recorder.used(resolve_token(then, issued.secret))
        recorder.close()

    def used() -> tuple[int, int | None]:
        live, token = resolve_session(session, begun.secret), resolve_token(session, issued.secret)
        last = token.last_used_at
        return int(live.used_at.timestamp() * 10**6), None if last is None else int(last.timestamp() * 10**6)

    assert used() == (NOW, None)
    use(NOW + MINUTE - 1)
    assert used() == (NOW, NOW + MINUTE - 1)
    use(NOW + 2 * MINUTE)
    assert used() == (NOW + 2 * MINUTE, NOW + 2 * MINUTE)
    late = ActivityRecorder(replace(session, clock=lambda: NOW + MINUTE))
    live = resolve_session(session, begun.secret)
    late.used(replace(live, used_at=live.used_at - timedelta(minutes=5)))
    late.close()
    assert used()[0] == NOW + 2 * MINUTE
