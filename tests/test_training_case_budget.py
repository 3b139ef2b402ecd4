"""The budget of cases that thresholds are set for: working days, and what mutes leave free."""

import numpy as np
import pytest

from detectors.model.auto_detector import NOVELTY
from pipeline.config.config import Config
from pipeline.rules.mutes import Mute
from pipeline.training import train
from pipeline.training.case_budget import cases_per_day, without_muted_channels
from pipeline.training.strategy_choice import StoredChoice
from pipeline.training.training_history import load_training_history
from storage.database.database import Store
from storage.frames import DAY, HOUR
from tests.support.worlds import FROM, SMALL, TO

MONDAY = FROM  # 2025-01-20


def config_of(per: str, holidays: tuple[str, ...] = (), zone: str = "UTC") -> Config:
    return Config.model_validate(
        {
            "alerts": {"per_day": 70, "per": per},
            "calendar": {"holidays": list(holidays)},
            "schedule": {"timezone": zone},
        }
    )


@pytest.mark.parametrize(
    ("config", "until", "days", "expected"),
    [
        (config_of("day"), MONDAY, 7, 70),
        (config_of("working_day"), MONDAY, 7, 50),  # five of seven days
        (config_of("working_day"), MONDAY, 2, 50),  # a weekend: its whole week counts
        (config_of("working_day"), MONDAY + 3 * DAY, 7, 50),  # any seven days
        (
            config_of("working_day", ("2025-01-13", "01-14", "01-19")),
            MONDAY,
            7,
            30,
        ),  # a Sunday is none anyway
        (config_of("working_day", ("01-14",)), MONDAY, 8, 45),  # two weeks, nine days
        (
            config_of("working_day", tuple(f"01-{day}" for day in range(13, 18))),
            MONDAY,
            7,
            10,
        ),  # one at least
        (
            config_of("working_day", ("01-20",), "America/New_York"),
            MONDAY + 29 * HOUR,
            7,
            40,
        ),  # midnight there
    ],
)
def test_a_week_has_a_budget_for_each_working_day(
    config: Config, until: int, days: float, expected: float
) -> None:
    assert cases_per_day(config, until, days) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("strategy", "muted", "main", "novelty"),
    [
        ("blend", (), 45, 5),
        ("blend", ("rule", "classification"), 45, 5),  # no channels of this model
        ("blend", (NOVELTY,), 50, 5),  # still flags five a day, which nobody sees
        ("blend", ("blend",), 45, 50),
        ("blend", ("blend", NOVELTY), 45, 5),
        ("outlier", ("outlier",), 45, 5),  # has one channel, and no share for another
    ],
)
def test_the_budget_of_a_muted_channel_goes_to_the_other(
    strategy: str, muted: tuple[str, ...], main: float, novelty: float
) -> None:
    per_day, share = without_muted_channels(50.0, 0.1, strategy, frozenset(muted))  # type: ignore[arg-type]
    assert (per_day * (1 - share), per_day * share) == pytest.approx((main, novelty))


def test_rows_of_a_muted_entity_use_no_budget(loaded: Store) -> None:
    history, date = load_training_history(loaded, SMALL, TO), TO
    usual = train.prepare(SMALL, history, date)
    chosen = StoredChoice(0, "outlier", 0.1, "")
    model = train.fit_alone(SMALL, usual, chosen, date)
    flagged = model.score(usual.samples.holdout.raw, usual.samples.holdout.amount).flagged
    rows = usual.training_set.holdout
    customers = history.transactions.columns["customer_id"]
    loud = str(customers.values[customers.codes[rows[flagged][0]]])
    mutes = [
        Mute(1, "entity", "customer_id", loud, date - DAY, date + DAY),
        Mute(2, "entity", "customer_id", "gone before", date - 9 * DAY, date),
    ]
    muting = train.prepare(SMALL, history, date, mutes)
    of_mute = np.array([customers.values[code] == loud for code in customers.codes[rows]])
    assert (muting.samples.muted == of_mute).all()
    assert not usual.samples.muted.any()
    lower = train.fit_alone(SMALL, muting, chosen, date).thresholds["outlier"]
    assert lower < model.thresholds["outlier"]
    ended = train.prepare(SMALL, history, date, [Mute(1, "entity", "customer_id", loud, date - DAY, date)])
    assert not ended.samples.muted.any()
