"""Measures of flags whose truth is known: agreement with plain counting, clusters, and windows with little in them."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import precision_score, recall_score

from detectors.evaluation import metrics
from detectors.evaluation.realised_quality import (
    NO_FLAG,
    NO_FRAUD,
    NO_PROBABILITY,
    NO_STAKE,
    Outcome,
    RealisedMetric,
    audit_metrics,
    channel_metrics,
    core_metrics,
    realised_metrics,
)

DAY = 86_400_000_000


def outcome(n: int = 400, seed: int = 1, rate: float = 0.1) -> Outcome:
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < rate).astype(float)
    score = rng.random(n) * 0.6 + 0.4 * y * rng.random(n)
    flagged = score > 0.55
    channel = np.where(flagged & (rng.random(n) < 0.2), "novelty", "classification").astype(object)
    money = np.round(rng.lognormal(3, 1, n), 2)
    return Outcome(
        y=y, flagged=flagged, channel=channel, model_id=np.ones(n, dtype=np.int64), score=score,
        probability=np.clip(score * 0.3, 0, 1), loss=np.full(n, 100.0), money=money,
        time=np.sort(rng.integers(0, 7 * DAY, n)), entities=[rng.integers(-1, 60, n), rng.integers(0, 15, n)],
    )  # fmt: skip


def by_name(found: list[RealisedMetric]) -> dict[str, RealisedMetric]:
    return {one.metric: one for one in found}


def test_every_value_is_what_plain_counting_gives() -> None:
    one = outcome()
    found = by_name(realised_metrics(one, 2.0, 0.9))
    assert found["precision"].value == pytest.approx(precision_score(one.y, one.flagged))
    assert found["recall"].value == pytest.approx(recall_score(one.y, one.flagged))
    assert found["average_precision"].value == pytest.approx(metrics.average_precision(one.y, one.score))
    fraud = one.y == 1
    cost = one.loss[fraud & ~one.flagged].sum() + 2.0 * (~fraud & one.flagged).sum()
    assert found["cost"].value == pytest.approx(cost)
    assert found["savings"].value == pytest.approx(
        1 - cost / min(one.loss[fraud].sum(), 2.0 * (~fraud).sum())
    )
    caught = fraud & one.flagged
    assert found["money_caught"].value == pytest.approx(one.money[caught].sum())
    assert found["caught"].value + found["missed"].value == found["frauds"].value == one.y.sum()
    assert found["observed_over_expected"].value == pytest.approx(one.y.sum() / one.probability.sum())
    assert found["brier"].value == pytest.approx(np.mean((one.probability - one.y) ** 2))
    for name in ("precision", "recall", "average_precision", "cost", "savings", "brier", "money_missed"):
        assert found[name].lower <= found[name].value <= found[name].upper, name


def test_channels_share_out_what_was_caught() -> None:
    one = outcome()
    whole = by_name(core_metrics(one, 2.0, 0.9))
    parts = [by_name(channel_metrics(one, name, 2.0, 0.9)) for name in ("classification", "novelty")]
    assert sum(part["caught"].value for part in parts) == whole["caught"].value
    assert sum(part["recall"].value for part in parts) == pytest.approx(whole["recall"].value)
    needless = float((one.flagged & (one.y == 0)).sum())
    assert sum(part["cost"].value for part in parts) == 2.0 * needless


def test_twenty_frauds_on_one_card_say_less_than_twenty_on_twenty() -> None:
    n = 2_000
    y, flagged = np.zeros(n), np.zeros(n, dtype=bool)
    y[:20], flagged[:40] = 1, True
    alone = replace(
        outcome(n), y=y, flagged=flagged, channel=np.full(n, "classification", dtype=object),
        entities=[np.arange(n), np.arange(n)],
    )  # fmt: skip
    shared = replace(alone, entities=[np.where(y == 1, 0, np.arange(n)), np.arange(n)])
    wide, narrow = (by_name(core_metrics(one, 1.0, 0.9))["precision"] for one in (shared, alone))
    assert wide.value == narrow.value == 0.5
    assert wide.upper - wide.lower > 1.5 * (narrow.upper - narrow.lower)


def test_money_of_one_card_is_less_sure_than_the_same_of_many() -> None:
    one = outcome(2_000)
    many, few = (replace(one, entities=[np.arange(2_000) % of]) for of in (2_000, 20))
    none = replace(one, entities=[np.full(2_000, -1)])  # transactions without a card stand alone
    narrow, wide, alone = (
        by_name(core_metrics(each, 1.0, 0.9))["money_missed"] for each in (many, few, none)
    )
    assert np.isfinite([wide.lower, wide.upper]).all()
    assert alone == narrow
    assert (wide.lower, wide.upper) != (narrow.lower, narrow.upper)
    single = by_name(core_metrics(replace(one, entities=[np.zeros(2_000, dtype=np.int64)]), 1.0, 0.9))[
        "money_missed"
    ]
    assert single.lower == pytest.approx(single.value)  # one card resampled is that card
    assert single.upper == pytest.approx(single.value)


def test_a_share_that_found_nothing_says_so() -> None:
    one = outcome()
    found = by_name(
        channel_metrics(replace(one, y=np.where(one.channel == "novelty", 0.0, one.y)), "novelty", 1.0, 0.9)
    )
    assert found["precision"].value == 0
    assert found["precision"].upper > 0
    assert "no fraud" in str(found["caught"].undefined_because)


def test_a_random_sample_speaks_of_frauds_that_nobody_reported() -> None:
    found = by_name(audit_metrics(np.array([1.0] + [0.0] * 99), 10_000, 300, 0.9))
    assert found["audit_fraud_share"].value == 0.01
    assert found["audit_recall"].value == pytest.approx(300 / 400)
    assert found["audit_recall"].lower < 0.75 < found["audit_recall"].upper
    assert by_name(audit_metrics(np.zeros(50), 10_000, 0, 0.9))["audit_recall"].undefined_because == NO_FRAUD
    assert by_name(audit_metrics(np.zeros(50), 10_000, 3, 0.9))["audit_recall"].undefined_because is None
    assert audit_metrics(np.empty(0), 10, 1, 0.9) == []


DEGENERATE = [
    ("empty", lambda one: one.take(np.zeros(len(one), dtype=bool)), "precision", NO_FLAG),
    ("one row", lambda one: one.take(np.arange(len(one)) == 0), None, None),
    (
        "nothing flagged",
        lambda one: replace(one, flagged=np.zeros(len(one), dtype=bool)),
        "precision",
        NO_FLAG,
    ),
    ("no fraud", lambda one: replace(one, y=np.zeros(len(one))), "recall", NO_FRAUD),
    ("no fraud", lambda one: replace(one, y=np.zeros(len(one))), "average_precision", NO_FRAUD),
    ("all fraud", lambda one: replace(one, y=np.ones(len(one))), "savings", NO_STAKE),
    ("everything flagged", lambda one: replace(one, flagged=np.ones(len(one), dtype=bool)), None, None),
    (
        "no probability",
        lambda one: replace(one, probability=np.full(len(one), np.nan)),
        "brier",
        NO_PROBABILITY,
    ),
    (
        "some without",
        lambda one: replace(one, probability=np.where(one.time % 2 == 0, np.nan, 0.1)),
        None,
        None,
    ),
    ("one score", lambda one: replace(one, score=np.ones(len(one))), None, None),
    ("no entity", lambda one: replace(one, entities=[]), None, None),
    ("none named", lambda one: replace(one, entities=[np.full(len(one), -1)]), None, None),
    ("free", lambda one: replace(one, loss=np.zeros(len(one))), "savings", NO_STAKE),
]


@pytest.mark.parametrize(("_name", "change", "metric", "why"), DEGENERATE)
def test_a_window_with_little_in_it_says_what_could_not_be_computed(_name, change, metric, why) -> None:  # type: ignore[no-untyped-def]
    found = realised_metrics(change(outcome()), 1.0, 0.9)
    assert len({one.metric for one in found}) == len(found)
    for one in found:
        assert not np.isnan(one.value) or one.undefined_because, one
    if metric:
        assert np.isnan(by_name(found)[metric].value)
        assert by_name(found)[metric].undefined_because == why
