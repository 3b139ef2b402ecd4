"""Reviewed and stopped payments count for what they are worth: the estimate covers the truth, the naive ones do not."""

import numpy as np
import pytest
from scipy.special import expit

from detectors.base import DetectorError
from detectors.evaluation.prevalence import estimate_weighted_prevalence
from detectors.evaluation.reviewed_payments import (
    PRIOR_FALSE,
    REVIEWED_MIN,
    KnownOutcomes,
    correct_outcomes,
    review_strata,
    weights_without_reviewed,
)

N = 20_000
RISKS = np.linspace(-8, 8, 4001)
LEVEL = -6.5
PREVALENCE = float(np.average(expit(2 * RISKS + LEVEL), weights=np.exp(-(RISKS**2) / 2)))  # 1.2 %


def outcomes(weight, fraud=(), reviewed=(), accused=(), censored=()):
    """Rows given by their places."""
    n = len(weight)
    masks = (np.isin(np.arange(n), list(places)) for places in (fraud, reviewed, accused, censored))
    return KnownOutcomes(np.asarray(weight, dtype=np.float64), *masks)


def everything(n):
    return np.zeros(n, dtype=np.int64)


def test_without_reviews_nothing_changes():
    known = outcomes(np.ones(50), fraud=(1, 2))
    corrected = correct_outcomes(known, everything(50))
    assert (corrected.weight == 1).all()
    assert np.flatnonzero(corrected.fraud == 1).tolist() == [1, 2]
    assert (corrected.frauds, corrected.false_verdicts, corrected.variance) == (2, 0, 0)


def test_few_verdicts_are_taken_at_their_word():
    few = range(REVIEWED_MIN - 1)
    corrected = correct_outcomes(outcomes(np.ones(1000), reviewed=few, accused=few), everything(1000))
    assert (corrected.frauds, corrected.false_verdicts) == (REVIEWED_MIN - 1, 0)


def test_others_of_its_stratum_stand_for_a_censored_payment():
    stratum = np.repeat([0, 1], 10)
    corrected = correct_outcomes(outcomes(np.ones(20), fraud=(2,), censored=(0, 1, 2, 3, 4)), stratum)
    assert corrected.weight.tolist() == [0] * 5 + [2] * 5 + [1] * 10
    assert corrected.frauds == 0  # a censored payment that was reported all the same would be counted twice


@pytest.mark.parametrize(
    ("accused", "false", "frauds"),
    [
        (100, 0.099, 11),  # 10 % of 1,000 payments that look like those without any fraud
        (0, 0.0, 0),  # reviewers who accuse nobody
    ],
)
def test_accusations_are_believed_as_far_as_comparable_payments_say(accused, false, frauds):
    known = outcomes(np.ones(51_000), fraud=range(2000, 2500), reviewed=range(1000), accused=range(accused))
    corrected = correct_outcomes(known, everything(51_000))  # 1 % of the unreviewed are fraud
    assert corrected.false_verdicts == pytest.approx(false, abs=0.01)
    assert corrected.frauds == pytest.approx(500 + frauds, abs=6)


def test_where_all_is_reviewed_reviewers_are_believed_as_elsewhere():
    """The second stratum has nothing to compare with; the first shows that a tenth of its accusations are wrong."""
    stratum = np.repeat([0, 1], [20_000, 1000])
    reviewed = [*range(1000), *range(20_000, 21_000)]
    accused = [*range(100), *range(20_000, 20_400)]
    corrected = correct_outcomes(outcomes(np.ones(21_000), (), reviewed, accused), stratum)
    rate = corrected.false_verdicts
    assert rate == pytest.approx(0.1, abs=0.01)
    assert corrected.weight[stratum == 1] @ corrected.fraud[stratum == 1] == pytest.approx(
        400 - 600 * rate / (1 - rate)
    )
    assert corrected.variance > 0


def test_without_anything_to_compare_reviewers_are_wrong_as_often_as_assumed():
    corrected = correct_outcomes(outcomes(np.ones(100), (), range(100), range(50)), everything(100))
    assert corrected.false_verdicts == PRIOR_FALSE


def test_a_report_confirms_an_accusation():
    known = outcomes(np.ones(1000), fraud=range(30), reviewed=range(100), accused=range(30, 40))
    corrected = correct_outcomes(known, everything(1000))
    assert (corrected.fraud[:30] == 1).all()
    assert (corrected.fraud[30:40] < 1).all()


def test_strata_hold_equally_many_reviewed_payments_and_those_below_are_apart():
    score = np.arange(10_000.0)
    reviewed = score >= 9000
    reviewed &= score % 2 == 0
    stratum = review_strata(score, reviewed)
    sizes = np.bincount(stratum[reviewed])
    assert (len(sizes), sizes[0], sizes[1:].min(), sizes[1:].max()) == (11, 0, 49, 51)
    assert (stratum[score < 9000] == 0).all()
    assert (review_strata(score, score >= 9990) == 0).all()  # too few to compare


def test_without_reviewed_payments_models_are_compared_on_payments_that_nobody_chose():
    stratum = np.repeat([0, 1], [100, 100])
    known = outcomes(np.ones(200), (), [*range(50), *range(100, 195)], range(100, 110), ())
    weight = weights_without_reviewed(known, stratum)
    assert weight[:100].tolist() == [0] * 50 + [2] * 50
    assert (weight[100:] == 1).all()  # 95 % are reviewed: five others cannot stand for them


def test_the_order_of_rows_makes_no_difference():
    known, stratum = reviewed_world(1, everything_answered=False)[:2]
    order = np.random.default_rng(0).permutation(len(stratum))
    shuffled = correct_outcomes(
        KnownOutcomes(*(column[order] for column in vars(known).values())), stratum[order]
    )
    straight = correct_outcomes(known, stratum)
    assert shuffled.fraud == pytest.approx(straight.fraud[order], rel=1e-12)
    assert shuffled.weight == pytest.approx(straight.weight[order], rel=1e-12)


def test_lengths_must_agree():
    with pytest.raises(DetectorError, match=r"need one length, got \[3, 4\]"):
        correct_outcomes(outcomes(np.ones(3)), everything(4))


def reviewed_world(seed, everything_answered):
    """
    Flags on the highest scores, 60 % of them answered at random or all, 10 % of the answers wrong, no chargeback after "fraud".

    Known outcomes, strata, and the labels at their word and with the stopped as genuine.
    """
    rng = np.random.default_rng(seed)
    risk = rng.normal(size=N)
    fraud = rng.random(N) < expit(2 * risk + LEVEL)
    score = risk + 0.3 * rng.normal(size=N)
    flagged = score >= np.quantile(score, 0.97)
    reviewed = flagged & (everything_answered | (rng.random(N) < 0.6))
    accused = reviewed & (fraud ^ (rng.random(N) < 0.1))
    reported = fraud & ~accused
    known = KnownOutcomes(np.ones(N), reported, reviewed, accused, np.zeros(N, dtype=bool))
    return known, review_strata(risk, reviewed), reported | accused, reported


@pytest.mark.parametrize("everything_answered", [False, True])
def test_the_interval_covers_the_truth_where_stopped_payments_never_charge_back(everything_answered):
    covered = {"corrected": 0, "at their word": 0, "stopped are genuine": 0}
    for seed in range(40):
        known, stratum, at_word, reported = reviewed_world(seed, everything_answered)
        corrected = correct_outcomes(known, stratum)
        counted = (corrected.fraud > 0).astype(np.float64)
        estimates = {
            "corrected": (corrected.weight, corrected.fraud, counted, corrected.variance),
            "at their word": (known.weight, at_word.astype(float), at_word.astype(float), 0.0),
            "stopped are genuine": (known.weight, reported.astype(float), reported.astype(float), 0.0),
        }
        for name, (weight, fraud, frauds, variance) in estimates.items():
            estimate = estimate_weighted_prevalence(weight, fraud, frauds, 1.0, variance)
            covered[name] += estimate.display_lower <= PREVALENCE <= estimate.display_upper
    assert covered["corrected"] >= 36
    assert covered["at their word"] <= 30
    assert covered["stopped are genuine"] <= 10
