"""What a transaction loses if it is a fraud: one definition for report, quality, policy differences and people's own queries; both engines."""

import re
from pathlib import Path

import pytest

from pipeline.monitoring.realised_quality import realise
from pipeline.rendering.report_data import ReportData, total
from pipeline.reporting.summary import summary_lines
from storage.database.database import Store
from storage.database.setup import upgrade, verify
from storage.errors import SchemaOutOfDate
from storage.frames import DAY
from storage.ingest import batches
from storage.monitoring import quality_metrics
from storage.queries import policy_diff
from tests.support.databases import Copier, Opener
from tests.support.payments import PAYMENT_HEADER, time_text, write_csv
from tests.support.sql import execute, query
from tests.support.worlds import BACKFILLED, FROM, NOW, SMALL, load

HEADER = f"{PAYMENT_HEADER},kind,original_id"
START, END = FROM, FROM + 7 * DAY
LATER = NOW + 10 * DAY
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
def fraud(store: Store) -> str:
    """The first fraud of the span that is caught, and flagged by the detector."""
    return str(query(store, f"{CAUGHT} ORDER BY 1 LIMIT 1")[0][0])


CAUGHT = """SELECT s.transaction_id FROM scores s JOIN current_labels c ON c.transaction_id = s.transaction_id
    JOIN transactions t ON t.transaction_id = s.transaction_id
    WHERE s.policy = 'live' AND s.flagged AND c.is_fraud AND t.event_time < '2025-01-27 00:00:00.000000'"""


def row(name: str, amount: float, kind: str = "payment", original: str = "", at: int = START) -> str:
    return f"{name},{time_text(at)},c1,m1,{amount:.2f},{kind},{original}"


def add(store: Store, folder: Path, *rows: str, now: int = LATER) -> None:
    """Rows that arrive at `now`; those with a known id become revisions."""
    path = write_csv(folder / f"{now}_{len(rows)}_{abs(hash(rows))}.csv", HEADER, rows)
    load(store, CONFIG, "transactions", path, now=now, history=False)


def loss(store: Store, name: str) -> float:
    return float(query(store, f"SELECT loss FROM transaction_losses WHERE transaction_id = '{name}'")[0][0])


def caught_money(store: Store, as_of: int = LATER + DAY) -> dict[str, float]:
    """The money of caught frauds of the span, from each place that tells it."""
    data = ReportData.load(store, CONFIG, "live", START, END, as_of)
    realise(store, CONFIG, "live", None, (START, END), as_of)
    metrics = quality_metrics.read(store, "live", ["money_caught"], (START, END), as_of)[START, END]
    diff = policy_diff.compare_policies(store, "nothing", "live", START, END)
    view = f"SELECT SUM(loss) FROM transaction_losses WHERE transaction_id IN ({CAUGHT})"
    return {
        "report": total(data.daily, "loss", flagged=True, is_fraud=True),
        "quality": float(metrics["realised", "money_caught"].value or 0),
        "diff": diff.cells[False, True].fraud_loss,
        "view": float(query(store, view)[0][0]),
    }


def assert_all_tell(store: Store, expected: float) -> None:
    assert caught_money(store) == pytest.approx(
        dict.fromkeys(("report", "quality", "diff", "view"), expected)
    )
    lines = list(summary_lines(ReportData.load(store, CONFIG, "live", START, END, LATER + DAY)))
    channels = [
        line.split() for line in lines if re.match(r"(outlier|blend|classification|novelty) +\d", line)
    ]
    assert sum(float(cells[-1].replace(",", "")) for cells in channels) == pytest.approx(expected)


def test_all_tell_the_amounts_that_were_ingested(store: Store) -> None:
    amounts = f"SELECT SUM(amount_base) FROM transactions WHERE transaction_id IN ({CAUGHT})"
    assert_all_tell(store, float(query(store, amounts)[0][0]))


def test_a_batch_that_is_still_loading_changes_nothing(store: Store, fraud: str, tmp_path: Path) -> None:
    add(store, tmp_path, row(fraud, 9_999), row("r1", 5, "refund", fraud))
    assert loss(store, fraud) == 9_994
    execute(
        store, "UPDATE batches SET status = 'loading' WHERE batch_id = (SELECT MAX(batch_id) FROM batches)"
    )
    amounts = f"SELECT SUM(amount_base) FROM transactions WHERE transaction_id IN ({CAUGHT})"
    assert_all_tell(store, float(query(store, amounts)[0][0]))
    batches.remove_interrupted(store)


def test_the_newest_revision_less_every_refund_counts(store: Store, fraud: str, tmp_path: Path) -> None:
    before = caught_money(store)["report"]
    first = loss(store, fraud)
    add(store, tmp_path, row(fraud, 80))
    add(store, tmp_path, row(fraud, 100), now=LATER + 1)
    assert loss(store, fraud) == 100
    assert_all_tell(store, before - first + 100)
    add(
        store, tmp_path,
        row("r1", 30, "refund", fraud), row("r2", -20, "reversal", fraud), row("r3", 7, "payment", fraud),
        now=LATER + 2,
    )  # fmt: skip
    assert loss(store, fraud) == 50  # a reversal is a refund, too; a payment for the same original is none
    assert_all_tell(store, before - first + 50)


def test_a_refund_that_is_revised_counts_as_it_is_now_and_a_refund_of_a_refund_is_its_own(
    store: Store, fraud: str, tmp_path: Path
) -> None:
    first = loss(store, fraud)
    add(store, tmp_path, row("r1", 4, "refund", fraud))
    add(store, tmp_path, row("r1", 3, "refund", fraud), row("r2", 1, "reversal", "r1"), now=LATER + 1)
    assert loss(store, fraud) == pytest.approx(first - 3)
    assert loss(store, "r1") == 2


def test_a_report_of_an_earlier_time_knows_no_later_money(store: Store, fraud: str, tmp_path: Path) -> None:
    before = caught_money(store)["report"]
    add(store, tmp_path, row(fraud, 9_999), row("r1", 5, "refund", fraud))
    early, now = (caught_money(store, as_of) for as_of in (NOW + 8 * DAY, LATER + DAY))
    assert early["report"] == early["quality"] == pytest.approx(before)
    assert now["report"] == now["quality"] > before + 9_000


def test_the_audit_sample_is_no_detection(store: Store, fraud: str) -> None:
    before, lost = caught_money(store), loss(store, fraud)
    execute(
        store,
        "UPDATE scores SET channel = 'audit' WHERE policy = 'live' AND transaction_id = :fraud",
        fraud=fraud,
    )
    after = caught_money(store)
    for name in ("report", "quality", "diff"):
        assert after[name] == pytest.approx(before[name] - lost)


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
