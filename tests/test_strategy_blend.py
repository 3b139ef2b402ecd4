"""What a blend gives its classifiers, and how it says it."""

from dataclasses import replace

import numpy as np
import pytest

from detectors.algorithms.logistic import Logistic
from detectors.inputs.sample import Sample
from detectors.strategy.blend import (
    HALF_CREDIT_SHARE,
    MOVE_COST,
    PRIOR_STRENGTH,
    PRIOR_WEIGHT,
    WEIGHT_GRID,
    BlendWeight,
    blend_of,
    blend_surprisal,
    classifier_share,
    learn_weight,
)
from detectors.strategy.components import RankedClassifier
from detectors.strategy.validation_folds import ValidationFold


def fold(outlier, classifier, n=2000, entity=None, seed=0):
    """A fold whose frauds stand above all but these shares of genuine rows."""
    rng = np.random.default_rng(seed)
    frauds = len(outlier)
    usual = rng.exponential(size=(3, n))  # surprisals of ranks that are uniform
    of_frauds = -np.log(np.array([outlier, classifier, classifier]))
    said = np.concatenate([of_frauds, usual], axis=1)
    rows = frauds + n
    return ValidationFold(
        y=np.arange(rows) < frauds,
        weight=np.ones(rows),
        amount=np.ones(rows),
        time=np.arange(rows),
        entity=np.arange(rows) if entity is None else np.append(entity, np.arange(n) + 10**6),
        outlier=said[0],
        families=said[0],
        boosting=said[1],
        forest=said[2],
        margin=said[1],
        n_training_frauds=3,
    )


WEIGHTS = [
    # where frauds stand to outlier detection, to classifiers → the classifiers' weight, least and most
    ([], [], PRIOR_WEIGHT, PRIOR_WEIGHT),  # nothing held out: as shipped
    (
        [0.0005] * 20,
        [0.5] * 20,
        PRIOR_WEIGHT - 0.1,
        PRIOR_WEIGHT,
    ),  # found already, whatever the other side says
    ([0.5] * 20, [0.0005] * 20, PRIOR_WEIGHT, 0.7),
    ([0.05] * 20, [0.5] * 20, 0.0, 0.1),  # found by outlier detection alone, and not for sure
    ([0.5] * 20, [0.05] * 20, 0.85, 1.0),
    ([0.5], [0.05], PRIOR_WEIGHT + 0.05, 0.6),  # one begins where the difference is great
    ([0.02] * 2, [0.9] * 2, 0.1, PRIOR_WEIGHT - 0.03),
    ([0.4], [0.35], PRIOR_WEIGHT, PRIOR_WEIGHT),  # and not where it is small
    ([0.001, 0.5] * 20, [0.5, 0.001] * 20, 0.2, 0.8),  # each finds what the other does not
]


@pytest.mark.parametrize(("outlier", "classifier", "least", "most"), WEIGHTS)
def test_held_out_frauds_weigh_the_classifiers(outlier, classifier, least, most):
    found = learn_weight([fold(outlier, classifier)] if outlier else [])
    assert least <= found.value <= most
    assert found.frauds == len(outlier)


@pytest.mark.parametrize(("known", "weight"), [(0, PRIOR_WEIGHT), (60, PRIOR_WEIGHT), (100, 0.5), (900, 0.9)])
def test_the_number_of_known_frauds_says_how_far_classifiers_are_believed_at_first(known, weight):
    assert learn_weight([], known).value == pytest.approx(weight)
    undecided = fold([0.4], [0.35])
    assert learn_weight([undecided], known).value == pytest.approx(weight, abs=0.03)  # the grid has tenths


def test_frauds_of_one_entity_in_a_fold_count_once():
    one_card = learn_weight([fold([0.5] * 20, [0.01] * 20, entity=np.full(20, 7))])
    assert one_card.frauds == 1
    assert learn_weight([fold([0.5] * 20, [0.01] * 20)]).frauds == 20
    again = fold([0.5], [0.01], entity=np.array([7]))
    assert learn_weight([again, again]).frauds == 2  # another fold is another occasion


def test_rows_count_by_their_weight():
    """A fraud under a tenth of the rows is found where those rows stand for nearly none."""
    rows = fold([0.5], [0.1])
    above = (rows.boosting + rows.forest > -2 * np.log(0.1)) & ~rows.y
    found = learn_weight([replace(rows, weight=np.where(above, 1e-9, 1.0))])
    assert found.gain > 1.5 * learn_weight([rows]).gain > 0


@pytest.mark.parametrize("seed", range(8))
def test_the_weight_is_that_at_which_frauds_stand_highest_less_what_it_costs_to_move(seed):
    rng = np.random.default_rng(seed)
    folds = []
    for _ in range(3):
        n = int(rng.integers(1, 4))
        one = fold(rng.uniform(0.01, 0.9, n), rng.uniform(0.01, 0.9, n), n=200, entity=rng.integers(0, 2, n))
        folds.append(replace(one, weight=rng.uniform(0.5, 3.0, len(one.y))))

    def found(weight):
        """Of each fraud by its definition, those of one entity and fold together."""
        total = 0.0
        for one in folds:
            score = blend_of(weight, one)
            genuine = one.weight * ~one.y
            for row in np.flatnonzero(one.y):
                share = genuine[score >= score[row]].sum() / genuine.sum()
                total += (
                    HALF_CREDIT_SHARE
                    / (HALF_CREDIT_SHARE + share)
                    / (one.y & (one.entity == one.entity[row])).sum()
                )
        return total

    worth = [found(weight) - MOVE_COST * abs(weight - PRIOR_WEIGHT) for weight in WEIGHT_GRID]
    learned = learn_weight(folds)
    asked = WEIGHT_GRID[int(np.argmax(worth))]
    moved = learned.frauds / (learned.frauds + PRIOR_STRENGTH)
    assert learned.value == pytest.approx(PRIOR_WEIGHT + (asked - PRIOR_WEIGHT) * moved, abs=1e-4)
    assert learned.gain == pytest.approx((found(learned.value) - found(0.0)) / learned.frauds)
    assert learn_weight([fold([], [])]) == BlendWeight(PRIOR_WEIGHT, 0.0, 0.0)


def test_gain_is_what_the_blend_finds_more_than_outlier_detection_alone():
    found = learn_weight([fold([0.5] * 10, [1e-9] * 10)])
    assert found.gain == pytest.approx(1 - HALF_CREDIT_SHARE / (HALF_CREDIT_SHARE + 0.5), abs=0.05)
    assert learn_weight([fold([1e-9] * 10, [0.5] * 10)]).gain <= 0


def test_a_row_that_is_extreme_to_either_side_is_suspicious():
    outlier, classifier = np.array([9.0, 0.0, 4.0, 0.7]), np.array([0.0, 9.0, 4.0, 0.7])
    score = blend_surprisal(0.5, outlier, classifier, classifier)
    assert score == pytest.approx([9 - np.log(2), 9 - np.log(2), 4.0, 0.7], abs=1e-3)


def test_a_side_that_knows_nothing_cannot_drown_the_other():
    """Of 10,000 rows the ten rarest to one side stay among the first twenty whatever noise the other adds."""
    rng = np.random.default_rng(4)
    sure, noise = np.sort(rng.exponential(size=10_000)), rng.exponential(size=(2, 10_000))
    for score in (blend_surprisal(0.5, sure, *noise), blend_surprisal(0.5, noise[0], sure, sure)):
        assert np.isin(np.arange(9_990, 10_000), np.argsort(-score)[:20]).all()


def test_a_score_is_owed_to_the_side_that_gave_it():
    outlier, classifier = np.array([9.0, 0.0, 4.0]), np.array([0.0, 9.0, 4.0])
    assert classifier_share(0.3, outlier, classifier, classifier) == pytest.approx([0, 1, 0.3], abs=1e-3)
    assert classifier_share(0.0, outlier, classifier, classifier).tolist() == [0, 0, 0]
    assert classifier_share(1.0, outlier, classifier, classifier).tolist() == [1, 1, 1]
    apart = 1e-6  # the derivative of the score by what one side says is that side's part
    raised = blend_surprisal(0.3, outlier, classifier + apart, classifier + apart)
    slope = (raised - blend_surprisal(0.3, outlier, classifier, classifier)) / apart
    assert slope == pytest.approx(classifier_share(0.3, outlier, classifier, classifier), abs=1e-4)


@pytest.mark.parametrize("weight", WEIGHT_GRID)
def test_a_blend_lies_between_its_sides(weight):
    rng = np.random.default_rng(1)
    outlier, boosting, forest = rng.exponential(size=(3, 500))
    sides = np.array([outlier, (boosting + forest) / 2])
    score = blend_surprisal(weight, outlier, boosting, forest)
    assert (score >= sides.min(axis=0) - 1e-12).all()
    assert (score <= sides.max(axis=0) + 1e-12).all()
    if weight in (0.0, 1.0):
        assert score.tolist() == sides[int(weight)].tolist()


def test_a_classifier_is_ranked_among_genuine_rows():
    """Among all rows known frauds would take the top for themselves: nothing below them could be rarer than their share."""
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(3_000, 2)), (np.arange(3_000) < 600).astype(float)
    X[y == 1, 0] += 6
    sample = Sample(X, y, np.ones(3_000), np.ones(3_000))
    ranked = RankedClassifier.fit(Logistic(), X, sample)
    genuine = ranked.surprisal(X[y == 0])
    assert genuine.max() > np.log(2_400)
    assert np.average(genuine > np.log(100)) == pytest.approx(0.01, abs=0.002)
