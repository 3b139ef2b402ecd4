"""
Lives of payments: what counts as their label, what their flags say and what they cost, day by day.

All are lived through in one database by scheduled runs: files arrive, people answer, the daemon ticks. Those of the picture in
docs/labels.md are among them. A backfill of the same rows then says the same. Both engines.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import bindparam, text

from docs import payment_lives
from docs.payment_lives import (
    FRAUD,
    GENUINE,
    LIVES,
    MATURITY,
    NEITHER,
    NO_SILENCE,
    NOTHING_YET,
    SILENCE,
    Life,
)
from pipeline.config.config import Config
from pipeline.features import history as feature_history
from pipeline.features.label_history import status_at
from pipeline.rules.engine import stored_text
from pipeline.runs.backfill import backfill
from pipeline.runs.scoring_run import run
from storage import frames
from storage.database.column_types import Instant
from storage.database.database import Store
from storage.database.views import LABELS_AS_OF
from storage.frames import DAY, HOUR
from storage.review import rules_and_mutes, verdicts
from storage.runs import scoring_queue
from tests.support.databases import Copier, World
from tests.support.payments import START, payments, time_text, write_csv
from tests.support.reviews import answer
from tests.support.sql import RUN_TABLES, forget, query
from tests.support.worlds import load

CONFIG = Config.model_validate({
    "schema": {"entities": ["customer_id", "terminal_id"], "categorical": ["status"]},
    "labels": {"maturity": f"{MATURITY}d"},
    "features": {"windows": ["1d"]},
    "training": {"min_rows": 200, "every": "28d"},
    "strategy": {"method": "outlier"},
    "outlier": {"detector": "hbos"},
    "alerts": {"per_day": 1, "expire": "15d"},
    "drift": {"metrics": ["missing"]},
    "schedule": {"window": "1d"},
})  # fmt: skip
HEADER = "transaction_id,event_time,customer_id,terminal_id,amount,status,kind,original_id"
DISPUTES = "transaction_id,is_fraud,reason,stage,amount,source,known_at"
FIRST = START + 26 * DAY  # 2025-01-27, a Monday: the first training
PAID = FIRST + DAY + 10 * HOUR  # day 0
FLAGGED, USUAL = 9_000, 20  # amounts: a rule flags the large ones


@dataclass(frozen=True)
class Detail(Life):
    """A life that the picture leaves out, with the status of its flag and what a fraud costs after some days."""

    flag: dict[float, str] = field(default_factory=dict)
    loss: dict[float, float] = field(default_factory=dict)


DETAILS = (
    # A reviewer's "genuine" that is later than the chargeback overrules it again, with a reason.
    Detail("chargeback overruled",
           [(0, "flagged", ""), (9, "fraud dispute", ""), (12, "genuine verdict", "")],
           [(0, NOTHING_YET), (9, FRAUD), (12, GENUINE)],
           flag={0: "open", 9: "fraud", 12: "genuine"}, loss={0: FLAGGED, 9: FLAGGED}),
    Detail("fraud, then not received",  # two disputes of one source: the newest counts
           [(0, "paid", ""), (9, "fraud dispute", ""), (12, "other dispute", "")],
           [(0, NOTHING_YET), (9, FRAUD), (12, NEITHER)], loss={12: USUAL}),
    Detail("not received, called fraud by a customer",  # a chargeback ranks before a customer
           [(0, "paid", ""), (9, "other dispute", ""), (12, "call", "")],
           [(0, NOTHING_YET), (9, NEITHER)]),
    Detail("verdict beside a dispute about something else",  # a review ranks before a chargeback
           [(0, "flagged", ""), (9, "other dispute", ""), (12, "fraud verdict", "")],
           [(0, NOTHING_YET), (9, NEITHER), (12, FRAUD)],
           flag={0: "open", 9: "open", 12: "fraud"}),
    Detail("customer calls, then takes it back",
           [(0, "flagged", ""), (4, "call", ""), (10, "retract", "")],
           [(0, NOTHING_YET), (4, FRAUD), (10, NOTHING_YET), (MATURITY, SILENCE)],
           flag={4: "fraud", 10: "open", 45: "expired"}),
    Detail("nobody answers the flag",
           [(0, "flagged", "")], [(0, NOTHING_YET), (MATURITY, SILENCE)],
           flag={0: "open", 12: "open", 20: "expired"}),
    Detail("blocked without a verdict of fraud",  # what is stopped is never charged back
           [(0, "flagged", ""), (3, "no opinion, blocked", "")],
           [(0, NOTHING_YET), (3, NO_SILENCE)], flag={3: "closed"}),
    Detail("stopped, then found to be genuine",  # the block cannot be undone, the label can
           [(0, "flagged", ""), (3, "fraud verdict, refunded", ""), (10, "genuine verdict", "")],
           [(0, NOTHING_YET), (3, FRAUD), (10, GENUINE)], flag={3: "fraud", 10: "genuine"}),
    Detail("stopped, then undone",
           [(0, "flagged", ""), (3, "fraud verdict, refunded", ""), (10, "undo", "")],
           [(0, NOTHING_YET), (3, FRAUD), (10, NOTHING_YET), (MATURITY, SILENCE)], flag={3: "fraud", 10: "open"}),
    Detail("pending, then approved",
           [(0, "pending", ""), (4, "approved", "")], [(0, NOTHING_YET), (MATURITY, SILENCE)]),
    Detail("refunded in part",
           [(0, "paid", ""), (6, "part refund", "")], [(0, NOTHING_YET), (MATURITY, SILENCE)], loss={4: 20, 6: 15}),
    Detail("refunded, charged back all the same",
           [(0, "paid", ""), (6, "refund", ""), (12, "fraud dispute", "")],
           [(0, NOTHING_YET), (6, NO_SILENCE), (12, FRAUD)], loss={4: 20, 6: 0, 12: 0}),
    Detail("charged back, lost",
           [(0, "paid", ""), (9, "fraud dispute", ""), (38, "lost", "")],
           [(0, NOTHING_YET), (9, FRAUD)], loss={9: 20, 38: 20}),
    Detail("charged back, won",
           [(0, "paid", ""), (9, "fraud dispute", ""), (38, "won", "")],
           [(0, NOTHING_YET), (9, FRAUD)], loss={9: 20, 38: 0}),
)  # fmt: skip
ALL = (*LIVES, *DETAILS)
EVENTS = sorted({day for life in ALL for day, _, _ in life.events})
TICKS = [*EVENTS, 45]


def name_of(life: Life) -> str:
    return f"life{ALL.index(life):02d}"


def amount_of(life: Life) -> int:
    return FLAGGED if life.events[0][1] == "flagged" else USUAL


def instant(day: float) -> int:
    """When events of a day happen."""
    return PAID + round(day * DAY)


def payment(life: Life, status: str) -> str:
    number = ALL.index(life)
    return f"{name_of(life)},{time_text(PAID)},v{number},w{number},{amount_of(life)},{status},payment,"


def refund(life: Life, day: float, amount: float) -> str:
    number = ALL.index(life)
    return (
        f"back{number},{time_text(instant(day))},v{number},w{number},{amount},approved,refund,{name_of(life)}"
    )


def transaction_row(life: Life, day: float, event: str) -> str | None:
    """The row of a file of transactions that this event is."""
    if event in ("paid", "flagged"):
        return payment(life, "approved")
    if event in ("pending", "approved", "declined"):
        return payment(life, event)
    parts = {"refund": 1.0, "part refund": 0.25}
    return refund(life, day, amount_of(life) * parts[event]) if event in parts else None


def dispute_row(life: Life, day: float, event: str) -> str | None:
    """The row of a file of disputes and calls that this event is."""
    said = {
        "fraud dispute": ",10.4,dispute,,chargeback",
        "other dispute": ",13.1,dispute,,chargeback",
        "won": ",,won,,chargeback",
        "lost": ",,lost,,chargeback",
        "call": "1,,,,customer",
    }
    return f"{name_of(life)},{said[event]},{time_text(instant(day))}" if event in said else None


def say(store: Store, life: Life, event: str, now: int) -> None:
    """What a person says."""
    name = name_of(life)
    if event == "undo":
        list(verdicts.undo(store, "live", [name], "a mistake", "ann", now))
    elif event == "retract":
        list(verdicts.retract(store, "live", [name], None, "a mistake", "ann", now))
    else:
        verdict, _, action = event.partition(", ")
        said = {"fraud verdict": "fraud", "genuine verdict": "genuine", "no opinion": "no_opinion"}[verdict]
        answer(store, name, said, now, action=action or "none", note="looked at it")


def live_through(store: Store, folder: Path) -> None:
    """Everything happens when it does; in `observed` what the database says at the end of each day."""
    rows = [f"{row},approved,payment," for row in payments(27, per_day=16)[0]]
    load(store, CONFIG, "transactions", write_csv(folder / "past.csv", HEADER, rows), now=FIRST + DAY)
    load(store, CONFIG, "labels", write_csv(folder / "none.csv", DISPUTES, []), now=FIRST + DAY, history=True)
    scoring_queue.set_starts_at(store, "live", FIRST)
    said, fields = stored_text("amount > 8000", CONFIG, displays=True)
    row = {"text": said, "fields": dict(fields)}
    rules_and_mutes.add(store, rules_and_mutes.RULE, row, instant(60), "large", "ann", instant(0) - HOUR)
    with store.write() as connection:
        connection.execute(
            text("CREATE TABLE observed (day FLOAT, id TEXT, flag TEXT, is_fraud BOOLEAN, loss FLOAT)")
        )
    for day in TICKS:
        happen(store, folder, day)
        run(store, CONFIG, as_of=instant(day) + 20 * HOUR, policy="live", by="tick", kind="schedule")
        observe(store, day)


def happen(store: Store, folder: Path, day: float) -> None:
    today = [(life, event) for life in ALL for at, event, _ in life.events if at == day]
    for kind, header, row_of in (
        ("transactions", HEADER, transaction_row),
        ("labels", DISPUTES, dispute_row),
    ):
        rows = [row for life, event in today if (row := row_of(life, day, event))]
        if rows or kind == "labels":
            path = write_csv(folder / f"{kind}{day}.csv", header, rows)
            load(store, CONFIG, kind, path, now=instant(day) + HOUR, history=False)
    for life, event in today:
        if transaction_row(life, day, event) is None and dispute_row(life, day, event) is None:
            say(store, life, event, instant(day) + HOUR)


def observe(store: Store, day: float) -> None:
    sql = f"""INSERT INTO observed
        SELECT {day}, t.transaction_id, f.status, c.is_fraud, l.loss FROM transactions t
        LEFT JOIN flags f ON f.transaction_id = t.transaction_id
        LEFT JOIN current_labels c ON c.transaction_id = t.transaction_id
        LEFT JOIN transaction_losses l ON l.transaction_id = t.transaction_id
        WHERE t.transaction_id LIKE 'life%'"""
    with store.write() as connection:
        connection.execute(text(sql))


LIVED = World("payment_lives", CONFIG, live_through)


@pytest.fixture
def lived(copier: Copier) -> Store:
    """All lives, lived through by the schedule."""
    return copier(LIVED)


def observed(store: Store, column: str) -> dict[tuple[str, float], object]:
    rows = query(store, f"SELECT id, day, {column} FROM observed")
    return {(name, day): value for name, day, value in rows}


def days() -> Iterator[float]:
    """The day of each event, and days in between."""
    for day in TICKS:
        yield from (day + 0.5, day + 0.9)


def labels_at(store: Store, at: int) -> dict[str, str]:
    """What counts as the label of each payment, as trainings read it."""
    history = feature_history.load(store, CONFIG, PAID - DAY, instant(60))
    status = status_at(history.transactions, history.events, at)
    silent, old = history.silence_at(at), history.transactions.event_time + CONFIG.labels.maturity <= at
    names = {frames.FRAUD: FRAUD, frames.GENUINE: GENUINE, frames.NEITHER: NEITHER}
    return {
        name: names.get(code, (SILENCE if is_old else NOTHING_YET) if is_silent else NO_SILENCE)
        for name, code, is_silent, is_old in zip(
            history.transactions.transaction_id, status.tolist(), silent, old, strict=True
        )
    }


def test_at_every_instant_the_label_is_the_one_of_the_table(lived: Store) -> None:
    for day in days():
        at = instant(day)
        counted = labels_at(lived, at)
        with lived.read() as connection:
            sql = text(LABELS_AS_OF).bindparams(bindparam("as_of", type_=Instant))
            rows = connection.execute(sql, {"as_of": at}).mappings().all()
        by_sql = {
            row["transaction_id"]: row["is_fraud"] for row in rows
        }  # NULL: a dispute about something else
        for life in ALL:
            expected = life.label_at(day)
            assert counted[name_of(life)] == expected, (life.title, day)
            in_sql = by_sql.get(name_of(life), "none")
            assert in_sql == {FRAUD: True, GENUINE: False, NEITHER: None}.get(expected, "none"), (
                life.title,
                day,
            )


def test_the_current_label_was_that_of_its_day(lived: Store) -> None:
    is_fraud = observed(lived, "is_fraud")
    for life in ALL:
        for day in TICKS:
            expected = {FRAUD: True, GENUINE: False}.get(life.label_at(day))
            assert is_fraud[name_of(life), day] == expected, (life.title, day)


def test_a_flag_has_the_status_of_the_label_and_expires_without_one(lived: Store) -> None:
    status = observed(lived, "flag")
    for life in ALL:
        for day in TICKS:
            flag = status[name_of(life), day]
            if life.events[0][1] != "flagged":
                assert flag is None, (life.title, day)
                continue
            label = life.label_at(day)
            if label in (FRAUD, GENUINE):
                assert flag == label, (life.title, day)
            else:
                assert flag in ("open", "closed", "expired"), (life.title, day)
    for life in DETAILS:
        for day, expected in life.flag.items():
            assert status[name_of(life), day] == expected, (life.title, day)
    (closed,) = [life for life in LIVES if "closed" in life.title]
    assert status[name_of(closed), 45] == "closed"  # answered, so it does not expire


def test_a_fraud_costs_what_did_not_come_back_before_its_dispute(lived: Store) -> None:
    losses = observed(lived, "loss")
    for life in DETAILS:
        for day, expected in life.loss.items():
            assert losses[name_of(life), day] == expected, (life.title, day)


def test_a_backfill_says_the_same(lived: Store) -> None:
    flags = "SELECT transaction_id, CASE WHEN status = 'expired' THEN 'open' ELSE status END FROM flags ORDER BY 1"
    money = "SELECT transaction_id, at_risk, in_time, stopped_at, loss FROM flag_outcomes WHERE policy = 'live' ORDER BY 1"
    before = query(lived, flags), query(lived, money)
    assert len(before[0]) >= sum(life.events[0][1] == "flagged" for life in ALL)
    labels = labels_at(lived, instant(45))
    forget(lived, *RUN_TABLES, "backfilled_spans", "quality_metrics")
    backfill(lived, CONFIG, start=FIRST, end=FIRST + 4 * DAY, as_of=instant(50), policy="live", by="test")
    assert (query(lived, flags), query(lived, money)) == before
    assert labels_at(lived, instant(45)) == labels


def test_the_picture_is_the_one_that_is_drawn(tmp_path: Path) -> None:
    assert payment_lives.PICTURE.read_text(encoding="utf-8") == payment_lives.picture()
