"""Rates by month on both engines: what counts as a payment, a fraud and a dispute, and in which month, as of an instant."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from pipeline.config.config import Config
from pipeline.errors import InputError
from pipeline.monitoring.fraud_rates import MonthlyRate, monthly_rates
from pipeline.services.monitoring.fraud_rates import RateRequest, list_rates
from pipeline.services.session import Session
from storage.database import tables
from storage.database.column_types import as_datetime
from storage.database.database import Store
from tests.support.databases import Copier, World
from tests.support.payments import instant, write_csv
from tests.support.sql import query
from tests.support.worlds import load

HEADER = "transaction_id,event_time,merchant_id,channel,status,amount,kind,original_id"
PARIS = Config.model_validate(
    {
        "schema": {"entities": ["merchant_id"], "categorical": ["channel", "status"]},
        "labels": {"precedence": ["review", "chargeback"]},
        "schedule": {"timezone": "Europe/Paris"},
    }
)
PAYMENTS = [
    "p1,2025-01-10T10:00:00Z,m1,web,ok,100,,",
    "p2,2025-01-11T10:00:00Z,m1,web,ok,200,,",
    "p3,2025-01-12T10:00:00Z,m2,pos,ok,300,,",
    "p4,2025-01-13T10:00:00Z,m2,pos,declined,999,,",  # never happened
    "r1,2025-01-20T10:00:00Z,m1,web,ok,100,refund,p1",  # is no payment
    "p5,2025-01-31T23:30:00Z,m1,web,ok,400,,",  # in Paris it is February
    "p6,2025-02-10T10:00:00Z,m2,web,pending,500,,",
    "p7,2025-02-12T10:00:00Z,m2,web,ok,600,,",
]
REVISED = [  # arrive on 20 February
    "p6,2025-02-10T10:00:00Z,m2,web,declined,500,,",
    "p7,2025-02-12T10:00:00Z,m2,web,ok,50,,",
]
# transaction_id, known_at, source, is_fraud, type, reason, stage, retracts
LABELS: list[tuple[Any, ...]] = [
    ("p1", "2025-02-05", "chargeback", True, None, "10.4", "dispute", None),
    ("p2", "2025-01-15", "visa", True, None, "tc40 report", None, None),  # a fraud without a dispute
    ("p3", "2025-01-20", "chargeback", None, "not_received", "13.1", "inquiry", None),  # no dispute yet
    ("p3", "2025-02-20", "chargeback", None, "not_received", "13.1", "dispute", None),
    ("p5", "2025-02-03", "review", True, "stolen_card", None, None, None),  # inside the house
    ("p7", "2025-02-18", "chargeback", None, "early_refund", "rdr", None, None),  # refunded instead
    ("p4", "2025-02-18", "chargeback", True, None, "10.4", None, None),  # of a payment that never happened
    ("p5", "2025-03-10", "review", None, None, None, None, 5),
]


def add_labels(store: Store, rows: Sequence[tuple[Any, ...]]) -> None:
    """Labels that were recorded when they became known, with numbers from 1."""
    names = ("transaction_id", "known_at", "source", "is_fraud", "type", "reason", "stage", "retracts")
    listed = []
    for number, row in enumerate(rows, start=1):
        at = instant(row[1])
        listed.append(
            dict(zip(names, row, strict=True))
            | {"label_id": number, "known_at": at, "recorded_at": at, "by": "test"}
        )
    with store.write() as connection:
        connection.execute(insert(tables.labels), listed)


def fill(store: Store, folder: Path) -> None:
    load(
        store, PARIS, "transactions", write_csv(folder / "a.csv", HEADER, PAYMENTS), now=instant("2025-02-14")
    )
    later = write_csv(folder / "b.csv", HEADER, REVISED)
    load(store, PARIS, "transactions", later, now=instant("2025-02-20"), history=False)
    add_labels(store, LABELS)


MONTHS = World("months_in_paris", PARIS, fill)


@pytest.fixture
def store(copier: Copier) -> Store:
    return copier(MONTHS)


def figures(row: MonthlyRate) -> tuple[Any, ...]:
    sides = ((side.n, side.total) for side in (row.frauds, row.disputes))
    return (f"{row.month:%Y-%m}", row.payments, row.total, *(figure for side in sides for figure in side))


def rates(store: Store, as_of: str, **options: Any) -> list[MonthlyRate]:
    start = instant("2025-01-15")
    return monthly_rates(store, PARIS, instant(as_of), start, instant(as_of), **options).rows


CASES = {
    # month, payments, value, frauds, value, disputes, value; p6 and p7 are known as they were first
    ("2025-02-15", "payment"): [("2025-02", 3, 1500, 1, 400, 0, 0), ("2025-01", 3, 600, 2, 300, 1, 100)],
    # p6 was declined in the end, p7 was settled for less, p3 is disputed
    ("2025-03-01", "payment"): [("2025-02", 2, 450, 1, 400, 0, 0), ("2025-01", 3, 600, 2, 300, 2, 400)],
    # of January's frauds one was reported in January, and none was disputed then
    ("2025-03-01", "report"): [("2025-02", 2, 450, 2, 500, 2, 400), ("2025-01", 3, 600, 1, 200, 0, 0)],
    # the verdict on p5 is retracted
    ("2025-03-15", "payment"): [("2025-02", 2, 450, 0, 0, 0, 0), ("2025-01", 3, 600, 2, 300, 2, 400)],
}  # fmt: skip


def test_rates_count_what_was_known_by_payment_and_by_report_month(store: Store) -> None:
    for (as_of, by), expected in CASES.items():
        assert [figures(row) for row in rates(store, as_of, by=by)] == expected, (as_of, by)


def test_rates_per_value_list_the_values_with_most_reports_first(store: Store) -> None:
    per_merchant = rates(store, "2025-03-01", per="merchant_id")
    assert [(row.value, *figures(row)) for row in per_merchant] == [
        ("m1", "2025-02", 1, 400, 1, 400, 0, 0),
        ("m2", "2025-02", 1, 50, 0, 0, 0, 0),
        ("m1", "2025-01", 2, 300, 2, 300, 1, 100),
        ("m2", "2025-01", 1, 300, 0, 0, 1, 300),
    ]
    by_report = rates(store, "2025-03-01", per="channel", by="report")
    assert [(row.value, row.payments, row.frauds.n, row.disputes.n) for row in by_report] == [
        ("web", 2, 2, 1),
        ("pos", 0, 0, 1),  # of a payment of January: there is a report, and nothing to set it against
        ("web", 2, 1, 0),
        ("pos", 1, 0, 0),
    ]


def test_the_service_gives_basis_points_and_no_forecast_of_few_reports(store: Store) -> None:
    session = Session(store, PARIS, "test", clock=lambda: instant("2025-03-01"))
    newest, oldest = list_rates(session).items
    assert (oldest.frauds.basis_points, oldest.frauds.value_basis_points) == (
        pytest.approx(6666.67, abs=0.01),
        5000,
    )
    assert str(oldest.disputes.amount.value) == "400.00"
    assert newest.frauds.forecast is None
    assert newest.no_forecast == "few_reports"
    pos = list_rates(
        session, RateRequest("report", "channel", start=as_datetime(instant("2025-02-10")))
    ).items[1]
    assert (pos.value, pos.disputes.reports, pos.disputes.basis_points, pos.no_forecast) == (
        "pos",
        1,
        None,
        "by_report",
    )
    with pytest.raises(InputError, match="'planet' is no field to count by"):
        list_rates(session, RateRequest(per="planet"))


def test_the_view_has_the_newest_state_by_month_of_utc(store: Store) -> None:
    columns = "month_of, month, payments, payments_value, frauds, frauds_value, disputes, disputes_value, fraud_basis_points"
    rows = query(store, f"SELECT {columns} FROM monthly_fraud_rates ORDER BY month_of, month")
    assert [tuple(float(v) if not isinstance(v, str) else v for v in row) for row in rows] == [
        ("payment", "2025-01", 4, 1000, 2, 300, 2, 400, 5000),
        ("payment", "2025-02", 1, 50, 0, 0, 0, 0, 0),
        ("report", "2025-01", 4, 1000, 1, 200, 0, 0, 2500),
        ("report", "2025-02", 1, 50, 1, 100, 2, 400, 10000),
    ]
