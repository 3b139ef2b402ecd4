"""A choice depends on a few dates before its own, and on nothing else: not on where, when or in which order trainings ran."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from detectors.evaluation.prevalence import estimate_prevalence
from detectors.strategy.choice import Evaluation
from pipeline.config.config import Config
from pipeline.config.database import open_configured
from pipeline.errors import NotReady
from pipeline.features.history import History
from pipeline.schedule import grid
from pipeline.training import strategy_choice
from pipeline.training.strategy_choice import MEMORY
from storage.database.database import Store
from storage.database.setup import upgrade
from storage.frames import DAY, WEEK
from storage.models import models
from tests.support.payments import START

pytestmark = pytest.mark.one_engine
FIRST = grid.edges(WEEK, "UTC", START, START + WEEK)[1]  # the first training date after the first payment
DATES = [FIRST + place * WEEK for place in range(40)]
# Fraud cases known at each date: enough for classification (300) for a while, then only to keep it (240).
CASES = [0, 10, 100, 290, 310, 320, *[280] * 34]
CONFIG = Config.model_validate({"strategy": {"min_positives_blend": 20}, "training": {"every": "7d"}})


class Dates:
    """What each date says, and which of them were asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.by_hand: int | None = None

    def evaluate(self, config: Config, history: int, date: int) -> tuple[Evaluation, tuple[()]]:
        assert history == date  # what was known then
        self.asked.append(date)
        if date == self.by_hand:
            return Evaluation(estimate_prevalence(100_000.0, 0.0, 0.0)), ()
        if date not in DATES[1:]:
            raise NotReady("too few", remedy="wait", code="too_few_transactions")
        cases = CASES[DATES.index(date)]
        return Evaluation(estimate_prevalence(100_000.0, float(cases), float(cases))), ()


@pytest.fixture
def dates(monkeypatch: pytest.MonkeyPatch) -> Dates:
    """Evaluations without payments."""
    known = Dates()
    monkeypatch.setattr(strategy_choice, "evaluate", known.evaluate)
    monkeypatch.setattr(strategy_choice.stored_history, "span", lambda store: (START, DATES[-1]))
    return known


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Store]:
    """A database without choices."""
    url = f"sqlite:///{tmp_path / 'fraudwatch.db'}"
    own = CONFIG.model_copy(update={"storage": type(CONFIG.storage).model_validate({"url": url})}, deep=True)
    with open_configured(own) as store:
        upgrade(store, "choice", 1, CONFIG.labels.precedence)
        yield store


def history_of(date: int, last: int = 0) -> History:
    return date  # type: ignore[return-value]


def choose(store: Store, date: int, policy: str = "live", config: Config = CONFIG) -> str:
    return strategy_choice.choose_at(store, config, history_of, policy, date, 1).strategy


def stored(store: Store, policy: str) -> list[tuple[object, ...]]:
    rows = models.choices_between(store, policy, 0, DATES[-1] + 1)
    return [(row["training_date"], row["strategy"], row["rule"], row["sentence"]) for row in rows]


def test_the_first_choice_of_a_long_history_asks_a_few_dates_and_stores_itself_alone(
    empty: Store, dates: Dates
) -> None:
    choose(empty, DATES[30])
    assert sorted(dates.asked) == DATES[30 - MEMORY : 31]
    assert [date for date, *_ in stored(empty, "live")] == [DATES[30]]


def test_no_date_is_asked_before_those_after_which_it_makes_no_difference_what_was_chosen(
    empty: Store, dates: Dates
) -> None:
    choose(empty, DATES[6])
    assert dates.asked == [
        DATES[5],
        DATES[4],
        DATES[6],
    ]  # 310 and 320 cases: classification, whatever was before
    for date in DATES[1:7]:
        choose(empty, date, "schedule")
    assert stored(empty, "live") == stored(empty, "schedule")[-1:]


def test_the_next_choice_asks_its_own_date_alone(empty: Store, dates: Dates) -> None:
    choose(empty, DATES[30])
    for date in DATES[31:]:
        dates.asked.clear()
        choose(empty, date)
        assert dates.asked == [date]


def test_the_order_of_trainings_and_where_they_begin_change_nothing(empty: Store, dates: Dates) -> None:
    for date in DATES[1:]:
        choose(empty, date, "schedule")
    for date in [*DATES[20:], *DATES[1:20]]:
        choose(empty, date, "pieces")
    for date in DATES[10:]:
        choose(empty, date, "later")
    assert stored(empty, "schedule") == stored(empty, "pieces")
    assert stored(empty, "schedule")[9:] == stored(empty, "later")
    assert {strategy for _, strategy, *_ in stored(empty, "schedule")} == {
        "outlier",
        "blend",
        "classification",
    }


def test_hysteresis_lasts_as_long_as_the_memory(empty: Store, dates: Dates) -> None:
    for date in DATES[1:]:
        choose(empty, date)
    strategies = [strategy for _, strategy, *_ in stored(empty, "live")]
    newest_start = CASES.index(320)  # 320 cases: the last date that alone would start classification
    assert strategies[newest_start - 1 :] == ["classification"] * (MEMORY + 1) + ["blend"] * (
        len(DATES) - newest_start - MEMORY - 1
    )


def test_a_training_by_hand_between_two_dates_is_in_no_memory(empty: Store, dates: Dates) -> None:
    between = DATES[6] + 2 * DAY
    dates.by_hand = between
    choose(empty, between)
    for date in DATES[7:9]:
        choose(empty, date)
        choose(empty, date, "without")
    assert stored(empty, "live")[1:] == stored(empty, "without")


def test_many_confirmations_are_remembered(empty: Store, dates: Dates) -> None:
    many = Config.model_validate({"strategy": {"confirmations": 10}})
    choose(empty, DATES[30], config=many)
    assert sorted(dates.asked) == DATES[10:31]


def test_what_a_stored_choice_holds_is_what_was_evaluated(empty: Store, dates: Dates) -> None:
    choose(empty, DATES[30])
    (row,) = models.choices_between(empty, "live", 0, DATES[-1])
    held = [*row["evidence"][strategy_choice.EARLIER], {"date": DATES[30], **row["evidence"]}]
    for each in held:
        again, _ = dates.evaluate(CONFIG, each["date"], each["date"])
        assert asdict(Evaluation.of(each)) == asdict(again)


def test_dates_on_which_too_little_was_known_are_left_out(empty: Store, dates: Dates) -> None:
    choose(empty, DATES[1])
    assert dates.asked == DATES[:2]
    with pytest.raises(NotReady):
        choose(empty, DATES[0], "other")
