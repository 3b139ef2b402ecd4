"""What a training date may learn from: labels and silence by age, answers at once, and the frauds that no report names yet."""

import numpy as np
import pytest

from detectors.evaluation.label_delay import delay_curve, tail_weights
from detectors.inputs.sample import Sample
from pipeline.config.config import Config
from pipeline.features.history import History, maturity_of
from pipeline.features.label_history import label_events
from pipeline.training import delay_tail
from pipeline.training.prevalence import prevalence_of
from pipeline.training.training_set import training_set_at
from storage.frames import (
    DAY,
    FRAUD,
    GENUINE,
    MONEY,
    NEITHER,
    UNKNOWN,
    Coded,
    Completeness,
    Labels,
    Transactions,
)

DATE = 100 * DAY
VALID = Config.model_validate(
    {
        "schema": {"entities": ["customer"], "categorical": ["method"], "kind": "", "original_id": ""},
        "labels": {
            "maturity": "30d",
            "maturity_by": {"method": {"card": "60d", "wallet": "10d"}},
            "never_by_silence": {},
        },
    }
)
CONFIG = VALID.model_copy(update={"training": VALID.training.model_copy(update={"min_rows": 1})})
PLAIN = CONFIG.model_copy(update={"labels": CONFIG.labels.model_copy(update={"maturity_by": {}})})
METHODS = np.array(["card", "wallet", "transfer"], dtype=object)
SOURCES = np.array(["chargeback", "review", "audit", "investigation"], dtype=object)
NO_BULK = -1


def history(ages, methods=(), labels=()):
    """
    Payments of some ages in days, oldest first, and their labels: (payment, status, source, age in days[, retracts, bulk]).
    """
    n = len(ages)
    time = DATE - np.round(np.array(ages) * DAY).astype(np.int64)
    codes = np.array([list(METHODS).index(method) for method in methods] or [2] * n, dtype=np.int32)
    ids = np.array([f"t{place:05}" for place in range(n)], dtype=object)
    columns = {
        "method": Coded(codes, METHODS),
        "customer": Coded(np.arange(n, dtype=np.int32), ids),
    }
    rows = Transactions(ids, time, time, np.full(n, 10 * MONEY), columns)
    full = [(*label, -1, NO_BULK)[:6] if len(label) == 4 else label for label in labels]
    known_at = DATE - np.array([label[3] for label in full], dtype=np.int64) * DAY
    given = Labels(
        label_id=np.arange(len(full)),
        transaction_id=ids[[label[0] for label in full]] if full else np.empty(0, dtype=object),
        status=np.array([label[1] for label in full], dtype=np.int8),
        source=Coded(np.array([list(SOURCES).index(label[2]) for label in full], dtype=np.int32), SOURCES),
        known_at=known_at,
        recorded_at=known_at,
        retracts=np.array([label[4] for label in full], dtype=np.int64),
        bulk=Coded(np.array([label[5] for label in full], dtype=np.int32), np.array(["b0"], dtype=object)),
    )
    precedence = CONFIG.labels.precedence
    complete = Completeness(DATE, np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))
    return History(
        rows, given, label_events(rows, given, precedence), complete, np.ones(n, dtype=bool), precedence
    )


def test_maturity_is_that_of_the_fields_value():
    of = history([5, 4, 3], ["card", "wallet", "transfer"])
    assert (maturity_of(CONFIG, of.transactions) // DAY).tolist() == [60, 10, 30]
    assert (maturity_of(PLAIN, of.transactions) // DAY).tolist() == [30, 30, 30]


def test_each_value_is_mature_at_its_own_age():
    of = history([70, 50, 40, 20, 15, 5], ["card", "card", "transfer", "transfer", "wallet", "wallet"])
    assert training_set_at(CONFIG, of, DATE).mature.tolist() == [0, 2, 4]
    assert training_set_at(PLAIN, of, DATE).mature.tolist() == [0, 1, 2]


# (status, source, age of the payment, age of the label) → (mature, young) with their y
EXAMPLES = [
    ((FRAUD, "chargeback", 40, 35), [1], []),
    ((GENUINE, "review", 40, 39), [0], []),
    ((NEITHER, "chargeback", 40, 35), [], []),  # a dispute about something else teaches nothing
    ((FRAUD, "chargeback", 20, 10), [], []),  # quick chargebacks without the silent genuine ones would bias
    ((FRAUD, "review", 20, 10), [], [1]),
    ((GENUINE, "review", 20, 10), [], [0]),
    ((GENUINE, "audit", 20, 10), [], [0]),
    ((GENUINE, "audit", 3, 1), [], []),  # in the holdout, on which nothing is fitted
]


@pytest.mark.parametrize(("label", "mature", "young"), EXAMPLES)
def test_an_answer_is_an_example_at_once_and_other_labels_when_they_are_mature(label, mature, young):
    status, source, age, known = label
    of = history([90, age], labels=[(1, status, source, known)])
    at = training_set_at(PLAIN, of, DATE)
    assert at.y[at.mature == 1].tolist() == mature
    assert at.young.y[at.young.rows == 1].tolist() == young
    assert (at.young.since == DATE - known * DAY).all()


def test_a_retracted_answer_is_no_example():
    labels = [(1, FRAUD, "review", 10), (1, UNKNOWN, "review", 5, 0, NO_BULK)]
    assert not len(training_set_at(PLAIN, history([90, 20], labels=labels), DATE).young.rows)
    assert len(training_set_at(PLAIN, history([90, 20], labels=labels[:1]), DATE).young.rows) == 1


def test_answers_given_at_once_count_as_one_until_silence_says_the_same():
    bulk = [(place, GENUINE, "review", 8, -1, 0) for place in range(5)]
    of = history([40, 20, 19, 18, 17, 16], labels=[*bulk, (5, GENUINE, "review", 8)])
    at = training_set_at(PLAIN, of, DATE)
    assert at.weight.tolist() == [1]  # mature: its silence says so by itself
    assert at.young.weight.tolist() == [1 / 4] * 4 + [1]


def test_young_examples_move_neither_prevalence_nor_the_numbers_behind_it():
    chargebacks = [(place, FRAUD, "chargeback", 50) for place in range(0, 400, 40)]
    answers = [(400 + place, int(place % 2), "review", 9) for place in range(60)]
    ages = [90 - place / 10 for place in range(400)] + [20 - place / 10 for place in range(60)]
    with_answers, without = (
        prevalence_of(PLAIN, of, training_set_at(PLAIN, of, DATE))
        for of in (history(ages, labels=chargebacks + answers), history(ages, labels=chargebacks))
    )
    assert with_answers == without
    assert with_answers.positives == 10


def test_more_examples_keep_the_base_rate_of_the_mature_rows():
    rng = np.random.default_rng(0)
    mature = Sample(
        rng.normal(size=(500, 2)), (np.arange(500) % 100 == 0).astype(float), np.full(500, 3.0), np.ones(500)
    )
    young = Sample(rng.normal(size=(50, 2)), (np.arange(50) % 2).astype(float), np.ones(50), np.ones(50))
    both = mature.with_examples(young)
    assert len(both) == 550
    assert np.average(both.y, weights=both.weight) == pytest.approx(
        np.average(mature.y, weights=mature.weight)
    )
    assert mature.with_examples(young.take(slice(0, 0))) is mature


# ── frauds that no report names yet ──


def exponential_delays(n, mean, seed):
    """Payments of 100 days, 5 % of them fraud, each reported after an exponential delay."""
    rng = np.random.default_rng(seed)
    ages = np.sort(rng.uniform(0, 100, n))[::-1]
    fraud = np.flatnonzero(rng.random(n) < 0.05)
    reported = ages[fraud] - rng.exponential(mean, len(fraud))
    return ages, [
        (int(row), FRAUD, "chargeback", int(age))
        for row, age in zip(fraud, reported, strict=True)
        if age >= 0
    ]


def test_missing_reports_are_counted_by_the_delay_curve():
    ages, labels = exponential_delays(20_000, mean=20, seed=1)
    of = history(ages, labels=labels)
    at = training_set_at(PLAIN, of, DATE)
    assert at.y.mean() < 0.048  # at 30 to 100 days 10 % are missing
    assert np.average(at.y, weights=at.weight) == pytest.approx(0.05, abs=0.003)
    assert at.weight.sum() == pytest.approx(len(at.mature))
    frauds = at.weight[at.y == 1]
    assert frauds[-1] > frauds[0] >= 1  # the younger, the more are missing
    assert prevalence_of(PLAIN, of, at).prevalence == pytest.approx(np.average(at.y, weights=at.weight))


def test_quick_reports_have_no_tail():
    ages, labels = exponential_delays(4000, mean=2, seed=2)
    at = training_set_at(PLAIN, history(ages, labels=labels), DATE)
    assert (at.weight == 1).all()
    assert isinstance(prevalence_of(PLAIN, history(ages, labels=labels), at).mature, int)


@pytest.mark.parametrize("source", ["review", "audit", "investigation"])
def test_reviewers_are_quick_and_tell_nothing_of_delays(source):
    ages, labels = exponential_delays(4000, mean=20, seed=3)
    reviews = [(row, FRAUD, source, int(ages[row])) for row in range(0, 400, 4)]
    plain, reviewed = (
        delay_tail.reports_of(history(ages, labels=given), DATE).curve for given in (labels, labels + reviews)
    )
    assert plain(30.0) == reviewed(30.0) < 0.9


def test_each_value_of_a_field_has_its_own_tail():
    ages, quick = exponential_delays(4000, mean=1, seed=4)
    _, slow = exponential_delays(4000, mean=25, seed=4)
    of_row = ["card" if place % 2 else "wallet" for place in range(4000)]
    labels = [label for label in slow if label[0] % 2] + [label for label in quick if not label[0] % 2]
    of = history(ages, of_row, labels)
    at = training_set_at(CONFIG, of, DATE)
    cards = at.mature % 2 == 1
    assert (at.weight[~cards] == 1).all()
    assert at.weight[cards & (at.y == 1)].max() > 1


def test_too_few_reports_correct_nothing():
    labels = [(place, FRAUD, "chargeback", 40) for place in range(19)]
    at = training_set_at(PLAIN, history([90] * 19 + [60] * 50, labels=labels), DATE)
    assert (at.weight == 1).all()


def test_the_total_stays_and_no_fraud_stands_for_more_than_three():
    curve = delay_curve([1.0] * 30 + [50.0] * 70, [60.0] * 100)
    reported, genuine = np.arange(40) < 10, np.arange(40) >= 10
    weight = tail_weights(curve, np.full(40, 20.0), reported, genuine)
    assert weight[reported] == pytest.approx(np.full(10, 3.0))  # F is 0.3
    assert weight.sum() == pytest.approx(40)
    assert (tail_weights(curve, np.full(40, 55.0), reported, genuine) == 1).all()


# ── prevalence with reviewers ──


def test_fewer_than_twenty_verdicts_are_taken_at_their_word():
    labels = [(place, int(place < 5), "review", 60) for place in range(19)]
    of = history([90 - place / 100 for place in range(500)], labels=labels)
    measured = prevalence_of(PLAIN, of, training_set_at(PLAIN, of, DATE))
    assert (measured.prevalence, measured.positives, measured.reviews) == (5 / 500, 5, None)


@pytest.mark.parametrize("source", ["review", "investigation"])
def test_a_good_team_no_longer_makes_fraud_look_rare(source):
    """Reviewers stop half of the frauds, of which no chargeback ever comes, and err in one payment out of ten."""
    rng = np.random.default_rng(5)
    n = 6000
    fraud, looked_at, wrong = rng.random(n) < 0.05, rng.random(n) < 0.5, rng.random(n) < 0.1
    accused = looked_at & (fraud ^ wrong)
    labels = [(row, int(accused[row]), source, 50) for row in np.flatnonzero(looked_at).tolist()]
    labels += [(row, FRAUD, "chargeback", 45) for row in np.flatnonzero(fraud & ~accused).tolist()]
    of = history([95 - place / 200 for place in range(n)], labels=labels)
    measured = prevalence_of(PLAIN, of, training_set_at(PLAIN, of, DATE))
    assert measured.reviews is not None
    assert measured.lower < 0.05 < measured.upper
    assert measured.reviews.false_verdicts == pytest.approx(0.1, abs=0.02)
    assert measured.reviews.uncorrected > 0.08  # each tenth genuine payment under review is called fraud
    assert (fraud & ~accused).mean() < 0.03  # what chargebacks alone say
    assert measured.reviews.reviewed == looked_at.sum()


def test_quick_values_are_not_too_common_in_how_rare_fraud_is():
    """Wallets are mature after 10 days, cards after 60; only cohorts of which both are mature are measured."""
    ages = np.linspace(99, 1, 980)
    method = ["wallet" if place % 2 else "card" for place in range(len(ages))]
    labels = [
        (place, FRAUD, "chargeback", 1) for place in range(1, 900, 10)
    ]  # a fifth of the wallets, no card
    of = history(ages, method, labels)
    at = training_set_at(CONFIG, of, DATE)
    assert at.y.mean() > 0.13
    measured = prevalence_of(CONFIG, of, at)
    assert measured.prevalence == pytest.approx(0.1, abs=0.01)
    assert (measured.mature, measured.positives) == (len(at.mature), at.y.sum())
