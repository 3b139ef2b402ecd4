"""What a person may say of a payment, and what comes of it: status of the flag, label, log, on both engines."""

from collections.abc import Iterator
from itertools import count as counting
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from pipeline.errors import InputError
from pipeline.services.review import flags, labels, verdicts
from pipeline.services.review.flags import FlagRequest
from pipeline.services.review.labels import LabelRetraction, NewLabel
from pipeline.services.review.verdicts import NewVerdict, UndoneVerdict, VerdictRequest
from pipeline.services.session import Session
from storage.database.column_types import as_datetime
from storage.database.database import Store
from storage.errors import Refused, StorageError, Unknown
from storage.frames import DAY, MINUTE
from storage.review import verdicts as stored_verdicts
from storage.review.payment_state import PaymentState, payment_states
from tests.support.payments import LABEL_HEADER, write_csv
from tests.support.sql import count, query
from tests.support.worlds import NOW, SMALL, load

UNFLAGGED = """
    SELECT s.transaction_id FROM scores s LEFT JOIN labels l USING (transaction_id)
    WHERE NOT s.flagged AND l.label_id IS NULL ORDER BY s.transaction_id LIMIT 4"""


@pytest.fixture
def session(first_week: Store) -> Session:
    """Each look at the clock is a minute later."""
    minutes = counting()
    return Session(first_week, SMALL, "ana", lambda: NOW + next(minutes) * MINUTE)


@pytest.fixture
def flag(session: Session) -> str:
    return open_flags(session)[0]


@pytest.fixture
def others(session: Session) -> list[str]:
    """Payments without a flag."""
    return [name for (name,) in query(session.store, UNFLAGGED)]


def open_flags(session: Session) -> list[str]:
    return [
        item.transaction_id for item in flags.list_flags(session, FlagRequest("live", status="open")).items
    ]


def say(session: Session, name: str, verdict: str, **details: Any) -> tuple[Any, Any]:
    """Record a verdict, and return status and label."""
    if verdict == "undo":
        (outcome,) = verdicts.undo(session, UndoneVerdict((name,), "mistake"))
    elif verdict == "retract":
        (outcome,) = labels.retract_labels(session, LabelRetraction((name,), "mistake", **details))
    elif "source" in details:
        (outcome,) = labels.add_labels(session, NewLabel((name,), verdict, **details))  # type: ignore[arg-type]
    else:
        (outcome,) = verdicts.record(session, NewVerdict((name,), verdict, **details))  # type: ignore[arg-type]
    return outcome.after, outcome.is_fraud


def report(session: Session, folder: Path, name: str) -> tuple[Any, Any]:
    """A chargeback arrives by file."""
    known = f"{as_datetime(session.now):%Y-%m-%dT%H:%M:%SZ}"
    rows = [f"{name},1,{known},chargeback"]
    load(
        session.store,
        SMALL,
        "labels",
        write_csv(folder / "c.csv", LABEL_HEADER, rows),
        now=session.now,
        history=False,
    )
    return query(
        session.store, f"SELECT status, status = 'fraud' FROM flags WHERE transaction_id = '{name}'"
    )[0]  # type: ignore[return-value]


# What is said, then the status of the flag and whether the payment counts as fraud.
LIFE: list[tuple[str, dict[str, Any], tuple[str, bool | None]]] = [
    ("fraud", {"type": "stolen_card", "action": "blocked"}, ("fraud", True)),
    ("fraud", {"type": "stolen_card"}, ("fraud", True)),  # once more: no second label
    ("genuine", {}, ("genuine", False)),  # the newest counts
    ("undo", {}, ("fraud", True)),  # back to the label before
    ("undo", {}, ("open", None)),
    ("no_opinion", {"action": "contacted"}, ("closed", None)),
    ("genuine", {}, ("genuine", False)),
    ("undo", {}, ("closed", None)),  # back to what somebody closed
    ("undo", {}, ("open", None)),
    ("genuine", {}, ("genuine", False)),
    ("chargeback", {}, ("fraud", True)),  # a later report wins over a reviewer
    ("genuine", {"note": "the bank withdrew it"}, ("genuine", False)),  # who overrules it with a reason
    ("genuine", {}, ("genuine", False)),  # and needs none to repeat that
    ("fraud", {"source": "customer"}, ("fraud", True)),  # a later report again
    ("retract", {"source": "customer"}, ("genuine", False)),
    ("undo", {}, ("fraud", True)),  # back to the chargeback, which came after the first "genuine"
    ("retract", {"source": "chargeback"}, ("genuine", False)),
    ("retract", {}, ("open", None)),  # the label that counts
]
# Rows of labels: 2 + 1 + 1 + 1 verdicts, 1 chargeback, 1 customer, 7 retractions but that of the closed flag.
LOG = [
    "fraud", "fraud", "genuine", "retracted", "retracted", "no_opinion", "genuine", "retracted", "retracted",
    "genuine", "genuine", "genuine", "fraud", "retracted", "retracted", "retracted", "retracted",
]  # fmt: skip


def test_the_life_of_a_flag(session: Session, flag: str, tmp_path: Path) -> None:
    before = count(session.store, "labels")
    for step, (verdict, details, expected) in enumerate(LIFE):
        if verdict == "chargeback":
            outcome = report(session, tmp_path, flag)
            with pytest.raises(Refused) as caught:
                say(session, flag, "genuine")
            assert caught.value.code == "overrules"
            (listed,) = flags.list_flags(session, FlagRequest("live", cleared_then_reported=True)).items
            assert (listed.transaction_id, listed.verdict, listed.label_source) == (
                flag,
                "genuine",
                "chargeback",
            )
        else:
            outcome = say(session, flag, verdict, **details)
        status, is_fraud = outcome
        assert (status, None if is_fraud is None else bool(is_fraud)) == expected, (step, verdict)
    assert not flags.list_flags(session, FlagRequest("live", cleared_then_reported=True)).items
    log = verdicts.list_verdicts(session, VerdictRequest(flag)).items[::-1]
    assert [item.verdict for item in log] == LOG
    assert (log[0].type, log[0].action, log[0].note, log[0].by) == ("stolen_card", "blocked", None, "ana")
    assert count(session.store, "audit") == len(LOG)
    assert count(session.store, "labels") == before + 2 + 1 + 1 + 1 + 1 + 1 + 7
    record = flags.show_flag(session, "live", flag)
    assert (record.status, record.reviewed_at, record.reviewer) == ("open", None, None)
    assert (record.verdict, record.verdict_note) == ("retracted", "mistake")


def test_any_payment_can_be_labelled(session: Session, others: list[str]) -> None:
    known = as_datetime(NOW - 3 * DAY)
    assert say(session, others[0], "genuine") == (None, False)
    assert say(session, others[1], "fraud", source="investigation", known_at=known) == (None, True)
    assert say(session, others[2], "fraud", source="customer", type="scam", known_at=known) == (None, True)
    # a person's finding overrules what the customer said, here with a note
    assert say(session, others[2], "genuine", source="investigation", note="paid twice") == (None, False)
    stored = query(
        session.store,
        "SELECT transaction_id, source, is_fraud, type, known_at < recorded_at FROM labels WHERE batch_id IS NULL ORDER BY label_id",
    )
    assert [tuple(row) for row in stored] == [
        (others[0], "investigation", False, None, False),
        (others[1], "investigation", True, None, True),
        (others[2], "customer", True, "scam", True),
        (others[2], "investigation", False, None, False),
    ]


def test_the_newest_answer_of_people_counts_whatever_its_source(
    session: Session, others: list[str], tmp_path: Path
) -> None:
    """A file brought a review, which ranks before an investigation: the next answer is a review, too."""
    rows = [f"{others[0]},1,2025-02-01T00:00:00Z,review"]
    load(session.store, SMALL, "labels", write_csv(tmp_path / "r.csv", LABEL_HEADER, rows), now=NOW)
    assert say(session, others[0], "genuine", source="investigation") == (None, False)
    sources = f"SELECT source FROM labels WHERE transaction_id = '{others[0]}'"
    assert query(session.store, sources) == [("review",), ("review",)]


def test_each_verdict_has_its_own_label_although_all_were_given_at_one_instant(
    first_week: Store, flag: str
) -> None:
    still = Session(first_week, SMALL, "ana", lambda: NOW + DAY)
    for verdict in ("fraud", "genuine", "undo"):
        say(still, flag, verdict)
    told = query(
        first_week,
        "SELECT v.verdict, l.is_fraud, l.retracts IS NOT NULL FROM verdicts v LEFT JOIN labels l USING (label_id) "
        f"WHERE v.transaction_id = '{flag}' ORDER BY v.verdict_id",
    )
    said = [
        (verdict, None if is_fraud is None else bool(is_fraud), bool(took_back))
        for verdict, is_fraud, took_back in told
    ]
    assert said == [("fraud", True, False), ("genuine", False, False), ("retracted", None, True)]


def test_many_payments_get_a_verdict_together_or_not_at_all(
    session: Session, others: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_verdicts, "ROWS_A_WRITE", 3)
    several = tuple(open_flags(session)[:5])
    for code, ids in (
        ("unknown_transaction", (*several, "gone-1", "gone-2")),
        ("no_flag", (*several, others[0])),
    ):
        with pytest.raises(Unknown) as caught:
            verdicts.record(session, NewVerdict(ids, "no_opinion"))
        assert caught.value.code == code
        assert all(repr(name) in str(caught.value) for name in ids[5:])
    assert count(session.store, "verdicts") == count(session.store, "audit") == 0

    outcomes = verdicts.record(session, NewVerdict((*several, several[0]), "genuine"))
    assert [(one.transaction_id, one.after) for one in outcomes] == [(name, "genuine") for name in several]
    shared = {row[0] for row in query(session.store, "SELECT bulk_id FROM verdicts")}
    assert len(shared) == 1
    assert {
        row[0] for row in query(session.store, "SELECT bulk_id FROM labels WHERE batch_id IS NULL")
    } == shared
    with pytest.raises(Refused) as refused:  # nobody clears a backlog by mistake over answers
        verdicts.record(session, NewVerdict(several, "no_opinion"))
    assert refused.value.code == "answered"
    undone = verdicts.undo(session, UndoneVerdict(several, "the wrong list"))
    assert {one.after for one in undone} == {"open"}


def test_an_undo_that_somebody_has_answered_since_undoes_nothing(
    session: Session, others: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if they are so many that they are written in several parts."""
    monkeypatch.setattr(stored_verdicts, "ROWS_A_WRITE", 1)
    monkeypatch.setattr(stored_verdicts, "ROWS_OF_MANY", 1)
    verdicts.record(session, NewVerdict(tuple(others), "fraud"))

    def states() -> list[PaymentState]:
        with session.store.read() as connection:
            return payment_states(connection, "live", others)

    seen = {state.transaction_id: state.version for state in states()}
    say(session, others[-1], "genuine")
    before = states()
    with pytest.raises(Refused) as caught:
        verdicts.undo(session, UndoneVerdict(tuple(others), "?", seen))
    assert caught.value.code == "seen_another"
    assert repr(others[-1]) in str(caught.value)
    assert states() == before
    undone = verdicts.undo(session, UndoneVerdict(tuple(others[:-1]), "?", seen))
    assert [one.is_fraud for one in undone] == [None] * (len(others) - 1)


def test_an_answer_to_many_takes_as_many_statements_as_one_to_few(backfilled: Store) -> None:
    session, executed = Session(backfilled, SMALL, "ana", lambda: NOW), list[str]()

    def count_statement(_connection: Any, _cursor: Any, statement: str, *_others: Any) -> None:
        executed.append(statement)

    event.listen(backfilled.engine, "before_cursor_execute", count_statement)
    scored = "SELECT transaction_id FROM scores WHERE NOT flagged ORDER BY transaction_id LIMIT 40"
    (first, *flagged), names = open_flags(session), [name for (name,) in query(backfilled, scored)]
    counts = []
    for part in ((first, names[0]), (*flagged, *names[1:])):
        for answer in (lambda ids: verdicts.record(session, NewVerdict(ids, "fraud")), lambda ids: verdicts.undo(session, UndoneVerdict(ids, "?"))):  # fmt: skip
            executed.clear()
            answer(part)
            counts.append(len(executed))
    assert flagged
    assert counts[:2] == counts[2:]


def refused(session: Session, flag: str) -> Iterator[tuple[str, Any]]:
    record, add = verdicts.record, labels.add_labels
    yield "no_transaction", lambda: record(session, NewVerdict((), "fraud"))
    yield "bad_transaction_id", lambda: record(session, NewVerdict(("a\0b",), "fraud"))
    yield "unknown_fraud_type", lambda: record(session, NewVerdict((flag,), "fraud", "bad_luck"))
    yield "type_without_fraud", lambda: record(session, NewVerdict((flag,), "genuine", "scam"))
    yield "future_time", lambda: add(session, NewLabel((flag,), "fraud", known_at=as_datetime(NOW + DAY)))
    yield "no_verdict", lambda: verdicts.undo(session, UndoneVerdict((flag,), "?"))
    yield "no_label", lambda: labels.retract_labels(session, LabelRetraction((flag,), "?"))


def test_what_cannot_be_said_is_refused_with_a_code(session: Session, flag: str) -> None:
    for code, call in refused(session, flag):
        with pytest.raises((InputError, StorageError)) as caught:
            call()
        assert caught.value.code == code  # type: ignore[union-attr]
    assert count(session.store, "verdicts") == 0
