"""What a digest says of a burst of flags: one message, however many flags there are."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pipeline.config.config import Config
from pipeline.notifications.burst import find_burst
from pipeline.notifications.messages import FLAGS_MAX, flags_digest
from tests.support.worlds import SMALL

NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)
CARD = "•••• 4242 · " + "9f" * 32


def flags(*customers: str | None, step: timedelta = timedelta(0)) -> list[dict[str, Any]]:
    """A flag of each customer, one after the other."""
    return [
        {
            "transaction_id": f"t{n}", "event_time": NOON + n * step, "amount_base": 10.0, "channel": "blend", "score": 0.9, "expected_loss": 5.0, "fraud_probability": 0.5,
            "reasons": [], "customer_id": customer,
        }
        for n, customer in enumerate(customers)
    ]  # fmt: skip


def budget(per_day: int) -> Config:
    return SMALL.model_copy(update={"alerts": SMALL.alerts.model_copy(update={"per_day": per_day})})


@pytest.mark.parametrize(
    ("rows", "cases"),
    [
        (flags(*"abcdef"), None),  # three budgets of two
        (flags(*"abcdefg"), 7),
        (flags(*"abcdef", *"aaaaaaaaa"), None),  # more flags, and as many cases
        (flags(*[None] * 7), 7),  # without an entity each flag is a case
        (flags(*"abcdefg", step=timedelta(hours=6)), None),  # spread over two days
    ],
)
def test_more_than_three_budgets_of_cases_on_a_day_are_a_burst(
    rows: list[dict[str, Any]], cases: int | None
) -> None:
    burst = find_burst(rows, budget(2))
    assert (burst and burst.cases) == cases


def test_a_burst_is_one_message_with_the_entities_in_display_form_and_one_list() -> None:
    rows = flags(*[CARD] * 9, *["C00123456"] * 5, "ann@example.com", "x", *map(str, range(10_000, 10_040)))
    digest = flags_digest("live", [row["transaction_id"] for row in rows], rows, rows[:FLAGS_MAX], budget(2))
    assert digest.subject == "burst: 44 cases, 56 transactions to review, worth 560.00 EUR"
    assert "They are 44 cases, 44 of them of 2025-03-01, where alerts.per_day is 2." in digest.body
    assert "- •••• 4242: 9\n- …3456: 5\n- a…＠example[.]com: 1\n- …: 1\n" in digest.body
    assert "and 46 more" in digest.body
    command = "fraudwatch flags list --status open --since 2025-03-01T12:00:00+00:00 --until 2025-03-01T12:00:01+00:00"
    assert f"{command} lists them" in digest.body
    assert "9f9f" not in digest.body
    assert "C0012" not in digest.body


def test_a_usual_digest_names_no_entity() -> None:
    rows = flags("C00123456", CARD)
    digest = flags_digest("live", ["t0", "t1"], rows, rows, budget(2))
    assert digest.subject == "2 transactions to review, worth 20.00 EUR"
    assert "3456" not in digest.body
    assert "4242" not in digest.body
