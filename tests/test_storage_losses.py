"""What a transaction loses if it is a fraud: one definition for report, quality, policy differences and people's own queries; both engines."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Table, bindparam, insert, text

from pipeline.config.config import Config
from pipeline.config.costs import at_risk, at_stake
from pipeline.monitoring.realised_quality import realise
from pipeline.rendering.report_data import ReportData, total
from pipeline.reporting.summary import summary_lines
from storage.database import tables
from storage.database.column_types import Instant
from storage.database.database import Store
from storage.database.loss_views import known_at_instant
from storage.database.setup import upgrade, verify
from storage.errors import SchemaOutOfDate
from storage.frames import DAY, HOUR
from storage.ingest import batches
from storage.ingest.history import load_transactions
from storage.monitoring import quality_metrics
from storage.queries import policy_diff
from tests.support.databases import Copier, Opener
from tests.support.payments import PAYMENT_HEADER, time_text, write_csv
from tests.support.sql import execute, query
from tests.support.worlds import BACKFILLED, FROM, NOW, SMALL, load

HEADER = f"{PAYMENT_HEADER},kind,original_id"
START, END = FROM, FROM + 7 * DAY
LATER = NOW + 10 * DAY
EARLY = START + 2 * DAY + HOUR  # before both frauds were disputed, and after the caught one's window
CONFIG = SMALL.model_copy(
    update={"schema_": SMALL.schema_.model_copy(update={"kind": "kind", "original_id": "original_id"})},
    deep=True,
)
COPY = """INSERT INTO scores (policy, transaction_id, run_id, model_id, score, channel, flagged, strategy)
    SELECT 'nothing', transaction_id, run_id, model_id, score, channel, FALSE, strategy FROM scores WHERE policy = 'live'"""


@pytest.fixture
def store(copier: Copier) -> Store:
    """Three scored weeks, and a policy that flags nothing of them."""
    opened = copier(BACKFILLED, CONFIG)
    execute(opened, COPY)
    return opened


@pytest.fixture
def caught(store: Store) -> str:
    """The first fraud of the span that is flagged."""
    return str(query(store, f"{CAUGHT} ORDER BY 1 LIMIT 1")[0][0])


@pytest.fixture
def missed(store: Store) -> str:
    """The first fraud of the span that is not."""
    return str(query(store, f"{MISSED} ORDER BY 1 LIMIT 1")[0][0])


FRAUDS = """SELECT s.transaction_id FROM scores s JOIN current_labels c ON c.transaction_id = s.transaction_id
    JOIN transactions t ON t.transaction_id = s.transaction_id
    WHERE s.policy = 'live' AND c.is_fraud AND t.event_time < '2025-01-27 00:00:00.000000' AND """
CAUGHT, MISSED = f"{FRAUDS} s.flagged", f"{FRAUDS} NOT s.flagged"


def row(name: str, amount: float, kind: str = "payment", original: str = "", at: int = START) -> str:
    return f"{name},{time_text(at)},c1,m1,{amount:.2f},{kind},{original}"


def add(store: Store, folder: Path, *rows: str, now: int = LATER) -> None:
    """Rows that arrive at `now`; those with a known id become revisions."""
    path = write_csv(folder / f"{now}_{len(rows)}_{abs(hash(rows))}.csv", HEADER, rows)
    load(store, CONFIG, "transactions", path, now=now, history=False)


def loss(store: Store, name: str, column: str = "loss") -> float:
    sql = f"SELECT {column} FROM transaction_losses WHERE transaction_id = '{name}'"
    return float(query(store, sql)[0][0])


def money(store: Store, as_of: int = LATER + DAY) -> dict[str, tuple[float, float]]:
    """The money of caught and of missed frauds of the span, from each place that counts it."""
    data = ReportData.load(store, CONFIG, "live", START, END, as_of)
    realise(store, CONFIG, "live", None, (START, END), as_of)
    metrics = quality_metrics.read(store, "live", ["money_caught", "money_missed"], (START, END), as_of)
    diff = policy_diff.compare_policies(store, "nothing", "live", START, END)
    view = "SELECT SUM({}) FROM transaction_losses WHERE transaction_id IN ({})"
    return {
        "report": (total(data.daily, "caught"), total(data.daily, "missed")),
        "quality": tuple(
            float(metrics[START, END]["realised", name].value or 0)
            for name in ("money_caught", "money_missed")
        ),
        "diff": (diff.cells[False, True].money, diff.cells[False, False].money),
        "view": tuple(
            float(query(store, view.format(column, frauds))[0][0])
            for column, frauds in (("at_risk", CAUGHT), ("loss", MISSED))
        ),
    }  # type: ignore[return-value]


def assert_all_count(store: Store, caught: float, missed: float) -> None:
    for place, counted in money(store).items():
        assert counted == pytest.approx((caught, missed)), place
    lines = list(summary_lines(ReportData.load(store, CONFIG, "live", START, END, LATER + DAY)))
    channels = [
        line.split() for line in lines if re.match(r"(outlier|blend|classification|novelty) +\d", line)
    ]
    assert sum(float(cells[-1].replace(",", "")) for cells in channels) == pytest.approx(caught)
    assert f"missed {missed:,.2f} EUR" in re.sub(" +", " ", "\n".join(lines))


def ingested(store: Store, frauds: str) -> float:
    sql = f"SELECT SUM(amount_base) FROM transactions WHERE transaction_id IN ({frauds})"
    return float(query(store, sql)[0][0])


def test_all_count_the_amounts_that_were_ingested(store: Store) -> None:
    assert_all_count(store, ingested(store, CAUGHT), ingested(store, MISSED))


def test_a_batch_that_is_still_loading_changes_nothing(store: Store, missed: str, tmp_path: Path) -> None:
    add(store, tmp_path, row(missed, 9_999), row("r1", 5, "refund", missed, EARLY))
    assert loss(store, missed) == 9_994
    execute(
        store, "UPDATE batches SET status = 'loading' WHERE batch_id = (SELECT MAX(batch_id) FROM batches)"
    )
    assert_all_count(store, ingested(store, CAUGHT), ingested(store, MISSED))
    batches.remove_interrupted(store)


def test_a_missed_fraud_costs_its_newest_revision_less_what_came_back_before_the_dispute(
    store: Store, missed: str, tmp_path: Path
) -> None:
    caught, before = money(store)["report"]
    first = loss(store, missed)
    add(store, tmp_path, row(missed, 80))
    add(store, tmp_path, row(missed, 100), now=LATER + 1)
    assert loss(store, missed) == 100
    assert_all_count(store, caught, before - first + 100)
    add(
        store, tmp_path,
        row("r1", 30, "refund", missed, EARLY), row("r2", -20, "reversal", missed, EARLY),
        row("r3", 7, "payment", missed, EARLY), row("r4", 9, "refund", missed, EARLY + 3 * DAY),
        now=LATER + 2,
    )  # fmt: skip
    # A reversal is a refund, too; a payment for the same original is none; what came back after the dispute did not help.
    assert loss(store, missed) == 50
    assert_all_count(store, caught, before - first + 50)


def test_refunding_or_revising_a_caught_fraud_leaves_the_catch(
    store: Store, caught: str, tmp_path: Path
) -> None:
    before = money(store)["report"]
    amount = loss(store, caught, "at_risk")
    add(store, tmp_path, row(caught, 1), row("r1", 1, "refund", caught, EARLY))
    assert loss(store, caught) == 0
    assert_all_count(store, *before)
    data = ReportData.load(store, CONFIG, "live", START, END, LATER + DAY)
    assert total(data.daily, "saved") == pytest.approx(amount)
    summary = " ".join(line.strip() for line in summary_lines(data))
    assert "1 was stopped before a dispute." in summary
    assert f"So of what was caught {amount:,.2f} EUR were saved" in summary
    returned = total(data.daily, "caught") - total(data.daily, "saved") - total(data.daily, "lost")
    assert returned >= 0
    assert (returned > 0) == ("came back in another way" in summary)


def test_a_refund_that_is_revised_counts_as_it_is_now_and_a_refund_of_a_refund_is_its_own(
    store: Store, missed: str, tmp_path: Path
) -> None:
    first = loss(store, missed)
    add(store, tmp_path, row("r1", 4, "refund", missed, EARLY))
    add(
        store,
        tmp_path,
        row("r1", 3, "refund", missed, EARLY),
        row("r2", 1, "reversal", "r1", EARLY),
        now=LATER + 1,
    )
    assert loss(store, missed) == pytest.approx(first - 3)
    assert loss(store, "r1") == 2


def test_a_report_of_an_earlier_time_knows_no_later_money(store: Store, missed: str, tmp_path: Path) -> None:
    before = money(store)["report"]
    add(store, tmp_path, row(missed, 9_999), row("r1", 5, "refund", missed, EARLY))
    early, now = (money(store, as_of) for as_of in (NOW + 8 * DAY, LATER + DAY))
    assert early["report"] == pytest.approx(early["quality"])
    assert early["report"] == pytest.approx(before)
    assert now["report"] == pytest.approx(now["quality"])
    assert now["report"][1] > before[1] + 9_000


def test_a_score_holds_the_expected_loss_of_the_first_version(
    store: Store, caught: str, tmp_path: Path
) -> None:
    add(store, tmp_path, row(caught, 9_999))
    scores = query(
        store,
        """SELECT s.fraud_probability, l.at_risk, s.expected_loss, s.score, COALESCE(NULLIF(c.prevalence, 0), c.prevalence_upper) FROM scores s
        JOIN transaction_losses l ON l.transaction_id = s.transaction_id
        JOIN models m ON m.model_id = s.model_id JOIN choices c ON c.choice_id = m.choice_id WHERE s.policy = 'live'""",
    )
    assert {probability is None for probability, *_ in scores} == {True, False}
    for probability, risk, expected, score, prevalence in scores:
        guess = min(1.0, prevalence / (1 - score))  # of outlier detection: as if all fraud ranked so high
        assert expected == pytest.approx((guess if probability is None else probability) * float(risk))


def test_the_audit_sample_is_no_detection(store: Store, caught: str) -> None:
    before, at_risk = money(store), loss(store, caught, "at_risk")
    sql = "UPDATE {} SET channel = 'audit' WHERE policy = 'live' AND transaction_id = :fraud"
    execute(store, sql.format("scores"), sql.format("flags"), fraud=caught)
    after = money(store)
    for name in ("report", "quality", "diff"):
        changed = (before[name][0] - at_risk, before[name][1] + loss(store, caught))
        assert after[name] == pytest.approx(changed)


def test_other_refund_kinds_take_an_upgrade(opener: Opener) -> None:
    store = opener(CONFIG)
    verify(store, CONFIG.monitor.name)
    other = CONFIG.schema_.model_copy(update={"refund_kinds": ("chargeback",)})
    changed = opener(CONFIG.model_copy(update={"schema_": other}, deep=True))
    verify(changed, CONFIG.monitor.name)
    with pytest.raises(
        SchemaOutOfDate, match=r"counts chargeback as refunds.*refund, reversal: create or upgrade the tables"
    ):
        verify(store, CONFIG.monitor.name)
    upgrade(store, CONFIG.monitor.name, 1)
    verify(store, CONFIG.monitor.name)


def test_other_costs_take_an_upgrade(opener: Opener) -> None:
    store = opener(CONFIG)
    fee = CONFIG.costs.model_copy(update={"fee": 15.0})
    with opener(CONFIG.model_copy(update={"costs": fee}, deep=True)) as changed:
        verify(changed, CONFIG.monitor.name)
    with pytest.raises(
        SchemaOutOfDate, match=r'counts losses by .*"fee": 15.0.* \[costs\] says .*"fee": 0.0'
    ):
        verify(store, CONFIG.monitor.name)
    upgrade(store, CONFIG.monitor.name, 1)
    verify(store, CONFIG.monitor.name)


# A payment's life: what its fraud costs and what its flag did, at each instant

FEE = 15.0
LIFE = Config.model_validate(
    {
        "schema": {"entities": ["customer_id"], "categorical": ["three_d_secure"], "numeric": ["payout"], "kind": "kind"},
        "costs": {"fee": FEE, "exposure": "payout", "liability_shifted": {"three_d_secure": ["it's: {100%}"]}},
    }
)  # fmt: skip


@dataclass(frozen=True)
class Life:
    """
    A payment of 100.00 EUR at noon of day 0, whose window ends with that day, and what happens to it.

    Attributes
    ----------
    events
        (day, kind, values) in any order, a day being at noon: `refund` (amount), `revision` (amount, payout), `report`
        (source, stage, amount), `review` (is_fraud), `verdict` (verdict, action), `retract` (number of the label, from 1).
    expected
        By day at midnight after it: loss, answered in time, day on which it was stopped, what was lost in spite of the flag.
    """

    events: list[tuple[float, str, tuple[object, ...]]]
    expected: dict[float, tuple[float, bool, float | None, float]]
    at_risk: float = 100 + FEE
    payout: float | None = None
    rate: float = 1.0
    secure: str | None = None
    arrives: float = 0


DISPUTE = (10.0, "report", ("chargeback", "dispute", None))
LIVES = {
    "nothing": Life([], {0: (100, False, None, 100), 90: (100, False, None, 100)}),
    "charged back": Life([DISPUTE], {9: (100, False, None, 100), 10: (115, False, None, 115)}),
    # An inquiry asks, it costs no fee; whoever answers after it does not answer in time.
    "inquiry": Life(
        [(3, "report", ("chargeback", "inquiry", None)), (5, "review", (True,))],
        {2: (100, False, None, 100), 5: (100, False, None, 100)},
    ),
    "reported, no stage": Life([(4, "report", ("issuer", None, None))], {3: (100, False, None, 100), 4: (115, False, None, 115)}),
    "answered, then charged back all the same": Life(
        [(2, "review", (True,)), (2, "verdict", ("fraud", "none")), DISPUTE],
        {1: (100, False, None, 100), 2: (100, True, None, 100), 10: (115, True, None, 115)},
    ),
    "answered after the chargeback": Life([DISPUTE, (11, "review", (True,))], {10: (115, False, None, 115), 11: (115, False, None, 115)}),
    "blocked": Life(
        [(2, "review", (True,)), (2, "verdict", ("fraud", "blocked"))],
        {1: (100, False, None, 100), 2: (100, True, 2, 0)},
    ),
    "blocked too late": Life([DISPUTE, (11, "verdict", ("fraud", "blocked"))], {11: (115, False, None, 115)}),
    "blocked, then retracted": Life(
        [(2, "review", (True,)), (2, "verdict", ("fraud", "blocked")), (4, "verdict", ("retracted", "none")), (4, "retract", (1,))],
        {3: (100, True, 2, 0), 4: (100, False, None, 100)},
    ),
    "cleared, then answered as fraud": Life(
        [(2, "review", (False,)), (6, "review", (True,)), DISPUTE],
        {2: (100, False, None, 100), 6: (100, True, None, 100), 10: (115, True, None, 115)},
    ),
    "answered as fraud, then cleared": Life([(2, "review", (True,)), (6, "review", (False,)), DISPUTE], {2: (100, True, None, 100), 6: (100, False, None, 100), 10: (115, False, None, 115)}),
    # Refunds: before the flag could be seen; all of it after; a part; before and after the dispute.
    "refunded on the same day": Life([(0.2, "refund", (100,))], {0: (0, False, None, 0)}),
    "refunded on a flag": Life([(3, "refund", (100,))], {2: (100, False, None, 100), 3: (0, False, 3, 0)}),
    "refunded on a flag that came late": Life([(3, "refund", (100,))], {9: (0, False, None, 0)}, arrives=5),
    "refunded on a flag, charged back all the same": Life([(3, "refund", (100,)), DISPUTE], {9: (0, False, 3, 0), 10: (15, False, 3, 15)}),
    "refunded in parts": Life(
        [(3, "refund", (40,)), (5, "refund", (60,))],
        {3: (60, False, None, 60), 5: (0, False, 5, 0)},
    ),
    "a part refunded before the dispute": Life([(3, "refund", (40,)), DISPUTE], {10: (75, False, None, 75)}),
    "refunded after the dispute": Life([DISPUTE, (12, "refund", (100,))], {12: (115, False, None, 115)}),
    # Disputes of a part, corrected, won, and lost after all.
    "a part disputed": Life([(10, "report", ("chargeback", "dispute", 30.0))], {9: (100, False, None, 100), 10: (45, False, None, 45)}),
    "claim corrected": Life(
        [(10, "report", ("chargeback", "dispute", 80.0)), (12, "report", ("chargeback", "lost", 30.0))],
        {10: (95, False, None, 95), 12: (45, False, None, 45)},
    ),
    "won": Life([DISPUTE, (40, "report", ("chargeback", "won", None))], {39: (115, False, None, 115), 40: (15, False, None, 15)}),
    "a part won": Life([DISPUTE, (40, "report", ("chargeback", "won", 70.0))], {40: (45, False, None, 45)}),
    "won more than was lost": Life([DISPUTE, (40, "report", ("chargeback", "won", 170.0))], {40: (15, False, None, 15)}),
    "won, then lost": Life(
        [DISPUTE, (40, "report", ("chargeback", "won", None)), (50, "report", ("chargeback", "dispute", None))],
        {40: (15, False, None, 15), 50: (115, False, None, 115)},
    ),
    "retracted": Life([DISPUTE, (12, "retract", (1,))], {11: (115, False, None, 115), 12: (100, False, None, 100)}),
    # Exposure: a payout still held, in dollars, settled since; nobody's loss; never less than nothing.
    "payout held": Life([DISPUTE], {9: (20, False, None, 20), 10: (35, False, None, 35)}, at_risk=20 + FEE, payout=20),
    "payout in dollars": Life([], {0: (18, False, None, 18)}, at_risk=18 + FEE, payout=20, rate=0.9),
    "payout paid out since": Life(
        [(3, "revision", (100, 70))], {2: (20, False, None, 20), 3: (70, False, None, 70)}, at_risk=20 + FEE, payout=20
    ),
    "settled for less": Life([(3, "revision", (80, None))], {2: (100, False, None, 100), 3: (80, False, None, 80)}),
    "more disputed than is at risk": Life([(10, "report", ("chargeback", "dispute", 100.0))], {10: (35, False, None, 35)}, at_risk=20 + FEE, payout=20),
    "liability shifted": Life([DISPUTE], {9: (0, False, None, 0), 10: (15, False, None, 15)}, at_risk=FEE, secure="it's: {100%}"),
    "another answer of 3-D Secure": Life([], {0: (100, False, None, 100)}, secure="it's"),
    "negative payout": Life([], {0: (0, False, None, 0)}, at_risk=FEE, payout=-5),
}  # fmt: skip


def noon(day: float) -> int:
    return START + round(day * DAY) + 12 * HOUR


@dataclass
class LifeWriter:
    """Writes what happens to one payment."""

    store: Store
    connection: Connection
    name: str
    labels: list[int] = field(default_factory=list)

    def write(self, life: Life) -> None:
        self.payment(
            0,
            100,
            life.rate,
            payout=life.payout,
            three_d_secure=life.secure,
            batch_id=self.batch(life.arrives),
        )
        self.insert(
            tables.flags, policy="live", run_id=1, model_id=1, channel="blend", reasons=[], status="open"
        )
        for day, kind, values in life.events:
            getattr(self, kind)(day, *values)

    def insert(self, table: Table, **values: object) -> int:
        named = {"transaction_id": self.name} if "transaction_id" in table.c else {}
        key = self.connection.execute(insert(table), named | values).inserted_primary_key
        assert key is not None
        return int(key[0]) if isinstance(key[0], int) else 0

    def batch(self, day: float) -> int:
        """A batch that arrives on a day; on day 0 as history."""
        return self.insert(
            tables.batches, kind="transactions", source="test", status="done", history=not day, holder="test",
            started_at=noon(day), visible_at=noon(day),
        )  # fmt: skip

    def payment(self, day: float, amount: float, rate: float = 1.0, **values: object) -> None:
        row = {"event_time": noon(day), "amount": amount, "amount_base": amount * rate, "kind": "payment"}
        self.insert(self.store.transactions, **(row | values))

    def refund(self, day: float, amount: float) -> None:
        refund = {"transaction_id": f"{self.name} {day}", "kind": "refund", "original_id": self.name}
        self.payment(day, amount, **refund, batch_id=self.batch(day))

    def revision(self, day: float, amount: float, payout: float | None) -> None:
        self.insert(
            self.store.revisions, revision=1, event_time=noon(0), amount=amount, amount_base=amount, payout=payout,
            batch_id=self.batch(day),
        )  # fmt: skip

    def label(self, day: float, **values: object) -> None:
        self.labels.append(
            self.insert(tables.labels, known_at=noon(day), recorded_at=noon(day), by="test", **values)
        )

    def report(self, day: float, source: str, stage: str | None, amount: float | None) -> None:
        is_fraud = None if stage in ("won", "lost") else True
        self.label(day, source=source, stage=stage, amount=amount, is_fraud=is_fraud)

    def review(self, day: float, is_fraud: bool) -> None:
        self.label(day, source="review", is_fraud=is_fraud)

    def retract(self, day: float, number: int) -> None:
        self.label(day, source="review", retracts=self.labels[number - 1])

    def verdict(self, day: float, verdict: str, action: str) -> None:
        self.insert(tables.verdicts, verdict=verdict, action=action, at=noon(day), by="test")


def _write_lives(store: Store) -> None:
    with store.write() as connection:
        for day in range(-1, 3):
            entry = {"window_start": START + day * DAY, "window_end": START + (day + 1) * DAY}
            done = {"policy": "live", "kind": "score", "due_at": START, "status": "done", "attempts": 1}
            connection.execute(insert(tables.ledger), entry | done)
        for name, life in LIVES.items():
            LifeWriter(store, connection, name).write(life)


OF_LIVES = """
    SELECT o.transaction_id, l.at_risk, l.loss, o.in_time, o.stopped_at, o.loss AS lost
    FROM ({outcomes}) o JOIN transaction_losses l ON l.transaction_id = o.transaction_id"""


def _read_lives(store: Store, as_of: int | None = None) -> dict[str, tuple[object, ...]]:
    """What each payment costs and what its flag did, as known at an instant; by the views without one."""
    sql, known = text(OF_LIVES.format(outcomes="SELECT * FROM flag_outcomes")), {}
    if as_of is not None:
        queries, known = known_at_instant(store), {"as_of": as_of}
        asked = (
            f"asked AS (SELECT transaction_id FROM flags), transaction_losses AS ({queries.losses('asked')})"
        )
        outcomes = queries.outcomes("transaction_losses")
        sql = text(f"WITH {asked} {OF_LIVES.format(outcomes=outcomes)}").bindparams(
            bindparam("as_of", type_=Instant)
        )
    with store.read() as connection:
        rows = connection.execute(sql.columns(stopped_at=Instant), known).all()
    return {row.transaction_id: _life_of(row) for row in rows}


def _life_of(row: Any) -> tuple[object, ...]:
    stopped = None if row.stopped_at is None else round((row.stopped_at - noon(0)) / DAY, 4)
    at_risk, loss, lost = (round(float(value), 4) for value in (row.at_risk, row.loss, row.lost))
    return at_risk, loss, bool(row.in_time), stopped, lost


def test_a_payments_life_has_its_money_and_outcome_at_each_instant(opener: Opener) -> None:
    store = opener(LIFE)
    _write_lives(store)
    days = sorted({day for life in LIVES.values() for day in life.expected})
    counted = {day: _read_lives(store, START + round((day + 1) * DAY)) for day in days}
    for name, life in LIVES.items():
        for day, expected in life.expected.items():
            assert counted[day][name] == (life.at_risk, *expected), f"{name}, day {day}"
    assert _read_lives(store) == _read_lives(store, START + 1_000 * DAY)
    payments = load_transactions(store, noon(0), noon(0) + 1)
    first = dict(zip(payments.transaction_id, at_risk(LIFE, payments).tolist(), strict=True))
    assert first == {name: pytest.approx(life.at_risk) for name, life in LIVES.items()}
    by_amount = LIFE.costs.model_copy(update={"missed_fraud_basis": "amount"})
    stake = at_stake(LIFE.model_copy(update={"costs": by_amount}), payments)
    assert stake.tolist() == list(first.values())
    assert set(at_stake(LIFE, payments)) == {LIFE.costs.missed_fraud * LIFE.costs.review}
