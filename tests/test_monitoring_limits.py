"""Limits on both engines: where they stand, what is expected, and one message a period before and after they are crossed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import update

from pipeline.config.config import Config
from pipeline.monitoring.limits import check_due_limits, check_limit
from pipeline.notifications.deliver import queue_messages
from pipeline.rendering.report_data import ReportData
from pipeline.reporting.sections import rates
from pipeline.reporting.summary import summary_lines
from pipeline.runs.tick import Tick
from pipeline.services.monitoring.fraud_rates import list_limits
from pipeline.services.session import Session
from storage.admin.erase import erase
from storage.admin.personal_rows import PersonValue
from storage.database import tables
from storage.database.database import Store
from storage.frames import DAY, HOUR
from storage.monitoring import health
from storage.monitoring.limit_checks import LimitCheck
from tests.support.databases import Copier, World
from tests.support.payments import LABEL_HEADER, START, time_text, write_csv
from tests.support.sql import count, query
from tests.support.worlds import load

DAYS, PER_DAY = 80, 40  # to 2025-03-22
DELAYS = (1, 3, 6, 12, 20)  # days until a fraud is reported, in turn
HEADER = "transaction_id,event_time,merchant_id,channel,amount"
AT = START + DAYS * DAY
SCHEMA = {"entities": ["merchant_id"], "categorical": ["channel"], "kind": "", "original_id": ""}
BARE = Config.model_validate({"schema": SCHEMA, "labels": {"never_by_silence": {}}})


def with_limit(**limit: Any) -> Config:
    section = {"basis_points": 500.0} | limit
    return Config.model_validate(
        {"schema": SCHEMA, "labels": {"never_by_silence": {}}, "limit": {"test": section}}
    )


def fill(store: Store, folder: Path) -> None:
    """Two frauds a day of 40 payments, 500 basis points, at merchant m0 of eight; worth as much as all others together."""
    payments, labels = [], []
    for day in range(DAYS):
        for n in range(PER_DAY):
            at, name = START + day * DAY + n * DAY // PER_DAY, f"t{day:02d}{n:02d}"
            fraud = n in (0, 16)
            payments.append(
                f"{name},{time_text(at)},m{n % 8},{'web' if n % 2 else 'pos'},{190 if fraud else 10}"
            )
            known = at + DELAYS[(2 * day + n // 16) % len(DELAYS)] * DAY
            if fraud and known < AT:
                labels.append(f"{name},1,{time_text(known)},chargeback")
    load(store, BARE, "transactions", write_csv(folder / "payments.csv", HEADER, payments), now=AT)
    load(store, BARE, "labels", write_csv(folder / "labels.csv", LABEL_HEADER, labels), now=AT)


LIMITS = World("limits", BARE, fill)


@pytest.fixture
def store(copier: Copier) -> Store:
    return copier(LIMITS)


def worst(store: Store, at: int = AT, **limit: Any) -> LimitCheck:
    return check_limit(store, with_limit(**limit), "test", at)[0]


def reported(store: Store, where: str) -> int:
    return int(
        query(
            store,
            f"SELECT COUNT(*) FROM labels l JOIN transactions t ON t.transaction_id = l.transaction_id WHERE {where}",
        )[0][0]
    )


def test_a_limit_is_ok_near_or_crossed_by_what_is_reported_or_expected(store: Store) -> None:
    reports = reported(store, "l.known_at >= '2025-03-01'")
    march = 21 * PER_DAY
    rate = 1e4 * reports / march
    # reports of the running month over its payments so far
    assert worst(store, basis_points=rate / 0.99).reports == reports
    assert worst(store, basis_points=rate / 0.99).basis_points == pytest.approx(rate)
    assert worst(store, basis_points=rate / 1.01).level == "crossed"
    assert worst(store, basis_points=rate / 0.85).level == "near"
    assert worst(store, basis_points=rate / 0.5).level == "ok"
    # of the newest 15 days most reports are still to come: the rate is low, and 500 basis points are expected
    young = worst(store, by="payment", days=15, basis_points=600.0)
    assert young.share < 0.6
    assert young.expected_basis_points == pytest.approx(500, rel=0.2)
    assert young.level == "near"
    assert worst(store, by="payment", days=15, basis_points=1000.0).level == "ok"
    # the month goes on as it was: 31 days with two frauds a day of 40 payments
    running = worst(store, basis_points=5000.0)
    assert running.expected_basis_points == pytest.approx(500, rel=0.1)


def test_a_rate_by_value_and_one_of_the_payments_of_the_month_before(store: Store) -> None:
    reports = reported(store, "l.known_at >= '2025-03-01'")
    by_value = worst(store, of="value")
    assert by_value.basis_points == pytest.approx(1e4 * reports * 190 / (21 * (2 * 190 + 38 * 10)))
    before = worst(store, rate="dispute", payments="previous")
    assert before.payments == 28 * PER_DAY
    assert before.basis_points == pytest.approx(1e4 * reports / (28 * PER_DAY))
    both = worst(store, rate="fraud_and_dispute")
    assert both.reports == 2 * reports  # a chargeback for fraud is a report of fraud, and a dispute


def test_a_limit_does_not_apply_to_few_reports_and_is_near_when_they_are_nearly_enough(store: Store) -> None:
    reports = reported(store, "l.known_at >= '2025-03-01'")
    few = worst(store, basis_points=100.0, at_least=10 * reports)
    assert (few.level, few.share) == ("ok", pytest.approx(0.1))
    assert worst(store, basis_points=100.0, at_least=reports + 2).level == "near"
    assert worst(store, basis_points=100.0, at_least=reports).level == "crossed"


def test_a_limit_per_merchant_names_the_worst_and_only_counts_the_payments_named(store: Store) -> None:
    checks = check_limit(store, with_limit(per="merchant_id"), "test", AT)
    assert [check.value for check in checks] == ["m0", "m1", "m2", "m3", "m4", "m5", "m6", "m7"]
    assert [check.level for check in checks] == ["crossed"] + ["ok"] * 7
    assert checks[0].payments == 21 * PER_DAY // 8
    web = worst(store, only={"channel": ["web"]})
    assert (web.payments, web.reports, web.expected_share) == (21 * PER_DAY // 2, 0, None)
    assert worst(store, only={"channel": ["pos"]}).payments == 21 * PER_DAY // 2


def test_nothing_is_expected_of_fewer_than_thirty_reports(store: Store) -> None:
    early = worst(store, at=START + 12 * DAY, by="payment", days=10)
    assert 0 < early.reports < 30
    assert (early.expected_basis_points, early.expected_share) == (None, None)
    assert early.basis_points is not None


def test_an_empty_span_is_a_check_of_nothing(store: Store) -> None:
    for per in ("", "merchant_id"):
        nothing = worst(store, at=AT + 400 * DAY, per=per)
        assert (nothing.value, nothing.payments, nothing.basis_points, nothing.level) == ("", 0, None, "ok")


def subjects(store: Store) -> list[str]:
    return [
        str(row[0]).partition("] ")[2]
        for row in query(store, "SELECT subject FROM outbox ORDER BY message_id")
    ]


def watch(store: Store, config: Config, days: range) -> list[str]:
    """What a monitor that looks twice a day sends, from its start on."""
    for day in days:
        for hour in (2, 20):
            now = START + day * DAY + hour * HOUR
            check_due_limits(store, config, now)
            queue_messages(store, config, now)
    return subjects(store)


def with_receiver(config: Config) -> Config:
    return config.model_copy(
        update={"notify": type(config.notify).model_validate({"urls": ["json://localhost"]})}
    )


def test_a_message_is_sent_once_before_a_limit_is_crossed_and_once_when_it_is(store: Store) -> None:
    config = with_receiver(with_limit(basis_points=100.0, at_least=9))
    assert watch(store, config, range(32, 38)) == ["limit test is near", "limit test is crossed"]
    near, crossed = query(store, "SELECT created_at, body, key FROM outbox ORDER BY message_id")
    assert near[0] < crossed[0]
    assert (
        "Limit test: 100 basis points of fraud by count; 2025-02-01 00:00 UTC to 2025-03-01 00:00 UTC"
        in near[1]
    )
    assert "% of the limit" in near[1]
    assert crossed[2] == "limit:test:2025-02-01:crossed:all"
    # the next month is another period
    assert watch(store, config, range(60, 67)) == ["limit test is near", "limit test is crossed"] * 2


def test_a_message_about_a_field_names_the_worst_values_and_each_once_a_period(store: Store) -> None:
    config = with_receiver(with_limit(basis_points=1.0, per="merchant_id", at_least=1))
    with store.write() as connection:  # three more merchants with a fraud, known later in the month
        for label, n, day in (("t3200", 1, 33), ("t3216", 2, 33), ("t3500", 3, 36)):
            moved = {"transaction_id": f"{label[:3]}{n:02d}", "known_at": START + day * DAY + HOUR}
            hit = tables.labels.c.transaction_id == label
            connection.execute(update(tables.labels).where(hit).values(moved))
    assert watch(store, config, range(33, 38)) == [
        "limit test is crossed for 1 of merchant_id",
        "limit test is crossed for 2 of merchant_id",
        "limit test is crossed for 1 of merchant_id",
    ]
    body = str(query(store, "SELECT body FROM outbox ORDER BY message_id")[1][0])
    assert "merchant_id m1: " in body
    assert "merchant_id m2: " in body
    assert "m0" not in body
    assert count(store, "limit_checks") == 5 * 8  # all eight merchants are among the ten worst


def test_a_hashed_value_is_sent_by_its_display_form_and_an_erased_one_by_its_pseudonym(store: Store) -> None:
    stored = f"•••• 4242 · {'a' * 64}"
    bare = "b" * 64
    with store.write() as connection:
        for value, plain in ((stored, "m0"), (bare, "m4")):
            connection.execute(
                update(store.transactions)
                .where(store.transactions.c.merchant_id == plain)
                .values(merchant_id=value)
            )
    config = with_receiver(with_limit(basis_points=1.0, per="merchant_id"))
    hashed = config.model_copy(
        update={"schema_": config.schema_.model_copy(update={"hash": ("merchant_id",)})}
    )
    check_due_limits(store, hashed, AT)
    queue_messages(store, hashed, AT)
    body = str(query(store, "SELECT body FROM outbox")[0][0])
    assert "merchant_id •••• 4242: " in body
    assert "aaaa" not in body
    assert erase(store, [PersonValue("merchant_id", stored)], "ann", AT).counts["limit_checks"] == 1
    assert query(store, f"SELECT COUNT(*) FROM limit_checks WHERE value = '{stored}'") == [(0,)]


def test_a_tick_checks_limits_and_the_health_port_has_their_shares(first_week: Store, url: str) -> None:
    from tests.support.databases import with_url
    from tests.support.worlds import FROM, SMALL

    limit = with_limit(by="payment", days=30, basis_points=1000.0).limit
    config = with_url(SMALL.model_copy(update={"limit": limit}), url)
    noon = FROM + 7 * DAY + 12 * HOUR
    report: Callable[[Any], None] = lambda _: None  # noqa: E731
    tick = Tick(
        first_week,
        config,
        "test",
        lambda: noon,
        noon,
        scheduled=False,
        stopping=lambda: True,
        progress=None,
        report=report,
    )
    tick.run()
    shares = health.read(first_week, "live").limits
    check = check_limit(first_week, config, "test", FROM + 7 * DAY)[0]
    assert shares == {
        ("test", "now"): pytest.approx(check.share),
        ("test", "expected"): pytest.approx(check.expected_share),
    }
    assert np.isfinite(check.share)
    listed = list_limits(Session(first_week, config, "test", clock=lambda: FROM + 7 * DAY)).items
    assert [(each.name, each.level, each.column) for each in listed] == [("test", check.level, None)]


def test_the_report_and_the_summary_have_rates_what_is_expected_and_limits(store: Store) -> None:
    config = with_limit(by="payment", days=30, basis_points=1000.0, warn_at=0.5)
    data = ReportData.load(store, config, "live", AT - 28 * DAY, AT, AT)
    section = rates.section(data)
    assert section.missing == []
    march, february, _ = section.tables[0].rows
    assert (march[0], march[1], february[:4]) == (
        "2025-03",
        f"{21 * PER_DAY:,}",
        ["2025-02", "1,120", "56", "500"],
    )
    assert "frauds, " in march[-1]
    (limit,) = section.tables[1].rows
    assert (limit[:2], limit[-1]) == (["test", "all payments"], "near")
    lines = "\n".join(summary_lines(data))
    assert "Known so far of the 1,120 payments of 2025-02: 500 basis points were fraud" in lines
    drawn = json.dumps(section.charts[0]().spec)
    assert "limit test: 1,000 basis points" in drawn
    assert "2025-03 frauds by value, expected in the end: " in drawn
