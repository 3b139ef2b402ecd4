"""The label of a payment at every instant: arrays, views and flags agree, whatever became known in which order; both engines."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from sqlalchemy import bindparam, insert, text

from pipeline.features.label_history import label_events, status_at
from storage.admin.undo import undo_batch
from storage.database import tables
from storage.database.column_types import Instant
from storage.database.database import Store
from storage.database.views import LABELS_AS_OF
from storage.frames import DAY, FRAUD, GENUINE, HOUR, NEITHER, UNKNOWN
from storage.ingest import history
from storage.monitoring.quality_metrics import unanswered_flag_times
from storage.queries import report_counts
from storage.review.flag_status import update_flags, update_flags_of_batch
from tests.support.databases import Opener
from tests.support.payments import START
from tests.support.sql import query
from tests.support.worlds import SMALL

PRECEDENCE = SMALL.labels.precedence
HISTORY, ARRIVED, WITHDRAWN, PAYMENTS = 1, 2, 3, 4  # batches; the second became visible on day 20
VISIBLE_AT = {HISTORY: START, ARRIVED: START + 20 * DAY, WITHDRAWN: START, PAYMENTS: START}
STATUS = {"fraud": FRAUD, "genuine": GENUINE, "neither": NEITHER, "-": UNKNOWN}
LAST = 60

# What each label says, and what it is in the table.
SAYS: dict[str, dict[str, Any]] = {
    "fraud": {"is_fraud": True},
    "genuine": {"is_fraud": False},
    "not_received": {"type": "not_received", "stage": "dispute", "reason": "13.1"},
    "won": {"stage": "won", "amount": 5.0},  # money only
    "inquiry": {"stage": "inquiry"},
}

# name, labels in the order in which they are stored: (known on day, source, what it says), and the label from which day
# on. A fourth value is the day of recording, where that is later. ("retract", n) takes back the n-th label.
CASES: list[tuple[str, list[tuple[Any, ...]], dict[int, str]]] = [
    ("nothing is known", [], {0: "-"}),
    ("a fraud", [(5, "chargeback", "fraud")], {0: "-", 5: "fraud"}),
    ("recorded late", [(5, "chargeback", "fraud", 9)], {0: "-", 9: "fraud"}),
    # the newest of a source holds, and the source that ranks first
    ("a customer confirms", [(5, "customer", "fraud"), (6, "customer", "genuine")], {5: "fraud", 6: "genuine"}),
    ("a reviewer overrules a customer", [(5, "customer", "fraud"), (8, "review", "genuine")], {5: "fraud", 8: "genuine"}),
    ("an audit ranks first", [(5, "review", "genuine"), (6, "audit", "fraud")], {5: "genuine", 6: "fraud"}),
    # a chargeback wins over a reviewer's earlier "genuine", and a later review overrules it again
    ("charged back after genuine", [(5, "review", "genuine"), (9, "chargeback", "fraud")], {5: "genuine", 9: "fraud"}),
    ("and after an audit", [(5, "audit", "genuine"), (9, "customer", "fraud")], {5: "genuine", 9: "fraud"}),
    (
        "reviewed again",
        [(5, "review", "genuine"), (9, "chargeback", "fraud"), (12, "review", "genuine")],
        {5: "genuine", 9: "fraud", 12: "genuine"},
    ),
    ("at the same instant the reviewer wins", [(5, "review", "genuine"), (5, "chargeback", "fraud")], {5: "genuine"}),
    (
        "a chargeback that was recorded late wins late",
        [(5, "review", "genuine"), (9, "chargeback", "fraud", 15)],
        {5: "genuine", 15: "fraud"},
    ),
    (
        "a review that was recorded late, of before the chargeback",
        [(9, "chargeback", "fraud"), (5, "review", "genuine", 15)],
        {9: "fraud", 15: "fraud"},
    ),
    # a reviewer contradicts no reviewer in this way
    ("an audit's genuine stays", [(5, "audit", "genuine"), (9, "review", "fraud")], {5: "genuine", 9: "genuine"}),
    (
        "an older fraud of the reviewer comes back",
        [(3, "review", "fraud"), (5, "review", "genuine"), (9, "chargeback", "fraud")],
        {3: "fraud", 5: "genuine", 9: "fraud"},
    ),
    # disputes
    ("not received", [(5, "chargeback", "not_received")], {0: "-", 5: "neither"}),
    ("not received contradicts no reviewer", [(5, "review", "genuine"), (9, "chargeback", "not_received")], {5: "genuine"}),
    ("from not received to fraud", [(5, "chargeback", "not_received"), (9, "chargeback", "fraud")], {5: "neither", 9: "fraud"}),
    ("a won dispute keeps its label", [(5, "chargeback", "fraud"), (9, "chargeback", "won")], {5: "fraud", 9: "fraud"}),
    ("an inquiry is no label", [(5, "chargeback", "inquiry"), (9, "chargeback", "fraud")], {5: "-", 9: "fraud"}),
    # retractions
    ("retracted", [(5, "review", "fraud"), (7, "review", ("retract", 0))], {5: "fraud", 7: "-"}),
    ("a retraction that was recorded late", [(5, "review", "fraud"), (7, "review", ("retract", 0), 9)], {5: "fraud", 9: "-"}),
    (
        "back to the label before",
        [(5, "review", "genuine"), (6, "review", "fraud"), (7, "review", ("retract", 1))],
        {5: "genuine", 6: "fraud", 7: "genuine"},
    ),
    (
        "back to the reviewer's genuine",
        [(5, "review", "genuine"), (9, "customer", "fraud"), (11, "customer", ("retract", 1))],
        {5: "genuine", 9: "fraud", 11: "genuine"},
    ),
    (
        "retracted, then said again",
        [(5, "review", "fraud"), (7, "review", ("retract", 0)), (9, "review", "fraud")],
        {5: "fraud", 7: "-", 9: "fraud"},
    ),
    ("a dispute that was a mistake", [(5, "chargeback", "not_received"), (7, "chargeback", ("retract", 0))], {5: "neither", 7: "-"}),
]  # fmt: skip


@pytest.fixture
def store(opener: Opener) -> Store:
    """Empty tables with the batches."""
    opened = opener(SMALL)
    rows = [
        {
            "batch_id": batch, "kind": "transactions" if batch == PAYMENTS else "labels", "source": "test",
            "status": "withdrawn" if batch == WITHDRAWN else "done", "history": batch in (HISTORY, PAYMENTS),
            "holder": "test", "started_at": START, "visible_at": visible_at,
        }
        for batch, visible_at in VISIBLE_AT.items()
    ]  # fmt: skip
    with opened.write() as connection:
        connection.execute(insert(tables.batches), rows)
    return opened


def add_payments(store: Store, ids: Sequence[str]) -> None:
    rows = [
        {
            "transaction_id": name,
            "event_time": START + k,
            "amount": 10,
            "amount_base": 10,
            "batch_id": PAYMENTS,
        }
        for k, name in enumerate(ids)
    ]
    with store.write() as connection:
        connection.execute(insert(store.transactions), rows)


def add_flags(store: Store, ids: Sequence[str], status: str = "open") -> None:
    rows = [
        {
            "policy": "live", "transaction_id": name, "run_id": 1, "model_id": 1, "channel": "outlier", "reasons": [],
            "status": status, "reviewed_at": None if status == "open" else START,
        }
        for name in ids
    ]  # fmt: skip
    with store.write() as connection:
        connection.execute(insert(tables.flags), rows)


def add_label(store: Store, name: str, earlier: list[int], label: tuple[Any, ...]) -> int:
    """Store a label without a batch; returns its label_id."""
    day, source, says, *late = label
    values = {"retracts": earlier[says[1]]} if isinstance(says, tuple) else SAYS[says]
    times = {"known_at": START + day * DAY, "recorded_at": START + (late or [day])[0] * DAY}
    row = {"transaction_id": name, "source": source, "by": "test", **times, **values}
    with store.write() as connection:
        inserted = connection.execute(insert(tables.labels), row)
    assert inserted.inserted_primary_key is not None
    return int(inserted.inserted_primary_key[0])


def by_arrays(store: Store, instant: int) -> dict[str, int]:
    """The status of every payment at an instant, from what a computation reads."""
    rows, labels = (
        load(store, START, START + DAY) for load in (history.load_transactions, history.load_labels)
    )
    status = status_at(rows, label_events(rows, labels, PRECEDENCE), instant)
    return dict(zip(rows.transaction_id.tolist(), status.tolist(), strict=True))


def by_sql(store: Store, ids: Sequence[str], sql: str, instant: int | None = None) -> dict[str, int]:
    """The same from a query for the label that holds."""
    typed = text(f"SELECT transaction_id, is_fraud FROM ({sql}) h")
    if instant is not None:
        typed = typed.bindparams(bindparam("as_of", instant, Instant))
    with store.read() as connection:
        rows = connection.execute(typed).all()
    assert len({row.transaction_id for row in rows}) == len(rows)
    statuses = {row.transaction_id: NEITHER if row.is_fraud is None else int(row.is_fraud) for row in rows}
    return dict.fromkeys(ids, UNKNOWN) | statuses


def test_the_label_of_a_payment_at_each_instant(store: Store) -> None:
    ids = [name for name, _, _ in CASES]
    add_payments(store, ids)
    for name, given, _ in CASES:
        label_ids: list[int] = []
        for label in given:
            label_ids.append(add_label(store, name, label_ids, label))
    for day in range(18):
        expected = {
            name: STATUS[answer] for name, _, answers in CASES for at, answer in answers.items() if at <= day
        }
        expected = dict.fromkeys(ids, UNKNOWN) | expected
        assert by_arrays(store, START + day * DAY) == expected, f"day {day}"
        assert by_sql(store, ids, LABELS_AS_OF, START + day * DAY) == expected, f"day {day}"
    assert by_sql(store, ids, "SELECT * FROM current_labels") == expected
    reasons = "SELECT type, reason, stage FROM current_labels WHERE transaction_id = 'not received'"
    assert query(store, reasons) == [("not_received", "13.1", "dispute")]


@pytest.mark.parametrize("first", ["open", "closed", "expired"])
def test_a_flag_has_the_status_of_the_label_that_holds(store: Store, first: str) -> None:
    """After every label. Without one that says fraud or genuine it is closed if somebody closed it, else open again."""
    ids = [name for name, _, _ in CASES]
    add_payments(store, ids)
    add_flags(store, ids, first)
    if first == "closed":
        closed = {"verdict": "no_opinion", "action": "none", "at": START, "by": "ana"}
        with store.write() as connection:
            connection.execute(insert(tables.verdicts), [{"transaction_id": name, **closed} for name in ids])
    label_ids: dict[str, list[int]] = {name: [] for name in ids}
    answered: set[str] = set()
    words = {FRAUD: "fraud", GENUINE: "genuine"}
    for place in range(3):
        for name, given, _ in CASES:
            if place < len(given):
                label_ids[name].append(add_label(store, name, label_ids[name], given[place]))
        with store.write() as connection:
            update_flags(connection, ids)
        current = by_sql(store, ids, "SELECT * FROM current_labels")
        answered |= {name for name, status in current.items() if status in words}
        rest = {name: "open" if name in answered and first == "expired" else first for name in ids}
        flags = dict(query(store, "SELECT transaction_id, status FROM flags"))
        assert flags == {name: words.get(current[name], rest[name]) for name in ids}, f"label {place}"
    assert query(store, "SELECT COUNT(*) FROM flags WHERE (status = 'open') <> (reviewed_at IS NULL)") == [
        (0,)
    ]


def test_the_report_counts_as_mature_what_is_fraud_genuine_or_silent(store: Store) -> None:
    """Every payment is old enough for silence; a dispute about something else is no answer all the same."""
    ids = [name for name, _, _ in CASES]
    add_payments(store, ids)
    add_flags(store, ids)
    shared = {
        "policy": "live",
        "run_id": 1,
        "model_id": 1,
        "score": 0.5,
        "channel": "outlier",
        "flagged": True,
    }
    with store.write() as connection:
        rows = [{"transaction_id": name, "strategy": "outlier", **shared} for name in ids]
        connection.execute(insert(tables.scores), rows)
    for name, given, _ in CASES:
        label_ids: list[int] = []
        for label in given:
            label_ids.append(add_label(store, name, label_ids, label))
    for day in (4, 6, 10, 17):
        as_of = START + day * DAY
        scope = report_counts.Scope("live", START, START + DAY, as_of, START + DAY, {})
        counted = {(row["is_fraud"], row["mature"]): row["n"] for row in report_counts.daily(store, scope)}
        meaning = {FRAUD: (True, True), GENUINE: (False, True), UNKNOWN: (None, True), NEITHER: (None, False)}
        assert counted == Counter(meaning[status] for status in by_arrays(store, as_of).values()), (
            f"day {day}"
        )


def test_arrays_and_views_agree_on_any_labels(store: Store) -> None:
    """Random labels of every kind, batch and time, at many instants; every status and conflict occurs."""
    rng = np.random.default_rng(5)
    ids = [f"t{k:03}" for k in range(150)]
    add_payments(store, ids)
    sources = [*PRECEDENCE, "rumour"]
    rows, keys, of_id = [], set(), dict[int, str]()
    for label_id in range(1, 900):
        name, source = ids[int(rng.integers(len(ids)) ** 2 // len(ids))], sources[rng.integers(len(sources))]
        known_at = START + int(rng.integers(LAST)) * 12 * HOUR
        batch = int(rng.choice([0, 0, HISTORY, ARRIVED, WITHDRAWN]))
        # every third retraction names a label of whichever payment: that of another one stays
        earlier = [other for other, its in of_id.items() if its == name or label_id % 3 == 0]
        says = ("fraud", "fraud", "genuine", "genuine", "not_received", "won", "inquiry", "retract")[
            rng.integers(8)
        ]
        values = {"retracts": int(rng.choice(earlier or [label_id]))} if says == "retract" else SAYS[says]
        key = (
            name,
            source,
            known_at,
            *(values.get(column) for column in ("is_fraud", "type", "stage", "retracts")),
        )
        if key in keys:
            continue
        keys.add(key)
        of_id[label_id] = name
        rows.append({
            "label_id": label_id, "transaction_id": name, "source": source, "known_at": known_at, "by": "test",
            "batch_id": batch or None, "recorded_at": None if batch else known_at + int(rng.integers(3)) * DAY,
            **dict.fromkeys(("is_fraud", "type", "stage", "reason", "amount", "retracts")), **values,
        })  # fmt: skip
    with store.write() as connection:
        connection.execute(insert(tables.labels), rows)
    statuses = set()
    for instant in (START, *(START + day * DAY + 1 for day in range(1, 40, 3))):
        expected = by_arrays(store, instant)
        statuses |= set(expected.values())
        assert by_sql(store, ids, LABELS_AS_OF, instant) == expected
    assert by_sql(store, ids, "SELECT * FROM current_labels") == by_arrays(store, START + 400 * DAY)
    assert statuses == {FRAUD, GENUINE, UNKNOWN, NEITHER}


def test_an_undone_batch_gives_flags_the_status_of_what_is_left(store: Store) -> None:
    """A chargeback that contradicted a reviewer, a retraction, and a first label, all of the batch."""
    ids = ["contradicted", "retracted", "labelled"]
    add_payments(store, ids)
    add_flags(store, ids)
    add_label(store, "contradicted", [], (1, "review", "genuine"))
    fraud = add_label(store, "retracted", [], (1, "review", "fraud"))
    shared = {"source": "chargeback", "known_at": START + 3 * DAY, "batch_id": ARRIVED, "by": "test"}
    rows = [
        {"transaction_id": "contradicted", "is_fraud": True, "retracts": None, **shared},
        {"transaction_id": "retracted", "is_fraud": None, "retracts": fraud, **shared},
        {"transaction_id": "labelled", "is_fraud": True, "retracts": None, **shared},
    ]
    with store.write() as connection:
        update_flags(connection, ids)
        connection.execute(insert(tables.labels), rows)
        update_flags_of_batch(connection, ARRIVED)
    status = "SELECT transaction_id, status, reviewer FROM flags ORDER BY transaction_id"
    assert query(store, status) == [
        ("contradicted", "fraud", "chargeback"), ("labelled", "fraud", "chargeback"), ("retracted", "open", None),
    ]  # fmt: skip
    undo_batch(store, ARRIVED, "mistake", "ana", START + 30 * DAY)
    assert query(store, status) == [
        ("contradicted", "genuine", "test"), ("labelled", "open", None), ("retracted", "fraud", "test"),
    ]  # fmt: skip
    undone = query(store, "SELECT COUNT(*) FROM withdrawn_rows WHERE table_name = 'labels'")
    assert undone == [(3,)]


def test_a_flag_waits_for_an_answer_while_no_label_that_holds_says_fraud_or_genuine(store: Store) -> None:
    """As known at an instant, whatever has become of the flag since."""
    ids = [name for name, _, _ in CASES]
    add_payments(store, ids)
    add_flags(store, ids)
    for name, given, _ in CASES:
        label_ids: list[int] = []
        for label in given:
            label_ids.append(add_label(store, name, label_ids, label))
    with store.write() as connection:
        update_flags(connection, ids)
    for day in range(18):
        status = by_arrays(store, START + day * DAY)
        waiting = [START + k for k, name in enumerate(ids) if status[name] not in (FRAUD, GENUINE)]
        assert unanswered_flag_times(store, "live", START, START + day * DAY).tolist() == (
            waiting if day else []
        )
