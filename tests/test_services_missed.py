"""Missed frauds: which they are, when they became known, and what would have caught them."""

import numpy as np
import pytest

from pipeline.schedule.run_context import LIVE
from pipeline.services.review.missed import MissedFraud, MissedRequest, count_missed, list_missed
from pipeline.services.session import Session
from storage.database.column_types import as_datetime, as_texts
from storage.database.database import Store
from storage.frames import DAY, HOUR
from tests.support.reviews import answer
from tests.support.sql import execute, query
from tests.support.worlds import FROM, NOW, SMALL

KNOWN = NOW - 3 * HOUR
UNFLAGGED = """
    SELECT s.transaction_id FROM scores s WHERE s.policy = 'live'
    AND s.transaction_id NOT IN (SELECT transaction_id FROM flags) ORDER BY s.score DESC, s.transaction_id"""


@pytest.fixture
def session(first_week: Store) -> Session:
    """A week of scores, and no label."""
    execute(
        first_week,
        "DELETE FROM labels",
        "UPDATE flags SET status = 'open', reviewer = NULL, reviewed_at = NULL",
    )
    return Session(first_week, SMALL, "test", clock=lambda: NOW)


def report(session: Session, transaction_id: str, known_at: int = KNOWN) -> None:
    """A chargeback."""
    at = as_texts(np.array([known_at]))[0]
    execute(
        session.store,
        f"""INSERT INTO labels (label_id, transaction_id, is_fraud, source, known_at, recorded_at, "by")
        SELECT COALESCE(MAX(label_id), 0) + 1, '{transaction_id}', TRUE, 'chargeback', '{at}', '{at}', 'test' FROM labels""",
    )


def listed(session: Session, **request: object) -> dict[str, MissedFraud]:
    """Missed frauds by their ids."""
    page = list_missed(session, MissedRequest(LIVE, **request))  # type: ignore[arg-type]
    return {miss.payment.transaction_id: miss for miss in page.items}


def test_frauds_without_a_flag_and_cleared_ones_are_missed_and_others_are_not(session: Session) -> None:
    unflagged = query(session.store, UNFLAGGED)[3][0]
    flagged = [
        row[0] for row in query(session.store, "SELECT transaction_id FROM flags WHERE channel <> 'audit'")
    ]
    cleared, caught = flagged[:2]
    answer(session.store, cleared, "genuine", NOW - DAY)
    for name in (unflagged, cleared, caught):
        report(session, name)
    assert {name: miss.kind for name, miss in listed(session).items()} == {
        unflagged: "unflagged",
        cleared: "cleared",
    }
    assert set(listed(session, kind="cleared")) == {cleared}
    assert {each.kind: each.payments for each in count_missed(session, MissedRequest(LIVE))} == {
        "unflagged": 1,
        "cleared": 1,
    }


def test_missed_frauds_are_counted_with_what_was_lost_and_not_with_their_amounts(session: Session) -> None:
    unflagged = query(session.store, UNFLAGGED)[3][0]
    report(session, unflagged)
    execute(session.store, "UPDATE labels SET amount = 0.5")  # as much was disputed
    (count,) = count_missed(session, MissedRequest(LIVE))
    lost = query(session.store, f"SELECT loss FROM transaction_losses WHERE transaction_id = '{unflagged}'")
    assert (count.payments, float(count.loss.value)) == (1, pytest.approx(float(lost[0][0])))
    assert count.loss.value < listed(session)[unflagged].payment.amount.value


def test_what_was_drawn_at_random_only_is_missed_too(session: Session) -> None:
    name = query(session.store, "SELECT transaction_id FROM flags WHERE channel <> 'audit'")[0][0]
    execute(session.store, f"UPDATE flags SET channel = 'audit' WHERE transaction_id = '{name}'")
    report(session, name)
    assert listed(session)[name].kind == "unflagged"


def test_what_was_never_to_be_scored_is_not_missed(session: Session) -> None:
    before = query(
        session.store,
        "SELECT transaction_id FROM transactions WHERE event_time < '2025-01-20 00:00:00.000000' ORDER BY event_time DESC LIMIT 1",
    )[0][0]
    inside = query(session.store, UNFLAGGED)[0][0]
    report(session, before)
    report(session, inside)
    execute(session.store, f"DELETE FROM scores WHERE transaction_id = '{inside}'")
    (miss,) = listed(session).values()
    assert (miss.payment.transaction_id, miss.payment.score, miss.unflagged_above) == (inside, None, None)


def test_frauds_are_listed_from_the_instant_on_at_which_they_became_known(session: Session) -> None:
    first, second = (row[0] for row in query(session.store, UNFLAGGED)[:2])
    report(session, first, KNOWN - DAY)
    report(session, second, KNOWN)
    assert list(listed(session)) == [second, first]
    assert set(listed(session, since=as_datetime(KNOWN - DAY))) == {first, second}
    assert set(listed(session, since=as_datetime(KNOWN - DAY + 1))) == {second}
    report(session, query(session.store, UNFLAGGED)[2][0], FROM - 57 * DAY)
    assert set(listed(session)) == {first, second}


def test_a_missed_fraud_says_how_far_it_was_from_a_flag_and_who_else_has_flagged_it(session: Session) -> None:
    store = session.store
    name = query(store, UNFLAGGED)[5][0]
    report(session, name)
    execute(
        store,
        f"""INSERT INTO flags (policy, transaction_id, run_id, model_id, channel, reasons, status, score, event_time, amount_base)
        SELECT 'other', s.transaction_id, s.run_id, s.model_id, 'model', '[]', 'open', s.score, t.event_time, t.amount_base
        FROM scores s JOIN transactions t ON t.transaction_id = s.transaction_id WHERE s.transaction_id = '{name}'""",
    )
    miss = listed(session)[name]
    payment = miss.payment
    value, threshold = query(
        store, f"SELECT decision_value, threshold FROM scores WHERE transaction_id = '{name}'"
    )[0]
    assert (miss.decision_value, miss.distance) == (pytest.approx(value), pytest.approx(threshold - value))
    assert miss.flagged_by == ("other",)
    day = f"{payment.event_time:%Y-%m-%d}"
    above = query(
        store,
        f"""SELECT COUNT(*) FROM scores s JOIN visible_transactions t ON t.transaction_id = s.transaction_id
        WHERE CAST(t.event_time AS TEXT) LIKE '{day}%' AND s.decision_value >= {value!r} AND s.policy = 'live'
        AND s.transaction_id NOT IN (SELECT transaction_id FROM flags WHERE policy = 'live')""",
    )
    assert miss.unflagged_above == above[0][0] >= 1


def test_only_frauds_that_were_known_when_it_happened_speak_for_a_rule(session: Session) -> None:
    store = session.store
    name, customer, at = query(
        store,
        """SELECT t.transaction_id, t.customer_id, t.event_time FROM transactions t JOIN scores s
        ON s.transaction_id = t.transaction_id WHERE s.transaction_id NOT IN (SELECT transaction_id FROM flags)
        ORDER BY t.event_time DESC LIMIT 1""",
    )[0]
    report(session, name)
    happened = int(listed(session)[name].payment.event_time.timestamp()) * 1_000_000
    earlier = [
        row[0]
        for row in query(
            store,
            f"SELECT transaction_id FROM transactions WHERE customer_id = '{customer}' AND event_time < '{at}' ORDER BY event_time DESC",
        )
    ]
    report(session, earlier[0], happened - HOUR)
    report(session, earlier[1], happened + HOUR)
    assert listed(session)[name].known_frauds.get("customer_id") == 1
